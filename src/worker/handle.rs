//! The way to a worker from the HTTP tasks on its own thread.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::TcpStream;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body::{Body, Frame};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::connection::ConnectionKey;
use super::connection::Transport;
use super::{Opening, Worker, WorkerParts};
use crate::hub::{Hub, Joined};
use crate::metrics::WorkerMetrics;
use crate::outbox::Piece;

/// A worker, shared by the tasks of its thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkerHandle(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    worker: RefCell<Worker>,
    hub: Arc<Hub>,
    metrics: Arc<WorkerMetrics>,
    /// Something outside of a turn gave the worker work.
    stirred: Notify,
    /// HTTP connections that are open on this thread.
    requests: Cell<usize>,
}

impl WorkerHandle {
    /// A worker without connections.
    pub fn new(parts: WorkerParts) -> Self {
        let (hub, metrics) = (Arc::clone(&parts.hub), Arc::clone(&parts.metrics));
        let worker = RefCell::new(Worker::new(parts));
        Self(Rc::new(Shared {
            worker,
            hub,
            metrics,
            stirred: Notify::new(),
            requests: Cell::new(0),
        }))
    }

    /// All topics.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.0.hub
    }

    /// The worker's counters.
    pub fn metrics(&self) -> &WorkerMetrics {
        &self.0.metrics
    }

    /// Counts an HTTP connection in; the worker's loop does not end before it is out again.
    pub fn enter_http(&self) -> HttpGuard {
        self.0.requests.set(self.0.requests.get() + 1);
        HttpGuard(self.clone())
    }

    pub(super) fn http_count(&self) -> usize {
        self.0.requests.get()
    }

    pub(super) async fn stirred(&self) {
        self.0.stirred.notified().await;
    }

    /// Runs `f` on the worker. Tasks do so between turns, never across an await.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Worker) -> T) -> T {
        f(&mut self.0.worker.borrow_mut())
    }

    /// As [`WorkerHandle::with`], and has the worker take a turn.
    fn stir<T>(&self, f: impl FnOnce(&mut Worker) -> T) -> T {
        let result = self.with(f);
        self.0.stirred.notify_one();
        result
    }

    /// Subscribes. From here on nothing published is missed; `greet` says what comes first.
    pub fn open(
        &self,
        opening: Opening,
        greet: impl FnOnce(&Joined) -> Option<Box<[u8]>>,
    ) -> (Pending, Joined) {
        let (key, joined) = self.stir(|worker| {
            let (key, joined) = worker.open(opening);
            if let Some(bytes) = greet(&joined) {
                worker.greet(key, bytes);
            }
            (key, joined)
        });
        (
            Pending {
                worker: self.clone(),
                key,
                is_armed: true,
            },
            joined,
        )
    }
}

/// Counts one HTTP connection.
#[derive(Debug)]
pub struct HttpGuard(WorkerHandle);

impl Drop for HttpGuard {
    fn drop(&mut self) {
        self.0.0.requests.set(self.0.0.requests.get() - 1);
        self.0.0.stirred.notify_one();
    }
}

/// A subscription whose answer is not out yet; dropped, it is undone.
#[derive(Debug)]
pub struct Pending {
    worker: WorkerHandle,
    key: ConnectionKey,
    is_armed: bool,
}

impl Pending {
    /// Goes on as a WebSocket over `socket`; `first` is what came behind the request.
    pub fn activate(mut self, socket: TcpStream, first: Vec<u8>) {
        self.is_armed = false;
        self.worker
            .stir(|worker| worker.activate(self.key, socket, first));
    }

    /// Goes on as a response body; `abort` ends the task that serves it.
    pub fn into_body(mut self, abort: AbortHandle) -> StreamBody {
        self.is_armed = false;
        self.worker.stir(|worker| worker.attach(self.key, abort));
        StreamBody {
            worker: self.worker.clone(),
            key: self.key,
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.is_armed {
            self.worker.stir(|worker| worker.forget(self.key));
        }
    }
}

/// A response body that gives what the worker has for its connection, without end.
#[derive(Debug)]
pub struct StreamBody {
    worker: WorkerHandle,
    key: ConnectionKey,
}

impl Body for StreamBody {
    type Data = Piece;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Infallible>>> {
        let piece = self
            .worker
            .stir(|worker| worker.poll_piece(self.key, context));
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.worker.stir(|worker| worker.forget(self.key));
    }
}

impl Worker {
    /// Queues what a connection gets before everything else.
    fn greet(&mut self, key: ConnectionKey, bytes: Box<[u8]>) {
        let Self {
            connections,
            output,
            ..
        } = self;
        output.send_own(key.index, &mut connections[key.index as usize], bytes);
    }

    /// Removes a connection whose HTTP task is over or lets go of it.
    fn forget(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.get(key) {
            connection.transport = Transport::Pending;
            self.remove(key.index);
        }
    }
}
