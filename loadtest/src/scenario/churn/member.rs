//! One member: what it must get between its joining and its leaving.

use crate::{
    fault::{Faults, Order},
    stamp::{Filler, Stamp},
};

/// A masked close frame with code 1000.
pub(super) const CLOSE_FRAME: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8];

/// Where a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Joining,
    Present,
    /// To leave, as soon as it has everything up to this.
    Leaving {
        last: u32,
        since: u64,
    },
    /// It has said so, or its connection has ended.
    Left,
}

#[derive(Debug)]
pub(super) struct Member {
    stage: Stage,
    /// Publications sent before it was open: it may get them or not.
    before: u32,
    /// From its first reception on.
    order: Option<Order>,
}

impl Member {
    pub(super) fn joining() -> Self {
        Self { stage: Stage::Joining, before: 0, order: None }
    }

    /// One that is open when `published` publications have been sent.
    pub(super) fn open(published: u32) -> Self {
        Self { stage: Stage::Present, before: published, order: None }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// Books one reception, when `published` have been sent; returns when it was sent, if it is
    /// one that was.
    pub(super) fn receive(
        &mut self,
        payload: &[u8],
        filler: &Filler,
        published: u32,
        faults: &mut Faults,
    ) -> Option<u64> {
        let stamp = Stamp::read(payload).filter(|stamp| {
            (1..=published).contains(&stamp.seq) && filler.check(*stamp, payload, 0)
        });
        let Some(Stamp { seq, time, .. }) = stamp else {
            faults.corrupted += 1;
            return None;
        };
        let from = seq.min(self.before + 1);
        self.order.get_or_insert_with(|| Order::starting(from)).accept(seq, faults);
        Some(time)
    }

    /// Tells it to leave after what has been `published` by `now`.
    pub(super) fn leave(&mut self, published: u32, now: u64) {
        self.stage = Stage::Leaving { last: published, since: now };
    }

    /// Whether it has what it must get before it leaves, or has waited `patience` for it.
    pub(super) fn may_go(&self, now: u64, patience: u64) -> bool {
        match self.stage {
            Stage::Leaving { last, since } => {
                self.next() > last || now.saturating_sub(since) > patience
            }
            _ => true,
        }
    }

    /// Leaves; what has not come by now is lost.
    pub(super) fn go(&mut self, faults: &mut Faults) {
        self.finish(u32::MAX - 1, faults);
        self.stage = Stage::Left;
    }

    /// The connection is gone.
    pub(super) fn end(&mut self) {
        self.stage = Stage::Left;
    }

    /// Whether nothing of `published` is still to come.
    pub(super) fn has_all(&self, published: u32) -> bool {
        self.due(published).is_none_or(|last| self.next() > last)
    }

    /// Counts what did not come, of `published`.
    pub(super) fn finish(&self, published: u32, faults: &mut Faults) {
        if let Some(last) = self.due(published) {
            faults.lost += u64::from((last + 1).saturating_sub(self.next()));
        }
    }

    /// The last that it must get, of `published`.
    fn due(&self, published: u32) -> Option<u32> {
        match self.stage {
            Stage::Present => Some(published),
            Stage::Leaving { last, .. } => Some(last.min(published)),
            Stage::Joining | Stage::Left => None,
        }
    }

    fn next(&self) -> u32 {
        self.order.as_ref().map_or(self.before + 1, Order::next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The faults of a member that opened after 2 of 6 publications, got `received`, and left
    /// after the fifth.
    fn check(received: &[u32], expected: Faults) {
        let filler = Filler::new(64);
        let mut faults = Faults::default();
        let mut member = Member::open(2);
        member.leave(5, 1_000);
        for seq in received {
            let mut payload = Vec::new();
            filler.push(Stamp { topic: 0, seq: *seq, time: 0 }, &mut payload);
            assert_eq!(member.receive(&payload, &filler, 6, &mut faults), Some(0));
        }
        let whole = member.may_go(1_001, 1_000);
        assert!(member.may_go(2_001, 1_000), "patience ends");
        member.go(&mut faults);
        assert!(member.has_all(6), "nothing is expected of who has left");
        assert_eq!(faults, expected, "{received:?}");
        assert_eq!(whole, received.contains(&5), "{received:?}");
    }

    #[test]
    fn a_member_must_get_what_was_sent_between_its_opening_and_its_leaving() {
        let none = Faults::default();
        check(&[3, 4, 5], none);
        check(&[3, 4, 5, 6], none);
        check(&[1, 2, 3, 4, 5], none);
        check(&[2, 3, 4, 5], none);
        check(&[4, 5], Faults { lost: 1, ..none });
        check(&[3, 5], Faults { lost: 1, ..none });
        check(&[2, 4, 5], Faults { lost: 1, ..none });
        check(&[3, 3, 4, 5], Faults { duplicated: 1, ..none });
        check(&[3, 4], Faults { lost: 1, ..none });
        check(&[], Faults { lost: 3, ..none });
        check(&[3, 5, 4], Faults { reordered: 1, ..none });
    }

    #[test]
    fn strange_payloads_are_corrupt() {
        let mut faults = Faults::default();
        assert_eq!(Member::open(0).receive(b"hello", &Filler::new(64), 1, &mut faults), None);
        assert_eq!(faults.corrupted, 1);
    }
}
