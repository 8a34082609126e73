//! Whether every subscriber got every publication once, in order: the faults, counted.

use std::ops::{AddAssign, Range};

use serde::{Deserialize, Serialize};

/// Gaps remembered per subscriber to tell a late publication from a repeated one.
const GAPS_MAX: usize = 1024;

/// Everything that must not happen, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Faults {
    /// Published, not received by a subscriber.
    pub(crate) lost: u64,
    /// Received again.
    pub(crate) duplicated: u64,
    /// Received after a later one of the same topic.
    pub(crate) reordered: u64,
    /// Received by who did not subscribe to its topic.
    pub(crate) misrouted: u64,
    /// Received with another content, or never published.
    pub(crate) corrupted: u64,
    /// Connections that the server ended, or had to lose for breaking the protocol.
    pub(crate) closed: u64,
    /// Published without an answer, at a door that answers each publication.
    #[serde(default)]
    pub(crate) unacknowledged: u64,
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.misrouted += other.misrouted;
        self.corrupted += other.corrupted;
        self.closed += other.closed;
        self.unacknowledged += other.unacknowledged;
    }
}

impl Faults {
    /// Name and count of each kind.
    pub(crate) fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("reordered", self.reordered),
            ("misrouted", self.misrouted),
            ("corrupted", self.corrupted),
            ("closed", self.closed),
            ("unacknowledged", self.unacknowledged),
        ]
    }

    pub(crate) fn total(&self) -> u64 {
        self.named().iter().map(|(_, count)| count).sum()
    }
}

/// How far one subscriber has followed its topic. Sequences begin at 1.
#[derive(Debug)]
pub(crate) struct Order {
    next: u32,
    /// Sequences that were skipped; each counts as lost until it comes late.
    #[expect(clippy::box_collection, reason = "null for nearly all: one word per subscriber")]
    gaps: Option<Box<Vec<Range<u32>>>>,
}

impl Order {
    pub(crate) fn new() -> Self {
        Self::starting(1)
    }

    /// One that is to receive `seq` first.
    pub(crate) fn starting(seq: u32) -> Self {
        Self { next: seq, gaps: None }
    }

    /// Takes note of `seq` and returns the sequences that it settles: the first reception of one,
    /// with those before it that can no longer come in order.
    #[inline]
    pub(crate) fn accept(&mut self, seq: u32, faults: &mut Faults) -> Range<u32> {
        let settled = self.next..seq.saturating_add(1);
        if seq == self.next {
            self.next = settled.end;
            return settled;
        }
        self.out_of_order(seq, faults);
        settled
    }

    #[cold]
    fn out_of_order(&mut self, seq: u32, faults: &mut Faults) {
        if seq > self.next {
            faults.lost += u64::from(seq - self.next);
            let gaps = self.gaps.get_or_insert_default();
            if gaps.len() < GAPS_MAX {
                gaps.push(self.next..seq);
            }
            self.next = seq.saturating_add(1);
        } else if self.take_gap(seq) {
            faults.lost -= 1;
            faults.reordered += 1;
        } else {
            faults.duplicated += 1;
        }
    }

    fn take_gap(&mut self, seq: u32) -> bool {
        let Some(gaps) = &mut self.gaps else {
            return false;
        };
        let Some(index) = gaps.iter().position(|gap| gap.contains(&seq)) else {
            return false;
        };
        let gap = gaps.swap_remove(index);
        gaps.extend([gap.start..seq, seq + 1..gap.end].into_iter().filter(|rest| !rest.is_empty()));
        true
    }

    /// Takes note of all before `seq`, which are not to be looked at.
    #[inline]
    pub(crate) fn advance_to(&mut self, seq: u32) {
        self.next = seq;
    }

    /// The first sequence that is still to come.
    #[inline]
    pub(crate) fn next(&self) -> u32 {
        self.next
    }

    /// Counts what never came, of `published` publications.
    pub(crate) fn finish(&self, published: u32, faults: &mut Faults) {
        faults.lost += u64::from((published + 1).saturating_sub(self.next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(received: &[u32], expected: Faults) {
        let mut faults = Faults::default();
        let mut order = Order::new();
        let settled: usize = received.iter().map(|seq| order.accept(*seq, &mut faults).len()).sum();
        order.finish(6, &mut faults);
        assert_eq!(faults, expected, "{received:?}");
        let never_seen = usize::try_from(6 + 1 - order.next).expect("small");
        assert_eq!(settled + never_seen, 6, "each sequence settles once: {received:?}");
    }

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        let none = Faults::default();
        check(&[1, 2, 3, 4, 5, 6], none);
        check(&[1, 2, 4, 5, 6], Faults { lost: 1, ..none });
        check(&[4, 5, 6], Faults { lost: 3, ..none });
        check(&[1, 2, 3, 4], Faults { lost: 2, ..none });
        check(&[], Faults { lost: 6, ..none });
        check(&[1, 2, 2, 3, 4, 5, 6, 1], Faults { duplicated: 2, ..none });
        check(&[1, 3, 2, 4, 5, 6], Faults { reordered: 1, ..none });
        check(&[5, 2, 2, 6, 1], Faults { lost: 2, reordered: 2, duplicated: 1, ..none });
    }
}
