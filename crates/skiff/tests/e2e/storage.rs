//! Claims and volumes.

use std::fs;
use std::path::PathBuf;

use crate::cluster::{Cluster, must_contain, text, until};

const STATEFUL: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: keeper, namespace: demo}
spec:
  serviceName: keeper
  replicas: 2
  selector: {matchLabels: {app: keeper}}
  template:
    metadata: {labels: {app: keeper}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {fsGroup: 4242}
      containers:
      - name: main
        image: e2e.local/tools:1
        command: [sh, -c, 'echo "$HOSTNAME $MARK" >> /data/log; echo up; while true; do sleep 1; done']
        env: [{name: MARK, value: first}]
        volumeMounts: [{name: data, mountPath: /data}, {name: data, mountPath: /part, subPath: deep/part}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      resources: {requests: {storage: 8Mi}}
"#;

const STATIC: &str = r#"
apiVersion: v1
kind: PersistentVolume
metadata: {name: by-hand}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: by-hand
  hostPath: {path: FOLDER}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: by-hand, namespace: demo}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: by-hand
  resources: {requests: {storage: 100Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: reader, namespace: demo}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: e2e.local/tools:1
    command: [sh, -c, 'while true; do sleep 1; done']
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: by-hand, readOnly: true}}]
"#;

const EPHEMERAL: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: passing, namespace: demo}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: e2e.local/tools:1
    command: [sh, -c, 'echo here > /data/file; while true; do sleep 1; done']
    volumeMounts: [{name: data, mountPath: /data}]
  volumes:
  - name: data
    ephemeral:
      volumeClaimTemplate:
        spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
"#;

fn exec(cluster: &Cluster, pod: &str, script: &str) -> String {
    let args = ["exec", "-n", "demo", pod, "--", "sh", "-c", script];
    cluster.kubectl_args(&args).report()
}

/// The folder of a claim's volume.
fn folder(cluster: &Cluster, claim: &str) -> PathBuf {
    let claim = cluster.object(&format!("pvc/{claim} -n demo"));
    let volume = cluster.object(&format!("pv/{}", text(&claim, "/spec/volumeName")));
    PathBuf::from(text(&volume, "/spec/local/path"))
}

fn goes(path: &std::path::Path) {
    until("the volume's folder is removed", 30, || match path.exists() {
        false => Ok(()),
        true => Err(format!("{} is still there", path.display())),
    });
}

pub fn stateful_set(cluster: &mut Cluster) {
    must_contain(
        &cluster.kubectl("get storageclass").ok(),
        &["local-path (default)", "skiff.io/local-path", "WaitForFirstConsumer"],
    );
    cluster.apply(STATEFUL).ok();
    cluster.settle("rollout status statefulset/keeper -n demo --timeout=60s");
    must_contain(
        &cluster.kubectl("get pvc -n demo").ok(),
        &["data-keeper-0", "data-keeper-1", "Bound", "8Mi", "RWO", "local-path"],
    );
    let first = folder(cluster, "data-keeper-0");
    assert_eq!(fs::read_to_string(first.join("log")).unwrap(), "keeper-0 first\n");
    must_contain(
        &exec(
            cluster,
            "keeper-0",
            "echo x > /part/f; /bin/busybox stat -c '%g %a' /data; cat /data/deep/part/f",
        ),
        &["4242 2777", "x"],
    );
    cluster.kubectl("delete pod keeper-0 -n demo").ok();
    cluster.settle("rollout status statefulset/keeper -n demo --timeout=60s");
    let log = || fs::read_to_string(first.join("log")).unwrap();
    assert_eq!(log(), "keeper-0 first\nkeeper-0 first\n");
    cluster.apply(&STATEFUL.replace("value: first", "value: second")).ok();
    cluster.settle("rollout status statefulset/keeper -n demo --timeout=60s");
    assert_eq!(log(), "keeper-0 first\nkeeper-0 first\nkeeper-0 second\n");

    cluster
        .kubectl_args(&[
            "patch",
            "pvc",
            "data-keeper-0",
            "-n",
            "demo",
            "-p",
            r#"{"spec":{"resources":{"requests":{"storage":"16Mi"}}}}"#,
        ])
        .ok();
    until("the claim has grown", 30, || {
        let claim = cluster.object("pvc/data-keeper-0 -n demo");
        match text(&claim, "/status/capacity/storage") {
            "16Mi" => Ok(()),
            _ => Err(claim["status"].to_string()),
        }
    });

    cluster.kubectl("delete statefulset keeper -n demo").ok();
    assert!(first.exists(), "claims outlive their set");
    let second = folder(cluster, "data-keeper-1");
    cluster.kubectl("delete pvc data-keeper-0 data-keeper-1 -n demo").ok();
    goes(&first);
    goes(&second);
    assert!(!cluster.kubectl("get pv").report().contains("data-keeper"));
}

pub fn static_volume(cluster: &mut Cluster) {
    let shared = cluster.dir.join("by-hand");
    fs::create_dir_all(&shared).unwrap();
    fs::write(shared.join("file"), "written before\n").unwrap();
    cluster.apply(&STATIC.replace("FOLDER", &shared.to_string_lossy())).ok();
    cluster.settle("wait --for=condition=Ready pod/reader -n demo --timeout=30s");
    must_contain(&exec(cluster, "reader", "cat /data/file"), &["written before"]);
    must_contain(
        &exec(cluster, "reader", "echo x > /data/file"),
        &["Read-only file system"],
    );
    must_contain(&cluster.kubectl("get pv by-hand").ok(), &["Bound", "demo/by-hand"]);
    cluster.kubectl("delete pod reader -n demo").ok();
    cluster.kubectl("delete pvc by-hand -n demo").ok();
    cluster.settle("wait --for=jsonpath={.status.phase}=Released pv/by-hand --timeout=30s");
    cluster.kubectl("delete pv by-hand").ok();
    assert_eq!(fs::read_to_string(shared.join("file")).unwrap(), "written before\n");
}

pub fn ephemeral(cluster: &mut Cluster) {
    cluster.apply(EPHEMERAL).ok();
    cluster.settle("wait --for=condition=Ready pod/passing -n demo --timeout=30s");
    let folder = folder(cluster, "passing-data");
    assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "here\n");
    cluster.kubectl("delete pod passing -n demo").ok();
    goes(&folder);
}
