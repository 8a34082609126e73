//! The memory account: what the server holds on behalf of its peers, by kind, and when that is too
//! much.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// What bytes are held for; the label of `fanwire_memory_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryKind {
    /// Slots, HTTP connections, subscriptions and topics' books.
    Connections,
    /// Incomplete frames and messages, request bodies.
    Reading,
    /// Publications on their way to subscribers.
    Inbox,
    /// Encoded bytes queued for slow peers, shared bytes once, and what it takes to queue them.
    Outbox,
    /// Publications kept for recovery.
    History,
    /// What the process takes above four fifths of what the machine has, whatever it is for.
    Slack,
}

impl MemoryKind {
    /// Every kind, by index.
    pub const ALL: [Self; 6] =
        [Self::Connections, Self::Reading, Self::Inbox, Self::Outbox, Self::History, Self::Slack];

    /// Metric label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Reading => "reading",
            Self::Inbox => "inbox",
            Self::Outbox => "outbox",
            Self::History => "history",
            Self::Slack => "slack",
        }
    }
}

/// What is let go when memory is short, in this order; the label of `fanwire_memory_shed_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// Publications kept for recovery (and idempotency keys as old as they are).
    Publications,
    /// Positions of forgotten topics.
    Positions,
    /// Sessions, by what they hold.
    Sessions,
}

impl Shed {
    /// Everything, by index.
    pub const ALL: [Self; 3] = [Self::Publications, Self::Positions, Self::Sessions];

    /// Metric label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Publications => "publications",
            Self::Positions => "positions",
            Self::Sessions => "sessions",
        }
    }
}

/// The global account. Kinds may be momentarily negative while threads race; sums settle.
#[derive(Debug)]
pub struct Memory {
    held: [AtomicI64; MemoryKind::ALL.len()],
    limit: i64,
    /// Scarce at some time, and since then not yet down to where that ends.
    is_shedding: AtomicBool,
    shed: [AtomicU64; Shed::ALL.len()],
    shed_len: AtomicU64,
    round: AtomicU32,
    floor: AtomicUsize,
}

