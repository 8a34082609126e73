//! Black-box tests: each starts the real binary, talks to it over sockets and looks from outside.
//!
//! One file per area of the contract in README; a test's name states the fact that it proves.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
#[path = "../invariant/mod.rs"]
mod invariant;

mod api;
mod attack;
mod auth;
mod auth_keys;
mod auth_token;
mod centrifugo;
mod centrifugo_token;
mod churn;
mod cli;
mod compression;
mod delta;
mod drain;
mod emulation;
mod frames;
mod history;
mod http_stream;
mod limits;
mod listen;
mod memory;
mod metrics;
mod peer;
mod plain;
mod post;
mod presence;
mod proxy_trust;
mod recovery;
mod several_topics;
mod slow;
mod startup;
mod stream_socket;
mod streams;
mod tls;
mod unidirectional;
