//! The way to a worker from the HTTP tasks on its own thread.

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::bookmark::Bookmark;
use super::connection::{ConnectionKey, Transport};
use super::{Gate, Opening, Subscription, Worker, WorkerParts};
use crate::admission::Permit;
use crate::hub::{Hub, Joined};
use crate::id::Door;
use crate::metrics::{Charge, MemoryKind, WorkerMetrics};
use crate::outbox::Piece;
use crate::protocol::centrifugo::Commands;
use crate::tls::Socket;

/// What the task of an HTTP connection is charged, beside the head that it may have to hold.
const HTTP_TASK_COST: usize = 4 * 1024;

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
    /// Tasks of this thread that the worker waits for: HTTP connections, the accept loop.
    task_count: Cell<usize>,
    /// What an HTTP connection is charged.
    http_cost: usize,
    stage: watch::Sender<Stage>,
}

/// How far the worker is with its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It accepts and serves.
    Serving,
    /// Sessions are asked to leave; requests are refused.
    Draining,
    /// The drain window is over: what is idle closes.
    Over,
}

impl WorkerHandle {
    /// A worker without connections.
    pub fn new(parts: WorkerParts) -> Self {
        let (hub, metrics) = (Arc::clone(&parts.hub), Arc::clone(&parts.metrics));
        let http_cost = HTTP_TASK_COST + parts.limits.request_head_bytes_max;
        let worker = RefCell::new(Worker::new(parts));
        let (stirred, task_count) = (Notify::new(), Cell::new(0));
        let stage = watch::Sender::new(Stage::Serving);
        Self(Rc::new(Shared { worker, hub, metrics, stirred, task_count, http_cost, stage }))
    }

    /// All topics.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.0.hub
    }

    /// Who reaches the sessions of all workers.
    pub fn gate(&self) -> Arc<Gate> {
        self.with(|worker| Arc::clone(&worker.gate))
    }

    /// The worker's counters.
    pub fn metrics(&self) -> &WorkerMetrics {
        &self.0.metrics
    }

    /// Counts an HTTP connection in, also for the metrics.
    pub fn enter_http(&self) -> HttpGuard {
        let metrics = self.metrics();
        metrics.connections[Door::Http.index()].add(1);
        metrics.connections_total[Door::Http.index()].add(1);
        let charge = Charge::new(self.hub().memory(), MemoryKind::Connections, self.0.http_cost);
        HttpGuard { task: self.enter_task(), _charge: charge }
    }

    /// Counts a task in; the worker's loop does not end before it is out again.
    pub fn enter_task(&self) -> TaskGuard {
        self.0.task_count.set(self.0.task_count.get() + 1);
        TaskGuard(self.clone())
    }

    pub(super) fn task_count(&self) -> usize {
        self.0.task_count.get()
    }

    /// How far the worker is, to be waited on.
    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.0.stage.subscribe()
    }

    /// Waits until the drain window is over.
    pub async fn is_over(&self) {
        // An error means that the worker is gone, and this task with it.
        let _ = self.stage().wait_for(|stage| *stage == Stage::Over).await;
    }

    pub(super) fn set_stage(&self, stage: Stage) {
        self.0.stage.send_if_modified(|current| std::mem::replace(current, stage) != stage);
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
        let result = self.with(|worker| {
            worker.read_clock();
            f(worker)
        });
        self.0.stirred.notify_one();
        result
    }

    /// Begins a session that subscribes by commands, the first of which may have come with its
    /// request; `greeting` goes before all that they bring.
    pub fn open_session(
        &self,
        opening: Opening,
        greeting: &[u8],
        mut commands: Commands<'_>,
    ) -> Pending {
        let key = self.stir(|worker| {
            let key = worker.open(opening);
            if !greeting.is_empty() {
                worker.greet(key, greeting.into());
            }
            worker.drive(key, &mut commands, |_, _| {});
            key
        });
        Pending { worker: self.clone(), key, is_armed: true }
    }

    /// Subscribes. From here on nothing published is missed; `greet` says what comes first.
    pub fn open(
        &self,
        opening: Opening,
        subscription: Subscription,
        greet: impl FnOnce(&Joined) -> Option<Bytes>,
    ) -> (Pending, Joined) {
        let (key, joined) = self.stir(|worker| {
            let key = worker.open(opening);
            let joined = worker.subscribe(key, subscription);
            if let Some(bytes) = greet(&joined) {
                worker.greet(key, bytes.as_ref().into());
            }
            (key, joined)
        });
        (Pending { worker: self.clone(), key, is_armed: true }, joined)
    }

    /// As [`WorkerHandle::open`], with any number of subscriptions.
    pub fn open_several(
        &self,
        opening: Opening,
        subscriptions: Vec<Subscription>,
        greet: impl FnOnce(&[Joined]) -> Bytes,
    ) -> (Pending, Vec<Joined>) {
        let (key, joined) = self.stir(|worker| {
            let key = worker.open(opening);
            let subscriptions = subscriptions.into_iter();
            let joined: Vec<_> = subscriptions.map(|one| worker.subscribe(key, one)).collect();
            worker.greet(key, greet(&joined).as_ref().into());
            (key, joined)
        });
        (Pending { worker: self.clone(), key, is_armed: true }, joined)
    }
}