impl Memory {
    /// An empty account with a budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self {
            held: Default::default(),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            is_shedding: AtomicBool::new(false),
            shed: Default::default(),
            shed_len: AtomicU64::new(0),
            round: AtomicU32::new(0),
            floor: AtomicUsize::new(0),
        }
    }

    /// Charges `len` bytes.
    pub fn charge(&self, kind: MemoryKind, len: usize) {
        self.held[kind as usize].fetch_add(signed(len), Ordering::Relaxed);
    }

    /// Gives `len` bytes back.
    pub fn release(&self, kind: MemoryKind, len: usize) {
        self.held[kind as usize].fetch_sub(signed(len), Ordering::Relaxed);
    }

    /// Bytes held of one kind.
    pub fn held(&self, kind: MemoryKind) -> u64 {
        u64::try_from(self.held[kind as usize].load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// The budget in bytes.
    pub fn limit(&self) -> u64 {
        self.limit.unsigned_abs()
    }

    /// Bytes held of all kinds.
    pub fn held_in_all(&self) -> u64 {
        u64::try_from(self.total()).unwrap_or(0)
    }

    fn total(&self) -> i64 {
        self.held.iter().map(|kind| kind.load(Ordering::Relaxed)).sum()
    }

    /// Whether the account is at its budget: nothing new is accepted then, through any door.
    pub fn is_exhausted(&self) -> bool {
        self.total() >= self.limit
    }

    /// Whether less than a sixteenth of the budget is left: nobody new is let in then.
    pub fn is_scarce(&self) -> bool {
        self.total() >= self.limit - self.limit / 16
    }

    /// Bytes that have to go: from when the account is scarce until an eighth of the budget is free
    /// again. `None` = there is enough. For the one thread that looks after the account.
    pub fn excess(&self) -> Option<usize> {
        let rest = self.rest();
        let is_shedding = self.is_scarce() || rest > 0 && self.is_shedding.load(Ordering::Relaxed);
        self.is_shedding.store(is_shedding, Ordering::Relaxed);
        is_shedding.then_some(rest)
    }

    /// Bytes over what the account goes down to when it was scarce.
    pub fn rest(&self) -> usize {
        usize::try_from(self.total() - (self.limit - self.limit / 8)).unwrap_or(0)
    }

    /// Asks every worker, once, to close sessions that hold `floor` bytes or more until there is
    /// enough. The caller wakes them.
    pub fn ask_sessions(&self, floor: usize) {
        self.floor.store(floor, Ordering::Relaxed);
        self.round.fetch_add(1, Ordering::Release);
    }

    /// The number of the latest request for sessions, and what a session must hold to be meant.
    pub fn asked_sessions(&self) -> (u32, usize) {
        (self.round.load(Ordering::Acquire), self.floor.load(Ordering::Relaxed))
    }

    /// Counts what was let go, and the bytes that it held.
    pub fn count_shed(&self, what: Shed, count: usize, len: usize) {
        self.shed[what as usize].fetch_add(count as u64, Ordering::Relaxed);
        self.shed_len.fetch_add(len as u64, Ordering::Relaxed);
    }

    /// Bytes that were let go since the start, in all.
    pub fn shed_len(&self) -> u64 {
        self.shed_len.load(Ordering::Relaxed)
    }

    /// How many were let go since the start.
    pub fn shed(&self, what: Shed) -> u64 {
        self.shed[what as usize].load(Ordering::Relaxed)
    }
}

fn signed(len: usize) -> i64 {
    i64::try_from(len).expect("no buffer is longer than isize::MAX")
}

/// Bytes on the account for as long as this lives.
#[derive(Debug)]
pub struct Charge {
    memory: Arc<Memory>,
    kind: MemoryKind,
    len: usize,
}

impl Charge {
    /// Charges `len` bytes of `kind` to `memory`.
    pub fn new(memory: &Arc<Memory>, kind: MemoryKind, len: usize) -> Self {
        memory.charge(kind, len);
        Self { memory: Arc::clone(memory), kind, len }
    }

    /// Makes it `len` bytes.
    pub fn set(&mut self, len: usize) {
        if len > self.len {
            self.memory.charge(self.kind, len - self.len);
        } else if len < self.len {
            self.memory.release(self.kind, self.len - len);
        }
        self.len = len;
    }

    /// Bytes charged.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is charged.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.release(self.kind, self.len);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Charge, Memory, MemoryKind};

    #[test]
    fn the_account_is_exhausted_at_its_budget() {
        let memory = Memory::new(100);
        memory.charge(MemoryKind::Outbox, 60);
        memory.charge(MemoryKind::History, 39);
        assert!(!memory.is_exhausted());
        memory.charge(MemoryKind::History, 1);
        assert!(memory.is_exhausted());
        memory.release(MemoryKind::Outbox, 60);
        assert!(!memory.is_exhausted());
        assert_eq!(memory.held(MemoryKind::History), 40);
    }

    #[test]
    fn shedding_begins_above_where_it_ends() {
        let memory = Memory::new(1600);
        let excess_at = |held: usize| {
            let before = usize::try_from(memory.held(MemoryKind::Inbox)).expect("it fits");
            memory.charge(MemoryKind::Inbox, held);
            memory.release(MemoryKind::Inbox, before);
            (memory.is_scarce(), memory.excess())
        };
        assert_eq!(excess_at(1499), (false, None));
        assert_eq!(excess_at(1500), (true, Some(100)));
        assert_eq!(excess_at(1450), (false, Some(50)), "not yet enough");
        assert_eq!(excess_at(1400), (false, None));
        assert_eq!(excess_at(1450), (false, None), "enough, until it is scarce again");
    }

    #[test]
    fn a_charge_is_given_back_when_it_is_dropped() {
        let memory = Arc::new(Memory::new(100));
        let held = || memory.held(MemoryKind::Reading);
        let mut charge = Charge::new(&memory, MemoryKind::Reading, 10);
        for len in [30, 5] {
            charge.set(len);
            assert_eq!((charge.len() as u64, held()), (len as u64, len as u64));
        }
        drop(charge);
        assert_eq!(held(), 0);
    }

    #[test]
    fn sessions_are_asked_in_numbered_rounds() {
        let memory = Memory::new(100);
        assert_eq!(memory.asked_sessions(), (0, 0));
        memory.ask_sessions(7);
        memory.ask_sessions(3);
        assert_eq!(memory.asked_sessions(), (2, 3));
    }
}
