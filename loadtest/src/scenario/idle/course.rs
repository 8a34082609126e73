//! Where the shares of a run meet: which step is to be taken, and who has taken it.

use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

/// What all shares do next, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Open publishers, where subscribers cannot publish.
    Prepare,
    /// Open the subscribers.
    Open,
    /// Publish on every topic, and wait for it everywhere.
    Message,
    End,
}

/// The course of a run, shared by all its threads.
#[derive(Debug)]
pub(super) struct Course {
    shares: u32,
    step: AtomicU32,
    /// Shares that have taken the step.
    done: AtomicU32,
    /// Rounds of messages that shares have completed, over all shares.
    rounds: AtomicU64,
    /// Whoever holds this opens connections: one share after the other, so that the server's
    /// queue of new connections never holds more than one share's.
    entrance: Mutex<()>,
    connected: AtomicUsize,
    received: AtomicU64,
    errors: AtomicU64,
}

impl Course {
    pub(super) fn new(shares: u32) -> Self {
        Self {
            shares,
            step: AtomicU32::new(Step::Prepare as u32),
            done: AtomicU32::new(0),
            rounds: AtomicU64::new(0),
            entrance: Mutex::new(()),
            connected: AtomicUsize::new(0),
            received: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }

    /// Sends all shares on `step`.
    pub(super) fn begin(&self, step: Step) {
        if step != Step::Prepare {
            self.done.store(0, Ordering::SeqCst);
        }
        self.step.store(step as u32, Ordering::SeqCst);
    }

    /// Whether it is time for `step`, or for a later one.
    pub(super) fn has_begun(&self, step: Step) -> bool {
        self.step.load(Ordering::SeqCst) >= step as u32
    }

    /// A share has taken the step.
    pub(super) fn finish_step(&self) {
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether all shares have taken the step.
    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst) == self.shares
    }

    /// A share has everything of one more round of messages.
    pub(super) fn finish_round(&self) {
        self.rounds.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether all shares have everything of the first `count` rounds.
    pub(super) fn has_rounds(&self, count: u32) -> bool {
        self.rounds.load(Ordering::SeqCst) >= u64::from(count) * u64::from(self.shares)
    }

    /// The right to open connections, if nobody has it.
    pub(super) fn try_enter(&self) -> Option<MutexGuard<'_, ()>> {
        self.entrance.try_lock().ok()
    }

    pub(super) fn count(&self, connected: usize, received: u64, errors: u64) {
        self.connected.fetch_add(connected, Ordering::Relaxed);
        self.received.fetch_add(received, Ordering::Relaxed);
        self.errors.fetch_add(errors, Ordering::Relaxed);
    }

    /// Connections opened, messages received and errors so far, for the live line.
    pub(super) fn counts(&self) -> (usize, u64, u64) {
        (
            self.connected.load(Ordering::Relaxed),
            self.received.load(Ordering::Relaxed),
            self.errors.load(Ordering::Relaxed),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_done_when_every_share_has_taken_it() {
        let course = Course::new(2);
        assert!(course.has_begun(Step::Prepare) && !course.has_begun(Step::Open));
        course.finish_step();
        course.begin(Step::Prepare);
        assert!(!course.is_done(), "one of two, who was early");
        course.finish_step();
        assert!(course.is_done());
        course.begin(Step::Message);
        assert!(course.has_begun(Step::Open) && !course.is_done());
    }

    #[test]
    fn a_round_is_over_when_every_share_has_all_of_it() {
        let course = Course::new(2);
        assert!(course.has_rounds(0));
        course.finish_round();
        assert!(!course.has_rounds(1));
        course.finish_round();
        assert!(course.has_rounds(1) && !course.has_rounds(2));
    }

    #[test]
    fn one_share_opens_at_a_time() {
        let course = Course::new(2);
        let first = course.try_enter();
        assert!(first.is_some() && course.try_enter().is_none());
        drop(first);
        assert!(course.try_enter().is_some());
    }
}
