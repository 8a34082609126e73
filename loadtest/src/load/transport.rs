//! The bytes of one connection below its door: TCP, or TLS over it.
//!
//! TLS never reads or writes a socket by itself: what one read brought goes in, what comes out of
//! it leaves in one write.

use std::{
    io::{self, ErrorKind, Read as _, Write},
    sync::Arc,
};

use mio::net::TcpStream;
use rustls::{ClientConnection, Connection, ServerConfig, ServerConnection};

use crate::tls::Security;

/// What one read may bring.
const READ_LEN: usize = 256 * 1024;

/// Where reads go, for all connections of a thread; the default has no room and holds its place.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    wire: Box<[u8]>,
    /// What TLS makes of it.
    plain: Vec<u8>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self { wire: vec![0; READ_LEN].into_boxed_slice(), plain: Vec::new() }
    }
}

/// What one read brought.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    pub(crate) bytes: &'a [u8],
    /// Whether the socket may have more.
    pub(crate) has_more: bool,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Transport {
    stream: TcpStream,
    tls: Option<Box<Connection>>,
}

impl Transport {
    /// A client's side of `stream`.
    ///
    /// # Errors
    /// TLS refuses what it is configured with.
    pub(crate) fn client(stream: TcpStream, security: Option<&Security>) -> io::Result<Self> {
        let session = |Security { config, name }: &Security| {
            ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)
        };
        let tls = security.map(session).transpose()?.map(|session| Box::new(session.into()));
        Ok(Self { stream, tls })
    }

    /// A server's side of `stream`.
    ///
    /// # Errors
    /// TLS refuses what it is configured with.
    pub(crate) fn server(
        stream: TcpStream,
        security: Option<&Arc<ServerConfig>>,
    ) -> io::Result<Self> {
        let session = |config: &Arc<ServerConfig>| {
            ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)
        };
        let tls = security.map(session).transpose()?.map(|session| Box::new(session.into()));
        Ok(Self { stream, tls })
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Reads once; `None` = the other side has ended the stream. With TLS there may be nothing to
    /// show for what was read.
    ///
    /// # Errors
    /// The socket is gone or has nothing, or TLS does not understand the other side.
    #[inline]
    pub(crate) fn read<'a>(
        &mut self,
        buffers: &'a mut Buffers,
    ) -> io::Result<Option<Received<'a>>> {
        let Buffers { wire, plain } = buffers;
        let len = self.stream.read(wire)?;
        if len == 0 {
            return Ok(None);
        }
        let has_more = len == wire.len();
        let bytes = match &mut self.tls {
            None => &wire[..len],
            Some(tls) => {
                plain.clear();
                let opened = open(tls, &wire[..len], plain);
                // Also the alert that says what was wrong.
                let sent = send(tls, &mut self.stream);
                opened.and(sent)?;
                &plain[..]
            }
        };
        Ok(Some(Received { bytes, has_more }))
    }

    /// Whether bytes of TLS itself wait for the socket.
    #[inline]
    pub(crate) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }
}

/// Appends what `wire` holds to `plain`.
fn open(tls: &mut Connection, mut wire: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
    while !wire.is_empty() {
        if tls.read_tls(&mut wire)? == 0 {
            // Behind the other side's last word.
            return Ok(());
        }
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        let begin = plain.len();
        plain.resize(begin + state.plaintext_bytes_to_read(), 0);
        tls.reader().read_exact(&mut plain[begin..])?;
    }
    Ok(())
}

/// Takes bytes only while those before have left: what waits, waits where it is counted.
fn write(tls: &mut Connection, stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    send(tls, stream)?;
    let mut taken = 0;
    while taken < bytes.len() && !tls.wants_write() {
        let len = tls.writer().write(&bytes[taken..])?;
        if len == 0 {
            // More than waits for the end of a handshake.
            break;
        }
        taken += len;
        send(tls, stream)?;
    }
    if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
}

/// Writes what waits in `tls`, as far as the socket takes it.
fn send(tls: &mut Connection, stream: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(stream) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => drop(result?),
        }
    }
    Ok(())
}

impl Write for Transport {
    /// Takes less than all only when the socket is full.
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.stream.write(bytes),
            Some(tls) => write(tls, &mut self.stream, bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let Self { stream, tls } = self;
        tls.as_mut().map_or(Ok(()), |tls| send(tls, stream))
    }
}
