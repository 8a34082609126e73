//! One HTTP connection: its deadlines, and what becomes of its socket.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::net::TcpStream;
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
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::service::Service;
use crate::admission::Permit;
use crate::rate::Bucket;
use crate::reason::Refusal;
use crate::worker::{Pending, Stage};

/// What one connection's task and its requests share.
#[derive(Debug)]
pub struct Connection {
    /// Given to every request instead of an answer, if the connection came over a limit.
    pub refused: Option<Refusal>,
    /// Ends the task that serves the connection; set right after it is spawned.
    abort: Rc<OnceCell<AbortHandle>>,
    /// A handshake that was answered: the socket goes on as this subscription.
    pub upgrade: RefCell<Option<(Pending, OnUpgrade)>>,
    /// What it may still publish in this second.
    pub bucket: Cell<Bucket>,
    progress: Cell<Progress>,
    /// Set by the transport when bytes come in.
    received: Arc<AtomicBool>,
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
        self.0.received.store(false, Ordering::Relaxed);
        self.0.progress.set(Progress::Idle(Instant::now()));
    }
}

impl Connection {
    /// Ends the task that serves the connection.
    ///
    /// # Panics
    /// When no task serves it: requests are answered by that task only.
    pub fn abort_handle(&self) -> AbortHandle {
        self.abort.get().expect("requests are answered by the connection's task").clone()
    }

    /// When to look again, or `None` when a deadline has passed at `now`.
    fn look_again(&self, now: Instant, patience: Patience) -> Option<Duration> {
        let Patience { head, idle } = patience;
        if let Progress::Idle(_) = self.progress.get()
            && self.received.swap(false, Ordering::Relaxed)
        {
            self.progress.set(Progress::Head(now));
        }
        let (since, allowed) = match self.progress.get() {
            Progress::Idle(since) => (since, idle),
            Progress::Head(since) => (since, head),
            Progress::Busy => return Some(head),
        };
        let left = allowed.checked_sub(now.saturating_duration_since(since))?;
        // Bytes that come in while it is idle are noticed at the next look.
        (!left.is_zero()).then_some(left.min(head))
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
    pub socket: tokio::net::TcpStream,
    /// Its place among the open connections.
    pub permit: Permit,
    /// Why it is served nothing, if it came over a limit.
    pub refused: Option<Refusal>,
}

/// Spawns the task that serves HTTP on a socket until it closes, times out, drains or is upgraded.
pub fn spawn(service: Rc<Service>, accepted: Accepted) {
    let abort = Rc::new(OnceCell::new());
    let task = tokio::task::spawn_local(serve(service, accepted, Rc::clone(&abort)));
    abort.get_or_init(|| task.abort_handle());
}

async fn serve(service: Rc<Service>, accepted: Accepted, abort: Rc<OnceCell<AbortHandle>>) {
    let Accepted { socket, permit, refused } = accepted;
    let received = Arc::new(AtomicBool::new(false));
    let connection = Rc::new(Connection {
        refused,
        abort,
        upgrade: RefCell::new(None),
        bucket: Cell::default(),
        // The first head has its deadline from the start.
        progress: Cell::new(Progress::Head(Instant::now())),
        received: Arc::clone(&received),
    });
    let upgraded = {
        let _counted = service.worker.enter_http();
        serve_requests(&service, &connection, Transport { io: TokioIo::new(socket), received })
            .await
    };
    if let Some((pending, upgraded)) = upgraded
        && let Some((socket, first)) = take_socket(upgraded)
    {
        pending.activate(socket, first, permit);
    }
}

async fn serve_requests(
    service: &Rc<Service>,
    connection: &Rc<Connection>,
    io: Transport,
) -> Option<(Pending, Upgraded)> {
    let handler = hyper::service::service_fn(|request| {
        Service::answer(Rc::clone(service), Rc::clone(connection), request)
    });
    let mut builder = http1::Builder::new();
    builder.max_buf_size(service.limits.request_head_bytes_max).header_read_timeout(None);
    let mut served = std::pin::pin!(builder.serve_connection(io, handler).with_upgrades());
    let limits = &service.limits;
    let patience = Patience { head: limits.handshake_timeout, idle: limits.http_idle_timeout };
    let mut stage = service.worker.stage();
    let mut is_ending = false;
    loop {
        let wait = connection.look_again(Instant::now(), patience)?;
        // Every arm is cancel safe: the connection keeps its own state.
        tokio::select! {
            result = served.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "HTTP connection failed");
                }
                break;
            }
            _ = stage.wait_for(|stage| *stage == Stage::Over), if !is_ending => {
                is_ending = true;
                served.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
    let (pending, on_upgrade) = connection.upgrade.take()?;
    on_upgrade.await.ok().map(|upgraded| (pending, upgraded))
}

/// The socket of an upgraded connection, with what came behind the request.
fn take_socket(upgraded: Upgraded) -> Option<(TcpStream, Vec<u8>)> {
    let parts = upgraded.downcast::<Transport>().ok()?;
    let socket = parts.io.io.into_inner().into_std().ok()?;
    // Copied, so that nothing of hyper's buffer stays.
    Some((socket, parts.read_buf.to_vec()))
}

/// The socket as hyper sees it, with a note of when bytes come in.
#[derive(Debug)]
struct Transport {
    io: TokioIo<tokio::net::TcpStream>,
    received: Arc<AtomicBool>,
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
        Pin::new(&mut self.io).poll_write(context, buf)
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
        Pin::new(&mut self.io).poll_write_vectored(context, bufs)
    }
}
