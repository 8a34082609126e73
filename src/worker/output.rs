//! From a batch to one connection: written at once, or queued when the connection is behind.

use std::io::{self, ErrorKind, IoSlice, Write};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::connection::{Connection, ConnectionKey, Phase, Transport};
use super::pass::Encoding;
use super::wheel::{Tick, Wheel};
use crate::hub::{Topic, VariantId, Variants};
use crate::id::{Door, WorkerId};
use crate::limits::{Delivery, Limits};
use crate::metrics::{Memory, WorkerMetrics};
use crate::outbox::{Batch, Outbox, Policy, Push, SLICES_MAX, Slice};
use crate::protocol;
use crate::reason::CloseReason;
use crate::tls::Socket;

/// What delivering needs, beside the connection.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) worker: WorkerId,
    pub(super) limits: Arc<Limits>,
    pub(super) metrics: Arc<WorkerMetrics>,
    pub(super) memory: Arc<Memory>,
    pub(super) wheel: Wheel,
    /// The tick of this turn.
    pub(super) now: Tick,
    /// Connections to end when they have got what was accepted before; later reasons last.
    pub(super) ending: Vec<Ending>,
    /// A buffer to join publications in.
    pub(super) spare: Vec<u8>,
    /// Sessions with commands that lost publications of a topic, by the worker's number for it.
    pub(super) gaps: Vec<(ConnectionKey, u32)>,
}

/// A connection that is to end.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) key: ConnectionKey,
    pub(super) reason: CloseReason,
    /// Sequences up to which its members are served first; `None` = not looked up yet.
    pub(super) until: Option<Box<[u64]>>,
    /// What the client is told instead of the reason's own word; `None` = that.
    pub(super) words: Option<Box<str>>,
}

impl Ending {
    fn new(key: ConnectionKey, reason: CloseReason) -> Self {
        Self { key, reason, until: None, words: None }
    }

    /// What the client is told, beside the code of `reason`.
    pub(super) fn words(&self, reason: CloseReason) -> &str {
        self.words.as_deref().unwrap_or(reason.word())
    }
}

/// Part of a batch for one member.
#[derive(Debug)]
pub(super) struct Share<'a> {
    batch: &'a Rc<Batch>,
    range: Range<usize>,
    /// Number of publications.
    count: usize,
    delivery: Delivery,
    variant: VariantId,
    /// The worker's number for the topic.
    local: u32,
}

impl<'a> Share<'a> {
    /// The publications of `batch` with these indices.
    pub(super) fn new(
        batch: &'a Rc<Batch>,
        indices: Range<usize>,
        topic: &Topic,
        variant: VariantId,
    ) -> Self {
        let (count, range) = (indices.len(), batch.range(indices));
        let delivery = topic.rule().delivery;
        Self { batch, range, count, delivery, variant, local: batch.topic() }
    }

    /// All publications of `batch`.
    pub(super) fn all(batch: &'a Rc<Batch>, topic: &Topic, variant: VariantId) -> Self {
        Self::new(batch, 0..batch.count(), topic, variant)
    }

    fn bytes(&self) -> &[u8] {
        &self.batch.bytes()[self.range.clone()]
    }

    fn slice(&self) -> Slice {
        Slice::new(Rc::clone(self.batch), self.range.clone())
    }
}

