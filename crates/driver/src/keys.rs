//! The cluster's keys, as far as controllers need them.

use api::Value;
use jiff::SignedDuration;

/// Makes what controllers decide and only holders of keys can make. Quick enough to be called in a task.
pub trait Keys: Send + Sync + 'static {
    /// A certificate (PEM) of the cluster's authority for a request (PKCS#10, DER) with usages in the words of the
    /// certificates API.
    ///
    /// # Errors
    /// Why it is not signed.
    fn certificate(&self, request: &[u8], usages: &[String], lifetime: SignedDuration) -> Result<String, String>;

    /// A token with these claims, signed with the key of service accounts.
    ///
    /// # Errors
    /// Why it is not signed.
    fn token(&self, claims: &Value) -> Result<String, String>;
}
