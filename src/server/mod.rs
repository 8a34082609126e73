//! Puts the parts together: threads, listeners, signals, and the order of their ends.

mod heap;
pub(crate) mod host;
mod thread;

use std::error::Error as _;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::admin;
use crate::admission::Admission;
use crate::auth::{Access, KeySet, Proxies, UrlError};
use crate::config::Config;
use crate::drain::Drain;
use crate::http::origin::{OriginError, OriginPolicy};
use crate::hub::{Hub, HubParts, Inbox};
use crate::id::{Door, WorkerId};
use crate::limits::Limits;
use crate::listen;
use crate::metrics::{Memory, WorkerMetrics};
use crate::protocol;
use crate::protocol::centrifugo::Settings;
use crate::reason::Refusal;
use crate::tls::{self, Certificate, CertificateError};
use crate::worker::{Gate, WAKE};
use heap::Heap;
use thread::{Thread, WorkerThread};

/// Time between two looks at what only the clock brings about: old history, threads that ended.
const SWEEP_INTERVAL: Duration = Duration::from_millis(50);

/// Time between two looks at which client addresses can be forgotten.
const ADDRESS_SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Time between two looks at whether the certificate's files were written.
const FILES_INTERVAL: Duration = Duration::from_secs(2);

/// Why the server did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// `listen` cannot be bound.
    #[error("cannot listen on {address} (listen)")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// `admin_listen` cannot be bound.
    #[error("cannot listen on {address} (admin_listen)")]
    AdminListen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// `tls.cert_file` or `tls.key_file` cannot be used.
    #[error("the certificate is not usable ([tls])")]
    Certificate(#[source] CertificateError),
    /// The cryptographic library refused to work.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// `websocket.allowed_origins` has an entry that is none.
    #[error("websocket.allowed_origins is not usable")]
    Origins(#[source] OriginError),
    /// `auth.jwks_url` is no address of keys.
    #[error("auth.jwks_url is not usable")]
    KeysUrl(#[source] UrlError),
    /// The system refused a thread, a poller, a signal handler or standard output.
    #[error("cannot start")]
    Start(#[source] io::Error),
    /// A worker ended although nobody asked it to.
    #[error("worker {0} stopped; this is a bug, please report it")]
    Worker(usize),
    /// A second signal ended the drain before its time.
    #[error("stopped before every session had left")]
    Forced,
}

/// What all workers share.
struct Shared {
    config: Config,
    limits: Arc<Limits>,
    hub: Arc<Hub>,
    metrics: Arc<[Arc<WorkerMetrics>]>,
    drain: Arc<Drain>,
    gate: Arc<Gate>,
    admission: Arc<Admission>,
    access: Arc<Access>,
    /// The key set of `auth.jwks_url`, where there is one.
    keys: Option<Arc<KeySet>>,
    proxies: Arc<Proxies>,
    origins: Arc<OriginPolicy>,
    certificate: Option<Arc<Certificate>>,
    tls: Option<Arc<ServerConfig>>,
    /// The address that clients connect to, with the real port.
    address: SocketAddr,
}

impl Shared {
    fn begin_drain(&self) {
        let window = self.config.drain_window;
        tracing::info!(?window, "draining");
        self.drain.begin(Instant::now(), window);
        self.hub.inboxes().iter().for_each(|inbox| inbox.wake());
    }

    /// Reads the certificate again; a bad one leaves the old in force.
    fn reload(&self) {
        let Some(certificate) = &self.certificate else {
            tracing::info!("nothing to reload: there is no [tls]");
            return;
        };
        match certificate.reload() {
            Ok(()) => tracing::info!("certificate reloaded"),
            Err(error) => {
                let reason = error.source().map(ToString::to_string);
                tracing::error!(%error, reason, "certificate not reloaded; the old one stays");
            }
        }
    }

    fn reload_if_stale(&self) {
        if self.certificate.as_ref().is_some_and(|certificate| certificate.is_stale()) {
            self.reload();
        }
    }
}

/// Serves until a signal asks to drain and everybody has left.
///
/// # Errors
/// [`ServeError`] says what went wrong; all end the process with 1.
pub fn run(config: Config) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ServeError::Start)?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), ServeError> {
    // Signal handlers write to a pipe by its number: it must exist before a worker takes a copy of
    // the descriptor table.
    let mut signals = Signals::new().map_err(ServeError::Start)?;
    heap::set_up();
    let started = admin::Started::now();
    host::raise_descriptor_limit();
    let listen_error = |source| ServeError::Listen { address: config.listen, source };
    let place = listen::probe(config.listen).map_err(listen_error)?;
    let admin = bind_admin(&config).await?;
    let (shared, polls) = share(config, place.address)?;
    let shared = Arc::new(shared);
    let threads = start_workers(&shared, polls)?;
    drop(place);
    announce(&shared, admin.as_ref()).map_err(ServeError::Start)?;
    if let Some(keys) = &shared.keys {
        let keys = Arc::clone(keys);
        // Ends with the runtime.
        tokio::spawn(async move { keys.run().await });
    }
    if let Some(listener) = admin {
        let state = Arc::new(admin_state(&shared, started));
        tokio::spawn(admin::serve(listener, state));
    }
    watch(&shared, &mut signals, threads).await
}

async fn bind_admin(config: &Config) -> Result<Option<TcpListener>, ServeError> {
    let Some(address) = config.admin_listen else { return Ok(None) };
    let bound = TcpListener::bind(address).await;
    bound.map(Some).map_err(|source| ServeError::AdminListen { address, source })
}

/// Makes what the workers share, and their pollers: a waker must exist before any worker takes a
/// copy of the descriptor table.
fn share(config: Config, address: SocketAddr) -> Result<(Shared, Vec<mio::Poll>), ServeError> {
    let count = host::worker_count(config.workers);
    let memory = Arc::new(Memory::new(host::memory_limit(config.limits.memory_bytes_max)));
    let tables = if config.private_fd_tables { count } else { 1 };
    let count_max = host::connection_limit(config.limits.connections_max, count, tables);
    let (mut polls, mut inboxes) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let poll = mio::Poll::new().map_err(ServeError::Start)?;
        let waker = mio::Waker::new(poll.registry(), WAKE).map_err(ServeError::Start)?;
        polls.push(poll);
        let wake = move || {
            if let Err(error) = waker.wake() {
                tracing::error!(%error, "cannot wake a worker");
            }
        };
        inboxes.push(Arc::new(Inbox::new(Arc::clone(&memory), wake)));
    }
    let hub = Hub::new(HubParts {
        rules: config.topics.clone(),
        meta_ttl: config.history_meta_ttl,
        inboxes,
        variants: Arc::new(protocol::variants(config.websocket.deflate_len_min())),
        memory,
    });
    let origins = OriginPolicy::new(config.websocket.allowed_origins.clone());
    let keys = match config.auth.jwks_url.as_str() {
        "" => None,
        url => Some(Arc::new(KeySet::new(url).map_err(ServeError::KeysUrl)?)),
    };
    let certificate = certificate(&config)?;
    let tls = certificate.clone().map(tls::server_config).transpose().map_err(ServeError::Tls)?;
    let hub = Arc::new(hub);
    let access = Arc::new(Access::new(&config.auth, keys.clone(), &[address]));
    let settings = Settings::new(&config.limits, &format!("{:016x}", fastrand::u64(..)));
    let shared = Shared {
        limits: Arc::new(config.limits.clone()),
        gate: Arc::new(Gate::new(Arc::clone(&hub), Arc::clone(&access), settings)),
        drain: Arc::clone(hub.drain()),
        hub,
        metrics: (0..count).map(|_| Arc::default()).collect(),
        admission: Arc::new(Admission::new(count_max, &config.limits)),
        access,
        keys,
        proxies: Arc::new(Proxies::new(config.trusted_proxies.iter().copied())),
        origins: Arc::new(origins.map_err(ServeError::Origins)?),
        certificate,
        tls,
        address,
        config,
    };
    Ok((shared, polls))
}

