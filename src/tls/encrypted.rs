//! An encrypted socket: a session, and the bytes that it and the kernel have not taken yet.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use rustls::ServerConfig;

use super::session::{End, Flight, PARTIAL_LEN_MAX, Session};
use crate::metrics::{Charge, Memory, MemoryKind};

/// Plaintext of the longest record (RFC 8446 section 5.1), and of what is sent together.
const RECORD_LEN_MAX: usize = 16 * 1024;

/// What encryption adds to a flight of few records.
const FLIGHT_EXTRA_LEN: usize = 1024;

/// The least that is asked of the kernel at a time, however little the caller wants.
const READ_LEN_MIN: usize = 4 * 1024;

/// What an idle connection's encryption is charged. Measured are 3.9 KB: ciphers and their keys,
/// 1.2 KB of rustls's connection, its states and queues.
const TLS_COST: usize = 4 * 1024;

/// A socket that never blocks, encrypted; `S` is the kernel's. It is driven by HTTP at first and
/// then by the worker, and holds no buffer while it is idle: to encrypt and decrypt, all sockets of a
/// thread use the same.
///
/// Invariant: at most one record's length of ciphertext waits for the kernel, besides alerts. What
/// it holds is on the memory account.
#[derive(Debug)]
pub struct TlsSocket<S> {
    socket: S,
    session: Session,
    /// Decrypted, and more than the reader had room for: at most what one read made complete.
    plaintext: Vec<u8>,
    /// Ciphertext that the kernel did not take.
    waiting: Vec<u8>,
    charge: Charge,
}

/// What a call needs and nobody needs between calls.
struct Scratch {
    incoming: Box<[u8]>,
    flight: Flight,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        incoming: vec![0; 2 * PARTIAL_LEN_MAX].into(),
        flight: Flight::with_room(RECORD_LEN_MAX + FLIGHT_EXTRA_LEN),
    });
}

impl<S> TlsSocket<S> {
    /// Makes `socket` an encrypted one, whose handshake is still to be made.
    ///
    /// # Errors
    /// When `config` cannot be used.
    pub fn new(
        socket: S,
        config: Arc<ServerConfig>,
        memory: &Arc<Memory>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            socket,
            session: Session::new(config)?,
            plaintext: Vec::new(),
            waiting: Vec::new(),
            charge: Charge::new(memory, MemoryKind::Connections, TLS_COST),
        })
    }

    /// The kernel's socket.
    pub fn get_ref(&self) -> &S {
        &self.socket
    }

    /// The kernel's socket, to be used beside the encryption.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// The same connection over another handle of its socket.
    ///
    /// # Errors
    /// Those of `exchange`.
    pub fn map<T>(self, exchange: impl FnOnce(S) -> io::Result<T>) -> io::Result<TlsSocket<T>> {
        let Self { socket, session, plaintext, waiting, charge } = self;
        Ok(TlsSocket { socket: exchange(socket)?, session, plaintext, waiting, charge })
    }

    /// Whether ciphertext waits for the kernel.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Brings the memory account up to date.
    fn account(&mut self) {
        let held = self.session.held_len() + self.plaintext.capacity() + self.waiting.capacity();
        self.charge.set(TLS_COST + held);
    }

    /// Gives `buf` what is decrypted.
    fn take_plaintext(&mut self, buf: &mut [u8]) -> usize {
        let len = buf.len().min(self.plaintext.len());
        buf[..len].copy_from_slice(&self.plaintext[..len]);
        self.plaintext.drain(..len);
        if self.plaintext.is_empty() {
            self.plaintext = Vec::new();
        }
        self.account();
        len
    }
}

impl<S: Read + Write> TlsSocket<S> {
    /// Goes on with the handshake.
    ///
    /// # Errors
    /// `WouldBlock` = to be called again when the kernel has taken what waits, or has more for us;
    /// else there is none. The client has been told why.
    pub fn handshake(&mut self) -> io::Result<()> {
        // Ends: each round takes bytes from the socket, or finds it empty or at its end.
        loop {
            self.flush()?;
            if !self.session.is_handshaking() {
                return Ok(());
            }
            match self.session.end() {
                None => {}
                Some(End::Fault(error)) => return Err(invalid(error)),
                Some(End::Closed | End::Cut) => return Err(ErrorKind::UnexpectedEof.into()),
            }
            self.fill(&mut [])?;
        }
    }

