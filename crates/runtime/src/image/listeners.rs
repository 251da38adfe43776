//! Those who are told how far a pull is.

use std::sync::{Mutex, PoisonError};

use crate::{Image, ImageError, ProgressFn, PullEvent, PullObserver, PullProgress};

/// Of one pull, which several may wait for.
pub(super) struct Listeners {
    image: String,
    observer: Option<PullObserver>,
    // Held while they are told, which must not block.
    list: Mutex<Vec<ProgressFn>>,
}

impl Listeners {
    pub fn new(image: String, observer: Option<PullObserver>) -> Listeners {
        Listeners {
            image,
            observer,
            list: Mutex::default(),
        }
    }

    /// One more.
    pub fn add(&self, listener: Option<ProgressFn>) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.extend(listener);
    }

    pub fn tell(&self, progress: &PullProgress) {
        for listener in self.list.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            listener(progress.clone());
        }
        self.observe(PullEvent::Progress(progress));
    }

    pub fn ended(&self, result: &Result<Image, ImageError>) {
        self.observe(PullEvent::Ended(result.as_ref()));
    }

    fn observe(&self, event: PullEvent<'_>) {
        if let Some(observer) = &self.observer {
            observer(&self.image, event);
        }
    }
}