fn certificate(config: &Config) -> Result<Option<Arc<Certificate>>, ServeError> {
    if config.tls.is_none() {
        return Ok(None);
    }
    let certificate = Certificate::load(config.tls.clone()).map_err(ServeError::Certificate)?;
    Ok(Some(Arc::new(certificate)))
}

fn start_workers(shared: &Arc<Shared>, polls: Vec<mio::Poll>) -> Result<Vec<Thread>, ServeError> {
    let mut threads = Vec::new();
    for (index, poll) in polls.into_iter().enumerate() {
        let id = WorkerId(u16::try_from(index).expect("config bounds the workers"));
        let worker = WorkerThread::new(id, poll, Arc::clone(shared)).map_err(ServeError::Start)?;
        let (thread, ready) = worker.start().map_err(ServeError::Start)?;
        ready
            .recv()
            .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
            .map_err(|source| ServeError::Listen { address: shared.config.listen, source })?;
        threads.push(thread);
    }
    Ok(threads)
}

fn admin_state(shared: &Arc<Shared>, started: admin::Started) -> admin::State {
    let (hub, drain) = (Arc::clone(&shared.hub), Arc::clone(&shared.drain));
    let gate = Arc::clone(&shared.gate);
    admin::State {
        workers: Arc::clone(&shared.metrics),
        memory: Arc::clone(shared.hub.memory()),
        variants: Arc::clone(shared.hub.variants()),
        topics: Box::new(move || hub.topic_count()),
        refused_commands: Box::new(move || gate.refused_commands()),
        admission: Arc::clone(&shared.admission),
        keys: shared.keys.clone(),
        ready: Box::new(move || if drain.is_draining() { Err(Refusal::Draining) } else { Ok(()) }),
        password: shared.config.admin_password.clone(),
        started,
        version: env!("CARGO_PKG_VERSION"),
    }
}

