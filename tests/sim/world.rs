//! The server under a clock that stands still: hub, workers, HTTP and sockets are the real ones.
//!
//! Everything runs on one thread. A worker's tasks are polled by hand and in an order that the seed
//! chooses; sockets are pairs of this process, so that a byte written is a byte there. No step
//! waits for anything.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use fanwire::admission::{Admission, Entrance};
use fanwire::auth::{Access, Anonymous, AuthConfig, Proxies, Secret};
use fanwire::drain::Drain;
use fanwire::http::connection::{Accepted, spawn};
use fanwire::http::origin::OriginPolicy;
use fanwire::http::service::Service;
use fanwire::hub::{Hub, HubParts, Inbox};
use fanwire::id::{Door, WorkerId};
use fanwire::limits::Limits;
use fanwire::metrics::{Counter, Memory, MemoryKind, WorkerMetrics};
use fanwire::protocol::{self, centrifugo};
use fanwire::reason::CloseReason;
use fanwire::worker::{Gate, Portions, WAKE, WorkerHandle, WorkerParts, run};
use fastrand::Rng;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::invariant::{Baseline, Closes};
use crate::setup::Setup;

/// Rounds after which a worker that still has something to do will never rest.
const ROUNDS_MAX: usize = 20_000;

/// What the kernel takes ahead of a client, in bytes: the least that it can be asked for.
const SNDBUF: usize = 1;

/// What the application's calls are let in by.
pub(crate) const API_KEY: &str = "the key of the simulation";

/// What tokens are signed with.
const SECRET: &str = "the secret of the simulation, long";

/// A server without a listener: sockets are handed to it.
pub(crate) struct World {
    hub: Arc<Hub>,
    shared: Shared,
    drain_window: Duration,
    sides: Vec<Side>,
    random: Rng,
}

/// What all workers share.
struct Shared {
    hub: Arc<Hub>,
    drain: Arc<Drain>,
    limits: Arc<Limits>,
    admission: Arc<Admission>,
    access: Arc<Access>,
    gate: Arc<Gate>,
    portions: Portions,
}

/// One worker with the tasks of its thread.
struct Side {
    tasks: LocalSet,
    /// Until the worker has ended.
    service: Option<Rc<Service>>,
    metrics: Arc<WorkerMetrics>,
    woken: Arc<Woken>,
    is_frozen: bool,
    has_ended: Rc<Cell<bool>>,
}

/// Set when a side has something to do.
#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A token of `user`, which does not run out.
pub(crate) fn token(user: &str) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &json!({ "sub": user }), &key)
        .expect("claims are JSON")
}

/// A worker that never rests.
#[derive(Debug)]
pub(crate) struct Restless;

impl World {
    /// A server; must be called inside a runtime whose clock is paused.
    pub(crate) fn new(setup: &Setup, random: Rng) -> Self {
        let memory = Arc::new(Memory::new(u64::MAX));
        let (mut polls, mut inboxes) = (Vec::new(), Vec::new());
        for _ in 0..setup.workers {
            let poll = mio::Poll::new().expect("a poller");
            let waker = mio::Waker::new(poll.registry(), WAKE).expect("a waker");
            polls.push(poll);
            let wake = move || waker.wake().expect("the poller is there");
            inboxes.push(Arc::new(Inbox::new(Arc::clone(&memory), wake)));
        }
        let hub = Arc::new(Hub::new(HubParts {
            rules: setup.topics.iter().map(|topic| topic.rule.clone()).collect(),
            meta_ttl: setup.meta_ttl,
            inboxes,
            variants: Arc::new(protocol::variants(None)),
            memory,
        }));
        let shared = Shared::new(setup, &hub);
        let polls = polls.into_iter().zip(0..);
        let sides = polls.map(|(poll, id)| Side::start(WorkerId(id), poll, &shared));
        Self { sides: sides.collect(), hub, shared, drain_window: setup.drain_window, random }
    }

