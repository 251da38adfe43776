//! Extenders over HTTP (upstream pkg/scheduler/extender.go).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use client::{Auth, Client, Config, Roots};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use scheduler::PodInfo;
use scheduler::config::extender::Extender;
use serde::Deserialize;
use serde_json::{Value, json};

/// How long an answer may take when the file does not say (`DefaultExtenderTimeout`).
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer names nodes, at most with all of their objects.
const LARGEST_ANSWER_BYTES: usize = 256 << 20;

/// The extenders of a configuration, in order. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Webhooks {
    pub(super) extenders: Arc<[Extender]>,
    lines: Arc<[Line]>,
}

/// The way to one extender.
struct Line {
    client: Client,
    patience: Duration,
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.extenders.iter().map(|extender| &extender.url_prefix))
            .finish()
    }
}

/// `rest.TLSClientConfig` in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct TlsConfig {
    insecure: bool,
    server_name: String,
    cert_file: String,
    key_file: String,
    ca_file: String,
    cert_data: String,
    key_data: String,
    ca_data: String,
}

/// What is in the file's own data, else in the other file; empty for neither.
fn pem(data: &str, file: &str) -> Result<Vec<u8>, String> {
    if !data.is_empty() {
        return STANDARD.decode(data).map_err(|error| error.to_string());
    }
    match file {
        "" => Ok(Vec::new()),
        file => std::fs::read(file).map_err(|error| format!("read {file}: {error}")),
    }
}

fn connection(extender: &Extender) -> Result<Config, String> {
    let tls: TlsConfig = match &extender.tls_config {
        Value::Null => TlsConfig::default(),
        given => TlsConfig::deserialize(given).map_err(|error| format!("tlsConfig: {error}"))?,
    };
    let authority = pem(&tls.ca_data, &tls.ca_file)?;
    let (certificate, key) = (pem(&tls.cert_data, &tls.cert_file)?, pem(&tls.key_data, &tls.key_file)?);
    let roots = match authority.is_empty() {
        false => Roots::Pem(authority),
        // As upstream has it: with nobody to trust, everybody is trusted.
        true if tls.insecure || extender.enable_https => Roots::Insecure,
        true => Roots::Native,
    };
    let auth = match certificate.is_empty() {
        true => Auth::None,
        false => Auth::Certificate { certificate, key },
    };
    Ok(Config {
        server: extender.url_prefix.trim_end_matches('/').to_owned(),
        roots,
        auth,
        tls_server_name: Some(tls.server_name).filter(|name| !name.is_empty()),
        namespace: String::new(),
        impersonate_user: None,
        impersonate_groups: Vec::new(),
    })
}

fn patience(extender: &Extender) -> Result<Duration, String> {
    let Some(text) = extender.http_timeout.as_deref() else {
        return Ok(PATIENCE);
    };
    let given = api::time::parse_go_duration(text).and_then(|given| Duration::try_from(given).ok());
    match given {
        None => Err(format!("httpTimeout: {text:?} is no duration")),
        Some(Duration::ZERO) => Ok(PATIENCE),
        Some(given) => Ok(given),
    }
}

impl Webhooks {
    /// Prepares the connections; they are made when needed.
    ///
    /// # Errors
    /// All that is wrong.
    pub(super) fn new(extenders: Vec<Extender>) -> Result<Webhooks, Vec<String>> {
        let (mut lines, mut wrong) = (Vec::new(), Vec::new());
        for (at, extender) in extenders.iter().enumerate() {
            let line = connection(extender).and_then(|config| {
                let client = Client::https(config).map_err(|error| error.report())?;
                let patience = patience(extender)?;
                Ok(Line { client, patience })
            });
            match line {
                Ok(line) => lines.push(line),
                Err(error) => wrong.push(format!("extenders[{at}]: {error}")),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Webhooks {
            extenders: extenders.into(),
            lines: lines.into(),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.extenders.is_empty()
    }

    /// Posts to a verb of an extender: the answer.
    pub(super) async fn send(&self, number: usize, verb: &str, arguments: &Value) -> Result<Value, String> {
        let (line, url) = (&self.lines[number], &self.extenders[number].url_prefix);
        let exchange = async {
            let request = Request::builder()
                .method(Method::POST)
                .uri(format!("/{verb}"))
                .header(header::CONTENT_TYPE, "application/json")
                .body(Bytes::from(arguments.to_string()))
                .map_err(|error| error.to_string())?;
            let response = line.client.send(request).await.map_err(|error| error.report())?;
            if response.status() != StatusCode::OK {
                let code = response.status().as_u16();
                return Err(format!("failed {verb} with extender at URL {url}/{verb}, code {code}"));
            }
            let (mut stream, mut body) = (response.into_body(), Vec::new());
            while let Some(frame) = stream.frame().await {
                let data = frame
                    .map_err(|error| error.to_string())?
                    .into_data()
                    .unwrap_or_default();
                if body.len() + data.len() > LARGEST_ANSWER_BYTES {
                    return Err(format!("the answer of {url}/{verb} is too large"));
                }
                body.extend_from_slice(&data);
            }
            serde_json::from_slice(&body).map_err(|error| format!("the answer of {url}/{verb}: {error}"))
        };
        let late = |_| {
            format!(
                "Post \"{url}/{verb}\": no answer within {} s",
                line.patience.as_secs_f64()
            )
        };
        tokio::time::timeout(line.patience, exchange).await.map_err(late)?
    }

    /// The extender that binds this pod, by number.
    pub(super) fn binder(&self, pod: &PodInfo) -> Option<usize> {
        let binds = |extender: &Extender| !extender.bind_verb.is_empty() && extender.is_interested(pod);
        self.extenders.iter().position(binds)
    }

    pub(super) async fn bind(&self, number: usize, pod: &PodInfo, node: &str) -> Result<(), String> {
        let key = &pod.key;
        let arguments = json!({
            "PodName": &*key.name, "PodNamespace": &*key.namespace, "PodUID": &*key.uid, "Node": node,
        });
        let answer = self.send(number, &self.extenders[number].bind_verb, &arguments).await?;
        match answer["Error"].as_str().filter(|error| !error.is_empty()) {
            None => Ok(()),
            Some(error) => Err(error.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
