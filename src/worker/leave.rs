//! The end of a connection: what was accepted is delivered, then the close frame, then the socket.

use std::net::Shutdown;
use std::time::Duration;

use super::Worker;
use super::connection::{ConnectionKey, Phase, Transport};
use super::output;
use crate::reason::CloseReason;
use crate::ws;

/// How long a client may take to close its side after ours is shut. A socket closed with unread
/// input sends a reset, which destroys the close frame on its way.
const LINGER: Duration = Duration::from_secs(2);

impl Worker {
    /// Notes that a connection ends when this turn's fan-out is done.
    pub(super) fn end(&mut self, key: ConnectionKey, reason: CloseReason) {
        let Self {
            connections,
            output,
            ..
        } = self;
        if let Some(connection) = connections.get_mut(key.index as usize)
            && connection.key(key.index) == key
        {
            output.end(key.index, connection, reason);
        }
    }

    /// Ends the connections that this turn found to be over.
    pub(super) fn end_sessions(&mut self) {
        while let Some((key, reason)) = self.output.ending.pop() {
            if self.get(key).is_some() {
                self.leave(key, reason);
            }
        }
    }

    fn leave(&mut self, key: ConnectionKey, reason: CloseReason) {
        let index = key.index;
        if self.connections[index as usize].phase != Phase::Ending {
            // Its close is counted already; now the socket is gone too.
            return self.remove(index);
        }
        self.metrics.closes[reason.index()].add(1);
        tracing::debug!(
            door = self.connections[index as usize].door.word(),
            reason = reason.labels().1,
            "session ended"
        );
        if reason == CloseReason::Abnormal {
            return self.remove(index);
        }
        if reason == CloseReason::WriteTimeout {
            // It takes nothing: a close frame would not leave either.
            return self.remove(index);
        }
        if reason != CloseReason::OutboxOverflow {
            self.connections[index as usize].phase = Phase::Open;
            self.serve_rest(index);
        }
        self.connections[index as usize].phase = Phase::Leaving;
        self.unsubscribe(index);
        let Self {
            connections,
            output,
            ..
        } = self;
        let connection = &mut connections[index as usize];
        if let Transport::Stream(_) = connection.transport {
            output::wake(connection);
            return;
        }
        let code = match reason {
            CloseReason::ClientNormal => None,
            _ => reason.code(),
        };
        let frame = ws::close_frame(code, reason.word());
        output.send_own(index, connection, frame.into());
        self.finish(key);
    }

    /// Shuts our side of a leaving connection once all is written.
    pub(super) fn finish(&mut self, key: ConnectionKey) {
        let linger = self.output.wheel.ticks(LINGER);
        let Some(connection) = self.get(key) else {
            return;
        };
        if connection.phase != Phase::Leaving || connection.outbox.is_some() {
            return;
        }
        let Transport::Socket(socket) = &connection.transport else {
            return;
        };
        if socket.shutdown(Shutdown::Write).is_err() {
            return self.remove(key.index);
        }
        connection.phase = Phase::Lingering;
        let Self {
            connections,
            output,
            ..
        } = self;
        let deadline = output.now.plus(linger);
        output.expect_by(key.index, &mut connections[key.index as usize], deadline);
        self.mark_ready(key);
    }
}
