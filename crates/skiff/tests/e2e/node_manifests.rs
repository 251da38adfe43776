//! Pods that use what a node can do. The image has a shell and little else.

/// Everything that starts and ends writes its name; `DIR` is a folder of the machine's.
pub const ORDER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: order, namespace: demo}
spec:
  terminationGracePeriodSeconds: 20
  volumes: [{name: v, hostPath: {path: DIR, type: DirectoryOrCreate}}]
  initContainers:
  - {name: first, image: e2e.local/tools:1, command: [sh, -c, 'echo first >> /v/order'], volumeMounts: [{name: v, mountPath: /v}]}
  - name: side
    image: e2e.local/tools:1
    restartPolicy: Always
    command: [sh, -c, 'trap "echo side ends >> /v/order; exit 0" TERM; echo side >> /v/order; echo > /v/ready; while true; do sleep 0.1; done']
    startupProbe: {exec: {command: [cat, /v/ready]}, periodSeconds: 1}
    volumeMounts: [{name: v, mountPath: /v}]
  - {name: second, image: e2e.local/tools:1, command: [sh, -c, 'echo second >> /v/order'], volumeMounts: [{name: v, mountPath: /v}]}
  containers:
  - name: main
    image: e2e.local/tools:1
    command: [sh, -c, 'trap "echo main ends >> /v/order; exit 0" TERM; echo main >> /v/order; while true; do sleep 0.1; done']
    lifecycle:
      postStart: {exec: {command: [sh, -c, 'until grep -q main /v/order; do sleep 0.1; done; echo postStart >> /v/order']}}
      preStop: {exec: {command: [sh, -c, 'echo preStop >> /v/order']}}
    volumeMounts: [{name: v, mountPath: /v}]
"#;

pub const MESSAGES: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: messages, namespace: demo}
spec:
  restartPolicy: Never
  containers:
  - {name: file, image: e2e.local/tools:1, command: [sh, -c, 'echo -n from the file > /dev/termination-log; exit 3']}
  - {name: own, image: e2e.local/tools:1, terminationMessagePath: /tmp/said, command: [sh, -c, 'echo -n from its own file > /tmp/said']}
  - {name: logs, image: e2e.local/tools:1, terminationMessagePolicy: FallbackToLogsOnError, command: [sh, -c, 'echo from the log; exit 4']}
  - {name: fine, image: e2e.local/tools:1, terminationMessagePolicy: FallbackToLogsOnError, command: [sh, -c, 'echo not told']}
"#;

pub const VOLUMES: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: volumes, namespace: demo, labels: {color: blue}}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 2Mi}}
  - {name: folder, emptyDir: {}}
  - name: told
    projected:
      sources:
      - serviceAccountToken: {path: token, audience: somebody, expirationSeconds: 600}
      - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}, {path: memory, resourceFieldRef: {containerName: main, resource: limits.memory}}]}
  containers:
  - name: main
    image: e2e.local/tools:1
    env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    command: [sh, -c, 'echo started >> /folder/starts; while [ ! -e /folder/end ]; do sleep 0.1; done; rm /folder/end; exit 1']
    resources: {limits: {memory: 64Mi, cpu: 100m}}
    volumeMounts:
    - {name: memory, mountPath: /memory}
    - {name: folder, mountPath: /folder}
    - {name: folder, mountPath: /part, subPath: part}
    - {name: folder, mountPath: /named, subPathExpr: pods/$(POD)}
    - {name: told, mountPath: /told, readOnly: true}
"#;

pub const SECURITY: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: security, namespace: demo}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000, supplementalGroups: [4000], seccompProfile: {type: RuntimeDefault}}
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - name: least
    image: e2e.local/tools:1
    command: [sleep, "1000"]
    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: v, mountPath: /v}]
  - name: some
    image: e2e.local/tools:1
    command: [sleep, "1000"]
    securityContext: {runAsUser: 0, capabilities: {drop: [ALL], add: [NET_ADMIN]}, seccompProfile: {type: Unconfined}}
  - name: all
    image: e2e.local/tools:1
    command: [sleep, "1000"]
    securityContext: {runAsUser: 0, privileged: true}
---
apiVersion: v1
kind: Pod
metadata: {name: not-root, namespace: demo}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: e2e.local/tools:1, command: [sleep, "1000"], securityContext: {runAsNonRoot: true}}]
"#;

pub const PLACES: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: on-host, namespace: demo}
spec:
  hostNetwork: true
  hostPID: true
  dnsPolicy: ClusterFirstWithHostNet
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: e2e.local/tools:1, command: [sleep, "1000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: on-port, namespace: demo}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: e2e.local/tools:1, command: [httpd, -f, -p, "80", -h, /www], ports: [{containerPort: 80, hostPort: 18888}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: shared, namespace: demo}
spec:
  shareProcessNamespace: true
  hostname: own-name
  subdomain: group
  terminationGracePeriodSeconds: 1
  hostAliases: [{ip: 10.1.2.3, hostnames: [one.alias, other.alias]}]
  dnsPolicy: None
  dnsConfig: {nameservers: [192.0.2.5], searches: [a.example, b.example], options: [{name: ndots, value: "3"}, {name: edns0}]}
  containers:
  - {name: a, image: e2e.local/tools:1, command: [sleep, "1001"]}
  - {name: b, image: e2e.local/tools:1, command: [sleep, "1002"]}
"#;

pub const STUBBORN: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: stubborn, namespace: demo}
spec:
  terminationGracePeriodSeconds: 2
  containers: [{name: main, image: e2e.local/tools:1, command: [sh, -c, 'trap "echo not yet" TERM; echo ready; while true; do sleep 0.1; done']}]
"#;

pub const GREEDY: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: greedy, namespace: demo}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: v, emptyDir: {sizeLimit: 1Mi}}]
  containers:
  - {name: main, image: e2e.local/tools:1, command: [sh, -c, '/bin/busybox dd if=/dev/zero of=/v/file bs=1M count=3; sleep 1000'], volumeMounts: [{name: v, mountPath: /v}]}
---
apiVersion: v1
kind: Pod
metadata: {name: talkative, namespace: demo}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: e2e.local/tools:1, command: [sh, -c, '/bin/busybox yes 0123456789012345678901234567890123456789 | /bin/busybox head -c 12000000; echo the end; sleep 1000']}
"#;
