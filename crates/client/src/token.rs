//! Bearer tokens that are read again before they expire.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use http::HeaderValue;
use parking_lot::Mutex;

use crate::{ClientError, ConfigError};

/// As client-go's caching token source: projected tokens are replaced long before they expire.
const REREAD_AFTER: Duration = Duration::from_secs(60);

/// The token in a file.
pub(crate) struct TokenFile {
    path: PathBuf,
    /// A std-style lock is right: it is held for a copy only, never across an await.
    last: Mutex<Option<(Instant, HeaderValue)>>,
}

impl TokenFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            last: Mutex::new(None),
        }
    }

    /// The Authorization header as of now; an unreadable file keeps the last token in use.
    pub(crate) async fn header(&self) -> Result<HeaderValue, ClientError> {
        let last = self.last.lock().clone();
        if let Some((read, header)) = &last
            && read.elapsed() < REREAD_AFTER
        {
            return Ok(header.clone());
        }
        match tokio::fs::read_to_string(&self.path).await {
            Ok(text) => {
                let header = bearer(text.trim())?;
                *self.last.lock() = Some((Instant::now(), header.clone()));
                Ok(header)
            }
            Err(source) => match last {
                Some((_, header)) => {
                    tracing::warn!(path = %self.path.display(), error = %source, "token file unreadable, keeping the last token");
                    Ok(header)
                }
                None => Err(ClientError::ReadToken {
                    path: self.path.display().to_string(),
                    source,
                }),
            },
        }
    }
}

/// `Bearer <token>`, marked so that no log shows it.
pub(crate) fn bearer(token: &str) -> Result<HeaderValue, ConfigError> {
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ConfigError::Header {
        what: "the bearer token",
    })?;
    header.set_sensitive(true);
    Ok(header)
}
