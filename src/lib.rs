//! Fanwire, a WebSocket pub/sub broadcast server.
//!
//! The modules below stand in the order of their layers, low to high; each names only lower ones
//! (ARCHITECTURE.md, checked by `tests/tidy.rs`).

pub mod id;
pub mod time;
pub mod limits;
pub mod rate;
pub mod reason;
mod sync;
pub mod metrics;
pub mod drain;
pub mod admission;
pub mod log;
pub mod outbox;
pub mod ws;
pub mod hub;
pub mod tls;
pub mod auth;
pub mod protocol;
pub mod session;
pub mod worker;
pub mod admin;
pub mod http;
pub mod listen;
pub mod config;
pub mod server;
pub mod cli;
