//! What is stored: objects of about a wanted size, encoded as wanted.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use api::{Gvk, Value};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;

use super::connection::{Call, Connection, Http, Target};

/// The kind of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Resource {
    /// Pods that no scheduler takes
    Pods,
    /// ConfigMaps
    Configmaps,
    /// Leases
    Leases,
}

/// How objects travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Encoding {
    /// application/json
    Json,
    /// application/vnd.kubernetes.protobuf
    Protobuf,
}

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// How long the namespace may take to go.
const PATIENCE: Duration = Duration::from_secs(300);

/// Objects in a namespace of their own.
pub struct Objects {
    pub resource: Resource,
    pub encoding: Encoding,
    pub namespace: String,
    padding: String,
    next: AtomicU64,
    /// What stands before and after the name in a body, by the name's length: encoding takes a client longer than it
    /// takes some servers to answer. Locked for moments only, never across an await.
    templates: Mutex<HashMap<usize, (Bytes, Bytes)>>,
}

impl Objects {
    pub fn new(resource: Resource, encoding: Encoding, bytes: usize) -> Objects {
        let mut objects = Objects {
            resource,
            encoding,
            namespace: format!("skiff-bench-{}", std::process::id()),
            padding: String::new(),
            next: AtomicU64::new(0),
            templates: Mutex::default(),
        };
        let bare = objects.object("object-0").to_string().len();
        objects.padding = "x".repeat(bytes.saturating_sub(bare));
        objects
    }

    /// The media type of requests and answers.
    pub fn media_type(&self) -> &'static str {
        match self.encoding {
            Encoding::Json => JSON,
            Encoding::Protobuf => PROTOBUF,
        }
    }

    fn gvk(&self) -> Gvk {
        match self.resource {
            Resource::Pods => Gvk::new("", "v1", "Pod"),
            Resource::Configmaps => Gvk::new("", "v1", "ConfigMap"),
            Resource::Leases => Gvk::new("coordination.k8s.io", "v1", "Lease"),
        }
    }

    /// The collection's path.
    pub fn path(&self) -> String {
        self.path_in(&self.namespace)
    }

    /// The path of the collection of what is made while it is measured: apart, so that lists do not grow by it.
    pub fn new_path(&self) -> String {
        self.path_in(&self.new_namespace())
    }

    fn new_namespace(&self) -> String {
        format!("{}-new", self.namespace)
    }

    fn path_in(&self, namespace: &str) -> String {
        match self.resource {
            Resource::Pods => format!("/api/v1/namespaces/{namespace}/pods"),
            Resource::Configmaps => format!("/api/v1/namespaces/{namespace}/configmaps"),
            Resource::Leases => format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"),
        }
    }

    /// A name that was not used yet.
    pub fn next_name(&self) -> String {
        format!("new-{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// The name of the object that has been made for reading with this number.
    pub fn known(number: u32) -> String {
        format!("object-{number}")
    }

    fn object(&self, name: &str) -> Value {
        let labels = json!({"app": "bench", "shard": (name.len() % 7).to_string()});
        let mut object = match self.resource {
            Resource::Configmaps => json!({"data": {"padding": self.padding}}),
            Resource::Leases => json!({"spec": {"holderIdentity": "bench", "leaseDurationSeconds": 40}}),
            Resource::Pods => json!({"spec": {
                "schedulerName": "nobody",
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "main", "image": "registry.example.com/app:v1.2.3",
                    "command": ["/bin/app", "--listen=:8080"],
                    "ports": [{"containerPort": 8080, "name": "http"}],
                    "env": [{"name": "LOG", "value": "info"}, {"name": "NODE", "valueFrom":
                        {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
                }],
            }}),
        };
        let annotations = match self.resource {
            Resource::Configmaps => json!({}),
            _ => json!({"bench/padding": self.padding}),
        };
        object["metadata"] = json!({
            "name": name, "labels": labels, "annotations": annotations,
        });
        self.gvk().stamp(&mut object);
        object
    }

    /// The body that creates an object.
    pub fn body(&self, name: &str) -> Bytes {
        let mut templates = self.templates.lock().expect("nobody panics while holding it");
        let (head, tail) = templates.entry(name.len()).or_insert_with(|| self.template(name.len()));
        let mut body = Vec::with_capacity(head.len() + name.len() + tail.len());
        body.extend_from_slice(head);
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(tail);
        body.into()
    }

    /// What stands before and after a name of that length.
    fn template(&self, length: usize) -> (Bytes, Bytes) {
        // Nothing else in an object has such a character.
        let name = "~".repeat(length);
        let object = self.object(&name);
        let whole = Bytes::from(match self.encoding {
            Encoding::Json => object.to_string().into_bytes(),
            Encoding::Protobuf => self.protobuf(&object),
        });
        let at = whole.iter().position(|byte| *byte == b'~').unwrap_or(0);
        (whole.slice(..at), whole.slice(at + length..))
    }

    fn protobuf(&self, object: &Value) -> Vec<u8> {
        let (schema, gvk) = (schema::builtin(), self.gvk());
        let root = schema.root(&gvk).expect("the kinds of the measurement are built in");
        let raw = schema::codec::protobuf::encode(schema.get(root), object).expect("built-in kinds have protobuf");
        schema::codec::unknown::wrap(&gvk, &raw)
    }

    /// Makes the namespaces, and what pods need in them.
    pub async fn prepare(&self, target: &Target) -> Result<()> {
        let mut connection = target.connect(Http::One).await?;
        for name in [&self.namespace, &self.new_namespace()] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            self.post(&mut connection, "/api/v1/namespaces", &namespace).await?;
            let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
            let path = format!("/api/v1/namespaces/{name}/serviceaccounts");
            self.post(&mut connection, &path, &account).await?;
        }
        Ok(())
    }

    async fn post(&self, connection: &mut Connection, path: &str, object: &Value) -> Result<()> {
        let call = Call {
            method: Method::POST,
            path,
            content_type: JSON,
            accept: JSON,
            body: object.to_string().into(),
        };
        let (code, body) = connection.fetch(call).await?;
        if code.is_success() || code == StatusCode::CONFLICT {
            return Ok(());
        }
        bail!("POST {path}: {code}: {}", String::from_utf8_lossy(&body))
    }

    /// Deletes what was made while it was measured.
    pub async fn clear(&self, target: &Target) -> Result<()> {
        clear(&mut target.connect(Http::One).await?, &self.new_path()).await
    }

    /// Deletes the objects and the namespaces, and waits until they are gone where somebody takes care of that.
    pub async fn remove(&self, target: &Target) -> Result<()> {
        let mut connection = target.connect(Http::One).await?;
        clear(&mut connection, &self.path()).await?;
        clear(&mut connection, &self.new_path()).await?;
        let paths = [&self.namespace, &self.new_namespace()].map(|name| format!("/api/v1/namespaces/{name}"));
        for path in &paths {
            connection.send(bare(Method::DELETE, path)).await?;
        }
        for path in &paths {
            gone(&mut connection, path).await?;
        }
        Ok(())
    }
}

fn bare(method: Method, path: &str) -> Call<'_> {
    Call {
        method,
        path,
        content_type: "",
        accept: JSON,
        body: Bytes::new(),
    }
}

