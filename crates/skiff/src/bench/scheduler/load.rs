//! Objects are made, many at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Result, bail};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::super::api::{Call, Connection, Http, Target};

const JSON: &str = "application/json";

/// Connections to the server, shared by workers.
pub struct Load {
    connections: Vec<Connection>,
    clients: u16,
}

/// What is sent for the `index`th object: paths with bodies, one after the other.
pub type Requests = Arc<dyn Fn(u32) -> Vec<(Method, String, Value)> + Send + Sync>;

impl Load {
    pub async fn connect(target: &Target, connections: u16, clients: u16) -> Result<Load> {
        let mut opened = Vec::new();
        for _ in 0..connections {
            opened.push(target.connect(Http::Two).await?);
        }
        Ok(Load {
            connections: opened,
            clients,
        })
    }

    /// Sends the requests of `count` objects; when each was begun.
    pub async fn each(&self, count: u32, requests: Requests) -> Result<Vec<Instant>> {
        let next = Arc::new(AtomicU32::new(0));
        let mut workers = JoinSet::new();
        for worker in 0..usize::from(self.clients).min(count as usize) {
            let shared = &self.connections[worker % self.connections.len()];
            let mut connection = shared.share().expect("over HTTP/2 connections are shared");
            let (next, requests) = (next.clone(), requests.clone());
            workers.spawn(async move {
                let mut begun = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return Ok::<_, anyhow::Error>(begun);
                    }
                    begun.push((index, Instant::now()));
                    for (method, path, body) in requests(index) {
                        send(&mut connection, method, &path, &body).await?;
                    }
                }
            });
        }
        let mut all = vec![Instant::now(); count as usize];
        while let Some(begun) = workers.join_next().await {
            for (index, at) in begun?? {
                all[index as usize] = at;
            }
        }
        Ok(all)
    }

    /// Sends one request.
    pub async fn one(&self, method: Method, path: &str, body: &Value) -> Result<()> {
        let mut connection = self.connections[0].share().expect("over HTTP/2 connections are shared");
        send(&mut connection, method, path, body).await
    }

    /// Reads an object.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let mut connection = self.connections[0].share().expect("over HTTP/2 connections are shared");
        let call = Call {
            method: Method::GET,
            path,
            content_type: "",
            accept: JSON,
            body: Bytes::new(),
        };
        let (code, body) = connection.fetch(call).await?;
        if !code.is_success() {
            bail!("GET {path}: {code}: {}", String::from_utf8_lossy(&body));
        }
        Ok(serde_json::from_slice(&body)?)
    }
}

/// Sends a request; what exists, and what is gone, is as it should be.
async fn send(connection: &mut Connection, method: Method, path: &str, body: &Value) -> Result<()> {
    let content_type = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => JSON,
    };
    let text = match body {
        Value::Null => Bytes::new(),
        body => Bytes::from(body.to_string()),
    };
    let call = Call {
        method: method.clone(),
        path,
        content_type,
        accept: JSON,
        body: text,
    };
    let (code, body) = connection.fetch(call).await?;
    let gone = method == Method::DELETE && code == StatusCode::NOT_FOUND;
    if code.is_success() || gone || code == StatusCode::CONFLICT && method == Method::POST {
        return Ok(());
    }
    bail!("{method} {path}: {code}: {}", String::from_utf8_lossy(&body))
}

/// A request that creates.
pub fn post(path: &str, object: Value) -> (Method, String, Value) {
    (Method::POST, path.to_owned(), object)
}

/// A request that says that a volume or claim is bound.
pub fn bound(path: &str, name: &str) -> (Method, String, Value) {
    (
        Method::PATCH,
        format!("{path}/{name}/status"),
        json!({"status": {"phase": "Bound"}}),
    )
}