    /// Hands a socket to a worker; its other end is the client's.
    pub(crate) fn connect(&self, worker: usize) -> UnixStream {
        let (client, socket) = UnixStream::pair().expect("a pair of sockets");
        for end in [&client, &socket] {
            end.set_nonblocking(true).expect("a socket");
        }
        socket2::SockRef::from(&socket).set_send_buffer_size(SNDBUF).expect("a socket");
        let side = &self.sides[worker % self.sides.len()];
        let service = side.service.as_ref().expect("nobody connects to a worker that has ended");
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let Entrance::Admitted(permit) = self.shared.admission.enter(Some(peer)) else {
            panic!("there is room");
        };
        // A stream socket is a stream socket: nothing asks for what only TCP has.
        let socket = std::net::TcpStream::from(OwnedFd::from(socket));
        let _context = side.tasks.enter();
        let socket = tokio::net::TcpStream::from_std(socket).expect("a socket");
        spawn(Rc::clone(service), Accepted { socket, peer, permit, refused: None });
        client
    }

    /// Lets every worker that is not frozen run until it has nothing to do.
    pub(crate) async fn settle(&mut self) -> Result<(), Restless> {
        for _ in 0..ROUNDS_MAX {
            // Sockets and timers wake their tasks.
            tokio::task::yield_now().await;
            let mut woken: Vec<usize> = (0..self.sides.len())
                .filter(|index| {
                    let side = &self.sides[*index];
                    !side.is_frozen && side.woken.0.swap(false, Ordering::Relaxed)
                })
                .collect();
            if woken.is_empty() {
                return Ok(());
            }
            self.random.shuffle(&mut woken);
            for index in woken {
                // Threads are not fair: some rounds pass by one of them.
                if self.random.u8(..8) == 0 {
                    self.sides[index].woken.0.store(true, Ordering::Relaxed);
                } else {
                    self.sides[index].poll();
                }
            }
        }
        Err(Restless)
    }

    /// Lets time pass, and what comes due in it happen.
    pub(crate) async fn advance(&mut self, time: Duration) -> Result<(), Restless> {
        tokio::time::advance(time).await;
        self.settle().await?;
        self.hub.sweep(Instant::now());
        Ok(())
    }

    pub(crate) fn freeze(&mut self, worker: usize) {
        let count = self.sides.len();
        self.sides[worker % count].is_frozen = true;
    }

    pub(crate) fn thaw(&mut self, worker: usize) {
        let count = self.sides.len();
        self.sides[worker % count].is_frozen = false;
    }

    pub(crate) fn thaw_all(&mut self) {
        self.sides.iter_mut().for_each(|side| side.is_frozen = false);
    }

    /// Begins the drain, as a signal does.
    pub(crate) fn drain(&self) {
        self.shared.drain.begin(Instant::now(), self.drain_window);
        self.hub.inboxes().iter().for_each(|inbox| inbox.wake());
    }

    /// Whether the worker has ended, as it does when it is drained.
    pub(crate) fn has_ended(&self, worker: usize) -> bool {
        self.sides[worker % self.sides.len()].has_ended.get()
    }

    /// Whether a worker ended before all its clients had left.
    pub(crate) fn was_forced(&self) -> bool {
        self.sides.iter().any(|side| {
            side.has_ended.get() && side.metrics.connections.iter().any(|count| count.get() > 0)
        })
    }

    pub(crate) fn have_all_ended(&self) -> bool {
        self.sides.iter().all(|side| side.has_ended.get())
    }

