//! What is on its way to one worker: many producers push, the worker drains.
//!
//! Nobody waits on an inbox. Its budget is asked before a publication gets its sequence.

use std::fmt;
use std::sync::Arc;

use super::doorbell::Doorbell;
use super::presence::Notice;
use super::publication::Publication;
use super::topic::TopicId;
use crate::metrics::{Memory, MemoryKind};
use crate::sync::{AtomicBool, AtomicUsize, Ordering, Queue};

/// Bytes on their way to one worker above which publishers are held back.
pub const INBOX_LEN_MAX: usize = 32 << 20;

/// One publication for the subscribers that a worker has on a topic.
#[derive(Debug)]
pub struct Arrival {
    /// The worker's own number for the topic, given when it first subscribed.
    pub local: u32,
    /// The topic, so that a reused number is told apart.
    pub topic: TopicId,
    /// What to deliver.
    pub publication: Arc<Publication>,
}

/// The inbox of one worker.
///
/// Invariant: after a push, either the worker is awake or it has been woken (see `Doorbell`).
pub struct Inbox {
    queue: Queue<Arrival>,
    notices: Queue<Notice>,
    held: AtomicUsize,
    bell: Doorbell,
    publishers_wait: AtomicBool,
    memory: Arc<Memory>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Inbox {
    /// An empty inbox; `wake` ends the worker's sleep.
    pub fn new(memory: Arc<Memory>, wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            queue: Queue::new(),
            notices: Queue::new(),
            held: AtomicUsize::new(0),
            bell: Doorbell::new(),
            publishers_wait: AtomicBool::new(false),
            memory,
            wake: Box::new(wake),
        }
    }

    /// Appends, and wakes the worker if it sleeps.
    pub(super) fn push(&self, arrival: Arrival) {
        let len = arrival.publication.held_len();
        self.held.fetch_add(len, Ordering::Relaxed);
        self.memory.charge(MemoryKind::Inbox, len);
        self.queue.push(arrival);
        self.wake();
    }

    /// Tells the worker who came or went, and wakes it if it sleeps.
    pub(super) fn notify(&self, notice: Notice) {
        self.notices.push(notice);
        self.wake();
    }

    /// Takes the next notice; only the owning worker may call it.
    pub fn pop_notice(&self) -> Option<Notice> {
        self.notices.pop()
    }

    /// Wakes the worker if it sleeps; one wake-up serves a burst.
    pub fn wake(&self) {
        if self.bell.ring() {
            (self.wake)();
        }
    }

    /// Takes the next arrival; only the owning worker may call it.
    pub fn pop(&self) -> Option<Arrival> {
        self.queue.pop()
    }

    /// Gives back the room of a publication that every subscriber of this worker has been served.
    /// Returns whether that took the inbox under half of its budget.
    #[must_use]
    pub fn release(&self, publication: &Publication) -> bool {
        let len = publication.held_len();
        self.memory.release(MemoryKind::Inbox, len);
        let before = self.held.fetch_sub(len, Ordering::SeqCst);
        before > INBOX_LEN_MAX / 2 && before - len <= INBOX_LEN_MAX / 2
    }

    /// Whether publishers are to be held back.
    pub fn is_over(&self) -> bool {
        self.held.load(Ordering::Relaxed) > INBOX_LEN_MAX
    }

    /// Whether publishers that were held back may go on.
    pub fn is_under_half(&self) -> bool {
        self.held.load(Ordering::SeqCst) <= INBOX_LEN_MAX / 2
    }

    /// Notes whether this worker holds back publishers, to be woken when an inbox has room again.
    pub fn set_publishers_wait(&self, wait: bool) {
        self.publishers_wait.store(wait, Ordering::SeqCst);
    }

    /// Whether this worker holds back publishers.
    pub fn publishers_wait(&self) -> bool {
        self.publishers_wait.load(Ordering::SeqCst)
    }

    /// The worker goes to sleep, unless something arrived or `has_work`. Returns whether it does.
    /// Only the owning worker may call it.
    #[must_use]
    pub fn try_sleep(&self, has_work: impl FnOnce() -> bool) -> bool {
        self.bell.try_sleep(|| !self.queue.is_empty() || !self.notices.is_empty() || has_work())
    }

    /// The worker is awake: nobody need wake it.
    pub fn set_awake(&self) {
        self.bell.set_awake();
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("held", &self.held).finish_non_exhaustive()
    }
}
