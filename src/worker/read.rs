//! From a socket to the hub: what a client sent becomes publications, pongs and closes.

use std::io::{ErrorKind, Read};

use super::Worker;
use super::connection::{ConnectionKey, InflowEnd, Phase, Transport};
use super::output;
use crate::hub::{Admission, Draft, PayloadKind, Publish, PublishError};
use crate::id::Door;
use crate::metrics::MemoryKind;
use crate::protocol;
use crate::protocol::centrifugo::Commands;
use crate::reason::CloseReason;
use crate::session::Action;
use crate::ws::{self, DecodeError, Event, Inflater, Input, MessageKind};

/// Length of the read buffer that all connections of a worker share.
pub(super) const READ_LEN: usize = 64 * 1024;

/// Sockets read in one turn before what they sent is delivered.
const READS_PER_TURN: usize = 256;

/// Bytes read in one turn: when many sockets are ready, each gets a smaller share.
const READ_LEN_PER_TURN: usize = 1 << 20;

impl Worker {
    /// Puts a socket on the run list, where it stays until it has nothing to read.
    pub(super) fn mark_ready(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.get(key)
            && !connection.inflow.is_ready
        {
            connection.inflow.is_ready = true;
            self.ready.push_back(key);
        }
    }

    /// Reads from sockets on the run list, each once.
    pub(super) fn read_ready(&mut self) {
        let mut buf = std::mem::take(&mut self.read_buf);
        let count = self.ready.len().min(READS_PER_TURN);
        let share = (READ_LEN_PER_TURN / count.max(1)).min(READ_LEN);
        for _ in 0..count {
            let Some(key) = self.ready.pop_front() else { break };
            let Some(connection) = self.get(key) else { continue };
            connection.inflow.is_ready = false;
            if self.read(key, &mut buf[..share]) == More::Perhaps {
                self.mark_ready(key);
            }
        }
        self.read_buf = buf;
    }

    fn read(&mut self, key: ConnectionKey, buf: &mut [u8]) -> More {
        let (now, is_full) = (self.output.now, self.hub.is_over());
        let Some(connection) = self.get(key) else { return More::No };
        if is_full && connection.phase == Phase::Open {
            // It may be a publisher.
            self.pause(key);
            return More::No;
        }
        let is_paused = connection.inflow.is_paused && connection.phase == Phase::Open;
        if is_paused || connection.inflow.end == InflowEnd::Reached {
            return More::No;
        }
        let Transport::Socket(socket) = &mut connection.transport else { return More::No };
        let result = socket.read(buf);
        let is_short =
            socket.is_emptied_by_short_read() && result.as_ref().is_ok_and(|len| *len < buf.len());
        if socket.has_waiting() {
            let Self { connections, output, .. } = self;
            output.expect_room(key.index, &mut connections[key.index as usize]);
        }
        let Some(connection) = self.get(key) else { return More::No };
        let len = match result {
            Ok(0) => return self.on_end(key),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return More::No,
            Err(error) if error.kind() == ErrorKind::Interrupted => return More::Perhaps,
            Err(error) => {
                self.end(key, output::broken(&error));
                return More::No;
            }
        };
        connection.seen = now;
        connection.awaits_pong = false;
        if connection.phase == Phase::Open {
            self.receive(key, &mut buf[..len]);
        }
        // A short read emptied the socket, and the kernel tells when there is more. But an end of
        // file that came with the bytes was told with them, and what is not open any more is read
        // to its end.
        let is_over = self.get(key).is_none_or(|connection| {
            connection.inflow.end != InflowEnd::Unknown || connection.phase != Phase::Open
        });
        if is_short && !is_over { More::No } else { More::Perhaps }
    }

    /// The client sends no more. Without a close frame it is gone (1006); after one, what it is
    /// still to get goes out first.
    fn on_end(&mut self, key: ConnectionKey) -> More {
        let Some(connection) = self.get(key) else { return More::No };
        connection.inflow.end = InflowEnd::Reached;
        match connection.phase {
            Phase::Open => self.end(key, CloseReason::Abnormal),
            Phase::Lingering => self.remove(key.index),
            Phase::Closing | Phase::Cut | Phase::Leaving => {}
        }
        More::No
    }

    /// Handles bytes of an open connection.
    pub(super) fn receive(&mut self, key: ConnectionKey, bytes: &mut [u8]) {
        // Taken out for the call: an event borrows from it.
        let mut inflater = self.inflater.take();
        self.decode(key, bytes, inflater.as_deref_mut());
        if let Some(inflater) = &mut inflater {
            inflater.shed();
        }
        self.inflater = inflater;
        self.send_pongs(key);
    }

    /// Decodes until the bytes are used up or the connection ends.
    fn decode(
        &mut self,
        key: ConnectionKey,
        bytes: &mut [u8],
        mut inflater: Option<&mut Inflater>,
    ) {
        let (decoder, mut input) = (self.decoder, Input::new(bytes));
        loop {
            let Some(connection) = self.get(key) else { return };
            if connection.phase != Phase::Open {
                return;
            }
            // Taken out for the call: an event borrows the input or the inflater only.
            let mut reading = std::mem::take(&mut connection.reading);
            let before = reading.held_len();
            let inflater = inflater.as_deref_mut().filter(|_| connection.deflate.is_some());
            let event = decoder.next_event(&mut reading, &mut input, inflater);
            let after = reading.held_len();
            self.charge_reading(before, after);
            if let Some(connection) = self.get(key) {
                connection.reading = reading;
            }
            match event {
                Ok(Some(event)) => self.on_event(key, event),
                Ok(None) if after > before && self.output.memory.is_exhausted() => {
                    return self.end(key, CloseReason::MemoryLimit);
                }
                Ok(None) => return,
                Err(error) => return self.on_fault(key, error),
            }
        }
    }

