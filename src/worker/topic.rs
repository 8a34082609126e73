//! A topic as one worker sees it: who subscribes here, and what is on its way to them.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;

use super::connection::Connection;
use super::member::{Member, Pick, Place, Seat};
use super::pass::Pass;
use super::presence::Listeners;
use super::wheel::Tick;
use crate::hub::{Publication, Topic, VariantId};
use crate::protocol::delta;

/// The subscribers of one topic on this worker. With many workers nearly every topic has one
/// subscriber on each, so this is as small as a slot.
///
/// Invariant: a member stands in exactly one place, and its connection knows which.
#[derive(Debug)]
pub(super) struct LocalTopic {
    pub(super) topic: Arc<Topic>,
    pub(super) lists: SmallVec<[List; 1]>,
    /// Joined while something older was on its way; empty again after the pass that serves it.
    pub(super) late: Vec<Late>,
    /// Newest sequence that arrived here (or the top when the first member came).
    pub(super) arrived: u64,
    /// Publications that no pass has taken yet, in order.
    pub(super) pending: VecDeque<Arc<Publication>>,
    pub(super) pass: Option<Box<Pass>>,
    /// When the last pass ended.
    pub(super) passed: Tick,
    /// Members in all places.
    pub(super) count: u32,
    /// Those of them that hear who comes and goes; `None` = nobody does.
    pub(super) listeners: Option<Box<Listeners>>,
}

/// Members that get the same bytes.
#[derive(Debug)]
pub(super) struct List {
    pub(super) variant: VariantId,
    pub(super) pick: Pick,
    /// Two take no more room in place than a vector's own words.
    pub(super) members: SmallVec<[Seat; 2]>,
}

impl List {
    fn is_of(&self, member: Member) -> bool {
        self.variant == member.variant && self.pick == member.pick
    }
}

/// A member that gets publications from a sequence on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Late {
    pub(super) seat: Seat,
    pub(super) next: u64,
}

impl LocalTopic {
    pub(super) fn new(topic: Arc<Topic>) -> Self {
        Self {
            topic,
            lists: SmallVec::new(),
            late: Vec::new(),
            arrived: 0,
            pending: VecDeque::new(),
            pass: None,
            passed: Tick::default(),
            count: 0,
            listeners: None,
        }
    }

    /// Whether there is something to deliver: then it is on the worker's list of such topics.
    pub(super) fn is_dirty(&self) -> bool {
        self.pass.is_some() || !self.pending.is_empty()
    }

    /// Lets a member in that gets everything from `next` on, which nobody has been served yet.
    pub(super) fn join(&mut self, seat: Seat, member: &mut Member, next: u64) {
        if !self.is_dirty() && next == self.arrived + 1 {
            self.enlist(seat, member);
        } else {
            member.place = Place::Late;
            self.late.push(Late { seat, next });
        }
    }

    /// Between passes: lets those in who want everything that comes next.
    pub(super) fn promote(&mut self, connections: &mut slab::Slab<Connection>) {
        let comes = self.pending.front().map_or(self.arrived + 1, |next| next.sequence);
        let mut late = std::mem::take(&mut self.late);
        late.retain(|late| {
            if late.next <= comes {
                self.enlist(late.seat, member_at(connections, late.seat));
            }
            late.next > comes
        });
        self.late = late;
    }

    /// Between passes: whoever has been served whole publications in the format of deltas takes
    /// deltas from now on.
    pub(super) fn begin_deltas(&mut self, connections: &mut slab::Slab<Connection>) {
        let is_served = |list: &List| delta::following(list.variant) != list.variant;
        while let Some(at) = self.lists.iter().position(is_served) {
            let list = self.lists.swap_remove(at);
            for seat in list.members {
                let member = member_at(connections, seat);
                member.variant = delta::following(member.variant);
                self.enlist(seat, member);
            }
        }
    }

    /// Sequence up to which a member that does not catch up has been handed everything. Constant
    /// time: in a drain it is asked for many members each turn.
    pub(super) fn served_to(&self, member: Member) -> u64 {
        match (member.place, &self.pass) {
            (Place::Listed(position), Some(pass)) => {
                let place = (self.list_of(member), position as usize);
                let is_served = place < (pass.list, pass.cursor);
                if is_served { pass.last() } else { pass.first() - 1 }
            }
            // A latecomer is served its part when a pass begins; before its own first publication
            // there is nothing to serve.
            _ => self.pending.front().map_or(self.arrived, |next| next.sequence - 1),
        }
    }

    /// Everything on its way here, when nobody is left to take it.
    pub(super) fn undelivered(self) -> Vec<Arc<Publication>> {
        let in_pass = self.pass.as_ref().map_or(&[][..], |pass| pass.publications());
        in_pass.iter().chain(&self.pending).map(Arc::clone).collect()
    }

    fn list_of(&self, member: Member) -> usize {
        let list = self.lists.iter().position(|list| list.is_of(member));
        list.expect("a listed member's list exists")
    }

    /// Puts a member in its list. Only between passes: a pass must not meet newcomers.
    fn enlist(&mut self, seat: Seat, member: &mut Member) {
        debug_assert!(self.pass.is_none(), "lists grow only between passes");
        let position = self.lists.iter().position(|list| list.is_of(*member));
        let list = position.unwrap_or_else(|| {
            let Member { variant, pick, .. } = *member;
            self.lists.push(List { variant, pick, members: SmallVec::new() });
            self.lists.len() - 1
        });
        let members = &mut self.lists[list].members;
        member.place = Place::Listed(u32::try_from(members.len()).expect("indices are u32"));
        members.push(seat);
    }

    /// Takes a member out of the place it stands in. `connections` learn who moved.
    pub(super) fn remove(
        &mut self,
        seat: Seat,
        member: Member,
        connections: &mut slab::Slab<Connection>,
    ) {
        self.count -= 1;
        match member.place {
            Place::CatchingUp => {}
            Place::Late => {
                // Sessions mostly leave in the order of their coming, the last one first.
                if let Some(position) = self.late.iter().rposition(|late| late.seat == seat) {
                    self.late.swap_remove(position);
                }
            }
            Place::Listed(position) => self.remove_listed(member, position as usize, connections),
        }
    }

    fn remove_listed(
        &mut self,
        member: Member,
        position: usize,
        connections: &mut slab::Slab<Connection>,
    ) {
        let list = self.list_of(member);
        let members = &mut self.lists[list].members;
        let mut hole = position;
        // A paused pass has served all below its cursor: the hole moves up to the cursor first,
        // or the last member would take a place already passed and miss the batch.
        if let Some(pass) = self.pass.as_mut().filter(|pass| pass.list == list)
            && hole < pass.cursor
        {
            pass.cursor -= 1;
            if hole < pass.cursor {
                members.swap(hole, pass.cursor);
                relocate(connections, members[hole], hole);
                hole = pass.cursor;
            }
        }
        members.swap_remove(hole);
        if let Some(moved) = members.get(hole) {
            relocate(connections, *moved, hole);
        }
        if members.capacity() > 64 && members.len() < members.capacity() / 4 {
            // It sets the capacity, whatever its name.
            members.grow(members.len() * 2);
        }
        if members.is_empty() && self.pass.is_none() {
            self.lists.swap_remove(list);
        }
    }
}

fn relocate(connections: &mut slab::Slab<Connection>, seat: Seat, position: usize) {
    let place = Place::Listed(u32::try_from(position).expect("indices are u32"));
    member_at(connections, seat).place = place;
}

fn member_at(connections: &mut slab::Slab<Connection>, seat: Seat) -> &mut Member {
    connections[seat.index as usize].members.at(seat.slot)
}
