//! Table of faults in pod specs: what is wrong, and where it is reported.

use api::Value;
use api::field::{Error, Path};
use serde_json::json;

use super::defaults;
use super::spec::{Holder, spec};

fn good() -> Value {
    let mut pod = json!({"spec": {
        "containers": [{"name": "c", "image": "a:1"}],
        "volumes": [{"name": "v"}],
    }});
    defaults::pod(&mut pod);
    pod["spec"].clone()
}

fn fields(errors: &[Error]) -> Vec<&str> {
    errors.iter().map(|error| error.field.as_str()).collect()
}

/// Merges `change` into the first container.
fn container(change: Value) -> Value {
    let mut spec = good();
    for (key, value) in change.as_object().unwrap() {
        spec["containers"][0][key] = value.clone();
    }
    spec
}

fn check(spec_value: &Value, want: &[&str]) {
    let errors = spec(spec_value, Holder::Pod("p"), &Path::new("spec"));
    assert_eq!(fields(&errors), want, "{spec_value}: {errors:?}");
}

#[test]
fn a_good_pod_has_no_errors() {
    check(&good(), &[]);
}

#[test]
fn faults_of_containers() {
    let c = |rest: &str| format!("spec.containers[0].{rest}");
    let cases: Vec<(Value, Vec<String>)> = vec![
        (json!({"name": ""}), vec![c("name")]),
        (json!({"name": "A"}), vec![c("name")]),
        (json!({"image": ""}), vec![c("image")]),
        (json!({"imagePullPolicy": "Often"}), vec![c("imagePullPolicy")]),
        (
            json!({"terminationMessagePolicy": "x"}),
            vec![c("terminationMessagePolicy")],
        ),
        (
            json!({"ports": [{"containerPort": 0, "protocol": "TCP"}]}),
            vec![c("ports[0].containerPort")],
        ),
        (
            json!({"ports": [{"containerPort": 70000, "protocol": "X", "name": "UPPER"}]}),
            vec![
                c("ports[0].name"),
                c("ports[0].name"),
                c("ports[0].containerPort"),
                c("ports[0].protocol"),
            ],
        ),
        (
            json!({"ports": [{"containerPort": 1, "hostPort": 2, "protocol": "TCP"}, {"containerPort": 3, "hostPort": 2, "protocol": "TCP"}]}),
            vec![c("ports[1].hostPort")],
        ),
        (
            json!({"env": [{"name": ""}, {"name": "a=b"}]}),
            vec![c("env[0].name"), c("env[1].name")],
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {}}]}),
            vec![c("env[0].valueFrom")],
        ),
        (
            json!({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}]}),
            vec![c("env[0].valueFrom")],
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.x"}}}]}),
            vec![c("env[0].valueFrom.fieldRef.fieldPath")],
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels['a/b']"}}}]}),
            vec![],
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "", "key": "a b"}}}]}),
            vec![
                c("env[0].valueFrom.secretKeyRef.name"),
                c("env[0].valueFrom.secretKeyRef.key"),
            ],
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "5m"}}}]}),
            vec![c("env[0].valueFrom.resourceFieldRef.divisor")],
        ),
        (json!({"envFrom": [{}]}), vec![c("envFrom")]),
        (
            json!({"envFrom": [{"configMapRef": {"name": ""}}]}),
            vec![c("envFrom[0].configMapRef.name")],
        ),
        (
            json!({"volumeMounts": [{"name": "x", "mountPath": ""}]}),
            vec![c("volumeMounts[0].name"), c("volumeMounts[0].mountPath")],
        ),
        (
            json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/a", "subPath": "../x"}]}),
            vec![c("volumeMounts[1].mountPath"), c("volumeMounts.subPath")],
        ),
        (
            json!({"volumeMounts": [{"name": "v", "mountPath": "/a", "mountPropagation": "Bidirectional"}]}),
            vec![c("volumeMounts.mountPropagation")],
        ),
        (
            json!({"volumeDevices": [{"name": "v", "devicePath": "/dev/x"}]}),
            vec![c("volumeDevices[0].name")],
        ),
        (
            json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}),
            vec![c("resources.requests")],
        ),
        (
            json!({"resources": {"limits": {"cpu": "-1", "bogus": "1"}}}),
            vec![
                c("resources.limits[bogus]"),
                c("resources.limits[bogus]"),
                c("resources.limits[cpu]"),
            ],
        ),
        (
            json!({"resources": {"requests": {"a.b/gpu": "1"}}}),
            vec![c("resources.limits")],
        ),
        (
            json!({"resources": {"limits": {"hugepages-2Mi": "3Mi"}, "requests": {"hugepages-2Mi": "3Mi"}}}),
            vec![
                c("resources.limits[hugepages-2Mi]"),
                c("resources.requests[hugepages-2Mi]"),
                c("resources"),
            ],
        ),
        (
            json!({"livenessProbe": {"successThreshold": 1}}),
            vec![c("livenessProbe")],
        ),
        (
            json!({"livenessProbe": {"successThreshold": 2, "tcpSocket": {"port": 1}, "exec": {"command": ["a"]}}}),
            vec![c("livenessProbe.tcpSocket"), c("livenessProbe.successThreshold")],
        ),
        (
            json!({"readinessProbe": {"httpGet": {"port": "a_b", "path": "/", "scheme": "FTP"}, "periodSeconds": -1}}),
            vec![
                c("readinessProbe.httpGet.port"),
                c("readinessProbe.httpGet.scheme"),
                c("readinessProbe.periodSeconds"),
            ],
        ),
        (
            json!({"lifecycle": {"preStop": {"exec": {}}}}),
            vec![c("lifecycle.preStop.exec.command")],
        ),
        (
            json!({"securityContext": {"runAsUser": -1, "privileged": true, "allowPrivilegeEscalation": false}}),
            vec![c("securityContext.runAsUser"), c("securityContext")],
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}}),
            vec![c("securityContext.seccompProfile.localhostProfile")],
        ),
        (json!({"restartPolicy": "Often"}), vec![c("restartPolicy")]),
    ];
    for (change, want) in cases {
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check(&container(change), &want);
    }
}

