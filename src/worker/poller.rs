//! The worker's own poller, nested into tokio's by its descriptor.
#![expect(unsafe_code, reason = "tokio asks for a promise about the descriptor's life")]

use std::io;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has tokio watch `poll`: it is readable when it has events.
///
/// # Errors
/// When tokio's own poller refuses the descriptor.
pub(super) fn nest(poll: mio::Poll) -> io::Result<AsyncFd<mio::Poll>> {
    // SAFETY: a `mio::Poll` owns its epoll descriptor from its making to its drop and always names
    // the same one; the `AsyncFd` owns the poll, so both live and end together.
    let nested = unsafe { AsyncFd::register_with_interest(poll, Interest::READABLE) };
    nested.map_err(io::Error::from)
}
