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

/// The keys of one topic, oldest first.
#[derive(Debug, Default)]
pub(super) struct Keys {
    sequences: HashMap<Arc<str>, u64>,
    order: VecDeque<(Instant, Arc<str>)>,
}

impl Keys {
    /// Sequence of the publication that came with `key`, if it is remembered.
    pub(super) fn find(&mut self, key: &str, now: Instant) -> Option<u64> {
        self.expire(now);
        self.sequences.get(key).copied()
    }

    /// Remembers `key`, which is not remembered yet.
    pub(super) fn insert(&mut self, key: &str, sequence: u64, now: Instant) {
        if self.order.len() >= IDEMPOTENCY_KEYS_MAX {
            self.drop_oldest();
        }
        let key: Arc<str> = Arc::from(key);
        self.sequences.insert(Arc::clone(&key), sequence);
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

    fn drop_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.sequences.remove(&key);
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
        assert_eq!(keys.find("a", now), Some(1));
        assert_eq!(keys.find("a", now + IDEMPOTENCY_TTL), None);
        for index in 0..=IDEMPOTENCY_KEYS_MAX {
            keys.insert(&index.to_string(), index as u64, now);
        }
        assert_eq!(keys.find("0", now), None);
        assert_eq!(keys.find("1", now), Some(1));
    }
}
