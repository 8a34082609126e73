//! Whether a worker sleeps, agreed between it and the threads that have something for it.

use std::sync::atomic::{AtomicBool, Ordering};

/// What the agreement is made of; another implementation lets a checker try every interleaving.
pub(super) trait Flag: Default {
    fn swap(&self, value: bool) -> bool;
    fn store(&self, value: bool);
}

impl Flag for AtomicBool {
    fn swap(&self, value: bool) -> bool {
        Self::swap(self, value, Ordering::SeqCst)
    }

    fn store(&self, value: bool) {
        Self::store(self, value, Ordering::SeqCst);
    }
}

/// Set while the worker is awake or about to be.
///
/// Invariant: who makes work visible and then rings, or finds it set, can rely on the worker to
/// look for work afterwards. So the worker clears it before it looks for the last time.
#[derive(Debug, Default)]
pub(super) struct Doorbell<F = AtomicBool> {
    armed: F,
}

impl<F: Flag> Doorbell<F> {
    /// The bell of a worker that is awake.
    pub(super) fn new() -> Self {
        let bell = Self::default();
        bell.armed.store(true);
        bell
    }

    /// Rings, after work was made visible. Returns whether the worker must be woken.
    #[must_use]
    pub(super) fn ring(&self) -> bool {
        !self.armed.swap(true)
    }

    /// The worker goes to sleep unless `has_work` says otherwise. Returns whether it does.
    #[must_use]
    pub(super) fn try_sleep(&self, has_work: impl FnOnce() -> bool) -> bool {
        self.armed.store(false);
        let stays_awake = has_work();
        if stays_awake {
            self.armed.store(true);
        }
        !stays_awake
    }

    /// The worker is awake: nobody need wake it.
    pub(super) fn set_awake(&self) {
        self.armed.store(true);
    }
}

#[cfg(test)]
mod tests {
    use shuttle::sync::atomic::{AtomicBool, Ordering};
    use shuttle::sync::{Arc, Condvar, Mutex};

    use super::{Doorbell, Flag};

    impl Flag for AtomicBool {
        fn swap(&self, value: bool) -> bool {
            Self::swap(self, value, Ordering::SeqCst)
        }

        fn store(&self, value: bool) {
            Self::store(self, value, Ordering::SeqCst);
        }
    }

    /// A worker that sleeps like ours: until the eventfd is written to.
    struct Worker {
        bell: Doorbell<AtomicBool>,
        inbox: Mutex<Vec<u32>>,
        event: Mutex<bool>,
        woken: Condvar,
    }

    impl Worker {
        fn push(&self, item: u32) {
            self.inbox.lock().expect("nobody panics").push(item);
            if self.bell.ring() {
                *self.event.lock().expect("nobody panics") = true;
                self.woken.notify_one();
            }
        }

        fn take_all(&self) -> usize {
            std::mem::take(&mut *self.inbox.lock().expect("nobody panics")).len()
        }

        fn sleep(&self) {
            let mut event = self.event.lock().expect("nobody panics");
            while !*event {
                event = self.woken.wait(event).expect("nobody panics");
            }
            *event = false;
        }
    }

    fn run() {
        const PRODUCERS: u32 = 2;
        const EACH: u32 = 2;
        let worker = Arc::new(Worker {
            bell: Doorbell::new(),
            inbox: Mutex::new(Vec::new()),
            event: Mutex::new(false),
            woken: Condvar::new(),
        });
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|_| {
                let worker = Arc::clone(&worker);
                shuttle::thread::spawn(move || (0..EACH).for_each(|item| worker.push(item)))
            })
            .collect();
        let mut taken = 0;
        while taken < (PRODUCERS * EACH) as usize {
            taken += worker.take_all();
            let has_work = || !worker.inbox.lock().expect("nobody panics").is_empty();
            // A lost wake-up is a deadlock here, which the checker reports.
            if taken < (PRODUCERS * EACH) as usize && worker.bell.try_sleep(has_work) {
                worker.sleep();
                worker.bell.set_awake();
            }
        }
        for producer in producers {
            producer.join().expect("it ends");
        }
    }

    #[test]
    fn no_interleaving_loses_a_wake_up() {
        shuttle::check_random(run, 5_000);
        shuttle::check_pct(run, 2_000, 3);
    }
}
