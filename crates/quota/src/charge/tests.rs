use super::*;
use serde_json::json;

fn quota(name: &str, hard: Value, used: Value) -> Quota {
    let object = json!({"metadata": {"name": name}, "status": {"hard": hard, "used": used}});
    Quota::read(&object)
}

fn pod(cpu: &str) -> Value {
    json!({"metadata": {"name": "p", "resourceVersion": "1"},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

fn ask(
    quotas: &[Quota],
    resource: &str,
    subresource: &str,
    object: &Value,
    old: Option<&Value>,
    limited: &[Limited],
) -> Result<Vec<(usize, String)>, String> {
    let request = Request {
        resource: &GroupResource::new("", resource),
        subresource,
        operation: if old.is_some() {
            Operation::Update
        } else {
            Operation::Create
        },
        object,
        old,
        now: Timestamp::UNIX_EPOCH,
    };
    let moved = check(quotas, &request, limited)?;
    Ok(moved
        .into_iter()
        .map(|(at, used)| (at, amounts::pretty(&used)))
        .collect())
}

#[test]
fn a_pod_is_charged_to_each_quota_that_matches() {
    let quotas = [
        quota(
            "a",
            json!({"pods": "2", "secrets": "1"}),
            json!({"pods": "1", "secrets": "0"}),
        ),
        quota("b", json!({"services": "1"}), json!({"services": "1"})),
        quota("c", json!({"requests.cpu": "1"}), json!({"requests.cpu": "100m"})),
    ];
    let moved = ask(&quotas, "pods", "", &pod("900m"), None, &[]).unwrap();
    assert_eq!(
        moved,
        [(0, "pods=2,secrets=0".to_owned()), (2, "requests.cpu=1".to_owned())]
    );
    let why = ask(&quotas, "pods", "", &pod("901m"), None, &[]).unwrap_err();
    assert_eq!(
        why,
        "exceeded quota: c, requested: requests.cpu=901m, used: requests.cpu=100m, limited: requests.cpu=1"
    );
    let service = json!({"spec": {"type": "ClusterIP"}});
    let why = ask(&quotas, "services", "", &service, None, &[]).unwrap_err();
    assert_eq!(
        why,
        "exceeded quota: b, requested: services=1, used: services=1, limited: services=1"
    );
}

#[test]
fn what_must_be_known_first() {
    let unknown = [quota("a", json!({"pods": "2"}), json!({}))];
    assert_eq!(
        ask(&unknown, "pods", "", &pod("1"), None, &[]).unwrap_err(),
        "status unknown for quota: a, resources: pods"
    );
    let memory = [quota("a", json!({"memory": "2"}), json!({"memory": "0"}))];
    assert_eq!(
        ask(&memory, "pods", "", &pod("1"), None, &[]).unwrap_err(),
        "failed quota: a: must specify memory for: c"
    );
    let cpu = [quota("a", json!({"cpu": "2"}), json!({"cpu": "0"}))];
    assert_eq!(
        ask(&cpu, "pods", "", &pod("-1"), None, &[]).unwrap_err(),
        "quota usage is negative for resource(s): cpu,requests.cpu"
    );
}

#[test]
fn updates_are_charged_what_they_add() {
    let quotas = [quota("a", json!({"cpu": "3"}), json!({"cpu": "2"}))];
    let moved = ask(&quotas, "pods", "resize", &pod("2"), Some(&pod("1")), &[]).unwrap();
    assert_eq!(moved, [(0, "cpu=3".to_owned())]);
    assert_eq!(
        ask(&quotas, "pods", "resize", &pod("1"), Some(&pod("2")), &[]),
        Ok(Vec::new())
    );
    assert_eq!(
        ask(&quotas, "pods", "", &pod("9"), Some(&pod("1")), &[]),
        Ok(Vec::new())
    );
    assert!(ask(&quotas, "pods", "resize", &pod("3"), Some(&pod("1")), &[]).is_err());
    let services = [quota(
        "s",
        json!({"services.nodeports": "1", "services": "1"}),
        json!({"services.nodeports": "0", "services": "1"}),
    )];
    let service = |kind: &str, ports: usize| {
        json!({"metadata": {"resourceVersion": "1"},
            "spec": {"type": kind, "ports": vec![json!({"port": 1}); ports]}})
    };
    let was = service("ClusterIP", 2);
    let moved = ask(&services, "services", "", &service("NodePort", 1), Some(&was), &[]).unwrap();
    assert_eq!(moved, [(0, "services=1,services.nodeports=1".to_owned())]);
    assert!(ask(&services, "services", "", &service("NodePort", 2), Some(&was), &[]).is_err());
}

#[test]
fn what_is_limited_needs_a_quota() {
    let limited = [Limited {
        resource: GroupResource::new("", "pods"),
        match_contains: vec!["cpu".to_owned()],
        match_scopes: vec![Requirement {
            scope: "PriorityClass".to_owned(),
            operator: "In".to_owned(),
            values: vec!["high".to_owned()],
        }],
    }];
    assert_eq!(
        ask(&[], "pods", "", &pod("1"), None, &limited).unwrap_err(),
        "insufficient quota to consume: cpu,requests.cpu"
    );
    let covering = quota(
        "a",
        json!({"cpu": "2", "requests.cpu": "2"}),
        json!({"cpu": "0", "requests.cpu": "0"}),
    );
    assert!(ask(std::slice::from_ref(&covering), "pods", "", &pod("1"), None, &limited).is_ok());
    let mut important = pod("1");
    important["spec"]["priorityClassName"] = json!("high");
    assert_eq!(
        ask(std::slice::from_ref(&covering), "pods", "", &important, None, &limited).unwrap_err(),
        "insufficient quota to match these scopes: [{PriorityClass In [high]}]"
    );
    let mut scoped = covering.clone();
    scoped.scopes = limited[0].match_scopes.clone();
    assert!(ask(&[covering, scoped], "pods", "", &important, None, &limited).is_ok());
}

#[test]
fn counts_of_anything() {
    let request = |quotas: &[Quota], group: &str, resource: &str| {
        let request = Request {
            resource: &GroupResource::new(group, resource),
            subresource: "",
            operation: Operation::Create,
            object: &json!({}),
            old: None,
            now: Timestamp::UNIX_EPOCH,
        };
        check(quotas, &request, &[])
    };
    let quotas = [quota(
        "a",
        json!({"count/widgets.example.com": "1", "secrets": "0"}),
        json!({"count/widgets.example.com": "0", "secrets": "0"}),
    )];
    assert_eq!(request(&quotas, "example.com", "widgets").unwrap().len(), 1);
    assert_eq!(request(&quotas, "example.org", "widgets"), Ok(Vec::new()));
    assert!(request(&quotas, "", "secrets").is_err());
    assert_eq!(request(&quotas, "other", "secrets"), Ok(Vec::new()));
}
