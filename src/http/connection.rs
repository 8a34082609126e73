//! One HTTP connection: its deadlines, and what becomes of its socket.
//!
//! A WebSocket or a stream goes on without hyper: when the head of the answer is with the kernel,
//! its socket is the worker's.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Version;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::service::Service;
use super::stream::Stream;
use crate::admission::{AddressPermit, Permit};
use crate::rate::Bucket;
use crate::reason::Refusal;
use crate::worker::{Coding, HttpGuard, Pending};

/// What one connection's task and its requests share.
#[derive(Debug)]
pub struct Connection {
    /// Given to every request instead of an answer, if the connection came over a limit; with what
    /// counts those who are being told.
    pub refused: Option<(Refusal, Rc<()>)>,
    /// Whoever is at the other end: the client, or a proxy before it.
    pub peer: IpAddr,
    /// The place of the request's client among those of its address, where a proxy is the peer.
    pub address: RefCell<Option<AddressPermit>>,
    /// What it may still publish in this second.
    pub bucket: Cell<Bucket>,
    /// What the socket goes on as when the answer's head is out.
    handover: RefCell<Option<Handover>>,
    /// How far that head is, of a stream's answer.
    head: Cell<Head>,
    /// That of the request that is handled.
    version: Cell<Version>,
    progress: Cell<Progress>,
    /// Set by the transport when bytes come in.
    received: Cell<bool>,
}

/// A subscription that waits for its socket.
#[derive(Debug)]
struct Handover {
    pending: Pending,
    /// The client's place, which goes on with the socket.
    address: Option<AddressPermit>,
}

/// How far the head of an answer is whose body is not hyper's to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    /// There is none, or hyper does not have it yet.
    None,
    /// It is in hyper's buffer.
    Buffered,
    /// The kernel has it.
    Out,
}

/// How far the connection is with its current request.
#[derive(Debug, Clone, Copy)]
enum Progress {
    /// Nothing of a request yet.
    Idle(Instant),
    /// Part of a request head.
    Head(Instant),
    /// A request is handled or its answer is on its way.
    Busy,
}

/// A request that is being handled; dropped when its answer is handed over.
#[derive(Debug)]
pub struct Busy(Rc<Connection>);

impl Busy {
    /// A request has come in on `connection`.
    pub fn enter(connection: &Rc<Connection>, version: Version) -> Self {
        connection.progress.set(Progress::Busy);
        connection.version.set(version);
        Self(Rc::clone(connection))
    }

    /// Hyper has taken the head of the answer and asks for a body that is not its to send.
    pub fn note_head(&self) {
        if self.0.head.get() == Head::None {
            self.0.head.set(Head::Buffered);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.address.take();
        self.0.received.set(false);
        self.0.progress.set(Progress::Idle(Instant::now()));
    }
}

impl Connection {
    /// The socket goes on as `pending` when the answer's head is out.
    pub fn hand_over(&self, pending: Pending) {
        let address = self.address.take();
        self.handover.replace(Some(Handover { pending, address }));
    }

    /// How the client of the request that is handled can be told of the end of a stream.
    pub fn coding(&self) -> Coding {
        match self.version.get() {
            Version::HTTP_10 => Coding::Identity,
            _ => Coding::Chunked,
        }
    }

    /// When the connection will have taken too long, as it is now; `None` while a request is
    /// handled.
    fn deadline(&self, patience: Patience) -> Option<Instant> {
        if let Progress::Idle(_) = self.progress.get()
            && self.received.replace(false)
        {
            self.progress.set(Progress::Head(Instant::now()));
        }
        match self.progress.get() {
            Progress::Idle(since) => since.checked_add(patience.idle),
            Progress::Head(since) => since.checked_add(patience.head),
            Progress::Busy => None,
        }
    }
}

/// How long a connection may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// From the first byte of a request head to its end.
    head: Duration,
    /// Between requests.
    idle: Duration,
}

/// A socket that was let in.
#[derive(Debug)]
pub struct Accepted {
    /// The socket.
    pub socket: TcpStream,
    /// Whoever is at the other end.
    pub peer: IpAddr,
    /// Its place among the open connections.
    pub permit: Permit,
    /// Why it is served nothing, if it came over a limit; with what counts those who are told.
    pub refused: Option<(Refusal, Rc<()>)>,
}

/// Spawns the task that serves HTTP on a socket until it closes, times out, drains or goes on as
/// something else.
pub fn spawn(service: Rc<Service>, accepted: Accepted) {
    // Counted from here on: a drained worker must not end between now and the task's first turn.
    let counted = service.worker.enter_http();
    tokio::task::spawn_local(serve(service, accepted, counted));
}

