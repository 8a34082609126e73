//! A connection that breaks where its plan says, as bad networks break them: between any two bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use fastrand::Rng;
use socket2::SockRef;

/// Ten times what the slowest answer takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// The connection is over. Whoever held it comes back with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// As planned.
    Cut(Cut),
    /// By the server.
    Ended,
}

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// What is on its way in both directions is destroyed.
    Reset,
    /// We are gone without a word.
    Closed,
    /// Our side ends; what the server still sends is taken.
    HalfClosed,
    /// A reset in the middle of what we send.
    ResetInSending,
}

/// What a connection suffers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    cut: Cut,
    received_max: usize,
    sent_max: usize,
    /// Bytes of one write at most: what we send arrives in pieces.
    piece_len: usize,
}

impl Plan {
    /// Nothing ever breaks.
    pub(crate) const CALM: Self = Self {
        cut: Cut::Closed,
        received_max: usize::MAX,
        sent_max: usize::MAX,
        piece_len: usize::MAX,
    };

    /// A cut after so many bytes at most, most of the time in what the server sends.
    pub(crate) fn random(random: &mut Rng, received_max: usize) -> Self {
        let cut = [Cut::Reset, Cut::Closed, Cut::HalfClosed, Cut::ResetInSending];
        let cut = cut[[0, 0, 1, 1, 2, 2, 3][random.usize(..7)]];
        let piece_len = if random.u8(..4) == 0 { random.usize(1..8) } else { usize::MAX };
        let plan = Self { cut, piece_len, ..Self::CALM };
        if cut == Cut::ResetInSending {
            Self { sent_max: random.usize(..700), ..plan }
        } else {
            Self { received_max: random.usize(1..received_max), ..plan }
        }
    }
}

/// A socket, its plan, and what was read but not yet taken.
#[derive(Debug)]
pub(crate) struct Line {
    socket: TcpStream,
    plan: Plan,
    buf: Vec<u8>,
    taken: usize,
    is_half_closed: bool,
}

impl Line {
    pub(crate) fn connect(addr: SocketAddr, plan: Plan) -> Self {
        let socket = TcpStream::connect(addr).expect("the server accepts");
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { socket, plan, buf: Vec::new(), taken: 0, is_half_closed: false }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if self.is_half_closed {
            return Ok(());
        }
        let len = bytes.len().min(self.plan.sent_max);
        self.plan.sent_max -= len;
        for piece in bytes[..len].chunks(self.plan.piece_len) {
            self.socket.write_all(piece).map_err(|error| ended(&error))?;
        }
        if len < bytes.len() { self.cut() } else { Ok(()) }
    }

    /// Reads once, up to the cut.
    fn fill(&mut self) -> Result<(), Broken> {
        if self.plan.received_max == 0 {
            self.cut()?;
        }
        self.buf.drain(..std::mem::take(&mut self.taken));
        let mut chunk = [0; 16384];
        let len = chunk.len().min(self.plan.received_max);
        match self.socket.read(&mut chunk[..len]) {
            Ok(0) => Err(self.ended()),
            Ok(len) => {
                self.plan.received_max -= len;
                self.buf.extend_from_slice(&chunk[..len]);
                Ok(())
            }
            Err(error) => Err(ended(&error)),
        }
    }

    fn ended(&self) -> Broken {
        if self.is_half_closed { Broken::Cut(Cut::HalfClosed) } else { Broken::Ended }
    }

    fn cut(&mut self) -> Result<(), Broken> {
        match self.plan.cut {
            Cut::Reset | Cut::ResetInSending => {
                SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).expect("a socket");
            }
            Cut::Closed => {}
            Cut::HalfClosed => {
                // An error means that the server has gone first.
                let _ = self.socket.shutdown(Shutdown::Write);
                (self.is_half_closed, self.plan.received_max) = (true, usize::MAX);
                return Ok(());
            }
        }
        Err(Broken::Cut(self.plan.cut))
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<Vec<u8>, Broken> {
        while self.buf.len() - self.taken < len {
            self.fill()?;
        }
        let from = self.taken;
        self.taken += len;
        Ok(self.buf[from..self.taken].to_vec())
    }

    /// Everything up to `delimiter`, which is taken too.
    pub(crate) fn take_until(&mut self, delimiter: &[u8]) -> Result<Vec<u8>, Broken> {
        loop {
            if let Some(len) = find(&self.buf[self.taken..], delimiter) {
                let taken = self.take(len)?;
                self.taken += delimiter.len();
                return Ok(taken);
            }
            self.fill()?;
        }
    }
}

pub(crate) fn find(bytes: &[u8], delimiter: &[u8]) -> Option<usize> {
    bytes.windows(delimiter.len()).position(|window| window == delimiter)
}

/// A server that is silent for so long is at fault.
fn ended(error: &std::io::Error) -> Broken {
    let is_late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    assert!(!is_late, "nothing passed for {DEADLINE:?}");
    Broken::Ended
}
