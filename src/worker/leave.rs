//! The end of a connection: what was accepted is delivered, then the close frame, then the socket.

use std::io::ErrorKind;

use super::Worker;
use super::connection::{ConnectionKey, InflowEnd, Phase, Transport};
use super::member::{Member, Place};
use super::output::{self, Ending};
use crate::reason::CloseReason;
use crate::ws;

impl Worker {
    /// Notes that a connection ends when this turn's fan-out is done.
    pub(super) fn end(&mut self, key: ConnectionKey, reason: CloseReason) {
        let Self { connections, output, .. } = self;
        if let Some(connection) = connections.get_mut(key.index as usize)
            && connection.key(key.index) == key
        {
            output.end(key.index, connection, reason);
        }
    }

    /// Ends the connections that are over, once they have got what was accepted before. Later
    /// reasons come first: they are the more urgent ones.
    pub(super) fn end_sessions(&mut self) {
        let mut waiting = Vec::new();
        // Ends: an ending that brings another about, by a failed write, removes its connection.
        while let Some(mut ending) = self.output.ending.pop() {
            let (key, reason) = (ending.key, ending.reason);
            let Some(phase) = self.get(key).map(|connection| connection.phase) else { continue };
            match phase {
                Phase::Open | Phase::Closing if !self.is_served(&mut ending) => {
                    waiting.push(ending);
                }
                Phase::Open | Phase::Closing | Phase::Cut => self.leave(&ending),
                // Its close is counted already; now the socket is gone too.
                Phase::Leaving | Phase::Lingering
                    if matches!(reason, CloseReason::Abnormal | CloseReason::WriteTimeout) =>
                {
                    self.remove(key.index);
                }
                Phase::Leaving | Phase::Lingering => {}
            }
        }
        waiting.reverse();
        self.output.ending = waiting;
    }

    /// Whether a connection has been handed everything that was accepted before it was found to be
    /// over.
    fn is_served(&self, ending: &mut Ending) -> bool {
        let index = ending.key.index;
        let connection = &self.connections[index as usize];
        let local = |member: Member| &self.topics[member.topic as usize];
        let tops = || connection.members.iter().map(|(_, member)| local(member).topic.top());
        let until = ending.until.get_or_insert_with(|| tops().collect());
        connection.members.iter().zip(until).all(|((slot, member), until)| {
            if member.place != Place::CatchingUp {
                return local(member).served_to(member) >= *until;
            }
            // Whoever wants to leave does not wait for old history.
            let mut replays = connection.extra.iter().flat_map(|extra| &extra.replays);
            let replay = replays.find(|replay| replay.slot == slot);
            ending.reason != CloseReason::Draining
                || replay.is_none_or(|replay| replay.next > *until)
        })
    }

    fn leave(&mut self, ending: &Ending) {
        let key = ending.key;
        let index = key.index;
        let connection = &mut self.connections[index as usize];
        let reason = connection.in_its_words(ending.reason);
        self.metrics.closes[reason.index()].add(1);
        let (door, label) = (connection.door.word(), reason.labels().1);
        tracing::debug!(door, reason = label, "session ended");
        match reason {
            // It takes nothing: a close frame would not leave either.
            CloseReason::Abnormal | CloseReason::WriteTimeout => return self.remove(index),
            _ => self.unsubscribe_all(index),
        }
        let Self { connections, output, .. } = self;
        let connection = &mut connections[index as usize];
        connection.phase = Phase::Leaving;
        if let Some(words) = connection.farewell(reason, ending.words(reason)) {
            output.send_own(index, connection, words);
        }
        if let Transport::Stream(_) = connection.transport {
            return output::wake(connection);
        }
        let frame = ws::close_frame(reason.code(), ending.words(reason));
        output.send_own(index, connection, frame.into());
        self.finish(key);
    }

    /// Shuts our side of a leaving connection once all is written.
    pub(super) fn finish(&mut self, key: ConnectionKey) {
        let (now, linger) = (self.output.now, self.deadlines.linger);
        let Some(connection) = self.get(key) else { return };
        if connection.phase != Phase::Leaving || connection.outbox.is_some() {
            return;
        }
        let Transport::Socket(socket) = &mut connection.transport else { return };
        match socket.shutdown() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let Self { connections, output, .. } = self;
                return output.expect_room(key.index, &mut connections[key.index as usize]);
            }
            Ok(()) if connection.inflow.end != InflowEnd::Reached => {}
            _ => return self.remove(key.index),
        }
        connection.phase = Phase::Lingering;
        connection.progress = now;
        let Self { connections, output, .. } = self;
        output.expect_by(key.index, &mut connections[key.index as usize], now.plus(linger));
        self.mark_ready(key);
    }
}
