//! Answers of upstream servers, for as long as they allow but not longer than [`MAX_SECONDS`].

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::time::Instant;

use crate::packet::Response;

/// As kubeadm configures CoreDNS.
const MAX_SECONDS: u32 = 30;
const MAX_ENTRIES: usize = 4096;
/// Larger answers are rare and not worth their memory.
const MAX_RECORDS: usize = 64;

/// What an answer depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    name: Name,
    kind: RecordType,
    dnssec_ok: bool,
    checking_disabled: bool,
}

impl Key {
    pub fn of(query: &Query, dnssec_ok: bool, checking_disabled: bool) -> Self {
        let name = query.name().to_lowercase();
        Key {
            name,
            kind: query.query_type(),
            dnssec_ok,
            checking_disabled,
        }
    }
}

struct Entry {
    response: Response,
    stored: Instant,
    lifetime: Duration,
}

/// A bounded map; the oldest entry makes room.
#[derive(Default)]
pub(crate) struct Cache {
    entries: HashMap<Key, Entry>,
    /// Keys in the order they were stored, each once.
    order: VecDeque<Key>,
}

impl Cache {
    /// A stored answer with its remaining times to live.
    pub fn get(&self, key: &Key, now: Instant) -> Option<Response> {
        let entry = self.entries.get(key)?;
        let age = now.saturating_duration_since(entry.stored);
        if age >= entry.lifetime {
            return None;
        }
        let seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        let mut response = entry.response.clone();
        let sections = [
            &mut response.answers,
            &mut response.authorities,
            &mut response.additionals,
        ];
        for record in sections.into_iter().flatten() {
            record.decrement_ttl(seconds);
        }
        Some(response)
    }

    /// Stores an answer if it may be.
    pub fn put(&mut self, key: Key, mut response: Response, now: Instant) {
        let Some(seconds) = lifetime(&response).filter(|seconds| *seconds > 0) else {
            return;
        };
        let sections = [
            &mut response.answers,
            &mut response.authorities,
            &mut response.additionals,
        ];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.min(seconds);
        }
        let lifetime = Duration::from_secs(u64::from(seconds));
        let entry = Entry {
            response,
            stored: now,
            lifetime,
        };
        if self.entries.insert(key.clone(), entry).is_some() {
            return;
        }
        self.order.push_back(key);
        while self.order.len() > MAX_ENTRIES {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }
}

/// Seconds an answer may be kept; `None` if it may not.
fn lifetime(response: &Response) -> Option<u32> {
    let records = response.answers.len() + response.authorities.len() + response.additionals.len();
    if records > MAX_RECORDS {
        return None;
    }
    let answers = response.answers.iter().map(|record| record.ttl).min();
    let negative = || {
        response.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        })
    };
    let seconds = match response.code {
        ResponseCode::NoError => answers.or_else(negative),
        ResponseCode::NXDomain => negative(),
        _ => None,
    };
    seconds.map(|seconds| seconds.min(MAX_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, SOA};

    fn key(name: &str) -> Key {
        let name = Name::from_ascii(name).expect("name");
        Key::of(&Query::query(name, RecordType::A), false, false)
    }

    fn answer(ttl: u32) -> Response {
        let name = Name::from_ascii("a.example.").expect("name");
        let mut response = Response::of(ResponseCode::NoError);
        response
            .answers
            .push(Record::from_rdata(name, ttl, RData::A(A::new(1, 2, 3, 4))));
        response
    }

    #[test]
    fn times_to_live_run_down_and_out() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put(key("A.Example."), answer(10), now);
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(cache.get(&key("a.example."), later(4)).expect("kept").answers[0].ttl, 6);
        assert!(cache.get(&key("a.example."), later(10)).is_none());
        cache.put(key("b."), answer(3600), now);
        assert_eq!(cache.get(&key("b."), now).expect("kept").answers[0].ttl, MAX_SECONDS);
        assert!(cache.get(&key("b."), later(31)).is_none());
    }

    #[test]
    fn what_may_not_be_kept_is_not() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put(key("zero."), answer(0), now);
        cache.put(key("failed."), Response::of(ResponseCode::ServFail), now);
        cache.put(key("nosoa."), Response::of(ResponseCode::NXDomain), now);
        for name in ["zero.", "failed.", "nosoa."] {
            assert!(cache.get(&key(name), now).is_none(), "{name}");
        }
        let mut negative = Response::of(ResponseCode::NXDomain);
        let soa = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, 5);
        negative
            .authorities
            .push(Record::from_rdata(Name::root(), 900, RData::SOA(soa)));
        cache.put(key("gone."), negative, now);
        assert!(cache.get(&key("gone."), now + Duration::from_secs(4)).is_some());
        assert!(cache.get(&key("gone."), now + Duration::from_secs(5)).is_none());
    }

    #[test]
    fn it_stays_bounded() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for n in 0..MAX_ENTRIES + 100 {
            cache.put(key(&format!("n{n}.")), answer(30), now);
            cache.put(key(&format!("n{n}.")), answer(30), now);
        }
        assert_eq!((cache.entries.len(), cache.order.len()), (MAX_ENTRIES, MAX_ENTRIES));
        assert!(cache.get(&key("n0."), now).is_none());
    }
}
