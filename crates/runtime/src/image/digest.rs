//! SHA-256 digests.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use crate::records::hex;

/// `sha256:…` of some bytes.
pub(super) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// Whether it is a well-formed SHA-256 digest, and so can be part of a file's name.
pub(super) fn is_sha256(digest: &str) -> bool {
    digest.strip_prefix("sha256:").is_some_and(crate::records::is_id)
}

/// A digest that grows.
#[derive(Clone, Default)]
pub(super) struct Hasher(Sha256);

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn digest(&self) -> String {
        format!("sha256:{}", hex(&self.0.clone().finalize()))
    }
}

/// A reader that takes the digest of what is read.
pub(super) struct Hashing<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Hashing<R> {
    pub fn new(inner: R) -> Hashing<R> {
        Hashing {
            inner,
            hasher: Hasher::default(),
        }
    }

    pub fn digest(&self) -> String {
        self.hasher.digest()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}
