//! The way to a worker from the HTTP tasks on its own thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::bookmark::Bookmark;
use super::connection::{ConnectionKey, Transport};
use super::rewrite::{Coding, Rewritten};
use super::{Gate, Opening, Subscription, Worker, WorkerParts};
use crate::admission::Permit;
use crate::hub::{Hub, Joined};
use crate::id::Door;
use crate::metrics::{Charge, MemoryKind, WorkerMetrics};
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
        Pending::new(self, key)
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
        (Pending::new(self, key), joined)
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
        (Pending::new(self, key), joined)
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

/// A subscription whose answer is not out yet; dropped, it is undone.
#[derive(Debug)]
pub struct Pending {
    worker: WorkerHandle,
    key: ConnectionKey,
    coding: Coding,
    bookmark: Option<Bookmark>,
    is_armed: bool,
}

impl Pending {
    fn new(worker: &WorkerHandle, key: ConnectionKey) -> Self {
        let (worker, coding) = (worker.clone(), Coding::Chunked);
        Self { worker, key, coding, bookmark: None, is_armed: true }
    }

    /// As it is, but a stream whose end is told so.
    #[must_use]
    pub fn coded(mut self, coding: Coding) -> Self {
        self.coding = coding;
        self
    }

    /// As it is, but a stream whose events get their ids by `bookmark`.
    #[must_use]
    pub fn with(mut self, bookmark: Bookmark) -> Self {
        self.bookmark = Some(bookmark);
        self
    }

    /// Goes on over `socket`, now that the answer's head is out; `first` is what came behind the
    /// request.
    pub fn activate(mut self, socket: Socket, first: Vec<u8>, permit: Permit) {
        self.is_armed = false;
        let (coding, bookmark) = (self.coding, self.bookmark.take());
        let transport = if coding == Coding::Chunked && bookmark.is_none() {
            Transport::Socket(socket)
        } else {
            Transport::Rewritten(Box::new(Rewritten { socket, coding, bookmark }))
        };
        self.worker.stir(|worker| worker.activate(self.key, (transport, permit), first));
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.is_armed {
            self.worker.stir(|worker| worker.forget(self.key));
        }
    }
}

impl Worker {
    /// Queues what a connection gets before everything else.
    fn greet(&mut self, key: ConnectionKey, bytes: Box<[u8]>) {
        let Self { connections, output, .. } = self;
        output.send_own(key.index, &mut connections[key.index as usize], bytes);
    }

    /// Removes a connection whose answer did not get out.
    fn forget(&mut self, key: ConnectionKey) {
        if self.get(key).is_some() {
            self.remove(key.index);
        }
    }
}
