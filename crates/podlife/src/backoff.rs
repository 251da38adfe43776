//! Exponential back-off by key, as client-go's `flowcontrol.Backoff`.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

/// First delay.
pub const BASE: SignedDuration = SignedDuration::from_secs(10);
/// Largest delay; twice as long without trouble starts over.
pub const MAX: SignedDuration = SignedDuration::from_secs(300);

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    delay: SignedDuration,
    updated: Timestamp,
}

/// Delays by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backoffs {
    entries: BTreeMap<String, Entry>,
}

impl Backoffs {
    /// The delay in force for trouble at `since`, and when it is over; `None` if one may go ahead.
    pub fn in_force(&self, key: &str, since: Timestamp, now: Timestamp) -> Option<(SignedDuration, Timestamp)> {
        let entry = self.entries.get(key)?;
        if expired(entry, since) {
            return None;
        }
        let until = since.saturating_add(entry.delay).ok()?;
        (now < until).then_some((entry.delay, until))
    }

    /// Notes another attempt after trouble at `since`: the delay doubles, or starts over.
    pub fn next(&mut self, key: &str, since: Timestamp, now: Timestamp) -> SignedDuration {
        let delay = match self.entries.get(key) {
            Some(entry) if !expired(entry, since) => (entry.delay * 2).min(MAX),
            _ => BASE,
        };
        self.entries.insert(key.to_string(), Entry { delay, updated: now });
        delay
    }

    /// The last delay noted.
    pub fn delay(&self, key: &str) -> SignedDuration {
        self.entries.get(key).map_or(SignedDuration::ZERO, |entry| entry.delay)
    }

    /// Forgets the key.
    pub fn clear(&mut self, key: &str) {
        self.entries.remove(key);
    }
}

fn expired(entry: &Entry, since: Timestamp) -> bool {
    since.duration_since(entry.updated) > MAX * 2
}

/// A whole number of seconds as Go prints a Duration: `10s`, `1m20s`, `5m0s`, `1h0m0s`.
pub fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds % 3600 / 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).expect("in range")
    }

    #[test]
    fn doubles_to_five_minutes_and_starts_over_after_ten() {
        let mut backoffs = Backoffs::default();
        assert_eq!(backoffs.in_force("c", at(0), at(0)), None);
        let mut now = 0;
        let mut seen = Vec::new();
        for _ in 0..7 {
            let delay = backoffs.next("c", at(now), at(now));
            seen.push(go_duration(delay));
            let (_, until) = backoffs.in_force("c", at(now + 1), at(now + 1)).expect("in back-off");
            assert_eq!(until, at(now + 1).saturating_add(delay).expect("in range"));
            now += 1 + delay.as_secs();
            assert_eq!(backoffs.in_force("c", at(now - delay.as_secs()), at(now)), None);
        }
        assert_eq!(seen, ["10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"]);
        assert_eq!(backoffs.in_force("c", at(now + 601), at(now + 602)), None);
        assert_eq!(backoffs.next("c", at(now + 602), at(now + 602)), BASE);
    }
}
