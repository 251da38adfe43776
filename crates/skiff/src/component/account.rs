//! Controllers as their own service accounts: `--use-service-account-credentials`.
//!
//! A token is asked for when it is first needed, and again before it ends. The account is made if it is missing, as
//! upstream's client builder does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{Gvr, Value};
use bytes::Bytes;
use client::{Body, BoxFuture, Client, ClientError, HttpsTransport, Transport, WriteParams};
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Request, Response};
use serde_json::json;
use tokio::sync::Mutex;

const NAMESPACE: &str = "kube-system";
const EXPIRATION: Duration = Duration::from_secs(3600);

/// Requests as one service account, over connections that all accounts share.
struct AccountTransport {
    https: Arc<HttpsTransport>,
    root: Client,
    account: &'static str,
    token: Mutex<Option<Token>>,
}

struct Token {
    header: HeaderValue,
    renew_at: Instant,
}

/// A client that acts as `account`; `root` may ask for its tokens.
pub(super) fn client(https: Arc<HttpsTransport>, root: Client, account: &'static str) -> Client {
    let transport = AccountTransport {
        https,
        root,
        account,
        token: Mutex::default(),
    };
    Client::in_process(Arc::new(transport)).with_user_agent(&format!("skiff/{} ({account})", env!("CARGO_PKG_VERSION")))
}

impl Transport for AccountTransport {
    fn call(&self, mut request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, ClientError>> {
        Box::pin(async move {
            request.headers_mut().insert(AUTHORIZATION, self.header().await?);
            let response = self.https.call(request).await?;
            if response.status() == http::StatusCode::UNAUTHORIZED {
                // The account may have been made anew: the next request asks for another token.
                *self.token.lock().await = None;
            }
            Ok(response)
        })
    }
}

impl AccountTransport {
    async fn header(&self) -> Result<HeaderValue, ClientError> {
        let mut token = self.token.lock().await;
        if let Some(token) = token.as_ref().filter(|token| token.renew_at > Instant::now()) {
            return Ok(token.header.clone());
        }
        let fresh = match self.request().await {
            Err(error) if error.is_not_found() => {
                self.make().await?;
                self.request().await?
            }
            fresh => fresh?,
        };
        let header = fresh.header.clone();
        *token = Some(fresh);
        Ok(header)
    }

    async fn request(&self) -> Result<Token, ClientError> {
        let accounts = self.root.dynamic(&Gvr::new("", "v1", "serviceaccounts"));
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": EXPIRATION.as_secs()},
        });
        let params = WriteParams::default();
        let answer: Value = accounts
            .create_sub(NAMESPACE, self.account, "token", &request, &params)
            .await?;
        let text = answer["status"]["token"].as_str().unwrap_or_default();
        let header = HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| {
            let status = api::Status::internal("the server's token has characters that an HTTP header cannot carry");
            ClientError::Api(Box::new(status))
        })?;
        let renew_at = Instant::now() + EXPIRATION.mul_f64(0.8);
        Ok(Token { header, renew_at })
    }

    async fn make(&self) -> Result<(), ClientError> {
        let accounts = self.root.dynamic(&Gvr::new("", "v1", "serviceaccounts"));
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"namespace": NAMESPACE, "name": self.account},
        });
        match accounts.create(NAMESPACE, &account, &WriteParams::default()).await {
            Err(error) if error.is_already_exists() => Ok(()),
            made => made.map(drop),
        }
    }
}
