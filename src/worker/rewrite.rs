//! Sockets of the few clients that get what all get in words of their own: readers of several
//! topics, whose events have ids of their own, and clients of HTTP/1.0, which knows no chunks.
//!
//! What waits for them is shared like everybody's. It is rewritten when they take it, a little at a
//! time; the loop that hands batches out never asks for it.

use std::sync::Arc;

use super::bookmark::Bookmark;
use crate::metrics::Memory;
use crate::outbox::{Front, Outbox};
use crate::protocol::chunk;
use crate::tls::Socket;

/// Bytes of publications that are rewritten at a time; a longer one is alone.
const PIECE_LEN_MAX: usize = 16 * 1024;

/// How the end of a stream's body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// By the last of its chunks.
    Chunked,
    /// By the end of the connection, as HTTP/1.0 has it.
    Identity,
}

/// A socket, and what is done to bytes on their way to it.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) socket: Socket,
    pub(super) coding: Coding,
    /// What gives its events their ids, where these name several topics.
    pub(super) bookmark: Option<Bookmark>,
}

impl Rewritten {
    /// Makes what comes next ready to be written, if it is not yet.
    pub(super) fn prepare(&mut self, outbox: &mut Outbox, memory: &Arc<Memory>) {
        let Self { coding, bookmark, .. } = self;
        outbox.rewrite_front(PIECE_LEN_MAX, memory, |front| match (front, &mut *bookmark) {
            (Front::Publications(events), Some(bookmark)) => {
                let events = bookmark.advance(events);
                match coding {
                    Coding::Chunked => chunk::of(&events),
                    Coding::Identity => events,
                }
            }
            (Front::Publications(slice), None) => coding.apply(slice.bytes()),
            (Front::Own(bytes), _) => coding.apply(bytes),
        });
    }
}

impl Coding {
    fn apply(self, chunks: &[u8]) -> Vec<u8> {
        match self {
            Self::Chunked => chunks.to_vec(),
            Self::Identity => chunk::contents(chunks).flatten().copied().collect(),
        }
    }
}
