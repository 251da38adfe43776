//! The smaller admission plugins, as clients meet them.

use apiserver::Admission;
use apiserver::kind::{Kind, Subresource};
use serde_json::{Value, json};

use crate::harness::{self, Server, admin, config_map, server_with, user};

const PODS: &str = "/api/v1/namespaces/ns/pods";
const CLAIMS: &str = "/api/v1/namespaces/ns/persistentvolumeclaims";

fn kinds() -> Vec<Kind> {
    let mut kinds = harness::kinds();
    kinds.extend(harness::rbac_kinds());
    kinds.extend([
        Kind::namespaced("", "v1", "ServiceAccount", "serviceaccounts"),
        Kind::cluster("", "v1", "Node", "nodes").with_status(),
        Kind::cluster("", "v1", "PersistentVolume", "persistentvolumes"),
        Kind::namespaced("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims").with_status(),
        Kind::cluster("storage.k8s.io", "v1", "StorageClass", "storageclasses"),
        Kind::cluster("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses"),
        Kind::namespaced("networking.k8s.io", "v1", "Ingress", "ingresses"),
        Kind::cluster("networking.k8s.io", "v1", "IngressClass", "ingressclasses"),
        Kind::cluster(
            "certificates.k8s.io",
            "v1",
            "CertificateSigningRequest",
            "certificatesigningrequests",
        )
        .with_status()
        .subresource(Subresource::part("approval", apiserver::kind::Part::default())),
        Kind::namespaced("coordination.k8s.io", "v1", "Lease", "leases"),
    ]);
    kinds
}

async fn server_of(enable: &[&str], settings: Option<&str>) -> Server {
    let file = settings.map(|text| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    });
    let server = server_with(kinds(), |config| {
        config.admission = Admission {
            enable: enable.iter().map(|name| (*name).to_owned()).collect(),
            disable: Vec::new(),
            control_config_file: file.as_ref().map(|file| file.path().to_owned()),
        };
    })
    .await;
    server.namespace("ns").await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"},
        "automountServiceAccountToken": false});
    server
        .post("/api/v1/namespaces/ns/serviceaccounts", &account)
        .await
        .expect(201);
    server
}

fn pod(name: &str, spec: Value) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = spec.as_object().unwrap().clone();
    object["spec"].as_object_mut().unwrap().extend(spec);
    object
}

fn message(answer: &Value) -> &str {
    answer["message"].as_str().unwrap()
}

#[tokio::test]
async fn claims_get_class_protection_and_room_to_grow() {
    let server = server_of(&[], None).await;
    let class = |name: &str, grows: bool| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "p",
            "allowVolumeExpansion": grows, "metadata": {"name": name,
            "annotations": {"storageclass.kubernetes.io/is-default-class": grows.to_string()}}})
    };
    for (name, grows) in [("gold", true), ("tin", false)] {
        server
            .post("/apis/storage.k8s.io/v1/storageclasses", &class(name, grows))
            .await
            .expect(201);
    }
    let claim = |name: &str, class: Option<&str>| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}})
    };
    let made = server.post(CLAIMS, &claim("a", None)).await.expect(201);
    assert_eq!(made["spec"]["storageClassName"], "gold");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let made_tin = server.post(CLAIMS, &claim("b", Some("tin"))).await.expect(201);
    for (mut object, code) in [(made, 200), (made_tin, 403)] {
        let path = format!("{CLAIMS}/{}", object["metadata"]["name"].as_str().unwrap());
        object["spec"]["resources"]["requests"]["storage"] = json!("2Gi");
        let refused = server.put(&path, &object).await.expect(403);
        assert!(message(&refused).ends_with("Only bound persistent volume claims can be expanded"));
        let bound = json!({"status": {"phase": "Bound"}});
        let patch = "application/merge-patch+json";
        server.patch(&format!("{path}/status"), patch, &bound).await.expect(200);
        object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        server.put(&path, &object).await.expect(code);
    }
}

