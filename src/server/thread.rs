//! The thread of one worker: its descriptor table, runtime, listener and loop.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use nix::sched::{CloneFlags, unshare};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use super::Shared;
use crate::http::service::Service;
use crate::id::WorkerId;
use crate::listen;
use crate::worker::{self, Portions, WorkerHandle, WorkerParts};

/// A worker's thread, once it runs.
pub(super) type Thread = JoinHandle<io::Result<()>>;

/// What moves to the thread.
pub(super) struct WorkerThread {
    parts: WorkerParts,
    poll: mio::Poll,
    shared: Arc<Shared>,
}

impl WorkerThread {
    pub(super) fn new(id: WorkerId, poll: mio::Poll, shared: Arc<Shared>) -> io::Result<Self> {
        let parts = WorkerParts {
            id,
            hub: Arc::clone(&shared.hub),
            limits: Arc::clone(&shared.limits),
            metrics: Arc::clone(&shared.metrics[usize::from(id.0)]),
            registry: poll.registry().try_clone()?,
            drain: Arc::clone(&shared.drain),
            gate: Arc::clone(&shared.gate),
            portions: Portions::default(),
        };
        Ok(Self { parts, poll, shared })
    }

    /// Starts the thread, which ends when the worker is drained. The receiver tells once whether it
    /// listens.
    pub(super) fn start(self) -> io::Result<(Thread, Receiver<io::Result<()>>)> {
        let (ready, is_ready) = sync_channel(1);
        let builder = Builder::new().name(format!("worker-{}", self.parts.id.0));
        let thread = builder.spawn(move || self.run(&ready))?;
        Ok((thread, is_ready))
    }

    fn run(self, ready: &SyncSender<io::Result<()>>) -> io::Result<()> {
        let Self { parts, poll, shared } = self;
        let listener = match listener(&shared) {
            Ok(listener) => listener,
            Err(error) => {
                // Main gives up when it hears of it.
                ready.send(Err(error)).map_err(|_| io::ErrorKind::BrokenPipe)?;
                return Ok(());
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tasks = LocalSet::new();
        tasks.block_on(&runtime, async move {
            let handle = WorkerHandle::new(parts);
            let service = Rc::new(Service {
                worker: handle.clone(),
                limits: Arc::clone(&shared.limits),
                access: Arc::clone(&shared.access),
                proxies: Arc::clone(&shared.proxies),
                admission: Arc::clone(&shared.admission),
                origins: Arc::clone(&shared.origins),
                drain: Arc::clone(&shared.drain),
                compression: shared.config.websocket.compression,
                tls: shared.tls.clone(),
            });
            let listener = TcpListener::from_std(listener)?;
            let accept = listen::accept(service, listener);
            tokio::task::spawn_local(accept);
            ready.send(Ok(())).map_err(|_| io::ErrorKind::BrokenPipe)?;
            worker::run(handle, poll).await
        })
    }
}

/// The worker's own listener, bound on its own thread: a private descriptor table must hold it,
/// and no other table may.
fn listener(shared: &Shared) -> io::Result<std::net::TcpListener> {
    if shared.config.private_fd_tables {
        unshare(CloneFlags::CLONE_FILES)?;
    }
    listen::bind(shared.address, &shared.limits)
}
