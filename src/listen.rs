//! The listening sockets, one per worker, and the loop that accepts on one.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::admission::{Entrance, REFUSED_CONNECTIONS_MAX};
use crate::http::connection::{Accepted, spawn};
use crate::http::service::Service;
use crate::limits::Limits;
use crate::reason::Refusal;
use crate::worker::Stage;

/// Connections that the kernel may hold for us; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Bytes that the kernel takes ahead of the peer: more would only hide how far behind it is.
const UNSENT_LEN_MAX: u32 = 128 * 1024;

/// Pause of the accept loop when the process has no descriptor or memory left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// An address to listen on.
#[derive(Debug)]
pub struct Place {
    /// With the real port.
    pub address: SocketAddr,
    /// Keeps a port that the kernel chose from everybody else, until all listen.
    _held: Option<Socket>,
}

/// Finds the address to listen on, or an error says that its port is taken.
///
/// Several sockets share a port only with `SO_REUSEPORT`, with which a second server would
/// silently get half of our clients. So the port is first bound without it. A port that the kernel
/// is to choose is nobody's; it is held, or somebody else could be given it before we listen.
///
/// # Errors
/// When the address cannot be bound.
pub fn probe(address: SocketAddr) -> io::Result<Place> {
    if address.port() != 0 {
        let address = std::net::TcpListener::bind(address)?.local_addr()?;
        return Ok(Place { address, _held: None });
    }
    let held = shared_socket(address)?;
    let bound = held.local_addr()?.as_socket();
    let address = bound.ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(Place { address, _held: Some(held) })
}

/// A bound socket that shares its port.
fn shared_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A listening socket that shares its port with the other workers'. Accepted sockets inherit its
/// options.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind(address: SocketAddr, limits: &Limits) -> io::Result<std::net::TcpListener> {
    let socket = shared_socket(address)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(limits.write_timeout))?;
    socket.set_tcp_notsent_lowat(UNSENT_LEN_MAX)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the server drains; then until the kernel has no more, and closes.
pub async fn accept(service: Rc<Service>, listener: TcpListener) {
    let _counted = service.worker.enter_task();
    let mut stage = service.worker.stage();
    let told = Rc::default();
    loop {
        // Both arms are cancel safe.
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => admit(&service, &told, socket, peer),
                Err(error) => pause_on(&service, &error).await,
            },
            _ = stage.wait_for(|stage| *stage != Stage::Serving) => break,
        }
    }
    if let Err(error) = accept_rest(&service, &told, listener) {
        tracing::warn!(%error, "connections that waited to be accepted are reset");
    }
}

/// Accepts until the kernel has no more, and closes: whoever connected is told that we are leaving.
fn accept_rest(service: &Rc<Service>, told: &Rc<()>, listener: TcpListener) -> io::Result<()> {
    // The kernel is asked itself: tokio's notion of readiness may lag behind.
    let listener = listener.into_std()?;
    loop {
        match listener.accept() {
            Ok((socket, peer)) => {
                socket.set_nonblocking(true)?;
                admit(service, told, TcpStream::from_std(socket)?, peer);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if is_momentary(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Lets a connection in, to be served or to be told why not. Each connection that is being told
/// holds a reference to `told`: when memory is scarce, only so many are told at a time.
fn admit(service: &Rc<Service>, told: &Rc<()>, socket: TcpStream, peer: SocketAddr) {
    let peer = peer.ip();
    let client = (!service.proxies.has(peer)).then_some(peer);
    let is_scarce = service.worker.hub().memory().is_scarce();
    let (permit, refusal) = match service.admission.enter(client) {
        Entrance::Admitted(_) if is_scarce && Rc::strong_count(told) > REFUSED_CONNECTIONS_MAX => {
            return service.worker.metrics().count_refused(Refusal::MemoryLimit);
        }
        Entrance::Admitted(permit) => (permit, is_scarce.then_some(Refusal::MemoryLimit)),
        Entrance::Refused(permit, refusal) => (permit, Some(refusal)),
        Entrance::Shut(refusal) => return service.worker.metrics().count_refused(refusal),
    };
    let refused = refusal.map(|refusal| (refusal, Rc::clone(told)));
    spawn(Rc::clone(service), Accepted { socket, peer, permit, refused });
}

/// Waits where accepting again at once would only spin.
async fn pause_on(service: &Service, error: &io::Error) {
    if is_momentary(error) {
        return;
    }
    service.worker.metrics().accept_pauses.add(1);
    tracing::warn!(%error, "cannot accept connections; raise the limit of open files");
    tokio::time::sleep(EXHAUSTED_PAUSE).await;
}

/// Whether the error is that of one connection, gone before it was accepted.
fn is_momentary(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