#[tokio::test]
async fn ingresses_get_the_default_class() {
    let server = server_of(&[], None).await;
    let class = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "web",
        "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}});
    server
        .post("/apis/networking.k8s.io/v1/ingressclasses", &class)
        .await
        .expect(201);
    let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "a"}});
    let made = server
        .post("/apis/networking.k8s.io/v1/namespaces/ns/ingresses", &ingress)
        .await
        .expect(201);
    assert_eq!(made["spec"]["ingressClassName"], "web");
}

#[tokio::test]
async fn runtime_classes_bring_overhead_and_nodes() {
    let server = server_of(&[], None).await;
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "vm"},
        "handler": "vm", "overhead": {"podFixed": {"cpu": "100m"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}});
    server
        .post("/apis/node.k8s.io/v1/runtimeclasses", &class)
        .await
        .expect(201);
    let made = server
        .post(PODS, &pod("a", json!({"runtimeClassName": "vm"})))
        .await
        .expect(201);
    assert_eq!(made["spec"]["overhead"], json!({"cpu": "100m"}));
    assert_eq!(made["spec"]["nodeSelector"], json!({"vm": "yes"}));
    let tolerated: Vec<&str> = made["spec"]["tolerations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["key"].as_str().unwrap())
        .collect();
    assert!(tolerated.contains(&"vm"));
    let refused = server
        .post(PODS, &pod("b", json!({"runtimeClassName": "none"})))
        .await
        .expect(403);
    assert_eq!(
        message(&refused),
        "pods \"b\" is forbidden: pod rejected: RuntimeClass \"none\" not found"
    );
    let refused = server
        .post(PODS, &pod("c", json!({"overhead": {"cpu": "1"}})))
        .await
        .expect(403);
    assert!(message(&refused).ends_with("Pod Overhead set without corresponding RuntimeClass defined Overhead"));
    let other = json!({"runtimeClassName": "vm", "nodeSelector": {"vm": "no"}});
    let refused = server.post(PODS, &pod("d", other)).await.expect(403);
    assert!(
        message(&refused)
            .ends_with("conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no")
    );
}

