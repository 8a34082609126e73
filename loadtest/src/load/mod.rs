//! The client side of a run: connections, what they send and what they must have received.
//!
//! One thread does all of it and, while it measures, never sleeps in its poll: waking a sleeping
//! client is work that the kernel charges to the server's `send`.

mod echo;
pub(crate) mod ledger;
pub(crate) mod pool;
pub(crate) mod transport;
pub(crate) mod unsent;
