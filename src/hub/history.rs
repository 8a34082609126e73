//! The newest publications of one topic, kept by count, bytes and age.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::publication::Publication;
use crate::limits::TopicRule;

/// A ring of publications.
///
/// Invariant: offsets are consecutive and end at the topic's. Sequences ascend; where one is left
/// out, that publication was not to be kept.
#[derive(Debug, Default)]
pub(super) struct History {
    ring: VecDeque<Arc<Publication>>,
    /// Sequence of the newest publication that was dropped; 0 = none was.
    dropped: u64,
    /// Payload bytes in the ring.
    len: usize,
    /// What the memory account was charged for the ring.
    charged: usize,
}

impl History {
    /// Appends the topic's newest publication and drops what the rule no longer keeps.
    pub(super) fn push(&mut self, publication: Arc<Publication>, rule: &TopicRule) {
        self.len += publication.payload().data().len();
        self.charged += publication.held_len();
        let now = publication.accepted;
        self.ring.push_back(publication);
        while self.ring.len() > rule.history_size || self.len > rule.history_bytes_max {
            self.drop_oldest();
        }
        self.expire(now, rule);
    }

    /// Drops publications older than the rule's time to live.
    pub(super) fn expire(&mut self, now: Instant, rule: &TopicRule) {
        while self.ring.front().is_some_and(|oldest| {
            now.saturating_duration_since(oldest.accepted) >= rule.history_ttl
        }) {
            self.drop_oldest();
        }
        self.give_room_back();
    }

    /// Returns the ring's own room once nothing is kept.
    pub(super) fn give_room_back(&mut self) {
        if self.ring.is_empty() && self.ring.capacity() > 0 {
            self.ring = VecDeque::new();
        }
    }

    /// When the oldest publication kept was accepted, `None` if nothing is kept.
    pub(super) fn oldest_accepted(&self) -> Option<Instant> {
        self.ring.front().map(|publication| publication.accepted)
    }

    /// Drops the oldest publication, if there is one.
    pub(super) fn drop_oldest(&mut self) {
        if let Some(oldest) = self.ring.pop_front() {
            self.dropped = oldest.sequence;
            self.len -= oldest.payload().data().len();
            self.charged -= oldest.held_len();
        }
    }

    /// Bytes held, for the memory account.
    pub(super) fn held_len(&self) -> usize {
        self.charged
    }

    /// Number of publications kept.
    pub(super) fn count(&self) -> usize {
        self.ring.len()
    }

    /// The newest publication kept.
    pub(super) fn newest(&self) -> Option<&Arc<Publication>> {
        self.ring.back()
    }

    /// The oldest publication kept, `None` if nothing is.
    pub(super) fn oldest(&self) -> Option<&Arc<Publication>> {
        self.ring.front()
    }

    /// Whether everything that was to be kept is, from `sequence` on.
    pub(super) fn reaches(&self, sequence: u64) -> bool {
        sequence > self.dropped
    }

    /// Publications from `sequence` on, oldest first. Logarithmic in their number.
    pub(super) fn from(&self, sequence: u64) -> impl Iterator<Item = &Arc<Publication>> {
        let first = self.ring.partition_point(|publication| publication.sequence < sequence);
        self.ring.range(first..)
    }

    /// Publications after `offset`, oldest first.
    pub(super) fn after(&self, offset: u64) -> impl Iterator<Item = &Arc<Publication>> {
        let oldest = self.oldest().map_or(0, |publication| publication.offset);
        let skip = usize::try_from((offset + 1).saturating_sub(oldest)).unwrap_or(usize::MAX);
        self.ring.range(skip.min(self.ring.len())..)
    }

    /// The newest `count` publications, oldest first.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = &Arc<Publication>> {
        self.ring.range(self.ring.len().saturating_sub(count)..)
    }
}