#[tokio::test]
async fn signers_are_granted_one_by_one() {
    let server = server_of(&[], None).await;
    const GROUP: &str = "/apis/rbac.authorization.k8s.io/v1";
    const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"},
        "rules": [{"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests/approval"], "verbs": ["*"]},
            {"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "verbs": ["approve"], "resourceNames": ["example.com/*"]}]});
    server.post(&format!("{GROUP}/clusterroles"), &role).await.expect(201);
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
        "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}]});
    server
        .post(&format!("{GROUP}/clusterrolebindings"), &binding)
        .await
        .expect(201);
    for (name, signer, code) in [("a", "example.com/x", 200), ("b", "other.org/x", 403)] {
        let request = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": name}, "spec": {"signerName": signer, "request": "eA==", "usages": ["any"]}});
        let mut made = server.post(REQUESTS, &request).await.expect(201);
        made["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}]});
        let path = format!("{REQUESTS}/{name}/approval");
        let answer = server.call_as(user("jane"), "PUT", &path, Some(&made), &[]).await;
        let answer = answer.expect(code);
        if code == 403 {
            assert!(
                message(&answer).ends_with("user not permitted to approve requests with signerName \"other.org/x\"")
            );
        }
    }
}

#[tokio::test]
async fn nodes_keep_to_themselves() {
    let server = server_of(&["NodeRestriction"], None).await;
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "system:node"}, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "nodes"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node"},
        "subjects": [{"kind": "Group", "name": "system:nodes", "apiGroup": "rbac.authorization.k8s.io"}]});
    for (plural, object) in [("clusterroles", role), ("clusterrolebindings", binding)] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/{plural}");
        server.post(&path, &object).await.expect(201);
    }
    let node = apiserver::Peer {
        user: Some(apiserver::UserInfo::node("n1")),
        ..apiserver::Peer::default()
    };
    let own = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1",
        "labels": {"kubernetes.io/hostname": "n1"}}});
    let mut steering = own.clone();
    steering["metadata"]["labels"]["node-role.kubernetes.io/x"] = json!("");
    let post = async |object: &Value| {
        server
            .call_as(node.clone(), "POST", "/api/v1/nodes", Some(object), &[])
            .await
    };
    let refused = post(&steering).await.expect(403);
    let why =
        "nodes \"n1\" is forbidden: node \"n1\" is not allowed to set the following labels: node-role.kubernetes.io/x";
    assert_eq!(message(&refused), why);
    let made = post(&own).await.expect(201);
    let mirror = |uid: &str| {
        let mut mirror = pod("m", json!({"nodeName": "n1"}));
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        mirror["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": true}]);
        mirror
    };
    let uid = made["metadata"]["uid"].as_str().unwrap();
    let answer = server
        .call_as(node.clone(), "POST", PODS, Some(&mirror("x")), &[])
        .await;
    assert!(message(&answer.expect(403)).ends_with(&format!("node n1 UID mismatch: expected x got {uid}")));
    let answer = server
        .call_as(node.clone(), "POST", PODS, Some(&mirror(uid)), &[])
        .await;
    answer.expect(201);
    let elsewhere = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n1"}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/ns/leases";
    let answer = server.call_as(node, "POST", leases, Some(&elsewhere), &[]).await;
    assert_eq!(answer.code, 403);
    let answer = server.call_as(admin(), "POST", leases, Some(&elsewhere), &[]).await;
    answer.expect(201);
}

#[tokio::test]
async fn plugins_that_are_off_by_default() {
    let settings = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n\
        - name: PodNodeSelector\n  configuration: {podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: 'pool=a', ns: 'pool=a,disk=ssd'}}\n\
        - name: PodTolerationRestriction\n  configuration: {default: [{key: k, operator: Exists}], whitelist: [{operator: Exists}]}\n";
    let enable = [
        "AlwaysPullImages",
        "PodNodeSelector",
        "PodTolerationRestriction",
        "ExtendedResourceToleration",
        "NamespaceAutoProvision",
        "DenyServiceExternalIPs",
        "LimitPodHardAntiAffinityTopology",
    ];
    let server = server_of(&enable, Some(settings)).await;
    let asks = json!({"nodeSelector": {"disk": "ssd"},
        "containers": [{"name": "c", "image": "i", "imagePullPolicy": "Never",
            "resources": {"requests": {"example.com/gpu": "1"}, "limits": {"example.com/gpu": "1"}}}]});
    let made = server.post(PODS, &pod("a", asks)).await.expect(201);
    assert_eq!(made["spec"]["nodeSelector"], json!({"disk": "ssd", "pool": "a"}));
    assert_eq!(made["spec"]["containers"][0]["imagePullPolicy"], "Always");
    let keys: Vec<&str> = made["spec"]["tolerations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["key"].as_str().unwrap())
        .collect();
    assert!(keys.contains(&"k") && keys.contains(&"example.com/gpu"), "{keys:?}");
    let refused = server
        .post(PODS, &pod("b", json!({"nodeSelector": {"pool": "b"}})))
        .await
        .expect(403);
    assert!(message(&refused).ends_with("pod node label selector conflicts with its namespace node label selector"));
    let zone = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        [{"topologyKey": "zone", "labelSelector": {}}]}}});
    let refused = server.post(PODS, &pod("c", zone)).await.expect(403);
    assert!(message(&refused).contains("has TopologyKey zone but only key kubernetes.io/hostname is allowed"));
    server
        .post("/api/v1/namespaces/fresh/configmaps", &config_map("a", &json!({})))
        .await
        .expect(201);
    server.get("/api/v1/namespaces/fresh").await.expect(200);
}

#[tokio::test]
async fn denying_everything() {
    let server = server_with(kinds(), |config| {
        config.admission.enable = vec!["AlwaysDeny".to_owned()]
    })
    .await;
    let refused = server
        .post("/api/v1/namespaces/default/configmaps", &config_map("a", &json!({})))
        .await;
    assert!(refused.code == 403 || refused.code == 404);
}
