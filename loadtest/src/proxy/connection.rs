//! One proxied connection: two sockets, a line in each direction, and the fault it meets.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::Shutdown,
    time::{Duration, Instant},
};

use mio::net::TcpStream;
use socket2::SockRef;

use super::{
    line::{End, Line, Shape},
    unit::After,
};

/// How long a closed connection waits for its peers to close too.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(2);
/// Reads and writes before other connections have their turn.
const ROUNDS_MAX: usize = 16;

/// When connections break, and how; none by default.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Breaks {
    pub(super) reset: Option<After>,
    pub(super) close: Option<After>,
    pub(super) stall: Option<After>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Break {
    Reset,
    Close,
    Stall,
}

impl Breaks {
    /// The gravest first.
    fn all(self) -> impl Iterator<Item = (Break, After)> {
        [(Break::Reset, self.reset), (Break::Close, self.close), (Break::Stall, self.stall)]
            .into_iter()
            .filter_map(|(kind, after)| after.map(|after| (kind, after)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Forwarding,
    /// Nothing is read or written: a cable without a far end.
    Stalled,
    /// Both sides were told; what they still send is thrown away, or it would reset them.
    Closing(Instant),
}

/// Whether the connection is still there after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Goes,
    Over,
}

/// Line `n` carries from stream `n` to the other one; stream 0 is the client's.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) streams: [TcpStream; 2],
    lines: [Line; 2],
    /// Lines whose sink is full: its next event wakes them, no time does.
    blocked: [bool; 2],
    /// Streams from which nothing will come, once forwarding is over.
    gone: [bool; 2],
    breaks: Breaks,
    stage: Stage,
    opened: Instant,
    /// The last turn left something undone.
    unfinished: bool,
    /// When the poller is to wake it.
    pub(super) wake: Option<Instant>,
}

impl Connection {
    pub(super) fn new(
        streams: [TcpStream; 2],
        shape: Shape,
        breaks: Breaks,
        seed: u64,
        now: Instant,
    ) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Self {
            streams,
            lines: std::array::from_fn(|_| Line::new(shape, random.u64(..), now)),
            blocked: [false; 2],
            gone: [false; 2],
            breaks,
            stage: Stage::Forwarding,
            opened: now,
            unfinished: false,
            wake: None,
        }
    }

    /// Does all that can be done now. The caller drops a connection that is over.
    pub(super) fn turn(&mut self, buf: &mut [u8]) -> Life {
        let life = match self.stage {
            Stage::Forwarding => self.forward(buf),
            Stage::Stalled | Stage::Closing(_) => Life::Goes,
        };
        if life == Life::Over || self.meet_breaks() == Life::Over {
            return Life::Over;
        }
        match self.stage {
            Stage::Closing(until) => self.discard(buf, until),
            Stage::Forwarding | Stage::Stalled => Life::Goes,
        }
    }

    /// Both peers have gone away from a stalled connection: nobody is left to fool.
    pub(super) fn both_gone(&mut self, side: usize) -> bool {
        if self.stage != Stage::Stalled {
            return false;
        }
        self.gone[side] = true;
        self.gone == [true; 2]
    }

