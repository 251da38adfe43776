//! The cluster's keys in the hands of the controllers' executor. They never go through the API.

use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;
use api::Value;
use apiserver::ApiServer;
use jiff::SignedDuration;
use pki::Authority;

/// The authority's key, and that of service accounts.
pub struct ClusterKeys {
    authority: Authority,
    server: ApiServer,
}

impl ClusterKeys {
    /// Opens the authority in a directory of certificates; the server has the other key.
    pub fn open(directory: &Path, server: ApiServer) -> Result<ClusterKeys> {
        let authority = Authority::open(directory, "ca", "kubernetes")?;
        Ok(ClusterKeys { authority, server })
    }
}

impl driver::Keys for ClusterKeys {
    fn certificate(&self, request: &[u8], usages: &[String], lifetime: SignedDuration) -> Result<String, String> {
        let lifetime = lifetime.unsigned_abs();
        let signed = self
            .authority
            .sign_request(request, usages, lifetime, SystemTime::now());
        signed.map_err(|error| error.to_string())
    }

    fn token(&self, claims: &Value) -> Result<String, String> {
        self.server.sign_token(claims)
    }
}
