//! Hand-written sequences of requests.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::outcome::Outcome;
use crate::request::{self, Request, Server};
use crate::run::{Outcomes, RunError, call};
use crate::seeds::DataError;

const FILES: &[(&str, &str)] = &[
    ("writes", include_str!("../data/scripts/writes.yaml")),
    ("apply", include_str!("../data/scripts/apply.yaml")),
    ("reads", include_str!("../data/scripts/reads.yaml")),
    ("errors", include_str!("../data/scripts/errors.yaml")),
    ("tables", include_str!("../data/scripts/tables.yaml")),
    ("custom", include_str!("../data/scripts/custom.yaml")),
];

/// Requests, one after the other.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Its name: the file with its expectations.
    pub script: String,
    /// The requests.
    pub steps: Vec<ScriptStep>,
}

/// A request of a script. `${name}` in its path and body stands for what an earlier one saved.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptStep {
    /// Its name; those that set the stage have none and are not compared.
    #[serde(default)]
    pub id: Option<String>,
    /// Method and path.
    #[serde(rename = "do")]
    pub request: String,
    /// Content type; JSON when nothing is said.
    #[serde(default, rename = "type")]
    pub content_type: Option<String>,
    /// Other headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Content, as JSON.
    #[serde(default)]
    pub body: Value,
    /// Content, as it is.
    #[serde(default)]
    pub text: Option<String>,
    /// Names for values of the answer, by JSON pointer.
    #[serde(default)]
    pub save: BTreeMap<String, String>,
    /// Whether managed fields are compared.
    #[serde(default)]
    pub managed: bool,
    /// Parts of the answer that are compared, by JSON pointer; all when there are none.
    #[serde(default)]
    pub only: Vec<String>,
}

/// All scripts.
///
/// # Errors
/// A file of the corpus is not what it should be.
pub fn all() -> Result<Vec<Script>, DataError> {
    let mut scripts = Vec::new();
    for (file, text) in FILES {
        let more: Vec<Script> = serde_saphyr::from_multiple(text).map_err(|e| DataError {
            file,
            source: e.to_string().into(),
        })?;
        scripts.extend(more);
    }
    Ok(scripts)
}

/// Plays a script.
///
/// # Errors
/// The server does not answer.
pub async fn run<S: Server>(server: &S, script: &Script) -> Result<Outcomes, RunError> {
    let mut saved: BTreeMap<String, String> = BTreeMap::new();
    let mut outcomes = Outcomes::new();
    for step in &script.steps {
        let answer = call(server, step.request(&saved)).await?;
        let body = answer.json();
        for (name, pointer) in &step.save {
            let value = match body.pointer(pointer) {
                Some(Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
                None => String::new(),
            };
            saved.insert(name.clone(), value);
        }
        let Some(id) = &step.id else { continue };
        let mut outcome = if step.managed {
            Outcome::managed(&answer)
        } else {
            Outcome::whole(&answer)
        };
        if !step.only.is_empty() {
            outcome
                .leaves
                .retain(|path, _| step.only.iter().any(|part| path.starts_with(part.as_str())));
        }
        outcomes.insert(id.clone(), outcome);
    }
    Ok(outcomes)
}

impl ScriptStep {
    fn request(&self, saved: &BTreeMap<String, String>) -> Request {
        let fill = |text: &str| {
            let each = saved.iter();
            each.fold(text.to_owned(), |text, (name, value)| {
                text.replace(&format!("${{{name}}}"), value)
            })
        };
        let (method, path) = self.request.split_once(' ').unwrap_or(("GET", &self.request));
        let body = match &self.text {
            Some(text) => text.clone(),
            None if self.body.is_null() => String::new(),
            None => self.body.to_string(),
        };
        let mut headers: Vec<(String, String)> = self.headers.clone().into_iter().collect();
        headers.push(request::user_agent());
        if let Some(content_type) = &self.content_type {
            headers.push(("content-type".to_owned(), content_type.clone()));
        } else if !body.is_empty() {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        Request {
            method: method.to_owned(),
            path: fill(path),
            headers,
            body: fill(&body),
        }
    }
}
