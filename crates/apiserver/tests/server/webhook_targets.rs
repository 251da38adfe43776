//! Where webhooks are called and as which version they see objects.

use api::Gvk;
use apiserver::kind::Kind;
use serde_json::{Value, json};

use crate::harness::{config_map, server_of, server_with};
use crate::hook_server::{HookServer, allow, patch};
use crate::webhooks::{configure, kinds};

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";

#[tokio::test]
async fn services_are_called_at_their_endpoints_by_their_own_names() {
    let mut all = kinds();
    all.push(Kind::namespaced("", "v1", "Service", "services"));
    all.push(Kind::namespaced(
        "discovery.k8s.io",
        "v1",
        "EndpointSlice",
        "endpointslices",
    ));
    let server = server_of(all).await;
    server.namespace("ns").await;
    let hooks = HookServer::start(|_| allow()).await;
    let mut hook = hooks.hook("h.x.y", "/");
    hook["clientConfig"] = json!({"caBundle": hooks.ca,
        "service": {"namespace": "ns", "name": "hooks", "path": "/a/b", "port": 8443}});
    configure(&server, "Validating", "a", &[hook]).await;
    let url = "Internal error occurred: failed calling webhook \"h.x.y\": failed to call webhook: \
        Post \"https://hooks.ns.svc:8443/a/b?timeout=10s\": ";
    let why = |status: Value| {
        status["message"]
            .as_str()
            .unwrap()
            .strip_prefix(url)
            .unwrap()
            .to_owned()
    };
    let refused = server.post(MAPS, &config_map("m", &json!({}))).await.expect(500);
    assert_eq!(why(refused), "service \"hooks\" not found");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hooks"},
        "spec": {"ports": [{"name": "web", "port": 8443}]}});
    server
        .post("/api/v1/namespaces/ns/services", &service)
        .await
        .expect(201);
    let refused = server.post(MAPS, &config_map("m", &json!({}))).await.expect(500);
    assert_eq!(why(refused), "no endpoints available for service \"hooks\"");
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "hooks-1", "labels": {"kubernetes.io/service-name": "hooks"}},
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": false}}, {"addresses": ["127.0.0.1"]}],
        "ports": [{"name": "web", "port": hooks.port}]});
    let slices = "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices";
    server.post(slices, &slice).await.expect(201);
    server.post(MAPS, &config_map("m", &json!({}))).await.expect(201);
    let asked = hooks.take().remove(0);
    assert_eq!(
        (asked.uri.as_str(), asked.host.as_str()),
        ("/a/b?timeout=10s", "hooks.ns.svc:8443")
    );
}

#[tokio::test]
async fn the_admission_configuration_says_who_calls() {
    let hooks = HookServer::start(|_| allow()).await;
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("kubeconfig");
    let users = format!(
        "users:\n- {{name: '127.0.0.1:{}', user: {{token: secret}}}}\n",
        hooks.port
    );
    std::fs::write(&kubeconfig, users).unwrap();
    let control = dir.path().join("control.yaml");
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n\
        - name: ValidatingAdmissionWebhook\n  configuration:\n    apiVersion: apiserver.config.k8s.io/v1\n    \
        kind: WebhookAdmissionConfiguration\n    kubeConfigFile: {}\n",
        kubeconfig.display()
    );
    std::fs::write(&control, text).unwrap();
    let server = server_with(kinds(), |config| config.admission.control_config_file = Some(control)).await;
    server.namespace("ns").await;
    configure(&server, "Validating", "a", &[hooks.hook("h.x.y", "/")]).await;
    server.post(MAPS, &config_map("m", &json!({}))).await.expect(201);
    assert_eq!(hooks.take()[0].authorization, "Bearer secret");
}

#[tokio::test]
async fn the_oldest_reviews_are_understood() {
    let server = server_of(kinds()).await;
    server.namespace("ns").await;
    let hooks = HookServer::raw(|asked| {
        assert_eq!(asked.review["apiVersion"], "admission.k8s.io/v1beta1");
        let mut response = patch(&json!([{"op": "add", "path": "/data", "value": {"old": "review"}}]))?;
        response.as_object_mut()?.remove("patchType");
        Some(json!({"response": response}))
    })
    .await;
    let mut hook = hooks.hook("h.x.y", "/");
    hook["admissionReviewVersions"] = json!(["v2", "v1beta1", "v1"]);
    configure(&server, "Mutating", "a", &[hook]).await;
    let made = server.post(MAPS, &config_map("m", &json!({}))).await.expect(201);
    assert_eq!(made["data"], json!({"old": "review"}));
}

#[tokio::test]
async fn equivalent_versions_are_converted_for_the_webhook_and_back() {
    let hpa = |version: &str| {
        Kind::namespaced(
            "autoscaling",
            version,
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
        )
    };
    let v2 = Gvk::new("autoscaling", "v2", "HorizontalPodAutoscaler");
    let mut all = kinds();
    all.push(hpa("v2"));
    // The percentage is a metric in the stored version.
    all.push(
        hpa("v1")
            .stored_as("autoscaling", "horizontalpodautoscalers", v2)
            .converted(
                |object| {
                    let percent = object["spec"]
                        .as_object_mut()
                        .unwrap()
                        .remove("targetCPUUtilizationPercentage");
                    if let Some(percent) = percent {
                        let target = json!({"type": "Utilization", "averageUtilization": percent});
                        object["spec"]["metrics"] =
                            json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]);
                    }
                },
                |object| {
                    let metrics = object["spec"].as_object_mut().unwrap().remove("metrics");
                    if let Some(metrics) = metrics {
                        let percent = metrics[0]["resource"]["target"]["averageUtilization"].clone();
                        object["spec"]["targetCPUUtilizationPercentage"] = percent;
                    }
                },
            ),
    );
    let server = server_of(all).await;
    server.namespace("ns").await;
    let hooks = HookServer::start(|asked| {
        let at = "/spec/metrics/0/resource/target/averageUtilization";
        let now = asked.request()["object"]
            .pointer(at)
            .and_then(Value::as_i64)
            .unwrap_or(0);
        patch(&json!([{"op": "replace", "path": at, "value": now + 1}]))
    })
    .await;
    let mut hook = hooks.hook("h.x.y", "/");
    hook["rules"] = json!([{"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v2"],
        "resources": ["horizontalpodautoscalers"]}]);
    let mut exact = hook.clone();
    exact["matchPolicy"] = json!("Exact");
    exact["name"] = json!("exact.x.y");
    configure(&server, "Mutating", "a", &[exact, hook]).await;
    let object = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50,
            "scaleTargetRef": {"kind": "Deployment", "name": "d"}}});
    let path = "/apis/autoscaling/v1/namespaces/ns/horizontalpodautoscalers";
    let made = server.post(path, &object).await.expect(201);
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 51);
    let asked = hooks.take();
    assert_eq!(asked.len(), 1);
    let request = asked[0].request();
    assert_eq!(request["kind"]["version"], "v2");
    assert_eq!(request["requestKind"]["version"], "v1");
    assert_eq!(request["object"]["apiVersion"], "autoscaling/v2");
}
