use k8s_openapi::api::core::v1::Node;

use super::*;

fn node(name: &str, cpu: &str, taint: Option<(&str, &str)>) -> Value {
    let taints: Vec<Value> = taint
        .into_iter()
        .map(|(key, value)| json!({"key": key, "value": value, "effect": "NoSchedule"}))
        .collect();
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {"taints": taints},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}}})
}

fn pod(name: &str, cpu: &str, on: Option<&str>) -> Value {
    json!({"metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"nodeName": on, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

fn picture(nodes: Vec<Value>, pods: Vec<Value>) -> Picture {
    let nodes = nodes
        .into_iter()
        .map(|node| serde_json::from_value::<Node>(node).unwrap());
    let pods = pods.into_iter().map(|pod| serde_json::from_value::<Pod>(pod).unwrap());
    Picture {
        nodes: nodes.map(Arc::new).collect(),
        pods: pods.map(Arc::new).collect(),
        ..Picture::default()
    }
}

/// Three nodes with one CPU of which 700m are taken, two for databases.
fn five() -> Picture {
    let mut nodes: Vec<Value> = ["n1", "n2", "n3"].iter().map(|name| node(name, "1", None)).collect();
    nodes.extend(
        ["d1", "d2"]
            .iter()
            .map(|name| node(name, "8", Some(("dedicated", "db")))),
    );
    let mut pods: Vec<Value> = ["n1", "n2", "n3"]
        .iter()
        .map(|name| pod(&format!("on-{name}"), "700m", Some(name)))
        .collect();
    pods.push(pod("waiting", "500m", None));
    picture(nodes, pods)
}

fn told(picture: Picture, changes: &[&str], pod: Option<&str>) -> Report {
    let mut picture = picture;
    let mut moved = Vec::new();
    for change in changes {
        let change: WhatIf = change.parse().unwrap();
        moved.extend(
            picture
                .change(&change, "default", deployment(&change).as_ref())
                .unwrap(),
        );
    }
    report(picture, moved, pod.map(|pod| ("default", pod))).unwrap()
}

fn deployment(change: &WhatIf) -> Option<Deployment> {
    let WhatIf::Scale { name, .. } = change else {
        return None;
    };
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": pod("x", "300m", None)["spec"]});
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"replicas": 1,
        "selector": {"matchLabels": {"app": "web"}}, "template": template}}))
    .ok()
}

#[test]
fn nodes_are_grouped_by_what_they_lack() {
    let report = told(five(), &[], Some("waiting"));
    let text = report.text();
    assert!(
        text.contains("3 of 5 nodes: 200m CPU short; 2: taint dedicated=db not tolerated"),
        "{text}"
    );
    assert!(text.contains("n1, n2, n3: free 200m CPU on n1"), "{text}");
    assert!(text.contains("ask for 300m CPU instead of 500m CPU"), "{text}");
    assert!(text.contains("toleration for dedicated=db:NoSchedule"), "{text}");
    let told = &report.json()["pods"][0];
    assert_eq!((&told["fits"], &told["groups"][0]["count"]), (&json!(false), &json!(3)));
    assert_eq!(told["groups"][1]["nodes"], json!(["d1", "d2"]));
}

#[test]
fn a_node_that_is_added_takes_the_pod() {
    let text = told(five(), &["add-node=cpu=2,memory=4Gi"], Some("waiting")).text();
    assert_eq!(text, "default/waiting fits: what-if-1 is the only one that will do\n");
    let text = told(five(), &["add-node=like=d1"], Some("waiting")).text();
    assert!(text.contains("3: taint dedicated=db not tolerated"), "{text}");
}

#[test]
fn a_drained_node_sends_its_pods_elsewhere() {
    let mut picture = five();
    picture
        .nodes
        .push(Arc::new(serde_json::from_value(node("n4", "1", None)).unwrap()));
    let report = told(picture, &["drain=n1"], Some("waiting"));
    let text = report.text();
    assert!(
        text.starts_with("default/on-n1 (from n1) fits: n4 is the only one that will do\n"),
        "{text}"
    );
    // Now nothing is left for the one that was asked about.
    assert!(
        text.contains("3 of 6 nodes: 200m CPU short; 2: taint dedicated=db not tolerated; 1: cordoned"),
        "{text}"
    );
    assert!(five().change(&WhatIf::Drain("n9".into()), "default", None).is_err());
}

#[test]
fn a_larger_deployment_is_tried_pod_by_pod() {
    let report = told(five(), &["scale=deploy/web=5"], None);
    let fits: Vec<Value> = report.json()["pods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| pod["fits"].clone())
        .collect();
    assert_eq!(fits, [true, true, true, false]);
    assert!(
        report.text().contains("default/web-what-if-4 fits nowhere"),
        "{}",
        report.text()
    );
}

#[test]
fn a_pod_that_has_a_node_or_a_gate_is_told_so() {
    assert_eq!(
        told(five(), &[], Some("on-n1")).text(),
        "default/on-n1 is on n1 already\n"
    );
    let mut gated = pod("gated", "1", None);
    gated["spec"]["schedulingGates"] = json!([{"name": "a.b/c"}]);
    let text = told(picture(vec![], vec![gated]), &[], Some("gated")).text();
    assert!(text.starts_with("default/gated is not tried: "), "{text}");
    let text = told(picture(vec![], vec![pod("p", "1", None)]), &[], Some("p")).text();
    assert_eq!(text, "default/p fits nowhere: there are no nodes\n");
    assert!(report(Picture::default(), Vec::new(), Some(("default", "x"))).is_err());
}
