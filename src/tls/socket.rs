//! Sockets that never block, encrypted or not.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use rustls::ServerConnection;

/// Plaintext encrypted at a time: one record (RFC 8446 section 5.1).
const RECORD_LEN_MAX: usize = 16 * 1024;

/// What a connection's encryption is charged. Measured are 7.8 KB: rustls keeps a read buffer of
/// 4 KiB for as long as it lives, and has 1.2 KB in itself, as much in ciphers, 1.2 KB in states and
/// queues. No setting changes that. While a record is incomplete it holds up to 16 KiB more.
pub const TLS_COST: usize = 8 * 1024;

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// Bytes go out as they are.
    Plain(TcpStream),
    /// Bytes go out encrypted.
    Tls(Box<TlsSocket>),
}

impl Socket {
    /// Bytes that it holds beside itself, for the memory account.
    pub fn held_len(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(_) => TLS_COST,
        }
    }

    /// Whether something that was taken by a write still waits for the kernel: then [`Write::flush`]
    /// is due when it takes more.
    pub fn has_waiting(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(socket) => socket.tls.wants_write(),
        }
    }

    /// Whether a read that did not fill its buffer has emptied the socket.
    pub fn is_emptied_by_short_read(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Says that nothing more comes, and shuts our side.
    ///
    /// # Errors
    /// `WouldBlock` = to be called again when the kernel takes more; else the socket is gone.
    pub fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.shutdown(Shutdown::Write),
            Self::Tls(socket) => socket.shutdown(),
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Plain(socket) => socket.as_raw_fd(),
            Self::Tls(socket) => socket.socket.as_raw_fd(),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buf),
            Self::Tls(socket) => socket.read(buf),
        }
    }
}

impl Write for Socket {
    /// Takes less than all only if the kernel takes no more.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(buf),
            Self::Tls(socket) => socket.write(&[IoSlice::new(buf)]),
        }
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write_vectored(bufs),
            Self::Tls(socket) => socket.write(bufs),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(socket) => socket.flush(),
        }
    }
}

/// An encrypted socket whose handshake is over. It keeps no plaintext.
///
/// Invariant: at most one record's ciphertext waits for the kernel.
#[derive(Debug)]
pub struct TlsSocket {
    socket: TcpStream,
    tls: ServerConnection,
}

impl TlsSocket {
    /// Goes on with a connection that others have driven so far.
    pub fn new(socket: TcpStream, tls: ServerConnection) -> Self {
        Self { socket, tls }
    }

    /// Hands the kernel the ciphertext that waits.
    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            if self.tls.write_tls(&mut self.socket)? == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    fn shutdown(&mut self) -> io::Result<()> {
        // Repeated calls say it once.
        self.tls.send_close_notify();
        self.flush()?;
        self.socket.shutdown(Shutdown::Write)
    }

    /// As [`TlsSocket::flush`], where it is no matter that something goes on waiting.
    fn try_flush(&mut self) -> io::Result<()> {
        match self.flush() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    /// Reads plaintext; `WouldBlock` means that the socket is empty, too.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // Ends: each round takes bytes from the socket, or finds it empty or at its end.
        loop {
            match self.tls.reader().read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Cut off without a word: to what is above, an end like any other.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            self.tls.read_tls(&mut self.socket)?;
            let processed = self.tls.process_new_packets();
            // A key update wants an answer, a fault an alert.
            self.try_flush()?;
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }

    /// Encrypts and writes, a record at a time, until the kernel takes no more. What it does not
    /// take of the last record waits here, and until that is gone nothing more is taken.
    fn write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush()?;
        let mut taken = 0;
        for buf in bufs {
            for record in buf.chunks(RECORD_LEN_MAX) {
                self.tls.writer().write_all(record)?;
                taken += record.len();
                match self.flush() {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(taken),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(taken)
    }
}
