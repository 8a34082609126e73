//! The bodies of answers: whole, or streamed by a worker.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::connection::Busy;
use crate::metrics::{Charge, Memory, MemoryKind};
use crate::outbox::Piece;
use crate::worker::StreamBody;

/// The body of an answer.
#[derive(Debug)]
pub struct AnswerBody {
    content: Content,
    /// The request counts as going on until its answer's body is dropped.
    _busy: Busy,
}

/// Where the bytes of a body come from.
#[derive(Debug)]
pub enum Content {
    /// All of it, on the memory account if it is long.
    Whole(Bytes, Option<Charge>),
    /// A subscription.
    Stream(StreamBody),
}

/// A piece of a body.
#[derive(Debug)]
pub enum Chunk {
    /// Of a whole body, charged until it is written.
    Bytes(Bytes, Option<Charge>),
    /// Of a stream.
    Piece(Piece),
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
        Self { content, _busy: busy }
    }
}

impl Body for AnswerBody {
    type Data = Chunk;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, Infallible>>> {
        match &mut self.content {
            Content::Whole(bytes, _) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes, charge) => {
                let chunk = Chunk::Bytes(std::mem::take(bytes), charge.take());
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Content::Stream(stream) => {
                let piece = stream.poll_piece(context);
                piece.map(|piece| piece.map(|piece| Ok(Frame::data(Chunk::Piece(piece)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Whole(bytes, _) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes, _) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes, _) => bytes.remaining(),
            Self::Piece(piece) => piece.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes, _) => bytes.chunk(),
            Self::Piece(piece) => piece.chunk(),
        }
    }

    fn advance(&mut self, len: usize) {
        match self {
            Self::Bytes(bytes, _) => bytes.advance(len),
            Self::Piece(piece) => piece.advance(len),
        }
    }
}
