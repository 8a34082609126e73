//! Who is on a topic: its members, their number, and who comes and goes.
//!
//! A member whose connection ended may be awaited for a while: if its user is back in time, by
//! whatever connection, nobody hears of either.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::peer::Peer;
use super::topic::TopicId;
use crate::id::SessionId;

/// What a member costs beside what it tells of itself: its places in the two maps.
const MEMBER_COST: usize = 96;

/// Who is there, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presence {
    /// Connections.
    pub clients: usize,
    /// Distinct users; all connections without one are one user.
    pub users: usize,
    /// The members, as many as were asked for, in no particular order.
    pub members: Vec<Arc<Peer>>,
}

/// Somebody came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Movement {
    /// A member is there that was not.
    Join,
    /// A member is there no more.
    Leave,
}

/// How a member goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// On purpose: it unsubscribed, or was unsubscribed.
    Unsubscribed,
    /// With its connection; its user may be back soon.
    Disconnected,
}

/// Who came or went, for the members that a worker has on a topic.
#[derive(Debug)]
pub struct Notice {
    /// The worker's own number for the topic.
    pub local: u32,
    /// The topic, so that a reused number is told apart.
    pub topic: TopicId,
    /// What happened.
    pub movement: Movement,
    /// To whom.
    pub peer: Arc<Peer>,
}

/// The members of a topic.
#[derive(Debug, Default)]
pub(super) struct Roster {
    members: HashMap<SessionId, Member>,
    users: HashMap<Arc<str>, User>,
    /// What the memory account was charged.
    held_len: usize,
}

#[derive(Debug)]
struct Member {
    peer: Arc<Peer>,
    /// When it is given up, if its connection has ended.
    until: Option<Instant>,
}

/// A user with members on the topic.
#[derive(Debug, Default)]
struct User {
    count: usize,
    /// Those of its members whose connection has ended, the latest last.
    awaited: Vec<SessionId>,
}

/// What came of a member's going.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// Others are to hear of it.
    Left(Arc<Peer>),
    /// It is waited for until then.
    Awaited(Instant),
    /// It was no member.
    Nobody,
}

impl Roster {
    /// Whether nobody is there.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Bytes held, for the memory account.
    pub(super) fn held_len(&self) -> usize {
        self.held_len
    }

    /// Adds a member. Returns whether others are to hear of it: not if its user was awaited.
    #[must_use]
    pub(super) fn enter(&mut self, session: SessionId, peer: Arc<Peer>) -> bool {
        let awaited = self.users.get_mut(&peer.user).and_then(|user| user.awaited.pop());
        if let Some(before) = awaited {
            self.remove(before);
        }
        self.held_len += cost(&peer);
        self.users.entry(Arc::clone(&peer.user)).or_default().count += 1;
        self.members.insert(session, Member { peer, until: None });
        awaited.is_none()
    }

    /// A member goes; it is waited for until `until`, where there is sense in that.
    pub(super) fn leave(&mut self, session: SessionId, until: Option<Instant>) -> Gone {
        let Some(member) = self.members.get_mut(&session) else { return Gone::Nobody };
        // Nobody can tell whether somebody without a name is back.
        let Some(until) = until.filter(|_| !member.peer.user.is_empty()) else {
            return self.remove(session).map_or(Gone::Nobody, Gone::Left);
        };
        member.until = Some(until);
        let user = Arc::clone(&member.peer.user);
        self.users.entry(user).or_default().awaited.push(session);
        Gone::Awaited(until)
    }

    /// Gives up a member that has been waited for until `now`. `None` = it was back, or is not due.
    pub(super) fn give_up(&mut self, session: SessionId, now: Instant) -> Option<Arc<Peer>> {
        let until = self.members.get(&session)?.until?;
        (until <= now).then(|| self.remove(session)).flatten()
    }

    fn remove(&mut self, session: SessionId) -> Option<Arc<Peer>> {
        let Member { peer, .. } = self.members.remove(&session)?;
        self.held_len -= cost(&peer);
        if let Some(user) = self.users.get_mut(&peer.user) {
            user.count -= 1;
            user.awaited.retain(|awaited| *awaited != session);
            if user.count == 0 {
                self.users.remove(&peer.user);
            }
        }
        if self.members.capacity() > 64 && self.members.len() < self.members.capacity() / 4 {
            self.members.shrink_to_fit();
            self.users.shrink_to_fit();
        }
        Some(peer)
    }

