//! The protocol without sockets: what a stock client sends, and the bytes that it must get.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on is a test that failed")]

mod codec;
mod command;
mod connect;
mod fossil;
mod publication;
mod subscribe;
mod time;
mod token;
mod uni;
mod world;
