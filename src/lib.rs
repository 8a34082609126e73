//! Fanwire, a WebSocket pub/sub broadcast server.
//!
//! The modules below stand in the order of their layers, low to high; each names only lower ones
//! (ARCHITECTURE.md, checked by `tests/tidy.rs`).

pub mod auth;
pub mod cli;
pub mod config;
pub mod hub;
pub mod id;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod reason;
pub mod server;
