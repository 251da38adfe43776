use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// The time, injected.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The machine's.
    pub fn system() -> Clock {
        Clock(Arc::new(Timestamp::now))
    }

    /// One that follows tokio's (paused) time from `start` on.
    pub fn tokio(start: Timestamp) -> Clock {
        let began = tokio::time::Instant::now();
        Clock(Arc::new(move || {
            start
                .saturating_add(jiff::SignedDuration::try_from(began.elapsed()).unwrap_or_default())
                .unwrap_or(start)
        }))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }

    /// How long until `time`; zero if it has passed.
    pub fn until(&self, time: Timestamp) -> Duration {
        Duration::try_from(time.duration_since(self.now())).unwrap_or_default()
    }

    /// Sleeps until `time`; for ever if there is none.
    pub async fn sleep_until(&self, time: Option<Timestamp>) {
        match time {
            Some(time) => tokio::time::sleep(self.until(time)).await,
            None => std::future::pending().await,
        }
    }
}
