//! The socket of an HTTP connection while it is tokio's, encrypted or not.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::metrics::Memory;
use crate::tls::{Socket, TlsSocket};

/// An accepted socket.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsSocket<Unwaiting>>),
}

impl Stream {
    /// Makes the TLS handshake.
    ///
    /// # Cancel safety
    /// Given up, it closes the socket.
    pub(super) async fn accept(
        socket: TcpStream,
        config: Arc<ServerConfig>,
        memory: &Arc<Memory>,
    ) -> io::Result<Self> {
        let tls = TlsSocket::new(Unwaiting(socket), config, memory).map_err(io::Error::other)?;
        let mut tls = Box::new(tls);
        while let Err(error) = tls.handshake() {
            let socket = &tls.get_ref().0;
            match error.kind() {
                ErrorKind::WouldBlock if tls.has_waiting() => socket.writable().await?,
                ErrorKind::WouldBlock => socket.readable().await?,
                _ => return Err(error),
            }
        }
        Ok(Self::Tls(tls))
    }

    /// Takes the socket away from tokio.
    pub(super) fn into_socket(self) -> io::Result<Socket> {
        match self {
            Self::Plain(socket) => socket.into_std().map(Socket::Plain),
            Self::Tls(tls) => {
                let tls = tls.map(|socket| socket.0.into_std())?;
                Ok(Socket::Tls(Box::new(tls)))
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buf),
            Self::Tls(tls) => {
                let free = buf.initialize_unfilled();
                let len = ready!(poll(tls, TcpStream::poll_read_ready, context, |tls| {
                    tls.read(free)
                }))?;
                buf.advance(len);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, bufs),
            Self::Tls(tls) => {
                poll(tls, TcpStream::poll_write_ready, context, |tls| tls.write(bufs))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(tls) => poll(tls, TcpStream::poll_write_ready, context, TlsSocket::flush),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(tls) => {
                ready!(poll(tls, TcpStream::poll_write_ready, context, TlsSocket::close))?;
                Pin::new(&mut tls.get_mut().0).poll_shutdown(context)
            }
        }
    }
}

/// Repeats `call` whenever tokio finds the socket `ready`, for as long as it would block.
fn poll<T>(
    tls: &mut TlsSocket<Unwaiting>,
    ready: fn(&TcpStream, &mut Context<'_>) -> Poll<io::Result<()>>,
    context: &mut Context<'_>,
    mut call: impl FnMut(&mut TlsSocket<Unwaiting>) -> io::Result<T>,
) -> Poll<io::Result<T>> {
    loop {
        match call(tls) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                ready!(ready(&tls.get_ref().0, context))?;
            }
            result => return Poll::Ready(result),
        }
    }
}

/// A socket of tokio that would rather fail than wait.
#[derive(Debug)]
pub(super) struct Unwaiting(TcpStream);

impl Read for Unwaiting {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

impl Write for Unwaiting {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