    /// Reads from the socket, once, and decrypts into `buf` what has become complete. Returns its
    /// length; what `buf` has no room for is kept.
    fn fill(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        SCRATCH.with_borrow_mut(|Scratch { incoming, flight }| {
            let partial = self.session.partial();
            let (begun, free) = incoming.split_at_mut(partial.len());
            begun.copy_from_slice(partial);
            let asked = buf.len().clamp(READ_LEN_MIN, free.len());
            let len = self.socket.read(&mut free[..asked])?;
            if len == 0 {
                self.session.cut();
            }
            let input = begun.len() + len;
            let (mut given, rest) = (0, &mut self.plaintext);
            flight.clear();
            let mut give = |record: &[u8]| {
                let (now, later) = record.split_at(record.len().min(buf.len() - given));
                buf[given..given + now.len()].copy_from_slice(now);
                given += now.len();
                rest.extend_from_slice(later);
            };
            self.session.receive(&mut incoming[..input], &mut give, flight);
            let sent = self.transmit(flight);
            self.account();
            // Nobody misses the answer to a fault of one who is gone.
            if self.session.end().is_none() {
                sent?;
            }
            Ok(given)
        })
    }

    /// Reads plaintext; `WouldBlock` means that the socket is empty, too.
    ///
    /// # Errors
    /// Also `InvalidData`, when what came is not what TLS allows; the client has been told.
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        // Ends: each round takes bytes from the socket, or finds it empty or at its end.
        loop {
            if !self.plaintext.is_empty() {
                return Ok(self.take_plaintext(buf));
            }
            match self.session.end() {
                None => {}
                Some(End::Fault(error)) => return Err(invalid(error)),
                // Cut off without a word: to what is above, an end like any other.
                Some(End::Closed | End::Cut) => return Ok(0),
            }
            let len = self.fill(buf)?;
            if len > 0 {
                return Ok(len);
            }
        }
    }

    /// Encrypts and writes, a record's length at a time, until the kernel takes no more. What it
    /// does not take of that waits here, and until it is gone nothing more is taken.
    ///
    /// # Errors
    /// `WouldBlock` = nothing is taken yet; else the socket is gone, or its keys are used up.
    pub fn write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush()?;
        SCRATCH.with_borrow_mut(|Scratch { flight, .. }| {
            let (mut taken, mut room) = (0, RECORD_LEN_MAX);
            flight.clear();
            for buf in bufs {
                let mut rest = &**buf;
                while !rest.is_empty() {
                    let (record, behind) = rest.split_at(rest.len().min(room));
                    self.encrypt(record, flight)?;
                    (rest, taken, room) = (behind, taken + record.len(), room - record.len());
                    if room == 0 {
                        self.transmit(flight)?;
                        if self.has_waiting() {
                            return Ok(taken);
                        }
                        room = RECORD_LEN_MAX;
                    }
                }
            }
            self.transmit(flight)?;
            Ok(taken)
        })
    }

    fn encrypt(&mut self, plaintext: &[u8], flight: &mut Flight) -> io::Result<()> {
        self.session.encrypt(plaintext, flight).map_err(|error| {
            // What came before it, and the end of it: the socket is given up in any case.
            let _ = self.transmit(flight);
            invalid(&error)
        })
    }

    /// Hands the kernel the ciphertext that waits.
    ///
    /// # Errors
    /// `WouldBlock` = to be called again when the kernel takes more; else the socket is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let sent = send(&mut self.socket, &self.waiting)?;
        self.waiting.drain(..sent);
        if self.has_waiting() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.waiting = Vec::new();
        self.account();
        Ok(())
    }

    /// Says that nothing more comes; repeated calls say it once.
    ///
    /// # Errors
    /// As [`TlsSocket::flush`].
    pub fn close(&mut self) -> io::Result<()> {
        SCRATCH.with_borrow_mut(|Scratch { flight, .. }| {
            flight.clear();
            self.session.close(flight);
            self.transmit(flight)
        })?;
        self.flush()
    }

    /// Sends `flight` behind what waits. What the kernel does not take waits, too.
    fn transmit(&mut self, flight: &mut Flight) -> io::Result<()> {
        let mut rest = flight.bytes();
        if self.waiting.is_empty() {
            rest = &rest[send(&mut self.socket, rest)?..];
        }
        if !rest.is_empty() {
            self.waiting.extend_from_slice(rest);
            self.account();
        }
        flight.clear();
        Ok(())
    }
}

impl TlsSocket<TcpStream> {
    /// Says that nothing more comes, and shuts our side.
    ///
    /// # Errors
    /// As [`TlsSocket::flush`].
    pub fn shutdown(&mut self) -> io::Result<()> {
        self.close()?;
        self.socket.shutdown(Shutdown::Write)
    }
}

impl<S: AsRawFd> AsRawFd for TlsSocket<S> {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn invalid(error: &rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error.clone())
}

/// Writes until the kernel takes no more. Returns how much it took.
fn send(socket: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match socket.write(&bytes[sent..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(len) => sent += len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

#[cfg(test)]
mod tests;
