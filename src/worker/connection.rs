//! The slot of one connection: as small as it can be, since most of them are idle.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use super::bookmark::Bookmark;
use super::emulation::Emulation;
use super::handle::Carrier;
use super::member::{Members, Replay};
use super::unacknowledged::unacknowledged_len;
use super::wheel::Tick;
use crate::admission::Permit;
use crate::auth::{Expiry, Grant};
use crate::id::{Door, SessionId, WorkerId};
use crate::metrics::Memory;
use crate::outbox::{Outbox, Piece};
use crate::protocol::centrifugo;
use crate::rate::Bucket;
use crate::reason::{CloseReason, Disconnect};
use crate::session::Session;
use crate::tls::Socket;
use crate::ws::{Reading, Window};

/// Names a connection of this worker; each connection has another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    pub(super) index: u32,
    generation: u32,
}

impl ConnectionKey {
    pub(super) fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    pub(super) fn from_token(token: mio::Token) -> Self {
        let token = token.0 as u64;
        Self { index: low(token), generation: low(token >> 32) }
    }

    pub(super) fn token(self) -> mio::Token {
        let token = u64::from(self.generation) << 32 | u64::from(self.index);
        mio::Token(usize::try_from(token).expect("only 64-bit platforms are claimed"))
    }

    /// The session of the connection, unique over all workers.
    pub(super) fn session(self, worker: WorkerId) -> SessionId {
        SessionId(u64::from(worker.0) << 32 | u64::from(self.generation))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
fn low(word: u64) -> u32 {
    word as u32
}

/// Where the bytes go.
#[derive(Debug)]
pub(super) enum Transport {
    /// Subscribed, but the answer is not out yet: everything waits in the outbox.
    Pending,
    /// An upgraded socket, owned by the worker.
    Socket(Socket),
    /// A response body that hyper pulls from.
    Stream(Box<Stream>),
}

/// The worker's end of a streamed response.
#[derive(Debug)]
pub(super) struct Stream {
    /// Who waits for the next piece.
    pub(super) waker: Option<Waker>,
    /// What gives its events their ids, where these name several topics.
    pub(super) bookmark: Option<Bookmark>,
    /// The task that sends what is pulled.
    pub(super) carrier: Carrier,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Reads and delivers.
    Open,
    /// Ends with this turn: reads no more, still gets what was accepted.
    Closing,
    /// Ends with this turn and gets nothing more: it is gone, or did not take what it had.
    Cut,
    /// The close frame waits in the outbox behind what was accepted before.
    Leaving,
    /// All is written and our side is shut; waits for the client's.
    Lingering,
}

/// What few connections need.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// Members that read history, in the order they are served.
    pub(super) replays: Vec<Replay>,
    /// Publications left in this second (`publish_rate_max`); `None` = it never published.
    pub(super) bucket: Option<Box<Bucket>>,
    /// The session of a door whose messages are commands; `None` also while it is driven.
    pub(super) session: Option<Box<centrifugo::Session>>,
    /// When that session is to be told the time.
    pub(super) session_due: Tick,
    /// What that session needs if requests of their own are for it.
    pub(super) emulation: Option<Box<Emulation>>,
}

/// How it stands with reading from a socket.
#[derive(Debug, Default)]
pub(super) struct Inflow {
    /// On the run list of sockets to read.
    pub(super) is_ready: bool,
    /// Not read until the inboxes have room.
    pub(super) is_paused: bool,
    pub(super) end: InflowEnd,
}

/// Whether the client still sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum InflowEnd {
    /// For all we know.
    #[default]
    Unknown,
    /// It sends no more than what waits to be read.
    Announced,
    /// All that it sent is read.
    Reached,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) generation: u32,
    /// Last byte received (or, on a stream, sent).
    pub(super) seen: Tick,
    /// Last ping sent.
    pub(super) pinged: Tick,
    /// Last time that the peer took something, as far as it was looked at; then when our side was
    /// shut.
    pub(super) progress: Tick,
    /// Bytes that the kernel held for the peer at the last look.
    pub(super) unacknowledged: u32,
    /// Tick of the wheel's entry that counts; others are stale.
    pub(super) deadline: Tick,
    pub(super) members: Members,
    pub(super) transport: Transport,
    pub(super) session: Session,
    /// What the client's token gave it, where it has one.
    pub(super) grant: Option<Arc<Grant>>,
    pub(super) reading: Reading,
    pub(super) outbox: Option<Box<Outbox>>,
    pub(super) extra: Option<Box<Extra>>,
    /// Its place among the open connections of the server.
    pub(super) permit: Option<Permit>,
    pub(super) door: Door,
    pub(super) phase: Phase,
    pub(super) awaits_pong: bool,
    /// Window to deflate messages with, where the two sides agreed on compression.
    pub(super) deflate: Option<Window>,
    pub(super) inflow: Inflow,
}