/// Prints where the server listens and what to try.
fn announce(shared: &Shared, admin: Option<&TcpListener>) -> io::Result<()> {
    let scheme = if shared.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", shared.address);
    let mut lines = vec![format!("listening {url}")];
    if let Some(admin) = admin {
        lines.push(format!("admin http://{}", admin.local_addr()?));
    }
    lines.extend([
        String::new(),
        "Try, from other terminals:".to_owned(),
        format!("  curl -N {url}/topics/chat         follows a topic"),
        format!("  curl -d hello {url}/topics/chat   publishes to it"),
    ]);
    if shared.access.is_loopback_effective() {
        lines.push(format!("  {url}/   is the same topic as a chat page"));
    }
    let text = lines.join("\n") + "\n";
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// SIGTERM, SIGINT: to end.
    End,
    /// SIGHUP: to read the certificate again.
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Cancel safe: a signal that was not returned stays.
    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

/// Sweeps, and waits for signals and for the workers' end.
async fn watch(
    shared: &Shared,
    signals: &mut Signals,
    threads: Vec<Thread>,
) -> Result<(), ServeError> {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let memory = shared.hub.memory();
    let mut heap = Heap::new(Instant::now(), memory);
    let mut look_at_files = Instant::now() + FILES_INTERVAL;
    let mut sweep_addresses = Instant::now() + ADDRESS_SWEEP_INTERVAL;
    while threads.iter().any(|thread| !thread.is_finished()) {
        if !shared.drain.is_draining()
            && let Some(index) = threads.iter().position(Thread::is_finished)
        {
            return Err(ServeError::Worker(index));
        }
        // Both arms are cancel safe.
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Reload => shared.reload(),
                Asked::End if shared.drain.is_draining() => return Err(ServeError::Forced),
                Asked::End => shared.begin_drain(),
            },
            now = ticks.tick() => {
                heap.look_at_resident(memory);
                shared.hub.sweep(now);
                if now >= look_at_files {
                    look_at_files = now + FILES_INTERVAL;
                    shared.reload_if_stale();
                }
                if now >= sweep_addresses {
                    sweep_addresses = now + ADDRESS_SWEEP_INTERVAL;
                    shared.admission.sweep(now);
                }
                let accepted = shared.metrics.iter();
                let accepted = accepted.map(|one| one.connections_total[Door::Http.index()].get());
                heap.look(accepted.sum(), now);
                heap.look_at_shed(memory);
            }
        }
    }
    for (index, thread) in threads.into_iter().enumerate() {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, worker = index, "worker failed");
                return Err(ServeError::Worker(index));
            }
            Err(_) => return Err(ServeError::Worker(index)),
        }
    }
    Ok(())
}