/// Deletes a collection. A large one takes a server longer than it gives to one request.
async fn clear(connection: &mut Connection, path: &str) -> Result<()> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        connection.send(bare(Method::DELETE, path)).await?;
        let first = format!("{path}?limit=1");
        let (code, body) = connection.fetch(bare(Method::GET, &first)).await?;
        let list: Value = serde_json::from_slice(&body).unwrap_or_default();
        if !code.is_success() || list["items"].as_array().is_none_or(Vec::is_empty) {
            return Ok(());
        }
    }
    bail!("{path} was not empty after {} s", PATIENCE.as_secs())
}

/// Waits until a namespace is.
async fn gone(connection: &mut Connection, path: &str) -> Result<()> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        let (code, body) = connection.fetch(bare(Method::GET, path)).await?;
        // Without controllers nobody finishes it; there is nothing to wait for.
        let finalized = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        let conditions = finalized["status"]["conditions"].as_array().map_or(0, Vec::len);
        if code == StatusCode::NOT_FOUND || (conditions == 0 && since.elapsed() > Duration::from_secs(10)) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bail!("{path} was not gone after {} s", PATIENCE.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_what_their_objects_encode_to() {
        let json = Objects::new(Resource::Pods, Encoding::Json, 2000);
        let protobuf = Objects::new(Resource::Leases, Encoding::Protobuf, 500);
        for name in ["new-1", "object-12345", "new-2"] {
            assert_eq!(json.body(name), json.object(name).to_string());
            assert_eq!(protobuf.body(name), protobuf.protobuf(&protobuf.object(name)));
        }
    }
}
