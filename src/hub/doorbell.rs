//! Whether a worker sleeps, agreed between it and the threads that have something for it.

use crate::sync::{AtomicBool, Ordering};

/// Set while the worker is awake or about to be.
///
/// Invariant: who makes work visible and then rings, or finds it set, can rely on the worker to
/// look for work afterwards. So the worker clears it before it looks for the last time.
#[derive(Debug)]
pub(super) struct Doorbell {
    armed: AtomicBool,
}

impl Doorbell {
    /// The bell of a worker that is awake.
    pub(super) fn new() -> Self {
        Self { armed: AtomicBool::new(true) }
    }

    /// Rings, after work was made visible. Returns whether the worker must be woken.
    #[must_use]
    pub(super) fn ring(&self) -> bool {
        !self.armed.swap(true, Ordering::SeqCst)
    }

    /// The worker goes to sleep unless `has_work` says otherwise. Returns whether it does.
    #[must_use]
    pub(super) fn try_sleep(&self, has_work: impl FnOnce() -> bool) -> bool {
        self.armed.store(false, Ordering::SeqCst);
        let stays_awake = has_work();
        if stays_awake {
            self.armed.store(true, Ordering::SeqCst);
        }
        !stays_awake
    }

    /// The worker is awake: nobody need wake it.
    pub(super) fn set_awake(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }
}
