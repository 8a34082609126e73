//! The memory account: what the server holds on behalf of its peers, by kind.

use std::sync::atomic::{AtomicI64, Ordering};

/// What bytes are held for; the label of `fanwire_memory_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryKind {
    /// Slots, subscriptions and topics' books.
    Connections,
    /// Incomplete frames and messages.
    Reading,
    /// Publications on their way to subscribers.
    Inbox,
    /// Encoded bytes queued for slow subscribers, shared bytes once.
    Outbox,
    /// Publications kept for recovery.
    History,
}

impl MemoryKind {
    /// Every kind, by index.
    pub const ALL: [Self; 5] =
        [Self::Connections, Self::Reading, Self::Inbox, Self::Outbox, Self::History];

    /// Metric label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Reading => "reading",
            Self::Inbox => "inbox",
            Self::Outbox => "outbox",
            Self::History => "history",
        }
    }
}

/// The global account. Kinds may be momentarily negative while threads race; sums settle.
#[derive(Debug)]
pub struct Memory {
    held: [AtomicI64; MemoryKind::ALL.len()],
    limit: i64,
}

impl Memory {
    /// An empty account with a budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { held: Default::default(), limit: i64::try_from(limit).unwrap_or(i64::MAX) }
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

    /// Whether the account is at its budget: nothing new is admitted then.
    pub fn is_exhausted(&self) -> bool {
        let held = self.held.iter().map(|kind| kind.load(Ordering::Relaxed)).sum::<i64>();
        held >= self.limit
    }
}

fn signed(len: usize) -> i64 {
    i64::try_from(len).expect("no buffer is longer than isize::MAX")
}

#[cfg(test)]
mod tests {
    use super::{Memory, MemoryKind};

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
}
