//! A TCP connection that is read with a deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, StreamOwned};
use socket2::{Domain, SockRef, Socket, Type};

use super::DEADLINE;

/// Small enough that a server soon feels a reader that does not read, large enough for whole segments.
const RECEIVE_BUFFER_LEN: usize = 65536;

/// A socket and what was read from it but not yet taken.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Link,
    buf: Vec<u8>,
}

/// A connection, encrypted or not.
#[derive(Debug)]
enum Link {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Link {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Link {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Link {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(buf),
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl Wire {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).expect("the server accepts"))
    }

    /// Connects from `source`, another address of the loopback network.
    pub(crate) fn connect_from(source: Ipv4Addr, addr: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&addr.into()).expect("the server accepts");
        Self::over(socket.into())
    }

    /// Connects with a small receive buffer, so that not reading is soon felt by the server.
    pub(crate) fn connect_small(addr: SocketAddr) -> Self {
        Self::connect_narrow(addr, RECEIVE_BUFFER_LEN)
    }

    /// Connects with a receive buffer of about `buffer_len` bytes.
    pub(crate) fn connect_narrow(addr: SocketAddr, buffer_len: usize) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(buffer_len).unwrap();
        socket.connect(&addr.into()).expect("the server accepts");
        Self::over(socket.into())
    }

    /// A wire from which `bytes` are read, then the end: for tests of the harness itself.
    pub(crate) fn canned(bytes: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Self::connect(listener.local_addr().unwrap());
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(bytes).unwrap();
        wire
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { stream: Link::Plain(stream), buf: Vec::new() }
    }

    /// Encrypts the connection from here on; the server's certificate must be for `localhost`.
    pub(crate) fn secure(self, config: &Arc<ClientConfig>) -> Self {
        let Link::Plain(socket) = self.stream else { panic!("it is encrypted already") };
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = StreamOwned::new(
            ClientConnection::new(Arc::clone(config), name).expect("a configuration"),
            socket,
        );
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).expect("a handshake");
        }
        Self { stream: Link::Tls(Box::new(tls)), buf: self.buf }
    }

    /// The certificate that the server showed.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        let Link::Tls(tls) = &self.stream else { panic!("it is not encrypted") };
        tls.conn.peer_certificates().expect("after the handshake")[0].clone().into_owned()
    }

    /// What TLS agreed on: version and protocol.
    pub(crate) fn agreed(&self) -> (ProtocolVersion, Option<&[u8]>) {
        let Link::Tls(tls) = &self.stream else { panic!("it is not encrypted") };
        (tls.conn.protocol_version().expect("after the handshake"), tls.conn.alpn_protocol())
    }

    /// Our port.
    pub(crate) fn port(&self) -> u16 {
        self.stream.socket().local_addr().unwrap().port()
    }

    /// Writes `bytes` in one call, so that they travel together when they fit a segment.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// Writes `bytes` unless the server has closed; tells whether it could.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Gives a connection that was narrow a usual receive buffer.
    pub(crate) fn widen(&self) {
        SockRef::from(self.stream.socket())
            .set_recv_buffer_size(RECEIVE_BUFFER_LEN)
            .expect("a socket");
    }

    /// Ends what we send; the server's side stays open.
    pub(crate) fn finish_sending(&self) {
        self.stream.socket().shutdown(Shutdown::Write).expect("the connection is open");
    }

    /// Closes with a reset, which destroys what is on its way in both directions.
    pub(crate) fn reset(self) {
        SockRef::from(self.stream.socket()).set_linger(Some(Duration::ZERO)).expect("a socket");
    }

    /// Reads once, at most `len` bytes, which stay to be taken. The stream must go on.
    pub(crate) fn sip(&mut self, len: usize) {
        let mut chunk = vec![0; len];
        let len = self.stream.read(&mut chunk).expect("the connection goes on");
        assert!(len > 0, "ended early: {}", self.untaken());
        self.buf.extend_from_slice(&chunk[..len]);
    }

    /// Reads more; false at the end of the stream. A reset is a failure: it destroys close frames.
    fn fill(&mut self) -> bool {
        let mut chunk = [0; 16384];
        match self.stream.read(&mut chunk) {
            Ok(len) => {
                self.buf.extend_from_slice(&chunk[..len]);
                len > 0
            }
            Err(error) => panic!("read failed: {error}; not yet taken: {}", self.untaken()),
        }
    }

    fn untaken(&self) -> String {
        String::from_utf8_lossy(&self.buf[..self.buf.len().min(400)]).into_owned()
    }

    /// The next `len` bytes; `None` if the stream ends before the first of them.
    pub(crate) fn try_take(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.buf.len() < len {
            if !self.fill() {
                assert!(self.buf.is_empty(), "cut short: {}", self.untaken());
                return None;
            }
        }
        let rest = self.buf.split_off(len);
        Some(std::mem::replace(&mut self.buf, rest))
    }

    /// What has come, at least one byte; `None` at the end of the stream.
    pub(crate) fn take_some(&mut self) -> Option<Vec<u8>> {
        if self.buf.is_empty() {
            self.fill();
        }
        Some(std::mem::take(&mut self.buf)).filter(|bytes| !bytes.is_empty())
    }

    pub(crate) fn take(&mut self, len: usize) -> Vec<u8> {
        self.try_take(len).expect("the stream goes on")
    }

    /// Everything up to and with `delimiter`.
    pub(crate) fn take_until(&mut self, delimiter: &[u8]) -> Vec<u8> {
        let mut searched = 0;
        loop {
            let found = self.buf[searched..]
                .windows(delimiter.len())
                .position(|window| window == delimiter);
            if let Some(index) = found {
                return self.take(searched + index + delimiter.len());
            }
            searched = self.buf.len().saturating_sub(delimiter.len() - 1);
            assert!(self.fill(), "ended early: {}", self.untaken());
        }
    }

    /// Everything until the server ends the stream.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.buf)
    }

    /// Waits until the server has closed, whatever it sends before and however it closes.
    pub(crate) fn wait_closed(&mut self) {
        let mut chunk = [0; 16384];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        // Encrypted, an end without a word of TLS is told as an error.
                        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
                    ) =>
                {
                    return;
                }
                Err(error) => panic!("still open: {error}"),
            }
        }
    }
}