    /// Who is there; constant time but for the members, of which there are `limit` at most.
    pub(super) fn look(&self, limit: usize) -> Presence {
        let members = self.members.values().take(limit).map(|member| Arc::clone(&member.peer));
        Presence {
            clients: self.members.len(),
            users: self.users.len(),
            members: members.collect(),
        }
    }
}

fn cost(peer: &Peer) -> usize {
    MEMBER_COST + peer.held_len()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Gone, Peer, Roster};
    use crate::id::SessionId;

    fn peer(user: &str, client: &str) -> Arc<Peer> {
        Arc::new(Peer { user: user.into(), client: client.into(), ..Peer::default() })
    }

    fn names(roster: &Roster) -> Vec<String> {
        let members = roster.look(usize::MAX).members;
        let mut names: Vec<_> = members.iter().map(|peer| peer.client.to_string()).collect();
        names.sort_unstable();
        names
    }

    fn counts(roster: &Roster) -> (usize, usize) {
        let seen = roster.look(0);
        (seen.clients, seen.users)
    }

    #[test]
    fn members_and_users_are_counted() {
        let mut roster = Roster::default();
        let everybody = [("ann", "1"), ("ann", "2"), ("bob", "3"), ("", "4"), ("", "5")];
        for (session, (user, client)) in (0..).zip(everybody) {
            assert!(roster.enter(SessionId(session), peer(user, client)));
        }
        assert_eq!(counts(&roster), (5, 3));
        assert_eq!(names(&roster), ["1", "2", "3", "4", "5"]);
        assert_eq!(roster.look(2).members.len(), 2);
        assert_eq!(roster.leave(SessionId(0), None), Gone::Left(peer("ann", "1")));
        assert_eq!(counts(&roster), (4, 3));
        assert_eq!(roster.leave(SessionId(1), None), Gone::Left(peer("ann", "2")));
        assert_eq!(counts(&roster), (3, 2));
        assert_eq!(roster.leave(SessionId(1), None), Gone::Nobody);
        for session in 2..5 {
            assert!(!roster.is_empty());
            assert!(matches!(roster.leave(SessionId(session), None), Gone::Left(_)));
        }
        assert!(roster.is_empty());
        assert_eq!((counts(&roster), roster.held_len()), ((0, 0), 0));
    }

    #[test]
    fn a_user_that_is_back_in_time_was_never_away() {
        let mut roster = Roster::default();
        let now = Instant::now();
        let until = now + Duration::from_secs(5);
        assert!(roster.enter(SessionId(1), peer("ann", "1")));
        assert_eq!(roster.leave(SessionId(1), Some(until)), Gone::Awaited(until));
        assert_eq!((counts(&roster), names(&roster)), ((1, 1), vec!["1".to_owned()]));
        assert!(!roster.enter(SessionId(2), peer("ann", "2")), "nobody hears of it");
        assert_eq!((counts(&roster), names(&roster)), ((1, 1), vec!["2".to_owned()]));
        assert_eq!(roster.give_up(SessionId(1), until), None, "it is not waited for any more");
        assert_eq!(roster.give_up(SessionId(2), until), None, "it is there");
        assert!(roster.enter(SessionId(3), peer("ann", "3")), "one more is news");
    }

    #[test]
    fn a_user_that_stays_away_is_given_up_in_the_end() {
        let mut roster = Roster::default();
        let now = Instant::now();
        let until = now + Duration::from_secs(5);
        assert!(roster.enter(SessionId(1), peer("ann", "1")));
        assert_eq!(roster.leave(SessionId(1), Some(until)), Gone::Awaited(until));
        assert_eq!(roster.give_up(SessionId(1), now), None, "not yet");
        assert_eq!(roster.give_up(SessionId(1), until), Some(peer("ann", "1")));
        assert!(roster.is_empty() && roster.users.is_empty());
        assert!(roster.enter(SessionId(2), peer("ann", "2")), "it is news again");
    }

    #[test]
    fn nobody_waits_for_somebody_without_a_name() {
        let mut roster = Roster::default();
        let until = Instant::now() + Duration::from_secs(5);
        assert!(roster.enter(SessionId(1), peer("", "1")));
        assert_eq!(roster.leave(SessionId(1), Some(until)), Gone::Left(peer("", "1")));
    }
}
