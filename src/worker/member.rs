//! Subscriptions of connections: what they are of, and where they stand on the worker.

use crate::hub::VariantId;
use crate::id::SessionId;

/// Which publications of its topic a member gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// All of them.
    All,
    /// All but its own session's (`echo=false`).
    Others,
}

impl Pick {
    /// The session whose publications a member of `session` does not get.
    pub(super) fn excluded(self, session: SessionId) -> Option<SessionId> {
        (self == Self::Others).then_some(session)
    }
}

/// Where a member stands in its local topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the list of its variant, at this position.
    Listed(u32),
    /// Joined at a sequence that is not reached yet.
    Late,
    /// Reads history on its own until it meets the top.
    CatchingUp,
}

/// One subscription of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    /// The worker's number for the topic.
    pub(super) topic: u32,
    pub(super) variant: VariantId,
    pub(super) pick: Pick,
    pub(super) place: Place,
}

/// Names a member from its topic's side: a connection, and which of its subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Seat {
    pub(super) index: u32,
    pub(super) slot: u32,
}

/// A member that reads history.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replay {
    pub(super) slot: u32,
    /// Next sequence.
    pub(super) next: u64,
}

/// The subscriptions of a connection. Nearly every one has just one, which costs nothing more.
///
/// Invariant: a member keeps its slot for as long as it is there.
#[derive(Debug, Default)]
pub(super) struct Members {
    first: Option<Member>,
    /// Slots from 1 on.
    #[expect(clippy::box_collection, reason = "a vector in place would triple what idle ones pay")]
    others: Option<Box<Vec<Option<Member>>>>,
}

impl Members {
    /// Adds a member in the first free slot. Linear in the slots.
    pub(super) fn add(&mut self, member: Member) -> u32 {
        if self.first.is_none() {
            self.first = Some(member);
            return 0;
        }
        let others = self.others.get_or_insert_default();
        let free = others.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            others.push(None);
            others.len() - 1
        });
        others[at] = Some(member);
        u32::try_from(at + 1).expect("subscriptions per session are limited")
    }

    /// Takes a member out.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Member> {
        if slot == 0 {
            return self.first.take();
        }
        // No slot at the end is free.
        let others = self.others.as_mut()?;
        let member = others.get_mut(slot as usize - 1)?.take();
        while others.last().is_some_and(Option::is_none) {
            others.pop();
        }
        if others.is_empty() {
            self.others = None;
        }
        member
    }

    /// The member in a slot that its topic or its session knows as taken.
    pub(super) fn at(&mut self, slot: u32) -> &mut Member {
        let member = match slot {
            0 => self.first.as_mut(),
            _ => self.others.as_mut().and_then(|others| others[slot as usize - 1].as_mut()),
        };
        member.expect("who names a slot knows that it is taken")
    }

    /// The last slot that is taken.
    pub(super) fn last(&self) -> Option<u32> {
        let others = self.others.as_ref().map_or(0, |others| others.len());
        let last = u32::try_from(others).expect("subscriptions per session are limited");
        (last > 0 || self.first.is_some()).then_some(last)
    }

    /// All members, with their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Member)> {
        let others = self.others.as_deref().map_or(&[][..], Vec::as_slice);
        let slots = std::iter::once(&self.first).chain(others).zip(0..);
        slots.filter_map(|(member, slot)| Some((slot, (*member)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Member, Members, Pick, Place};
    use crate::hub::VariantId;

    fn member(topic: u32) -> Member {
        Member { topic, variant: VariantId::NATIVE, pick: Pick::All, place: Place::Late }
    }

    #[test]
    fn members_keep_their_slots_and_free_ones_are_used_again() {
        let mut members = Members::default();
        let slots: Vec<_> = (0..4).map(|topic| members.add(member(topic))).collect();
        assert_eq!(slots, [0, 1, 2, 3]);
        assert_eq!(members.remove(2).map(|member| member.topic), Some(2));
        assert_eq!(members.remove(0).map(|member| member.topic), Some(0));
        assert!(members.remove(2).is_none());
        assert_eq!(members.at(3).topic, 3);
        assert_eq!(members.add(member(4)), 0);
        assert_eq!(members.add(member(5)), 2);
        let all: Vec<_> = members.iter().map(|(slot, member)| (slot, member.topic)).collect();
        assert_eq!(all, [(0, 4), (1, 1), (2, 5), (3, 3)]);
        while let Some(last) = members.last() {
            assert!(members.remove(last).is_some(), "the last slot is taken");
        }
        assert!(members.others.is_none() && members.iter().count() == 0);
    }

    #[test]
    fn one_subscription_costs_nothing_more_than_its_place() {
        assert!(size_of::<Members>() <= 24);
    }
}
