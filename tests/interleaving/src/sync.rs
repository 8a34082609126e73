//! What threads share, as shuttle has it: every use is a point at which another thread may run.
//!
//! In the place of `src/sync.rs`. Memory orders weaker than sequential are not tried.

use std::collections::VecDeque;

pub use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub use shuttle::thread::yield_now;

/// A lock that nobody poisons: a panic ends the run.
#[derive(Debug, Default)]
pub struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// An open lock.
    pub fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    /// Waits for the lock.
    ///
    /// # Panics
    /// When a thread panicked while it had the lock.
    pub fn lock(&self) -> shuttle::sync::MutexGuard<'_, T> {
        self.0.lock().expect("a panic ends the run")
    }

    /// The value, which nobody shares.
    ///
    /// # Panics
    /// As [`Mutex::lock`].
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().expect("a panic ends the run")
    }
}

/// A queue whose pushes and pops are single steps.
#[derive(Debug)]
pub struct Queue<T>(Mutex<VecDeque<T>>);

impl<T> Queue<T> {
    /// An empty queue.
    #[expect(clippy::new_without_default, reason = "as the queue that it stands for")]
    pub fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    /// Appends.
    pub fn push(&self, item: T) {
        self.0.lock().push_back(item);
    }

    /// Takes the first.
    pub fn pop(&self) -> Option<T> {
        self.0.lock().pop_front()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}
