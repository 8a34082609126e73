//! Keys of publications that a publisher may send again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// How long a key is remembered.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_mins(5);
/// Longest key, in bytes.
pub const IDEMPOTENCY_KEY_LEN_MAX: usize = 128;
/// Keys remembered per topic; the oldest leaves first.
pub const IDEMPOTENCY_KEYS_MAX: usize = 4096;

/// What one key is charged: its text, and its places in the map and the queue.
const KEY_COST: usize = IDEMPOTENCY_KEY_LEN_MAX + 128;

/// The keys of one topic, oldest first.
#[derive(Debug, Default)]
pub(super) struct Keys {
    offsets: HashMap<Arc<str>, u64>,
    order: VecDeque<(Instant, Arc<str>)>,
}

impl Keys {
    /// Offset of the publication that came with `key`, if it is remembered; 0 = it has none.
    pub(super) fn find(&self, key: &str) -> Option<u64> {
        self.offsets.get(key).copied()
    }

    /// Bytes held, for the memory account.
    pub(super) fn held_len(&self) -> usize {
        self.order.len() * KEY_COST
    }

    /// Remembers `key`, which is not remembered yet.
    pub(super) fn insert(&mut self, key: &str, offset: u64, now: Instant) {
        if self.order.len() >= IDEMPOTENCY_KEYS_MAX {
            self.drop_oldest();
        }
        let key: Arc<str> = Arc::from(key);
        self.offsets.insert(Arc::clone(&key), offset);
        self.order.push_back((now, key));
    }

    /// Forgets old keys. Returns whether none is left.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        while self
            .order
            .front()
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= IDEMPOTENCY_TTL)
        {
            self.drop_oldest();
        }
        self.order.is_empty()
    }

    /// When the oldest key was remembered, `None` if there is none.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.order.front().map(|(at, _)| *at)
    }

    /// Forgets the oldest key, if there is one.
    pub(super) fn drop_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.offsets.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{IDEMPOTENCY_KEYS_MAX, IDEMPOTENCY_TTL, Keys};
    use tokio::time::Instant;

    #[test]
    fn keys_are_forgotten_by_age_and_by_count() {
        let mut keys = Keys::default();
        let now = Instant::now();
        keys.insert("a", 1, now);
        assert_eq!(keys.find("a"), Some(1));
        assert!(keys.expire(now + IDEMPOTENCY_TTL));
        assert_eq!((keys.find("a"), keys.held_len()), (None, 0));
        for index in 0..=IDEMPOTENCY_KEYS_MAX {
            keys.insert(&index.to_string(), index as u64, now);
        }
        assert_eq!(keys.find("0"), None);
        assert_eq!(keys.find("1"), Some(1));
    }
}
