//! What the HTTP service decides about a request, from its head alone.
//!
//! Everything below is pure: no socket, no task, no clock.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod accept;
pub mod answer;
pub mod handshake;
pub mod origin;
pub mod payload;
pub mod query;
pub mod route;
