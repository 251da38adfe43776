//! What is applied.

pub const CONFIG: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: demo}
data:
  GREETING: good morning
  page.txt: a page
---
apiVersion: v1
kind: Secret
metadata: {name: password, namespace: demo}
stringData: {PASSWORD: hunter2}
"#;

pub const HELLO: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello, namespace: demo, labels: {app: hello}}
spec:
  replicas: 3
  selector: {matchLabels: {app: hello}}
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 1}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: web
        image: skiff.local/hello:latest
        imagePullPolicy: IfNotPresent
        ports: [{name: http, containerPort: 8080}]
        env:
        - {name: GREETING, valueFrom: {configMapKeyRef: {name: settings, key: GREETING}}}
        - {name: PASSWORD, valueFrom: {secretKeyRef: {name: password, key: PASSWORD}}}
        volumeMounts: [{name: settings, mountPath: /config}]
        resources:
          requests: {cpu: 10m, memory: 16Mi}
          limits: {cpu: 500m, memory: 128Mi}
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
        livenessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 5}
      volumes:
      - {name: settings, configMap: {name: settings}}
---
apiVersion: v1
kind: Service
metadata: {name: hello, namespace: demo}
spec:
  type: NodePort
  selector: {app: hello}
  ports: [{name: http, port: 80, targetPort: http}]
"#;

/// A pod with a shell; `TOOLS` is the image.
pub const TOOLS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: tools, namespace: demo}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: tools
    image: e2e.local/tools:1
    command: [sh, -c, 'echo started; n=0; while true; do n=$((n+1)); echo tick $n; sleep 1; done']
    env:
    - {name: GREETING, valueFrom: {configMapKeyRef: {name: settings, key: GREETING}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    envFrom: [{secretRef: {name: password}}]
    volumeMounts:
    - {name: settings, mountPath: /config}
    - {name: password, mountPath: /secret}
    - {name: scratch, mountPath: /scratch}
    resources: {limits: {memory: 64Mi, cpu: 200m}}
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: password, secret: {secretName: password}}
  - {name: scratch, emptyDir: {medium: Memory}}
"#;

/// A pod that pulls an image, with pull secrets as a list in JSON.
pub fn puller(name: &str, image: &str, secrets: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: demo}}
spec:
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  imagePullSecrets: {secrets}
  containers: [{{name: main, image: "{image}", command: [sh, -c, 'echo pulled; exit 0']}}]
"#
    )
}

/// A pod that ends at once, again and again.
pub const CRASHING: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: crashing, namespace: demo}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: e2e.local/tools:1, command: [sh, -c, 'echo broken; exit 3']}]
"#;

/// A Deployment with an error in it.
pub fn wrong() -> String {
    HELLO.replace("periodSeconds: 1}", "periodSecond: 1}")
}

/// A pod that repeats what it is told.
pub const ECHO: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: echo, namespace: demo}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: echo
    image: e2e.local/tools:1
    stdin: true
    stdinOnce: true
    command: [sh, -c, 'while read line; do echo heard $line; done']
"#;