impl Output {
    pub(super) fn encoding<'a>(
        &'a mut self,
        topic: &'a Topic,
        local: u32,
        variants: &'a Variants,
    ) -> Encoding<'a> {
        Encoding { topic: topic.name(), local, variants, spare: &mut self.spare }
    }

    /// Hands live publications to a connection.
    pub(super) fn deliver(&mut self, index: u32, connection: &mut Connection, share: &Share<'_>) {
        if let Some(slice) = self.write_now(index, connection, share) {
            self.queue(index, connection, slice, share);
        }
    }

    /// Hands publications from history to a connection that catches up.
    pub(super) fn replay(&mut self, index: u32, connection: &mut Connection, share: &Share<'_>) {
        if let Some(slice) = self.write_now(index, connection, share) {
            let memory = Arc::clone(&self.memory);
            let outbox = self.outbox(index, connection);
            let before = outbox.len();
            outbox.push_replay(slice, &memory);
            self.account(before, connection);
            self.write_rewritten(index, connection, before);
            if memory.is_exhausted() {
                // It was let in when there was enough; others who catch up may have been, too.
                self.cut(index, connection, CloseReason::MemoryLimit);
            }
        }
    }

    /// Writes what the socket takes. Returns what is left to queue.
    fn write_now(
        &mut self,
        index: u32,
        connection: &mut Connection,
        share: &Share<'_>,
    ) -> Option<Slice> {
        if !matches!(connection.phase, Phase::Open | Phase::Closing) {
            return None;
        }
        let (None, Transport::Socket(socket)) = (&connection.outbox, &mut connection.transport)
        else {
            return Some(share.slice());
        };
        let bytes = share.bytes();
        self.metrics.writes.add(1);
        let len = match socket.write(bytes) {
            Ok(len) if len == bytes.len() => {
                if socket.has_waiting() {
                    self.outbox(index, connection);
                }
                self.count_deliveries(connection.door, share.count, len);
                return None;
            }
            Ok(len) => len,
            Err(error) if is_transient(&error) => 0,
            Err(error) => {
                self.end(index, connection, broken(&error));
                return None;
            }
        };
        let mut rest = share.slice();
        let count = rest.advance(len);
        self.count_deliveries(connection.door, count, len);
        Some(rest)
    }

    /// Counts publications that the kernel took whole, and bytes that it took.
    pub(super) fn count_deliveries(&self, door: Door, count: usize, len: usize) {
        self.metrics.deliveries[door.index()].add(count as u64);
        self.metrics.delivery_bytes[door.index()].add(len as u64);
    }

    fn queue(
        &mut self,
        index: u32,
        connection: &mut Connection,
        slice: Slice,
        &Share { delivery, variant, local, .. }: &Share<'_>,
    ) {
        let policy = Policy { len_max: self.limits.outbox_bytes_max, delivery };
        let memory = Arc::clone(&self.memory);
        let outbox = self.outbox(index, connection);
        let before = outbox.len();
        let pushed = outbox.push(slice, policy, &memory);
        self.account(before, connection);
        match pushed {
            Push::Queued => {}
            Push::Dropped(count) => {
                self.metrics.overflows[delivery as usize].add(1);
                if connection.has_session() {
                    self.gaps.push((connection.key(index), local));
                }
                self.tell_skipped(index, connection, variant, count);
            }
            Push::Full => {
                self.metrics.overflows[delivery as usize].add(1);
                self.end(index, connection, CloseReason::OutboxOverflow);
            }
        }
        self.write_rewritten(index, connection, before);
    }

    /// Writes what was queued for a client that gets everything in words of its own, if nothing
    /// but that waits.
    fn write_rewritten(&mut self, index: u32, connection: &mut Connection, before: usize) {
        if before == 0 && matches!(connection.transport, Transport::Rewritten(_)) {
            self.drain(index, connection);
        }
    }

    /// Tells the client, if its door has words for it, that it lost `count` more publications.
    pub(super) fn tell_skipped(
        &mut self,
        index: u32,
        connection: &mut Connection,
        variant: VariantId,
        count: u64,
    ) {
        let waiting = connection.outbox.as_ref().map_or(0, |outbox| outbox.skipped());
        let Some(notice) = protocol::skipped(variant, waiting + count) else { return };
        let outbox = self.outbox(index, connection);
        let before = outbox.len();
        outbox.put_skipped(waiting + count, notice);
        self.account(before, connection);
    }

    /// Keeps the gauge of queued bytes true after a change from `before`.
    fn account(&self, before: usize, connection: &Connection) {
        let after = connection.outbox.as_ref().map_or(0, |outbox| outbox.len());
        self.metrics.outbox_bytes.add((after as u64).wrapping_sub(before as u64));
    }

    /// The connection's outbox, made if it has none; from then on the write deadline runs. It is
    /// there, if only empty, for as long as something waits for the kernel.
    fn outbox<'a>(&mut self, index: u32, connection: &'a mut Connection) -> &'a mut Outbox {
        if connection.outbox.is_none() {
            connection.note_progress(self.now);
            connection.progress = self.now;
            let deadline = self.now.plus(self.wheel.ticks(self.limits.write_timeout));
            self.expect_by(index, connection, deadline);
        }
        connection.outbox.get_or_insert_default()
    }

    /// Has the connection looked at by `tick`, if that is earlier than planned.
    pub(super) fn expect_by(&mut self, index: u32, connection: &mut Connection, tick: Tick) {
        if tick < connection.deadline {
            connection.deadline = self.wheel.insert(connection.key(index), tick);
        }
    }

    /// Has the connection looked at when the kernel takes more, if its socket holds something back.
    pub(super) fn expect_room(&mut self, index: u32, connection: &mut Connection) {
        if connection.transport.socket().is_some_and(Socket::has_waiting) {
            self.outbox(index, connection);
        }
    }

    /// Sends bytes of the connection's own, behind what waits.
    pub(super) fn send_own(&mut self, index: u32, connection: &mut Connection, bytes: Box<[u8]>) {
        let before = connection.outbox.as_ref().map_or(0, |outbox| outbox.len());
        self.outbox(index, connection).push_own(bytes);
        self.account(before, connection);
        self.drain(index, connection);
    }

    /// Answers a ping of a client that is behind: ahead of what waits, and only the newest.
    pub(super) fn send_pong(&mut self, index: u32, connection: &mut Connection, bytes: Box<[u8]>) {
        let outbox = self.outbox(index, connection);
        let before = outbox.len();
        outbox.push_pong(bytes);
        self.account(before, connection);
    }

    /// Writes what waits. Returns whether nothing waits any more.
    pub(super) fn drain(&mut self, index: u32, connection: &mut Connection) -> bool {
        let Connection { outbox: slot, transport, .. } = connection;
        let Some(outbox) = slot.as_mut() else { return true };
        let before = outbox.len();
        let mut failed = None;
        // Ends: nothing is added here, and the kernel takes something or blocks.
        let is_all = loop {
            let (socket, count_max) = match transport {
                Transport::Pending => break false,
                Transport::Socket(socket) => (socket, SLICES_MAX),
                Transport::Rewritten(rewritten) => {
                    rewritten.prepare(outbox, &self.memory);
                    (&mut rewritten.socket, 1)
                }
            };
            if outbox.is_empty() && !socket.has_waiting() {
                break true;
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = outbox.slices(&mut slices).min(count_max);
            self.metrics.writes.add(1);
            let written = match count {
                0 => socket.flush().map(|()| 0),
                _ => socket.write_vectored(&slices[..count]),
            };
            match written {
                Ok(len) => {
                    let count = outbox.advance(len);
                    self.count_deliveries(connection.door, count, len);
                    connection.progress = self.now;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    failed = (error.kind() != ErrorKind::WouldBlock).then(|| broken(&error));
                    break false;
                }
            }
        };
        if is_all {
            *slot = None;
        } else {
            connection.note_progress(self.now);
        }
        self.account(before, connection);
        if let Some(reason) = failed {
            self.end(index, connection, reason);
        }
        connection.outbox.is_none()
    }

    /// Ends a connection for which nothing more may be held: of what waits, only a begun frame is
    /// finished. Returns whether it was still open.
    pub(super) fn cut(
        &mut self,
        index: u32,
        connection: &mut Connection,
        reason: CloseReason,
    ) -> bool {
        if let Some(outbox) = &mut connection.outbox {
            let before = outbox.len();
            outbox.clear();
            self.account(before, connection);
        }
        let is_open = matches!(connection.phase, Phase::Open | Phase::Closing);
        if is_open {
            connection.phase = Phase::Cut;
            self.ending.push(Ending::new(connection.key(index), reason));
        }
        is_open
    }

    /// Notes that the connection ends when this turn's fan-out is done. The first reason counts,
    /// unless a later one means that nothing more can be delivered.
    pub(super) fn end(&mut self, index: u32, connection: &mut Connection, reason: CloseReason) {
        self.end_saying(index, connection, (reason, None));
    }

    /// As [`Output::end`]; where there are words, they are told instead of the reason's own.
    pub(super) fn end_saying(
        &mut self,
        index: u32,
        connection: &mut Connection,
        (reason, words): (CloseReason, Option<Box<str>>),
    ) {
        let is_cut = matches!(
            reason,
            CloseReason::Abnormal | CloseReason::WriteTimeout | CloseReason::OutboxOverflow
        );
        let counts = match connection.phase {
            Phase::Open => true,
            Phase::Closing => is_cut,
            Phase::Leaving | Phase::Lingering => {
                matches!(reason, CloseReason::Abnormal | CloseReason::WriteTimeout)
            }
            Phase::Cut => false,
        };
        if !counts {
            return;
        }
        if connection.is_present() {
            connection.phase = if is_cut { Phase::Cut } else { Phase::Closing };
        }
        self.ending.push(Ending { words, ..Ending::new(connection.key(index), reason) });
    }
}

/// Why a socket that failed ends: the kernel watches over `write_timeout`, too, and may be first.
pub(super) fn broken(error: &io::Error) -> CloseReason {
    match error.kind() {
        ErrorKind::TimedOut => CloseReason::WriteTimeout,
        _ => CloseReason::Abnormal,
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
