//! Presence: members enter and leave their topics, and those who want to hear of it are told.
//!
//! Topics without presence pay one look at their rule when somebody comes or goes. Those who listen
//! get what happened in a turn in one write, encoded once for each wire.

use std::collections::HashSet;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Worker;
use super::connection::{ConnectionKey, Phase};
use super::member::Seat;
use super::topic::LocalTopic;
use crate::hub::{Movement, Notice, Parting, Peer, Presence, TopicName};
use crate::id::ClientId;
use crate::protocol::centrifugo::{self, ClientInfo, ErrorCode, Headcount, Hears, Session, Wire};
use crate::reason::CloseReason;

/// Most members in one answer.
const MEMBERS_COUNT_MAX: usize = 10_000;

/// What a member takes in an answer beside what it tells of itself.
const MEMBER_LEN: usize = 96;

/// The members of a local topic that hear who comes and goes.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    seats: HashSet<Seat>,
    /// What they have not been told yet.
    news: Vec<(Movement, Arc<Peer>)>,
}

impl Worker {
    /// Makes a member known as its connection's token names it.
    pub(super) fn enter_by_grant(&mut self, key: ConnectionKey, slot: u32) {
        let connection = &mut self.connections[key.index as usize];
        let topic = connection.members.at(slot).topic;
        if !self.topics[topic as usize].topic.has_presence() {
            return;
        }
        let user = connection.grant.as_ref().and_then(|grant| grant.user().cloned());
        let client = ClientId::random(&mut self.random).to_string().into();
        let peer = Peer { user: user.unwrap_or_default(), client, ..Peer::default() };
        self.enter(Seat { index: key.index, slot }, peer, Hears::Publications);
    }

    /// Makes a member known.
    pub(super) fn enter(&mut self, seat: Seat, peer: Peer, hears: Hears) {
        let connection = &mut self.connections[seat.index as usize];
        let session = connection.key(seat.index).session(self.output.worker);
        let local = &mut self.topics[connection.members.at(seat.slot).topic as usize];
        if !local.topic.has_presence() {
            return;
        }
        // First, for it hears of itself, too.
        if hears == Hears::Members && local.listeners.get_or_insert_default().seats.insert(seat) {
            local.topic.listen(self.output.worker);
        }
        self.hub.enter(&local.topic, session, &Arc::new(peer));
    }

    /// Takes a member out of the presence of its topic.
    pub(super) fn part(&mut self, seat: Seat, topic: u32, parting: Parting) {
        let local = &mut self.topics[topic as usize];
        if !local.topic.has_presence() {
            return;
        }
        if let Some(listeners) = &mut local.listeners
            && listeners.seats.remove(&seat)
        {
            local.topic.ignore(self.output.worker);
        }
        local.listeners.take_if(|listeners| listeners.seats.is_empty());
        let connection = &self.connections[seat.index as usize];
        let session = connection.key(seat.index).session(self.output.worker);
        self.hub.part(&local.topic, session, parting, self.clock.instant);
    }

    /// Tells those who listen who came and went.
    pub(super) fn spread_news(&mut self) {
        let mut topics: Vec<u32> = Vec::new();
        while let Some(Notice { local, topic, movement, peer }) = self.inbox.pop_notice() {
            let found = self.topics.get_mut(local as usize);
            let found = found.filter(|found| found.topic.id() == topic);
            // The last listener may have left while it was on its way.
            let Some(listeners) = found.and_then(|found| found.listeners.as_mut()) else {
                continue;
            };
            if listeners.news.is_empty() {
                topics.push(local);
            }
            listeners.news.push((movement, peer));
        }
        for local in topics {
            self.tell_news(local);
        }
    }

    fn tell_news(&mut self, local: u32) {
        let len_max = self.limits.outbox_bytes_max;
        let Self { topics, connections, output, .. } = self;
        let LocalTopic { topic, listeners: Some(listeners), .. } = &mut topics[local as usize]
        else {
            return;
        };
        let news = std::mem::take(&mut listeners.news);
        let mut encoded: SmallVec<[(Wire, Box<[u8]>); 2]> = SmallVec::new();
        for Seat { index, .. } in &listeners.seats {
            let connection = &mut connections[*index as usize];
            let Some(wire) = connection.commanded().map(Session::wire) else { continue };
            if connection.phase != Phase::Open {
                continue;
            }
            let known = encoded.iter().position(|(its, _)| *its == wire);
            let at = known.unwrap_or_else(|| {
                encoded.push((wire, encode(wire, topic.name(), &news)));
                encoded.len() - 1
            });
            output.send_own(*index, connection, encoded[at].1.clone());
            if connection.outbox.as_ref().is_some_and(|outbox| outbox.len() > len_max) {
                output.end(*index, connection, CloseReason::OutboxOverflow);
            }
        }
    }

    /// All members of a topic, as long as one answer can hold them.
    pub(super) fn members_of(&self, topic: &TopicName) -> Result<Vec<ClientInfo>, ErrorCode> {
        let presence = self.hub.presence(topic, MEMBERS_COUNT_MAX);
        let Presence { clients, members, .. } = presence.ok_or(ErrorCode::NotAvailable)?;
        let len = |peer: &Arc<Peer>| MEMBER_LEN + peer.held_len();
        let is_short = members.iter().map(len).sum::<usize>() <= self.gate.settings.reply_len_max;
        if clients > members.len() || !is_short {
            return Err(ErrorCode::LimitExceeded);
        }
        Ok(members.iter().map(|peer| ClientInfo::of(peer)).collect())
    }

    /// How many are on a topic.
    pub(super) fn headcount_of(&self, topic: &TopicName) -> Result<Headcount, ErrorCode> {
        let presence = self.hub.presence(topic, 0).ok_or(ErrorCode::NotAvailable)?;
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Headcount { clients: count(presence.clients), users: count(presence.users) })
    }
}

fn encode(wire: Wire, topic: &TopicName, news: &[(Movement, Arc<Peer>)]) -> Box<[u8]> {
    let pushes = news.iter().map(|(movement, peer)| {
        let info = ClientInfo::of(peer);
        match movement {
            Movement::Join => centrifugo::join(wire, topic, info),
            Movement::Leave => centrifugo::leave(wire, topic, info),
        }
    });
    let pushes: Vec<_> = pushes.collect();
    pushes.concat().into()
}
