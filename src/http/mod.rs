//! HTTP on `listen`: what is asked, whether it is allowed, and the answer.
//!
//! `connection` and `service` (with `publish`, `subscribe` and `api`) hold sockets and tasks;
//! everything else is pure: no socket, no task, no clock.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod accept;
pub mod answer;
pub mod api;
pub mod body;
mod centrifugo;
pub mod connection;
mod emulation;
pub mod handshake;
pub mod origin;
pub mod payload;
mod publish;
pub mod query;
pub mod route;
pub mod service;
mod several;
mod stream;
mod subscribe;
