//! The bodies of answers: whole, or not hyper's to send.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::connection::Busy;
use crate::metrics::{Charge, Memory, MemoryKind};

/// The body of an answer.
#[derive(Debug)]
pub struct AnswerBody {
    content: Content,
    /// The request counts as going on until its answer's body is dropped.
    busy: Busy,
}

/// Where the bytes of a body come from.
#[derive(Debug)]
pub enum Content {
    /// All of it, on the memory account if it is long.
    Whole(Bytes, Option<Charge>),
    /// None from here: the socket goes on as a stream when the answer's head is out.
    Stream,
}

/// A piece of a body, charged until it is written.
#[derive(Debug)]
pub struct Chunk {
    bytes: Bytes,
    _charge: Option<Charge>,
}

impl Content {
    /// A short body: it is covered by what its connection is charged.
    pub fn short(bytes: Bytes) -> Self {
        Self::Whole(bytes, None)
    }

    /// A body of any length, charged to `memory` for as long as it waits.
    pub fn long(bytes: Bytes, memory: &Arc<Memory>) -> Self {
        let charge = Charge::new(memory, MemoryKind::Outbox, bytes.len());
        Self::Whole(bytes, Some(charge))
    }
}

impl AnswerBody {
    /// The body of the answer to the request that `busy` stands for.
    pub fn new(content: Content, busy: Busy) -> Self {
        Self { content, busy }
    }
}

impl Body for AnswerBody {
    type Data = Chunk;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, Infallible>>> {
        match &mut self.content {
            Content::Whole(bytes, _) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes, charge) => {
                let chunk = Chunk { bytes: std::mem::take(bytes), _charge: charge.take() };
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Content::Stream => {
                // Nobody is woken: the connection's task looks at the note when hyper is done.
                self.busy.note_head();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Whole(bytes, _) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes, _) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream => SizeHint::default(),
        }
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, len: usize) {
        self.bytes.advance(len);
    }
}