    /// Everything that is held on behalf of clients.
    pub(crate) fn held(&self) -> Baseline {
        let gauge = |get: fn(&WorkerMetrics) -> u64| {
            self.sides.iter().map(|side| get(&side.metrics)).fold(0, u64::wrapping_add)
        };
        let memory = self.hub.memory();
        let mut held = vec![
            ("connections", gauge(|metrics| metrics.connections.iter().map(Counter::get).sum())),
            ("subscriptions", gauge(|metrics| metrics.subscriptions.get())),
            ("outbox bytes", gauge(|metrics| metrics.outbox_bytes.get())),
            ("topics", self.hub.topic_count() as u64),
        ];
        held.extend(MemoryKind::ALL.map(|kind| (kind.word(), memory.held(kind))));
        Baseline::from_counts(held)
    }

    /// The closes that the metrics count.
    pub(crate) fn closes(&self) -> Closes {
        let mut closes = Closes::default();
        for reason in CloseReason::ALL {
            let (code, word) = reason.labels();
            let count = self.sides.iter().map(|side| side.metrics.closes[reason.index()].get());
            closes.add(code.parse().unwrap_or(0), word, count.sum());
        }
        closes
    }

    /// Publications that the kernel took, by all doors.
    pub(crate) fn deliveries(&self) -> u64 {
        let doors = Door::ALL.iter().map(|door| door.index());
        doors
            .flat_map(|door| self.sides.iter().map(move |side| side.metrics.deliveries[door].get()))
            .sum()
    }
}

impl Shared {
    fn new(setup: &Setup, hub: &Arc<Hub>) -> Self {
        let auth = AuthConfig {
            anonymous: Anonymous::All,
            api_keys: vec![Secret::new(API_KEY.to_owned())],
            jwt_hmac_secret: Secret::new(SECRET.to_owned()),
            ..AuthConfig::default()
        };
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let access = Arc::new(Access::new(&auth, None, &[here]));
        let settings = centrifugo::Settings::new(&setup.limits, "sim");
        Self {
            drain: Arc::clone(hub.drain()),
            limits: Arc::new(setup.limits.clone()),
            admission: Arc::new(Admission::new(usize::MAX / 2, &setup.limits)),
            gate: Arc::new(Gate::new(Arc::clone(hub), Arc::clone(&access), settings)),
            access,
            portions: setup.portions,
            hub: Arc::clone(hub),
        }
    }
}

impl Side {
    fn start(id: WorkerId, poll: mio::Poll, shared: &Shared) -> Self {
        let metrics = Arc::<WorkerMetrics>::default();
        let worker = WorkerHandle::new(WorkerParts {
            id,
            hub: Arc::clone(&shared.hub),
            limits: Arc::clone(&shared.limits),
            metrics: Arc::clone(&metrics),
            registry: poll.registry().try_clone().expect("a descriptor"),
            drain: Arc::clone(&shared.drain),
            gate: Arc::clone(&shared.gate),
            portions: shared.portions,
        });
        let service = Some(Rc::new(Service {
            worker: worker.clone(),
            limits: Arc::clone(&shared.limits),
            access: Arc::clone(&shared.access),
            proxies: Arc::new(Proxies::new([])),
            admission: Arc::clone(&shared.admission),
            origins: Arc::new(OriginPolicy::new(Vec::new()).expect("no origins")),
            drain: Arc::clone(&shared.drain),
            compression: false,
            tls: None,
        }));
        let (tasks, has_ended) = (LocalSet::new(), Rc::new(Cell::new(false)));
        let ended = Rc::clone(&has_ended);
        tasks.spawn_local(async move {
            run(worker, poll).await.expect("the poller works");
            ended.set(true);
        });
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        Self { tasks, service, metrics, woken, is_frozen: false, has_ended }
    }

    fn poll(&mut self) {
        let waker = Waker::from(Arc::clone(&self.woken));
        // The tasks never end by themselves: HTTP connections come and go.
        let _ = Pin::new(&mut self.tasks).poll(&mut Context::from_waker(&waker));
        if self.has_ended.get() {
            // The thread ends with its worker, and everything on it with the thread.
            self.tasks = LocalSet::new();
            self.service = None;
        }
    }
}
