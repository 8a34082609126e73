//! One HTTP connection: its deadlines, and what becomes of its socket.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::service::Service;
use super::stream::Stream;
use crate::admission::{AddressPermit, Permit};
use crate::rate::Bucket;
use crate::reason::Refusal;
use crate::tls::Socket;
use crate::worker::{Carrier, HttpGuard, Pending};

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
    /// Ends the task that serves the connection; set right after it is spawned.
    abort: Rc<OnceCell<AbortHandle>>,
    /// A handshake that was answered: the socket goes on as this subscription.
    pub upgrade: RefCell<Option<Upgrade>>,
    /// What it may still publish in this second.
    pub bucket: Cell<Bucket>,
    progress: Cell<Progress>,
    /// Set by the transport when bytes come in.
    received: Arc<AtomicBool>,
    /// Set by the transport when the kernel takes bytes.
    sent: Arc<AtomicBool>,
    /// The transport's socket.
    socket: RawFd,
}

/// A handshake whose answer is on its way.
#[derive(Debug)]
pub struct Upgrade {
    /// The subscription that waits for the socket.
    pub pending: Pending,
    /// Gives the socket.
    pub socket: OnUpgrade,
    /// The client's place, which goes on with the socket.
    pub address: Option<AddressPermit>,
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
    pub fn enter(connection: &Rc<Connection>) -> Self {
        connection.progress.set(Progress::Busy);
        Self(Rc::clone(connection))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.address.take();
        self.0.received.store(false, Ordering::Relaxed);
        self.0.progress.set(Progress::Idle(Instant::now()));
    }
}

impl Connection {
    /// What a worker needs of the task that serves the connection.
    ///
    /// # Panics
    /// When no task serves it: requests are answered by that task only.
    pub fn carrier(&self) -> Carrier {
        let abort = self.abort.get().expect("requests are answered by the connection's task");
        Carrier { abort: abort.clone(), sent: Arc::clone(&self.sent), socket: self.socket }
    }

    /// When the connection will have taken too long, as it is now; `None` while a request is
    /// handled.
    fn deadline(&self, patience: Patience) -> Option<Instant> {
        if let Progress::Idle(_) = self.progress.get()
            && self.received.swap(false, Ordering::Relaxed)
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

/// Spawns the task that serves HTTP on a socket until it closes, times out, drains or is upgraded.
pub fn spawn(service: Rc<Service>, accepted: Accepted) {
    let abort = Rc::new(OnceCell::new());
    // Counted from here on: a drained worker must not end between now and the task's first turn.
    let counted = service.worker.enter_http();
    let task = tokio::task::spawn_local(serve(service, (accepted, counted), Rc::clone(&abort)));
    abort.get_or_init(|| task.abort_handle());
}

async fn serve(
    service: Rc<Service>,
    (accepted, counted): (Accepted, HttpGuard),
    abort: Rc<OnceCell<AbortHandle>>,
) {
    let Accepted { socket, peer, mut permit, refused } = accepted;
    let (received, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let (begin, descriptor) = (Instant::now(), socket.as_raw_fd());
    let Some(stream) = secure(&service, socket).await else { return };
    let connection = Rc::new(Connection {
        refused,
        peer,
        address: RefCell::new(None),
        abort,
        upgrade: RefCell::new(None),
        bucket: Cell::default(),
        // The first head has its deadline from the start.
        progress: Cell::new(Progress::Head(begin)),
        received: Arc::clone(&received),
        sent: Arc::clone(&sent),
        socket: descriptor,
    });
    let io = Transport { io: TokioIo::new(stream), received, sent };
    let upgraded = serve_requests(&service, &connection, io).await;
    drop(counted);
    if let Some((pending, upgraded, address)) = upgraded
        && let Some((socket, first)) = take_socket(upgraded)
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

async fn serve_requests(
    service: &Rc<Service>,
    connection: &Rc<Connection>,
    io: Transport,
) -> Option<(Pending, Upgraded, Option<AddressPermit>)> {
    let handler = hyper::service::service_fn(|request| {
        Service::answer(Rc::clone(service), Rc::clone(connection), request)
    });
    let mut builder = http1::Builder::new();
    builder.max_buf_size(service.limits.request_head_bytes_max).header_read_timeout(None);
    let is_served = {
        let mut served = std::pin::pin!(builder.serve_connection(io, handler).with_upgrades());
        // Every arm is cancel safe: the connection keeps its own state.
        let early = tokio::select! {
            biased;
            end = in_time(service, connection, served.as_mut()) => Some(end),
            () = service.worker.is_over() => None,
        };
        let end = if let Some(end) = early {
            end
        } else {
            // Whoever is sending a request is told that we are leaving, and then closed.
            if !matches!(connection.progress.get(), Progress::Head(_)) {
                served.as_mut().graceful_shutdown();
            }
            in_time(service, connection, served).await
        };
        end == End::Served
    };
    // An answer that did not get out leaves its upgrade waiting for ever.
    let Upgrade { pending, socket, address } = connection.upgrade.take().filter(|_| is_served)?;
    socket.await.ok().map(|upgraded| (pending, upgraded, address))
}

/// How serving a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All that was asked is answered.
    Served,
    /// The socket failed or the client took too long.
    Failed,
}

/// Drives `served` while its client is in time. The task is polled whenever bytes come or go, so
/// the deadline is looked at whenever it can have changed.
async fn in_time(
    service: &Service,
    connection: &Connection,
    mut served: Pin<&mut impl Future<Output = hyper::Result<()>>>,
) -> End {
    let limits = &service.limits;
    let patience = Patience { head: limits.handshake_timeout, idle: limits.http_idle_timeout };
    let mut timer = std::pin::pin!(tokio::time::sleep(patience.head));
    std::future::poll_fn(|context| {
        if let Poll::Ready(result) = served.as_mut().poll(context) {
            let Err(error) = result else { return Poll::Ready(End::Served) };
            tracing::debug!(%error, "HTTP connection failed");
            return Poll::Ready(End::Failed);
        }
        let Some(deadline) = connection.deadline(patience) else { return Poll::Pending };
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(context).map(|()| End::Failed)
    })
    .await
}

/// The socket of an upgraded connection, with what came behind the request.
fn take_socket(upgraded: Upgraded) -> Option<(Socket, Vec<u8>)> {
    let parts = upgraded.downcast::<Transport>().ok()?;
    let socket = parts.io.io.into_inner().into_socket().ok()?;
    // Copied, so that nothing of hyper's buffer stays.
    Some((socket, parts.read_buf.to_vec()))
}

/// The socket as hyper sees it, with a note of when bytes come in and go out.
#[derive(Debug)]
struct Transport {
    io: TokioIo<Stream>,
    received: Arc<AtomicBool>,
    sent: Arc<AtomicBool>,
}

impl Transport {
    fn note_sent(&self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.sent.store(true, Ordering::Relaxed);
        }
    }
}

impl Read for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_read(context, buf);
        if result.is_ready() {
            self.received.store(true, Ordering::Relaxed);
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
        let written = Pin::new(&mut self.io).poll_write(context, buf);
        self.note_sent(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
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
        let written = Pin::new(&mut self.io).poll_write_vectored(context, bufs);
        self.note_sent(&written);
        written
    }
}
