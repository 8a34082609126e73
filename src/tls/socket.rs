//! Sockets that never block, encrypted or not.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use super::TlsSocket;

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// Bytes go out as they are.
    Plain(TcpStream),
    /// Bytes go out encrypted.
    Tls(Box<TlsSocket<TcpStream>>),
}

impl Socket {
    /// Whether something that was taken by a write still waits for the kernel: then [`Write::flush`]
    /// is due when it takes more.
    pub fn has_waiting(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(socket) => socket.has_waiting(),
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
            Self::Tls(socket) => socket.as_raw_fd(),
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