    /// When it needs a turn without an event.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        if self.unfinished {
            return Some(self.opened);
        }
        let timed = self.breaks.all().filter_map(|(kind, after)| match after {
            After::Time(time) if !self.has_met(kind) => Some(self.opened + time),
            After::Time(_) | After::Bytes(_) => None,
        });
        let staged = match self.stage {
            Stage::Forwarding => self.line_wake(),
            Stage::Stalled => None,
            Stage::Closing(until) => Some(until),
        };
        timed.chain(staged).min()
    }

    fn line_wake(&self) -> Option<Instant> {
        let awake = (0..2).filter(|index| !self.blocked[*index]);
        awake.filter_map(|index| self.lines[index].wake()).min()
    }

    /// Resets both sides when they are dropped, instead of closing.
    fn reset(&self) -> Life {
        for stream in &self.streams {
            SockRef::from(stream).set_linger(Some(Duration::ZERO)).ok();
        }
        Life::Over
    }

    fn has_met(&self, kind: Break) -> bool {
        match (kind, self.stage) {
            (Break::Reset, _) | (_, Stage::Forwarding) => false,
            (Break::Close, stage) => stage != Stage::Stalled,
            (Break::Stall, _) => true,
        }
    }

    fn meet_breaks(&mut self) -> Life {
        let now = Instant::now();
        let due = self.breaks.all().find(|(kind, after)| {
            !self.has_met(*kind)
                && match after {
                    After::Bytes(count) => self.lines.iter().any(|line| line.forwarded >= *count),
                    After::Time(time) => now >= self.opened + *time,
                }
        });
        match due {
            None => Life::Goes,
            Some((Break::Reset, _)) => self.reset(),
            Some((Break::Close, _)) => {
                for stream in &self.streams {
                    stream.shutdown(Shutdown::Write).ok();
                }
                self.leave(Stage::Closing(now + CLOSING_TIMEOUT))
            }
            Some((Break::Stall, _)) => self.leave(Stage::Stalled),
        }
    }

    /// Ends the forwarding.
    fn leave(&mut self, stage: Stage) -> Life {
        for (gone, line) in self.gone.iter_mut().zip(&self.lines) {
            *gone |= line.has_end();
        }
        self.unfinished = false;
        self.stage = stage;
        Life::Goes
    }

    fn forward(&mut self, buf: &mut [u8]) -> Life {
        self.blocked = [false; 2];
        self.unfinished = false;
        for index in 0..2 {
            let mut rounds = 0;
            while self.fill(index, buf) | self.drain(index) {
                rounds += 1;
                if rounds == ROUNDS_MAX {
                    self.unfinished = true;
                    break;
                }
            }
            match self.lines[index].take_end(Instant::now()) {
                Some(End::Reset) => return self.reset(),
                Some(End::Clean) => {
                    self.streams[1 - index].shutdown(Shutdown::Write).ok();
                }
                None => {}
            }
        }
        if self.lines.iter().all(Line::is_over) { Life::Over } else { Life::Goes }
    }

    /// One read into line `index`; whether there was anything.
    fn fill(&mut self, index: usize, buf: &mut [u8]) -> bool {
        let line = &mut self.lines[index];
        let len = line.room().min(buf.len());
        if len == 0 {
            return false;
        }
        let read = self.streams[index].read(&mut buf[..len]);
        let now = Instant::now();
        match read {
            Ok(0) => line.finish(now, End::Clean),
            Ok(len) => line.push(now, &buf[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => line.finish(now, End::Reset),
        }
        true
    }

    /// One write out of line `index`; whether it moved anything.
    fn drain(&mut self, index: usize) -> bool {
        let now = Instant::now();
        let allowance = self.allowance(index);
        let line = &mut self.lines[index];
        let Some(bytes) = line.ready(now) else { return false };
        let bytes = &bytes[..bytes.len().min(allowance)];
        if bytes.is_empty() {
            return false;
        }
        match self.streams[1 - index].write(bytes) {
            Ok(len) => line.sent(now, len),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.blocked[index] = true;
                return false;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => {
                // The source hears of it as late as of anything else.
                line.cut();
                self.lines[1 - index].finish(now, End::Reset);
            }
        }
        true
    }

    /// Bytes that line `index` may still forward before a break.
    fn allowance(&self, index: usize) -> usize {
        let forwarded = self.lines[index].forwarded;
        let left = self.breaks.all().filter_map(|(_, after)| match after {
            After::Bytes(count) => Some(count.saturating_sub(forwarded)),
            After::Time(_) => None,
        });
        left.min().map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX))
    }

    fn discard(&mut self, buf: &mut [u8], until: Instant) -> Life {
        self.unfinished = false;
        for (stream, gone) in self.streams.iter_mut().zip(&mut self.gone) {
            let mut rounds = 0;
            while !*gone && rounds < ROUNDS_MAX {
                rounds += 1;
                match stream.read(buf) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Ok(_) | Err(_) => *gone = true,
                }
            }
            self.unfinished |= rounds == ROUNDS_MAX;
        }
        if self.gone == [true; 2] || Instant::now() >= until { Life::Over } else { Life::Goes }
    }
}