    /// Notes the answer to a ping. All pings of one read are answered in one write; when the client
    /// is behind, only the newest is.
    fn on_ping(&mut self, key: ConnectionKey, payload: &[u8]) {
        let Self { connections, output, pongs, .. } = self;
        let connection = &mut connections[key.index as usize];
        let pong = ws::pong_frame(payload);
        if connection.outbox.is_some() {
            output.send_pong(key.index, connection, pong.into());
        } else {
            pongs.extend_from_slice(&pong);
        }
    }

    fn send_pongs(&mut self, key: ConnectionKey) {
        if self.pongs.is_empty() {
            return;
        }
        let Self { connections, output, pongs, .. } = self;
        let connection = &mut connections[key.index as usize];
        output.send_own(key.index, connection, pongs.as_slice().into());
        pongs.clear();
    }

    fn charge_reading(&self, before: usize, after: usize) {
        let memory = &self.output.memory;
        if after > before {
            memory.charge(MemoryKind::Reading, after - before);
        } else if before > after {
            memory.release(MemoryKind::Reading, before - after);
        }
    }

    fn on_event(&mut self, key: ConnectionKey, event: Event<'_>) {
        match event {
            Event::Message { kind, data } => self.on_message(key, kind, &data),
            Event::Ping(payload) => self.on_ping(key, &payload),
            Event::Pong(_) => {}
            Event::Close(code) => self.end(key, client_close(code)),
        }
    }

    fn on_fault(&mut self, key: ConnectionKey, error: DecodeError) {
        if let Some(fault) = error.fault() {
            self.metrics.protocol_errors[fault.index()].add(1);
        }
        self.end(key, error.close_reason());
    }

    fn on_message(&mut self, key: ConnectionKey, kind: MessageKind, data: &[u8]) {
        match self.connections[key.index as usize].door {
            Door::CentrifugoJson | Door::CentrifugoProtobuf => return self.on_commands(key, data),
            Door::Plain | Door::Sse | Door::Ndjson | Door::Http => {}
        }
        if !self.take_rate(key) {
            return self.end(key, CloseReason::RateLimit);
        }
        let connection = &self.connections[key.index as usize];
        let Some((_, member)) = connection.members.iter().next() else { return };
        let topic = &self.topics[member.topic as usize].topic;
        if let Action::Close(reason) = connection.session.on_message() {
            return self.end(key, reason);
        }
        let kind = match kind {
            MessageKind::Text => PayloadKind::Text,
            MessageKind::Binary => PayloadKind::Binary,
        };
        let draft = Draft {
            session: Some(key.session(self.output.worker)),
            publisher: connection.grant.as_ref().and_then(|grant| grant.publisher.clone()),
            ..Draft::new(protocol::plain::payload(kind, data))
        };
        let options = Publish::new(self.clock, Admission::Always);
        match self.hub.publish_to(topic, draft, options) {
            Ok(published) => {
                self.metrics.count_publication(Door::Plain, data.len() as u64);
                if published.overrun {
                    self.pause(key);
                }
            }
            // Both are refusals of requests only.
            Err(PublishError::Overrun | PublishError::Draining) => {
                self.end(key, CloseReason::Internal);
            }
            Err(PublishError::Memory) => self.end(key, CloseReason::MemoryLimit),
        }
    }

    /// Takes one publication from the connection's allowance. Returns whether there was one.
    pub(super) fn take_rate(&mut self, key: ConnectionKey) -> bool {
        let rate = self.limits.publish_rate_max;
        rate == 0 || {
            let extra = self.connections[key.index as usize].extra();
            extra.bucket.get_or_insert_default().take(rate, self.clock.instant)
        }
    }

    /// Reads no more from a publisher until the inboxes have room.
    pub(super) fn pause(&mut self, key: ConnectionKey) {
        let connection = &mut self.connections[key.index as usize];
        if !connection.inflow.is_paused {
            connection.inflow.is_paused = true;
            self.paused.push(key);
            self.inbox.set_publishers_wait(true);
        }
    }

    /// Reads from held-back publishers again, once there is room.
    pub(super) fn resume_paused(&mut self) {
        if self.paused.is_empty() || !self.hub.has_room() {
            return;
        }
        let now = self.output.now;
        self.inbox.set_publishers_wait(false);
        for key in std::mem::take(&mut self.paused) {
            if let Some(connection) = self.get(key) {
                connection.inflow.is_paused = false;
                // It was not heard because we did not listen.
                connection.seen = now;
                connection.awaits_pong = false;
                if connection.has_session() {
                    self.drive(key, &mut Commands::none(), |session, it| session.on_resume(it));
                    self.carry_out_held(key);
                }
                self.mark_ready(key);
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum More {
    No,
    Perhaps,
}

/// The close that answers a client's: its code is echoed (RFC 6455 section 5.5.1).
fn client_close(code: Option<u16>) -> CloseReason {
    match code {
        None | Some(1000) => CloseReason::ClientNormal,
        Some(1001) => CloseReason::ClientGoingAway,
        Some(code) => CloseReason::ClientOther(code),
    }
}