#[test]
fn faults_of_volumes() {
    let v = |rest: &str| format!("spec.volumes[0]{rest}");
    let cases: Vec<(Value, Vec<String>)> = vec![
        (json!({"name": ""}), vec![v(""), v(".name")]),
        (json!({"name": "v"}), vec![v("")]),
        (
            json!({"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}),
            vec![v(".hostPath")],
        ),
        (
            json!({"name": "v", "emptyDir": {"sizeLimit": "-1"}}),
            vec![v(".emptyDir.sizeLimit")],
        ),
        (
            json!({"name": "v", "hostPath": {"path": "/a/../b", "type": "Odd"}}),
            vec![v(".hostPath.path"), v(".hostPath.type")],
        ),
        (
            json!({"name": "v", "secret": {"defaultMode": 512}}),
            vec![v(".secret.secretName"), v(".secret.defaultMode")],
        ),
        (
            json!({"name": "v", "configMap": {"name": "c", "items": [{"key": "", "path": "../x"}]}}),
            vec![v(".configMap.items[0].key"), v(".configMap.items[0].path")],
        ),
        (
            json!({"name": "v", "nfs": {"server": "s", "path": "x"}}),
            vec![v(".nfs.path")],
        ),
        (
            json!({"name": "v", "downwardAPI": {"items": [{"path": "x"}]}}),
            vec![v(".downwardAPI")],
        ),
        (
            json!({"name": "v", "projected": {"sources": [
            {"configMap": {"name": "a", "items": [{"key": "k", "path": "p"}]}},
            {"secret": {"name": "b", "items": [{"key": "k", "path": "p"}]}},
            {"serviceAccountToken": {"expirationSeconds": 5, "path": ""}}]}}),
            vec![
                v(".projected"),
                v(".projected.sources[2].serviceAccountToken.expirationSeconds"),
                v(".projected.path"),
            ],
        ),
        (json!({"name": "v", "csi": {"driver": "A_b"}}), vec![v(".csi.driver")]),
        (
            json!({"name": "v", "ephemeral": {}}),
            vec![v(".ephemeral.volumeClaimTemplate")],
        ),
    ];
    for (volume, want) in cases {
        let mut spec_value = good();
        spec_value["volumes"] = json!([volume]);
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check(&spec_value, &want);
    }
}

#[test]
fn faults_of_the_pod() {
    let term = json!({"topologyKey": "", "labelSelector": {"matchLabels": {"a": "b c"}}});
    let cases: &[(&str, Value, &[&str])] = &[
        ("containers", json!([]), &["spec.containers"]),
        ("restartPolicy", json!("x"), &["spec.restartPolicy"]),
        ("dnsPolicy", json!("x"), &["spec.dnsPolicy"]),
        ("dnsPolicy", json!("None"), &["spec.dnsConfig"]),
        (
            "dnsConfig",
            json!({"nameservers": ["x"], "searches": ["A"], "options": [{}]}),
            &[
                "spec.dnsConfig.nameservers[0]",
                "spec.dnsConfig.searches[0]",
                "spec.dnsConfig.options[0]",
            ],
        ),
        ("nodeSelector", json!({"a b": "c"}), &["spec.nodeSelector"]),
        ("nodeName", json!("A"), &["spec.nodeName"]),
        ("hostname", json!("a.b"), &["spec.hostname"]),
        ("serviceAccountName", json!("A"), &["spec.serviceAccountName"]),
        ("activeDeadlineSeconds", json!(0), &["spec.activeDeadlineSeconds"]),
        (
            "hostAliases",
            json!([{"ip": "x", "hostnames": ["A"]}]),
            &["spec.hostAliases[0].ip", "spec.hostAliases[0].hostnames[0]"],
        ),
        ("preemptionPolicy", json!("x"), &["spec.preemptionPolicy"]),
        ("os", json!({"name": "plan9"}), &["spec.os"]),
        (
            "readinessGates",
            json!([{"conditionType": "a b"}]),
            &["spec.readinessGates[0].conditionType"],
        ),
        (
            "schedulingGates",
            json!([{"name": "a"}, {"name": "a"}]),
            &["spec.schedulingGates[1]"],
        ),
        (
            "tolerations",
            json!([{"operator": "Equal"}, {"key": "k", "operator": "Exists", "value": "v", "effect": "x"}, {"key": "k", "tolerationSeconds": 1}]),
            &[
                "spec.tolerations[0].operator",
                "spec.tolerations[1].operator",
                "spec.tolerations[1].effect",
                "spec.tolerations[2].effect",
            ],
        ),
        (
            "securityContext",
            json!({"runAsUser": -1, "fsGroup": -1, "sysctls": [{"name": "A"}]}),
            &[
                "spec.securityContext.fsGroup",
                "spec.securityContext.runAsUser",
                "spec.securityContext.sysctls[0].name",
            ],
        ),
        (
            "affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}),
            &["spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"],
        ),
        (
            "affinity",
            json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "podAffinityTerm": term}]}}),
            &[
                "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight",
                "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector.matchLabels",
                "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey",
                "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey",
                "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey",
            ],
        ),
        (
            "topologySpreadConstraints",
            json!([{"maxSkew": 0, "whenUnsatisfiable": "x", "minDomains": 0}]),
            &[
                "spec.topologySpreadConstraints[0].maxSkew",
                "spec.topologySpreadConstraints[0].topologyKey",
                "spec.topologySpreadConstraints[0].whenUnsatisfiable",
                "spec.topologySpreadConstraints[0].minDomains",
                "spec.topologySpreadConstraints[0].minDomains",
            ],
        ),
        (
            "initContainers",
            json!([{"name": "c", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File", "lifecycle": {}}]),
            &["spec.initContainers[0].name", "spec.initContainers[0].lifecycle"],
        ),
        (
            "resources",
            json!({"requests": {"cpu": "1", "pods": "1"}}),
            &["spec.resources.requests[pods]"],
        ),
    ];
    for (field, value, want) in cases {
        let mut spec_value = good();
        spec_value[field] = value.clone();
        check(&spec_value, want);
    }
}
