//! Events posted to a server, many at a time (`audit.k8s.io/v1` EventList).

use std::sync::Arc;
use std::time::Duration;

use api::Value;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::truncate::length;
use super::{Sink, Truncation};

/// Events that wait to be sent.
const QUEUE: usize = 10_000;
/// How long one post may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a post is tried, with pauses that grow from the first.
const ATTEMPTS: u32 = 4;

/// Where events are posted, and in what portions.
#[derive(Clone)]
pub struct WebhookOptions {
    /// The server's address, with the path.
    pub url: Uri,
    /// TLS towards it.
    pub tls: Arc<ClientConfig>,
    /// The `Authorization` header, if it wants one.
    pub authorization: Option<HeaderValue>,
    /// Events posted at a time at most.
    pub batch_size: usize,
    /// How long the first event of a portion waits for others.
    pub batch_wait: Duration,
    /// What is too long.
    pub truncation: Option<Truncation>,
    /// The pause before a failed post is tried again; it doubles each time.
    pub first_pause: Duration,
}

impl std::fmt::Debug for WebhookOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookOptions")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl WebhookOptions {
    /// Upstream's portions: 400 events, 30 seconds; pauses from 10 seconds on.
    pub fn new(url: Uri, tls: Arc<ClientConfig>) -> WebhookOptions {
        WebhookOptions {
            url,
            tls,
            authorization: None,
            batch_size: 400,
            batch_wait: Duration::from_secs(30),
            truncation: None,
            first_pause: Duration::from_secs(10),
        }
    }
}

type Hyper = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The webhook's end for requests.
pub(super) struct Webhook(mpsc::Sender<Arc<Value>>);

impl Sink for Webhook {
    fn take(&self, event: &Arc<Value>) -> bool {
        self.0.try_send(event.clone()).is_ok()
    }
}

impl Webhook {
    /// Starts the task that posts; it ends when the server is gone and all is sent.
    pub fn start(options: WebhookOptions) -> Webhook {
        let (sender, events) = mpsc::channel(QUEUE);
        tokio::spawn(run(options, events));
        Webhook(sender)
    }
}

async fn run(options: WebhookOptions, mut events: mpsc::Receiver<Arc<Value>>) {
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(ClientConfig::clone(&options.tls))
        .https_or_http()
        .enable_http1()
        .build();
    let client: Hyper = Client::builder(TokioExecutor::new()).build(connector);
    while let Some(first) = events.recv().await {
        let room = options.truncation.map(|truncation| truncation.max_batch_bytes);
        let size = |event: &Arc<Value>| room.map_or(0, |_| length(event));
        let mut bytes = size(&first);
        let mut batch = vec![first];
        let until = Instant::now() + options.batch_wait;
        // The last event may reach over the limit: it has been taken from the queue.
        while batch.len() < options.batch_size && room.is_none_or(|room| bytes < room) {
            match timeout_at(until, events.recv()).await {
                Ok(Some(event)) => {
                    bytes += size(&event);
                    batch.push(event);
                }
                Ok(None) | Err(_) => break,
            }
        }
        post(&options, &client, &batch).await;
    }
}

async fn post(options: &WebhookOptions, client: &Hyper, batch: &[Arc<Value>]) {
    let items: Vec<&Value> = batch.iter().map(|event| &**event).collect();
    let list = json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items});
    let body = Bytes::from(list.to_string());
    let mut pause = options.first_pause;
    for attempt in 1..=ATTEMPTS {
        let error = match once(options, client, body.clone()).await {
            Ok(()) => return,
            Err(error) => error,
        };
        if attempt == ATTEMPTS {
            tracing::error!(
                error,
                events = batch.len(),
                "audit events could not be posted and are lost"
            );
            return;
        }
        tracing::warn!(error, "audit events could not be posted; trying again");
        sleep(pause).await;
        pause *= 2;
    }
}

async fn once(options: &WebhookOptions, client: &Hyper, body: Bytes) -> Result<(), String> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = options.url.clone();
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(value) = &options.authorization {
        headers.insert(AUTHORIZATION, value.clone());
    }
    match timeout(PATIENCE, client.request(request)).await {
        Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
        Ok(Ok(answer)) => Err(format!("the server answered {}", answer.status())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
