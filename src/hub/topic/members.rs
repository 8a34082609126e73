//! Who is on a topic, and who hears of it.

use std::sync::Arc;

use tokio::time::Instant;

use super::{State, Surroundings, Topic};
use crate::hub::inbox::Inbox;
use crate::hub::peer::Peer;
use crate::hub::presence::{Gone, Movement, Notice, Parting, Presence, Roster};
use crate::id::{SessionId, WorkerId};
use crate::metrics::MemoryKind;

impl Topic {
    /// Whether the topic knows its members.
    pub fn has_presence(&self) -> bool {
        self.rule.presence
    }

    /// A member of `worker` hears from now on who comes and goes.
    pub fn listen(&self, worker: WorkerId) {
        let mut state = self.state.lock();
        if let Some(entry) = state.interest.iter_mut().find(|entry| entry.worker == worker) {
            entry.listener_count += 1;
        }
    }

    /// A member of `worker` hears no more of that.
    pub fn ignore(&self, worker: WorkerId) {
        let mut state = self.state.lock();
        if let Some(entry) = state.interest.iter_mut().find(|entry| entry.worker == worker) {
            entry.listener_count -= 1;
        }
    }

    pub(in crate::hub) fn presence(&self, limit: usize) -> Presence {
        let state = self.state.lock();
        state.roster.as_ref().map(|roster| roster.look(limit)).unwrap_or_default()
    }

    pub(in crate::hub) fn enter(
        &self,
        inboxes: &[Arc<Inbox>],
        session: SessionId,
        peer: &Arc<Peer>,
    ) {
        if !self.has_presence() {
            return;
        }
        let mut state = self.state.lock();
        let roster = state.roster.get_or_insert_default();
        let before = roster.held_len();
        let is_news = roster.enter(session, Arc::clone(peer));
        let after = roster.held_len();
        self.account_roster(before, after);
        if is_news {
            self.tell(&state, inboxes, Movement::Join, peer);
        }
    }

    /// Takes a member out, or returns until when its user is waited for.
    pub(in crate::hub) fn part(
        &self,
        Surroundings { inboxes, drain }: Surroundings<'_>,
        session: SessionId,
        parting: Parting,
        now: Instant,
    ) -> Option<Instant> {
        let mut state = self.state.lock();
        let grace = self.rule.presence_grace;
        let is_awaited = parting == Parting::Disconnected && !grace.is_zero();
        let until = is_awaited.then(|| now + grace);
        let peer = match self.change_roster(&mut state, |roster| roster.leave(session, until))? {
            Gone::Left(peer) => peer,
            Gone::Awaited(until) => return Some(until),
            Gone::Nobody => return None,
        };
        // When the server goes, all go: nobody need hear it of each of them.
        if !drain.is_draining() {
            self.tell(&state, inboxes, Movement::Leave, &peer);
        }
        None
    }

    /// Gives up a member whose user did not come back in time.
    pub(in crate::hub) fn give_up(&self, inboxes: &[Arc<Inbox>], session: SessionId, now: Instant) {
        let mut state = self.state.lock();
        let gone = self.change_roster(&mut state, |roster| roster.give_up(session, now));
        if let Some(peer) = gone.flatten() {
            self.tell(&state, inboxes, Movement::Leave, &peer);
        }
    }

    /// Changes the roster, if there is one, and lets go of it when nobody is left.
    fn change_roster<T>(
        &self,
        state: &mut State,
        change: impl FnOnce(&mut Roster) -> T,
    ) -> Option<T> {
        let roster = state.roster.as_mut()?;
        let before = roster.held_len();
        let result = change(roster);
        self.account_roster(before, roster.held_len());
        state.roster.take_if(|roster| roster.is_empty());
        Some(result)
    }

    fn account_roster(&self, before: usize, after: usize) {
        if after >= before {
            self.memory.charge(MemoryKind::Connections, after - before);
        } else {
            self.memory.release(MemoryKind::Connections, before - after);
        }
    }

    fn tell(&self, state: &State, inboxes: &[Arc<Inbox>], movement: Movement, peer: &Arc<Peer>) {
        for entry in state.interest.iter().filter(|entry| entry.listener_count > 0) {
            let peer = Arc::clone(peer);
            let notice = Notice { local: entry.local, topic: self.id, movement, peer };
            inboxes[usize::from(entry.worker.0)].notify(notice);
        }
    }
}