async fn serve(service: Rc<Service>, accepted: Accepted, counted: HttpGuard) {
    let Accepted { socket, peer, mut permit, refused } = accepted;
    let begin = Instant::now();
    let Some(stream) = secure(&service, socket).await else { return };
    let connection = Rc::new(Connection {
        refused,
        peer,
        address: RefCell::new(None),
        bucket: Cell::default(),
        handover: RefCell::new(None),
        head: Cell::new(Head::None),
        version: Cell::new(Version::HTTP_11),
        // The first head has its deadline from the start.
        progress: Cell::new(Progress::Head(begin)),
        received: Cell::new(false),
    });
    let served = serve_requests(&service, &connection, stream).await;
    drop(counted);
    if let Some((Handover { pending, address }, stream, first)) = served
        && let Ok(socket) = stream.into_socket()
    {
        permit.hold(address);
        pending.activate(socket, first, permit);
    }
}

/// Makes the TLS handshake, if this server speaks TLS, within the time of a first request head.
async fn secure(service: &Service, socket: TcpStream) -> Option<Stream> {
    let Some(tls) = &service.tls else { return Some(Stream::Plain(socket)) };
    let accept = Stream::accept(socket, Arc::clone(tls), service.worker.hub().memory());
    let patience = service.limits.handshake_timeout;
    // Every arm is cancel safe: the handshake is given up with its socket.
    let handshake = tokio::select! {
        handshake = timeout(patience, accept) => handshake,
        () = service.worker.is_over() => return None,
    };
    let metrics = service.worker.metrics();
    match handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => {
            metrics.tls_done.add(1);
            Some(stream)
        }
        Err(error) => {
            metrics.tls_failed.add(1);
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
    }
}

/// Serves requests until the socket goes on as something else, which is given with it and with what
/// came behind the last request, or until it is over.
async fn serve_requests(
    service: &Rc<Service>,
    connection: &Rc<Connection>,
    stream: Stream,
) -> Option<(Handover, Stream, Vec<u8>)> {
    let handler = hyper::service::service_fn(|request| {
        Service::answer(Rc::clone(service), Rc::clone(connection), request)
    });
    let io = Transport { io: TokioIo::new(stream), connection: Rc::clone(connection) };
    let mut builder = http1::Builder::new();
    builder.max_buf_size(service.limits.request_head_bytes_max).header_read_timeout(None);
    let mut served = builder.serve_connection(io, handler);
    // Every arm is cancel safe: the connection keeps its own state.
    let early = tokio::select! {
        biased;
        end = in_time(service, connection, &mut served) => Some(end),
        () = service.worker.is_over() => None,
    };
    let end = if let Some(end) = early {
        end
    } else {
        // Whoever is sending a request is told that we are leaving, and then closed.
        if !matches!(connection.progress.get(), Progress::Head(_)) {
            Pin::new(&mut served).graceful_shutdown();
        }
        in_time(service, connection, &mut served).await
    };
    let handover = connection.handover.take().filter(|_| end == End::Served)?;
    let parts = served.into_parts();
    // Copied, so that nothing of hyper's buffer stays.
    Some((handover, parts.io.io.into_inner(), parts.read_buf.to_vec()))
}

/// How serving a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All that was asked is answered, but for the body of a stream.
    Served,
    /// The socket failed or the client took too long.
    Failed,
}

/// Drives `served` while its client is in time. The task is polled whenever bytes come or go, so
/// the deadline is looked at whenever it can have changed.
async fn in_time(
    service: &Service,
    connection: &Connection,
    served: &mut (impl Future<Output = hyper::Result<()>> + Unpin),
) -> End {
    let limits = &service.limits;
    let patience = Patience { head: limits.handshake_timeout, idle: limits.http_idle_timeout };
    let mut timer = std::pin::pin!(tokio::time::sleep(patience.head));
    std::future::poll_fn(|context| {
        if let Poll::Ready(result) = Pin::new(&mut *served).poll(context) {
            let Err(error) = result else { return Poll::Ready(End::Served) };
            tracing::debug!(%error, "HTTP connection failed");
            return Poll::Ready(End::Failed);
        }
        if connection.head.get() == Head::Out {
            return Poll::Ready(End::Served);
        }
        let Some(deadline) = connection.deadline(patience) else { return Poll::Pending };
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(context).map(|()| End::Failed)
    })
    .await
}

/// The socket as hyper sees it, with a note of when bytes come in and when all are out.
#[derive(Debug)]
struct Transport {
    io: TokioIo<Stream>,
    connection: Rc<Connection>,
}

impl Read for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_read(context, buf);
        if result.is_ready() {
            self.connection.received.set(true);
        }
        result
    }
}

impl Write for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(context))?;
        // Hyper asks for this only when its own buffer is empty.
        if self.connection.head.get() == Head::Buffered {
            self.connection.head.set(Head::Out);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, bufs)
    }
}
