//! The end of a connection: what was accepted is delivered, then the close frame, then the socket.

use std::net::Shutdown;

use super::Worker;
use super::connection::{ConnectionKey, InflowEnd, Phase, Transport};
use super::output;
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

    /// Ends the connections that this turn found to be over, later reasons first.
    pub(super) fn end_sessions(&mut self) {
        while let Some((key, reason)) = self.output.ending.pop() {
            let Some(connection) = self.get(key) else {
                continue;
            };
            if connection.is_subscribed() {
                self.leave(key, reason);
            } else if reason == CloseReason::Abnormal {
                // Its close is counted already; now the socket is gone too.
                self.remove(key.index);
            }
        }
    }

    fn leave(&mut self, key: ConnectionKey, reason: CloseReason) {
        let index = key.index;
        let connection = &mut self.connections[index as usize];
        self.metrics.closes[reason.index()].add(1);
        let (door, label) = (connection.door.word(), reason.labels().1);
        tracing::debug!(door, reason = label, "session ended");
        match reason {
            // It takes nothing: a close frame would not leave either.
            CloseReason::Abnormal | CloseReason::WriteTimeout => return self.remove(index),
            CloseReason::OutboxOverflow => {}
            _ => self.serve_rest(index),
        }
        self.unsubscribe(index);
        let Self { connections, output, .. } = self;
        let connection = &mut connections[index as usize];
        connection.phase = Phase::Leaving;
        if let Transport::Stream(_) = connection.transport {
            output::wake(connection);
            return;
        }
        let frame = ws::close_frame(reason.code(), reason.word());
        output.send_own(index, connection, frame.into());
        self.finish(key);
    }

    /// Shuts our side of a leaving connection once all is written.
    pub(super) fn finish(&mut self, key: ConnectionKey) {
        let (now, linger) = (self.output.now, self.deadlines.linger);
        let Some(connection) = self.get(key) else {
            return;
        };
        if connection.phase != Phase::Leaving || connection.outbox.is_some() {
            return;
        }
        let Transport::Socket(socket) = &connection.transport else {
            return;
        };
        if socket.shutdown(Shutdown::Write).is_err() || connection.inflow.end == InflowEnd::Reached
        {
            return self.remove(key.index);
        }
        connection.phase = Phase::Lingering;
        connection.progress = now;
        let Self { connections, output, .. } = self;
        output.expect_by(key.index, &mut connections[key.index as usize], now.plus(linger));
        self.mark_ready(key);
    }
}
