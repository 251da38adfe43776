//! Policies, and the events they lead to.

use http::Method;

use super::*;
use crate::request::Query;

fn info(method: &Method, path: &str) -> RequestInfo {
    RequestInfo::parse(method, path, &Query::default())
}

const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:kube-proxy"]
  verbs: ["watch"]
  resources:
  - group: ""
    resources: ["endpoints", "services"]
- level: None
  nonResourceURLs: ["/healthz*", "/version"]
- level: Request
  resources:
  - group: ""
    resources: ["pods/*", "*/scale"]
- level: RequestResponse
  omitManagedFields: true
  namespaces: ["kube-system"]
- level: Metadata
  userGroups: ["system:authenticated"]
  omitStages: ["Panic"]
"#;

#[test]
fn the_first_rule_that_matches_decides() {
    let policy = Policy::parse(POLICY).unwrap();
    let (proxy, jane) = (UserInfo::new("system:kube-proxy", &[]), UserInfo::new("jane", &[]));
    let level = |user: &UserInfo, info: &RequestInfo| policy.decide(&Subject { info, user }).level;
    let watch = RequestInfo::parse(&Method::GET, "/api/v1/services", &Query::parse("watch=1"));
    assert_eq!(level(&proxy, &watch), Level::None);
    assert_eq!(level(&jane, &watch), Level::Metadata);
    assert_eq!(level(&jane, &info(&Method::GET, "/healthz/etcd")), Level::None);
    assert_eq!(level(&jane, &info(&Method::GET, "/metrics")), Level::Metadata);
    let pod = "/api/v1/namespaces/ns/pods/p";
    assert_eq!(
        level(&jane, &info(&Method::POST, &format!("{pod}/exec"))),
        Level::Request
    );
    // As upstream: `pods/*` is about pods too.
    assert_eq!(level(&jane, &info(&Method::GET, pod)), Level::Request);
    assert_eq!(
        level(&jane, &info(&Method::GET, "/api/v1/namespaces/ns/secrets/s")),
        Level::Metadata
    );
    let system = info(&Method::GET, "/api/v1/namespaces/kube-system/services");
    let decision = policy.decide(&Subject {
        info: &system,
        user: &jane,
    });
    assert_eq!(
        (decision.level, decision.omit_managed_fields),
        (Level::RequestResponse, true)
    );
    let metadata = policy.decide(&Subject {
        info: &watch,
        user: &jane,
    });
    assert_eq!(metadata.omit_stages, [Stage::RequestReceived, Stage::Panic]);
    assert_eq!(level(&UserInfo::anonymous(), &watch), Level::None);
}

#[test]
fn bad_policies_are_refused() {
    for text in [
        "",
        "apiVersion: v1\nkind: Policy\nrules: [{level: None}]",
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []",
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: All}]",
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, namespaces: [a], nonResourceURLs: [/b]}]",
    ] {
        assert!(Policy::parse(text).is_err(), "{text}");
    }
}
