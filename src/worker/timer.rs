//! Deadlines: keepalive, unanswered pings, peers that take nothing, tokens that run out, lingering
//! closes.

use std::time::Duration;

use super::Worker;
use super::connection::{Carrier, Connection, ConnectionKey, Phase, Transport};
use super::output::Output;
use super::wheel::Tick;
use crate::protocol;
use crate::reason::CloseReason;
use crate::time::Stamp;
use crate::ws;

/// Silence after which a stream says that it is alive.
const STREAM_SILENCE: Duration = Duration::from_secs(15);

/// How long a client may take to close its side after ours is shut. A socket closed with unread
/// input sends a reset, which destroys the close frame on its way.
const LINGER: Duration = Duration::from_secs(2);

/// Durations of the limits, in ticks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    pub(super) ping: u32,
    pub(super) pong: u32,
    pub(super) write: u32,
    pub(super) stream: u32,
    pub(super) linger: u32,
}

impl Deadlines {
    pub(super) fn new(limits: &crate::limits::Limits, wheel: &super::wheel::Wheel) -> Self {
        Self {
            ping: wheel.ticks(limits.ping_interval),
            pong: wheel.ticks(limits.pong_timeout),
            write: wheel.ticks(limits.write_timeout),
            stream: wheel.ticks(STREAM_SILENCE),
            linger: wheel.ticks(LINGER),
        }
    }
}

/// What a look at a connection found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again at that tick.
    Later(Tick),
    /// Silent for too long: ask whether it is there.
    Ping,
    /// It is over.
    End(CloseReason),
    /// It lingered long enough.
    Remove,
}

impl Worker {
    /// Looks at every connection whose deadline has come.
    pub(super) fn run_deadlines(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.output.wheel.take_due(self.clock.instant, &mut due);
        for (tick, key) in due.drain(..) {
            // Another entry counts by now.
            if self.get(key).is_some_and(|connection| connection.deadline == tick) {
                self.look_at(key);
            }
        }
        self.due = due;
    }

    fn look_at(&mut self, key: ConnectionKey) {
        let (now, deadlines, clock) = (self.output.now, self.deadlines, self.clock);
        if self.get(key).is_some_and(|connection| {
            connection.phase == Phase::Open && connection.session_due() <= now
        }) {
            self.on_session_due(key);
        }
        if self.get(key).is_none() {
            return;
        }
        let quiet_since = self.quiet_since(&self.connections[key.index as usize]);
        let Self { connections, output, .. } = self;
        let connection = &mut connections[key.index as usize];
        connection.deadline = Tick::NEVER;
        if connection.outbox.is_some() || connection.awaits_pong {
            connection.note_progress(now);
        }
        let next = match judge(connection, quiet_since, now, deadlines) {
            Verdict::Later(_) | Verdict::Ping if has_expired(connection, clock) => {
                output.end(key.index, connection, CloseReason::TokenExpired);
                now.plus(deadlines.write)
            }
            Verdict::Later(tick) => tick,
            Verdict::Ping if connection.carrier == Carrier::Stream => {
                if let Some(words) = protocol::keepalive(connection.door) {
                    output.send_own(key.index, connection, words);
                }
                now.plus(deadlines.stream)
            }
            Verdict::Ping => {
                connection.pinged = now;
                connection.awaits_pong = true;
                connection.note_progress(now);
                output.send_own(key.index, connection, ws::ping_frame(&[]).into());
                now.plus(deadlines.pong)
            }
            Verdict::End(_) if connection.phase == Phase::Leaving => return self.remove(key.index),
            Verdict::End(reason) => {
                output.end(key.index, connection, reason);
                now.plus(deadlines.write)
            }
            Verdict::Remove => return self.remove(key.index),
        };
        let next = next.min(output.expiry_tick(connection, clock)).min(connection.session_due());
        output.expect_by(key.index, connection, next);
    }

    /// Since when nothing has come from the client or, on a stream, gone to it. Nobody notes what
    /// goes to each subscriber at once; but when it did, its topic knows.
    fn quiet_since(&self, connection: &Connection) -> Tick {
        match connection.carrier {
            Carrier::WebSocket => connection.seen,
            Carrier::Stream => {
                let members = connection.members.iter();
                let passes = members.map(|(_, member)| self.topics[member.topic as usize].passed);
                passes.fold(connection.progress, Tick::max)
            }
        }
    }
}

impl Output {
    /// When to look next at whether the connection's token has run out.
    pub(super) fn expiry_tick(&self, connection: &Connection, clock: Stamp) -> Tick {
        let Some(expiry) = connection.expiry().filter(|_| connection.phase == Phase::Open) else {
            return Tick::NEVER;
        };
        self.wheel.tick(expiry.look_at(clock)).plus(1)
    }
}

/// Whether its token has run out. A client that is leaving already need not hear another reason.
fn has_expired(connection: &Connection, clock: Stamp) -> bool {
    connection.phase == Phase::Open
        && connection.expiry().is_some_and(|expiry| expiry.is_over(clock))
}

/// What is due at `now` for a connection on which it is quiet since `quiet_since`.
pub(super) fn judge(
    connection: &Connection,
    quiet_since: Tick,
    now: Tick,
    deadlines: Deadlines,
) -> Verdict {
    if connection.phase == Phase::Lingering {
        let shut = now.since(connection.progress);
        if shut >= deadlines.linger {
            return Verdict::Remove;
        }
        return Verdict::Later(connection.progress.plus(deadlines.linger));
    }
    let is_pending = matches!(connection.transport, Transport::Pending);
    if connection.outbox.is_some() {
        let stalled = now.since(connection.progress);
        if stalled >= deadlines.write {
            return Verdict::End(CloseReason::WriteTimeout);
        }
        return Verdict::Later(connection.progress.plus(deadlines.write));
    }
    if is_pending || connection.inflow.is_paused {
        return Verdict::Later(now.plus(deadlines.ping));
    }
    if connection.is_pinged_by_session() {
        return Verdict::Later(connection.session_due());
    }
    if connection.awaits_pong {
        // Whoever is still taking what came before the ping has not seen it yet.
        let since = connection.pinged.max(connection.progress);
        if now.since(since) >= deadlines.pong {
            return Verdict::End(CloseReason::PongTimeout);
        }
        return Verdict::Later(since.plus(deadlines.pong));
    }
    let patience = match connection.carrier {
        Carrier::Stream => deadlines.stream,
        Carrier::WebSocket => deadlines.ping,
    };
    if now.since(quiet_since) >= patience {
        return Verdict::Ping;
    }
    Verdict::Later(quiet_since.plus(patience))
}