/// Counts one task; dropped, it is out.
#[derive(Debug)]
pub struct TaskGuard(WorkerHandle);

impl Drop for TaskGuard {
    fn drop(&mut self) {
        let Self(WorkerHandle(shared)) = self;
        shared.task_count.set(shared.task_count.get() - 1);
        shared.stirred.notify_one();
    }
}

/// Counts one HTTP connection; dropped, it is closed or goes on as something else.
#[derive(Debug)]
pub struct HttpGuard {
    task: TaskGuard,
    _charge: Charge,
}

impl Drop for HttpGuard {
    fn drop(&mut self) {
        let TaskGuard(worker) = &self.task;
        worker.metrics().connections[Door::Http.index()].sub(1);
    }
}

/// The task that sends a streamed response.
#[derive(Debug)]
pub struct Carrier {
    /// Ends it.
    pub abort: AbortHandle,
    /// Set by it when the kernel takes bytes.
    pub sent: Arc<AtomicBool>,
    /// The socket that it writes to, and keeps open for as long as it is there.
    pub socket: RawFd,
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
    pub fn activate(mut self, socket: Socket, first: Vec<u8>, permit: Permit) {
        self.is_armed = false;
        self.worker.stir(|worker| worker.activate(self.key, (socket, permit), first));
    }

    /// Goes on as a response body that `carrier`'s task sends.
    pub fn into_body(self, carrier: Carrier) -> StreamBody {
        self.into_stream(carrier, None)
    }

    /// As [`Pending::into_body`]; each event gets an id by `bookmark`.
    pub fn into_body_with(self, carrier: Carrier, bookmark: Bookmark) -> StreamBody {
        self.into_stream(carrier, Some(bookmark))
    }

    fn into_stream(mut self, carrier: Carrier, bookmark: Option<Bookmark>) -> StreamBody {
        self.is_armed = false;
        self.worker.stir(|worker| worker.attach(self.key, carrier, bookmark));
        StreamBody { worker: self.worker.clone(), key: self.key }
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

impl StreamBody {
    /// The next piece; `None` ends the stream.
    pub fn poll_piece(&mut self, context: &Context<'_>) -> Poll<Option<Piece>> {
        let (piece, has_work) = self
            .worker
            .with(|worker| (worker.poll_piece(self.key, context), !worker.catching.is_empty()));
        if has_work {
            self.worker.0.stirred.notify_one();
        }
        piece
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
        let Self { connections, output, .. } = self;
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
