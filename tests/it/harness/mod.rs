//! What the tests share: the server as a process, and small clients written apart from its code.
//!
//! Nothing here uses the library: a fault of the server's codecs must not be repeated by what tests them.

mod client;
mod emulated;
mod figure;
mod http;
mod listener;
mod metrics;
mod position;
mod process;
mod proxy;
mod server;
mod stream;
mod token;
mod websocket;
mod wire;

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use client::Client;
pub(crate) use emulated::Emulated;
pub(crate) use figure::{figure, percentile};
pub(crate) use http::{Request, Response};
pub(crate) use listener::{Carrier, Listener};
pub(crate) use process::{Process, fanwire, raise_descriptor_limit, with_files};
pub(crate) use proxy::CutProxy;
pub(crate) use server::{Authority, Server};
pub(crate) use stream::{Block, Stream};
pub(crate) use token::{SECRET, now, sign, token};
pub(crate) use websocket::{
    BINARY, CLOSE, CONTINUATION, FIN, Frame, LEN_16_BITS, LEN_64_BITS, MASKED, PING, PONG, RSV1,
    TEXT, WebSocket, close_payload, deflated, frame,
};
pub(crate) use wire::Wire;

/// How long a test waits for what must happen; it never waits for nothing to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Waits until `condition` gives a value.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    eventually_within(1, what, condition)
}

/// As [`eventually`], for what takes long by its nature: so many times the usual deadline.
#[track_caller]
pub(crate) fn eventually_within<T>(
    times: u32,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + times * DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{:?} passed: {what}", times * DEADLINE);
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `get` gives `expected`; the panic shows what it gave instead.
#[track_caller]
pub(crate) fn eventually_equal<T: PartialEq + Debug>(
    what: &str,
    expected: &T,
    mut get: impl FnMut() -> T,
) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let got = get();
        if got == *expected {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {got:?}, not {expected:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Tells threads of a scope to end.
#[derive(Debug, Default)]
pub(crate) struct Stop(AtomicBool);

/// Sets its [`Stop`] when dropped, also by a panic: a scope would wait for its threads for ever.
#[derive(Debug)]
pub(crate) struct StopOnDrop<'a>(&'a Stop);

impl Stop {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn on_drop(&self) -> StopOnDrop<'_> {
        StopOnDrop(self)
    }
}

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}
