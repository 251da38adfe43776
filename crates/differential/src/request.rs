//! Requests and answers, apart from how they travel.

use std::future::Future;

use serde_json::Value;

/// One request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers, in lower case.
    pub headers: Vec<(String, String)>,
    /// Content.
    pub body: String,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// Headers, in lower case.
    pub headers: Vec<(String, String)>,
    /// Content.
    pub body: Vec<u8>,
}

/// An API server that can be asked.
pub trait Server {
    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// No answer arrived; the text says why.
    fn call(&self, request: Request) -> impl Future<Output = Result<Answer, String>> + Send;
}

impl Request {
    /// A request with a JSON body, or none when it is null.
    pub fn json(method: &str, path: impl Into<String>, body: &Value) -> Self {
        let mut request = Self {
            method: method.to_owned(),
            path: path.into(),
            headers: vec![user_agent()],
            ..Self::default()
        };
        if !body.is_null() {
            request
                .headers
                .push(("content-type".to_owned(), "application/json".to_owned()));
            request.body = body.to_string();
        }
        request
    }
}

/// Field managers are named after it.
pub(crate) fn user_agent() -> (String, String) {
    ("user-agent".to_owned(), "skiff/differential".to_owned())
}

impl Answer {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is something else.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}
