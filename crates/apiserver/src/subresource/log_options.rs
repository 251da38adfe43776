//! The options of `pods/log` (`pkg/apis/core/validation` ValidatePodLogOptions).

use api::field::{Error, Path};
use api::{GroupResource, Status};
use futures_util::FutureExt;
use http::Response;
use http_body_util::{BodyExt, Limited};

use crate::body::Body;
use crate::request::Query;
use crate::respond::{self, Answer};

/// So much of a node agent's refusal is passed on.
const REFUSAL_BYTES: usize = 1 << 20;
const STREAMS: [&str; 3] = ["All", "Stderr", "Stdout"];

/// Checks the query.
///
/// # Errors
/// 400 if a number is none, 422 if a value is not allowed.
pub(super) fn validate(query: &Query) -> Result<(), Status> {
    let mut errors = Vec::new();
    let tail = query.integer("tailLines")?;
    if let Some(lines) = tail.filter(|lines| *lines < 0) {
        let detail = "must be greater than or equal to 0";
        errors.push(Error::invalid(&Path::new("tailLines"), lines, detail));
    }
    if let Some(bytes) = query.integer("limitBytes")?.filter(|bytes| *bytes < 1) {
        errors.push(Error::invalid(
            &Path::new("limitBytes"),
            bytes,
            "must be greater than 0",
        ));
    }
    let since = query.integer("sinceSeconds")?;
    match (since, query.non_empty("sinceTime")) {
        (Some(_), Some(_)) => {
            let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            errors.push(Error::forbidden(&Path::new(""), detail));
        }
        (Some(seconds), None) if seconds < 1 => {
            errors.push(Error::invalid(
                &Path::new("sinceSeconds"),
                seconds,
                "must be greater than 0",
            ));
        }
        (None, Some(time)) if api::time::parse(time).is_err() => {
            return Err(Status::bad_request(format!(
                "parsing time {0} as \"2006-01-02T15:04:05Z07:00\": cannot parse {0} as \"2006\"",
                api::field::go_quote(time)
            )));
        }
        _ => {}
    }
    if let Some(stream) = query.non_empty("stream") {
        if !STREAMS.contains(&stream) {
            errors.push(Error::not_supported(&Path::new("stream"), stream, &STREAMS));
        } else if stream != "All" && tail.is_some() {
            let detail = "`tailLines` and specific `stream` are mutually exclusive for now";
            errors.push(Error::forbidden(&Path::new(""), detail));
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("", "PodLogOptions", "", errors))
}

/// What the client gets for the node agent's answer: the text, or a Status that tells its refusal
/// (`registry/generic/rest/response_checker.go`).
///
/// # Errors
/// The refusal.
pub(super) async fn answer(agent: Answer, pod: &str) -> Result<Answer, Status> {
    let code = agent.status().as_u16();
    if (200..=206).contains(&code) {
        return Ok(respond::stream(code, "text/plain", agent.into_body()));
    }
    let text = refusal(agent).await;
    match code {
        400 => return Err(Status::bad_request(text)),
        500 => return Err(Status::internal(text)),
        _ => {}
    }
    let gr = GroupResource::new("", "pods/log");
    let mut status = Status::from_http(code, "GET", &text);
    let details = status.details.get_or_insert_default();
    details.name = pod.to_owned();
    details.kind = gr.resource;
    Err(status)
}

async fn refusal(agent: Response<Body>) -> String {
    let body = Limited::new(agent.into_body(), REFUSAL_BYTES).collect().boxed().await;
    body.map(|b| String::from_utf8_lossy(&b.to_bytes()).trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(query: &str) -> Option<String> {
        validate(&Query::parse(query)).err().map(|status| status.message)
    }

    #[tokio::test]
    async fn the_agents_words_reach_the_client() {
        let refused = async |code: u16| {
            let text = "container \"c\" in pod \"p\" is waiting to start: ContainerCreating\n";
            let agent = respond::text(code, text);
            let status = answer(agent, "p").await.err().unwrap();
            (status.code, status.reason, status.message)
        };
        let waiting = "container \"c\" in pod \"p\" is waiting to start: ContainerCreating";
        assert_eq!(refused(400).await, (400, "BadRequest".into(), waiting.into()));
        let internal = format!("Internal error occurred: {waiting}");
        assert_eq!(refused(500).await, (500, "InternalError".into(), internal));
        assert_eq!(refused(404).await.1, "NotFound");
    }

    #[test]
    fn options_are_checked() {
        assert_eq!(refused("tailLines=10&limitBytes=1&sinceSeconds=1&follow=true"), None);
        assert_eq!(
            refused("tailLines=-1").as_deref(),
            Some("PodLogOptions \"\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0")
        );
        assert!(refused("limitBytes=0").is_some());
        assert!(refused("sinceSeconds=0").is_some());
        assert!(refused("sinceSeconds=5&sinceTime=2024-01-01T00:00:00Z").is_some());
        assert!(refused("sinceTime=yesterday").is_some());
        assert!(refused("stream=Stdin").is_some());
        assert!(refused("stream=Stdout&tailLines=3").is_some());
        assert_eq!(refused("stream=All&tailLines=3"), None);
    }
}
