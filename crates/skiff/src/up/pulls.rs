//! Lines of `up` about images that pods wait for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use runtime::{PullEvent, PullObserver};

use super::progress::Progress;
use crate::image::progress::{describe, mebibytes};

/// Between two lines about one image.
const BETWEEN_LINES: Duration = Duration::from_secs(2);

struct UnderWay {
    since: Instant,
    told: Instant,
}

/// Tells of pulls that fetch something; failures are told in events and statuses.
pub fn observer() -> PullObserver {
    // Held while a line is written.
    let under_way: Arc<Mutex<HashMap<String, UnderWay>>> = Arc::default();
    Arc::new(move |image, event| {
        let mut under_way = under_way.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            PullEvent::Progress(now) if now.bytes_total == 0 => {}
            PullEvent::Progress(now) => {
                let instant = Instant::now();
                let entry = under_way.entry(image.to_owned());
                let is_new = matches!(entry, std::collections::hash_map::Entry::Vacant(_));
                let known = entry.or_insert(UnderWay {
                    since: instant,
                    told: instant,
                });
                if is_new || known.told.elapsed() > BETWEEN_LINES {
                    known.told = instant;
                    Progress::line(&format!("pulling {image}: {}", describe(now)));
                }
            }
            PullEvent::Ended(result) => {
                if let (Some(known), Ok(pulled)) = (under_way.remove(image), result) {
                    let (size, took) = (mebibytes(pulled.size_bytes), known.since.elapsed().as_secs_f64());
                    Progress::line(&format!("pulled {image}: {size:.1} MiB in {took:.1} s"));
                }
            }
        }
    })
}
