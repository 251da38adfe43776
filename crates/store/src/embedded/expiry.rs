//! Times to live: keys that are deleted when their time has come.

use std::time::Duration;

use super::disk::Changes;
use super::writer::Writer;
use super::{Shared, layout, txn};
use crate::{Error, Event};

/// The keys that are deleted at one revision.
const CHUNK: usize = 256;
/// How long a failed deletion is left alone.
const RETRY_MS: i64 = 5_000;
/// The longest sleep, so that a clock that is set forward is noticed.
const LONGEST_WAIT_MS: i64 = 600_000;

/// When a key that is put now expires: rounded up by up to a twentieth of its life (1 s to 60 s),
/// so that many keys expire together in one commit. Upstream shares leases in the same way
/// (apiserver/pkg/storage/etcd3/lease_manager.go).
pub(super) fn expires_at_ms(now_ms: i64, ttl: Duration) -> i64 {
    let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
    let grain_ms = (ttl_ms / 20).clamp(1_000, 60_000);
    let exact_ms = now_ms.saturating_add(ttl_ms);
    (exact_ms / grain_ms)
        .saturating_add(i64::from(exact_ms % grain_ms != 0))
        .saturating_mul(grain_ms)
}

/// When keys expire next.
pub(super) struct Expiry {
    /// No key expires before.
    next_ms: Option<i64>,
}

impl Expiry {
    pub(super) fn new(shared: &Shared) -> Result<Self, Error> {
        let first = shared
            .disk
            .view()?
            .scan(b"t".to_vec(), b"u".to_vec())
            .next()
            .transpose()?;
        let first = first.map(|(key, _)| layout::parse_ttl_key(&key).map(|(expires, _)| expires));
        Ok(Self {
            next_ms: first.transpose()?,
        })
    }

    /// Takes notice of new keys.
    pub(super) fn note(&mut self, events: &[Event]) {
        for event in events {
            if let Event::Put { kv, .. } = event
                && let Some(expires) = kv.expires_at_ms
            {
                self.next_ms = Some(self.next_ms.map_or(expires, |next| next.min(expires)));
            }
        }
    }

    pub(super) fn is_due(&self, now_ms: i64) -> bool {
        self.next_ms.is_some_and(|next| next <= now_ms)
    }

    /// How long to sleep; none if no key expires.
    pub(super) fn wait(&self, now_ms: i64) -> Option<Duration> {
        let wait_ms = self.next_ms?.saturating_sub(now_ms).clamp(0, LONGEST_WAIT_MS);
        Some(Duration::from_millis(wait_ms.cast_unsigned()))
    }
}

impl Writer {
    /// Deletes the keys that have expired by now.
    pub(super) fn expire_due(&mut self) -> Result<usize, Error> {
        let now_ms = self.clock.now_ms();
        let mut expired = 0;
        while self.expiry.is_due(now_ms) {
            match self.expire_chunk(now_ms) {
                Ok(deleted) => expired += deleted,
                Err(error) => {
                    self.expiry.next_ms = Some(now_ms.saturating_add(RETRY_MS));
                    return Err(error);
                }
            }
        }
        Ok(expired)
    }

    fn expire_chunk(&mut self, now_ms: i64) -> Result<usize, Error> {
        self.ensure_writable()?;
        let revision = self.revision + 1;
        let mut events = Vec::new();
        let mut changes = Changes::default();
        let mut next_ms = None;
        for record in self.shared.disk.view()?.scan(b"t".to_vec(), b"u".to_vec()) {
            let (record, _) = record?;
            let (expires, key) = layout::parse_ttl_key(&record)?;
            if expires > now_ms || events.len() == CHUNK {
                next_ms = Some(expires);
                break;
            }
            let current = self.lookup(key)?;
            match current.filter(|kv| kv.expires_at_ms == Some(expires)) {
                Some(prev) => events.push(Event::Delete { revision, prev }),
                // A put that replaces a time to live removes its record; this is one too many.
                None => changes.remove(record.to_vec()),
            }
        }
        let deleted = events.len();
        if events.is_empty() {
            self.commit(self.revision, events, changes)?;
        } else {
            txn::write(&events, now_ms, &mut changes);
            self.commit(revision, events.clone(), changes)?;
            self.remember(&events);
        }
        self.expiry.next_ms = next_ms;
        Ok(deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_never_early_and_is_shared() {
        let ttl = Duration::from_secs(3600);
        let first = expires_at_ms(1_000_001, ttl);
        assert!((4_600_001..=4_660_001).contains(&first));
        assert_eq!(expires_at_ms(1_000_002, ttl), first);
        assert_eq!(expires_at_ms(5_000, Duration::from_secs(1)), 6_000);
        assert_eq!(expires_at_ms(5_001, Duration::from_secs(1)), 7_000);
        assert!(expires_at_ms(1, Duration::MAX) > 0);
    }
}
