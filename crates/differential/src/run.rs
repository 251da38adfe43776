//! Asking a server everything.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::corpus;
use crate::mutate::Edit;
use crate::outcome::Outcome;
use crate::request::{Answer, Request, Server};
use crate::seeds::Seed;

/// What a server answered, by case.
pub type Outcomes = BTreeMap<String, Outcome>;

/// A run that could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No answer.
    #[error("{method} {path}: {reason}")]
    NoAnswer {
        /// Method.
        method: String,
        /// Path.
        path: String,
        /// Why.
        reason: String,
    },
    /// A seed that the server refuses.
    #[error("{seed}: {path}: {code}: {body}")]
    Refused {
        /// The seed.
        seed: String,
        /// Path.
        path: String,
        /// Answer's code.
        code: u16,
        /// Answer.
        body: String,
    },
    /// A kind that the schema does not know.
    #[error("{seed}: the schema does not know its kind")]
    Kind {
        /// The seed.
        seed: String,
    },
}

/// Times that an update is sent again because the object moved on.
const ATTEMPTS: usize = 5;

/// How much of what follows from a seed is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Everything,
    /// One case in so many, the same ones at every run.
    OneIn(u64),
}

impl Part {
    fn has(self, id: &str) -> bool {
        let Self::OneIn(few) = self else { return true };
        // FNV-1a
        let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        (hash >> 32).is_multiple_of(few)
    }
}

/// Asks about what follows from a seed.
///
/// # Errors
/// The server does not answer, or does not take what must be there first.
pub async fn seed<S: Server>(server: &S, seed: &Seed, part: Part) -> Result<Outcomes, RunError> {
    let schema = schema::builtin();
    let ty = corpus::type_of(schema, seed).ok_or_else(|| RunError::Kind {
        seed: seed.seed.clone(),
    })?;
    prepare(server, seed).await?;
    let path = seed.fill(&seed.path);
    let edits = corpus::of_object(ty, seed);
    let mut outcomes = Outcomes::new();
    let creating = Series {
        name: "create",
        method: "POST",
        path: path.clone(),
        skip: &seed.skip,
        part,
    };
    creating
        .run(server, &seed.object, &seed.object, &edits, &mut outcomes)
        .await?;
    if !seed.update {
        return Ok(outcomes);
    }
    let answer = call(server, Request::json("POST", &path, &seed.object)).await?;
    if answer.code != 201 {
        return Err(refused(seed, &path, &answer));
    }
    let stored = answer.json();
    let path = format!("{path}/{}", seed.name());
    let mut more = edits;
    more.extend(corpus::of_update());
    let updating = Series {
        name: "update",
        method: "PUT",
        path: path.clone(),
        skip: &seed.skip,
        part,
    };
    updating.run(server, &stored, &stored, &more, &mut outcomes).await?;
    if let Some(status) = &seed.status {
        let mut with_status = stored.clone();
        with_status["status"] = status.clone();
        let edits = corpus::of_status(ty, &with_status);
        let series = Series {
            name: "status",
            method: "PUT",
            path: format!("{path}/status"),
            skip: &seed.skip,
            part,
        };
        series.run(server, &with_status, &stored, &edits, &mut outcomes).await?;
    }
    Ok(outcomes)
}

/// The same request again and again, with one edit each.
struct Series<'a> {
    name: &'static str,
    method: &'static str,
    path: String,
    skip: &'a [String],
    part: Part,
}

impl Series<'_> {
    async fn run<S: Server>(
        &self,
        server: &S,
        object: &Value,
        stored: &Value,
        edits: &[Edit],
        outcomes: &mut Outcomes,
    ) -> Result<(), RunError> {
        let whole = Outcome::whole(&self.send(server, object, stored, "").await?);
        let base = whole.without(self.skip);
        for edit in edits {
            let mut edited = object.clone();
            edit.apply(&mut edited);
            if edited == *object || !self.part.has(&edit.id) {
                continue;
            }
            let strict = if edit.id.ends_with("=unknown") {
                "&fieldValidation=Strict"
            } else {
                ""
            };
            let answer = self.send(server, &edited, stored, strict).await?;
            let outcome = Outcome::beside(&answer, &base).without(self.skip);
            outcomes.insert(format!("{} {}", self.name, edit.id), outcome);
        }
        outcomes.insert(self.name.to_owned(), base);
        Ok(())
    }

    /// Sends a dry run; when the object has moved on, again with its new resource version.
    async fn send<S: Server>(
        &self,
        server: &S,
        object: &Value,
        stored: &Value,
        query: &str,
    ) -> Result<Answer, RunError> {
        let path = format!("{}?dryRun=All{query}", self.path);
        let mut object = object.clone();
        let mut attempt = 1;
        loop {
            let answer = call(server, Request::json(self.method, &path, &object)).await?;
            let version = &stored["metadata"]["resourceVersion"];
            let moved = self.method == "PUT" && answer.code == 409 && object["metadata"]["resourceVersion"] == *version;
            if !moved || attempt == ATTEMPTS {
                return Ok(answer);
            }
            attempt += 1;
            let whole = self.path.trim_end_matches("/status");
            let now = call(server, Request::json("GET", whole, &Value::Null)).await?;
            object["metadata"]["resourceVersion"] = now.json()["metadata"]["resourceVersion"].clone();
        }
    }
}

async fn prepare<S: Server>(server: &S, seed: &Seed) -> Result<(), RunError> {
    if seed.namespaced() {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": seed.namespace()}});
        ensure(server, seed, "/api/v1/namespaces", &namespace).await?;
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let accounts = format!("/api/v1/namespaces/{}/serviceaccounts", seed.namespace());
        ensure(server, seed, &accounts, &account).await?;
    }
    for before in &seed.before {
        ensure(server, seed, &seed.fill(&before.path), &before.object).await?;
    }
    Ok(())
}

async fn ensure<S: Server>(server: &S, seed: &Seed, path: &str, object: &Value) -> Result<(), RunError> {
    let answer = call(server, Request::json("POST", path, object)).await?;
    match answer.code {
        201 | 409 => Ok(()),
        _ => Err(refused(seed, path, &answer)),
    }
}

fn refused(seed: &Seed, path: &str, answer: &Answer) -> RunError {
    RunError::Refused {
        seed: seed.seed.clone(),
        path: path.to_owned(),
        code: answer.code,
        body: String::from_utf8_lossy(&answer.body).into_owned(),
    }
}

pub(crate) async fn call<S: Server>(server: &S, request: Request) -> Result<Answer, RunError> {
    let (method, path) = (request.method.clone(), request.path.clone());
    server
        .call(request)
        .await
        .map_err(|reason| RunError::NoAnswer { method, path, reason })
}