impl Connection {
    pub(super) fn key(&self, index: u32) -> ConnectionKey {
        ConnectionKey::new(index, self.generation)
    }

    /// Notes whether the peer took something since the last look, although nothing could be written.
    pub(super) fn note_progress(&mut self, now: Tick) {
        let (socket, has_sent) = match &self.transport {
            Transport::Pending => return,
            Transport::Socket(socket) => (socket.as_raw_fd(), false),
            Transport::Stream(stream) => {
                let carrier = &stream.carrier;
                (carrier.socket, carrier.sent.swap(false, Ordering::Relaxed))
            }
        };
        let before = std::mem::replace(&mut self.unacknowledged, unacknowledged_len(socket));
        let has_taken = has_sent || self.unacknowledged < before;
        if has_taken {
            self.progress = now;
        }
    }

    /// Bytes of the slot, of its session of commands, of what the client's token gave it, and of
    /// the socket's encryption.
    pub(super) fn held_len(&self) -> usize {
        let socket = match &self.transport {
            Transport::Socket(socket) => socket.held_len(),
            // A stream's socket is its task's.
            Transport::Pending | Transport::Stream(_) => 0,
        };
        let commands = size_of::<Extra>() + size_of::<centrifugo::Session>();
        let session = if self.has_session() { commands } else { 0 };
        let grant = self.grant.as_ref().map_or(0, |grant| grant.held_len());
        size_of::<Self>() + session + grant + socket
    }

    /// The user, where one is known: by the token of its request, or by that of its session.
    pub(super) fn user(&self) -> Option<&Arc<str>> {
        let session = || self.commanded()?.user();
        self.grant.as_ref().and_then(|grant| grant.user()).or_else(session)
    }

    /// When its token's end ends it.
    pub(super) fn expiry(&self) -> Option<Expiry> {
        self.grant.as_ref()?.expiry
    }

    /// Whether its session goes on, with the subscriptions that it has.
    pub(super) fn is_present(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Closing | Phase::Cut)
    }

    /// Whether its messages are commands for a session.
    pub(super) fn has_session(&self) -> bool {
        matches!(self.door, Door::CentrifugoJson | Door::CentrifugoProtobuf)
    }

    /// That session; `None` also while it is driven.
    pub(super) fn commanded(&self) -> Option<&centrifugo::Session> {
        self.extra.as_ref()?.session.as_deref()
    }

    /// A close as the connection's protocol tells it.
    pub(super) fn in_its_words(&self, reason: CloseReason) -> CloseReason {
        let told = Disconnect::of(reason).filter(|_| self.has_session());
        told.map_or(reason, CloseReason::Centrifugo)
    }

    /// What tells the client why its session ends, if its wire has a message for that.
    pub(super) fn farewell(&self, reason: CloseReason, words: &str) -> Option<Box<[u8]>> {
        let CloseReason::Centrifugo(disconnect) = reason else { return None };
        self.commanded()?.wire().farewell(disconnect, words)
    }

    /// Takes the next piece out of the outbox, for a stream.
    pub(super) fn pop(&mut self, memory: &Arc<Memory>) -> Option<Piece> {
        let outbox = self.outbox.as_mut()?;
        match &mut self.transport {
            Transport::Stream(stream) => match &mut stream.bookmark {
                Some(bookmark) => bookmark.pop(outbox, memory),
                None => outbox.pop(),
            },
            Transport::Pending | Transport::Socket(_) => None,
        }
    }

    /// Whether its session looks after it, and not the transport.
    pub(super) fn is_pinged_by_session(&self) -> bool {
        self.phase == Phase::Open
            && self.commanded().is_some_and(|it| it.pings() == centrifugo::Pings::Messages)
    }

    /// When its session is to be told the time.
    pub(super) fn session_due(&self) -> Tick {
        let is_driven = self.has_session() && self.phase == Phase::Open;
        self.extra.as_ref().filter(|_| is_driven).map_or(Tick::NEVER, |extra| extra.session_due)
    }

    /// Whether some member reads history.
    pub(super) fn is_catching_up(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| !extra.replays.is_empty())
    }

    /// Lets go of what only catching up needed.
    pub(super) fn shed_extra(&mut self) {
        if self.has_session() {
            return;
        }
        self.extra =
            self.extra.take().filter(|extra| extra.bucket.is_some() || !extra.replays.is_empty());
    }

    pub(super) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }
}
