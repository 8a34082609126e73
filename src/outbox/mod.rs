//! What waits for one connection that is behind: encoded, bounded, never cut inside a frame.
//!
//! An outbox exists only while something waits. It knows bytes and boundaries, no sockets.

mod batch;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

pub use batch::{Batch, Slice};

use crate::limits::Delivery;
use crate::metrics::{Charge, Memory, MemoryKind};

/// Pieces handed to one vectored write at most.
pub const SLICES_MAX: usize = 32;

/// The queue of one connection.
///
/// Invariant: only the front item can be begun; `len` is the sum of what is left of the items.
#[derive(Debug, Default)]
pub struct Outbox {
    items: VecDeque<Item>,
    len: usize,
    /// What the queue itself takes; the bytes in it are charged where they are shared.
    charge: Option<Charge>,
}

#[derive(Debug)]
enum Item {
    Shared(Slice),
    Own {
        bytes: Box<[u8]>,
        at: usize,
        role: Role,
    },
    /// Boxed: few connections have any.
    Rewritten(Box<Rewritten>),
}

/// So many publications in other words, or bytes of the connection's own.
#[derive(Debug)]
struct Rewritten {
    bytes: Vec<u8>,
    at: usize,
    count: usize,
    _charge: Charge,
}

/// What comes next.
#[derive(Debug, Clone, Copy)]
pub enum Front<'a> {
    /// Publications of one topic.
    Publications(&'a Slice),
    /// Bytes of the connection's own.
    Own(&'a [u8]),
}

/// What bytes of a connection's own are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The answer to a ping; only the newest waits.
    Pong,
    /// Tells the client how many publications it lost here.
    Skipped(u64),
    /// Anything else; never dropped.
    Control,
}

/// What became of publications that did not fit at once.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Push {
    /// They wait.
    Queued,
    /// They wait, but this many older (or, for `latest`, any but the newest) were dropped.
    Dropped(u64),
    /// The connection must close; nothing but a begun frame waits.
    Full,
}

/// The limit of an outbox and what happens at it.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Bytes that may wait.
    pub len_max: usize,
    /// What happens above.
    pub delivery: Delivery,
}

impl Outbox {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes that wait, with what it takes to queue them: many short items are not free.
    fn weight(&self) -> usize {
        self.len + self.items.len().saturating_sub(1) * size_of::<Item>()
    }

    /// What the outbox holds on to: the bytes that wait, shared or not, and the queue itself.
    pub fn held_len(&self) -> usize {
        self.len + self.queue_len()
    }

    fn queue_len(&self) -> usize {
        size_of::<Self>() + self.items.capacity() * size_of::<Item>()
    }

    /// Keeps the charge for the queue true. It grows by doubling, so this rarely has to do anything.
    fn settle(&mut self, memory: &Arc<Memory>) {
        let len = self.queue_len();
        match &mut self.charge {
            Some(charge) if charge.len() == len => {}
            Some(charge) => charge.set(len),
            None => self.charge = Some(Charge::new(memory, MemoryKind::Outbox, len)),
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Queues publications under `policy`. An empty outbox takes them whatever their length.
    pub fn push(&mut self, mut slice: Slice, policy: Policy, memory: &Arc<Memory>) -> Push {
        let mut dropped = 0;
        if !self.is_empty() && self.weight() + slice.bytes().len() > policy.len_max {
            match policy.delivery {
                Delivery::Reliable => {
                    self.clear();
                    return Push::Full;
                }
                Delivery::Latest => {
                    dropped = self.clear_topic(slice.topic()) + slice.keep_newest();
                }
                Delivery::Lossy => {
                    // What this adds counts, too.
                    self.split_begun();
                    let excess = self.weight() + slice.bytes().len() - policy.len_max;
                    dropped = self.drop_oldest(slice.topic(), excess);
                    let rest = self.weight() + slice.bytes().len();
                    let excess = rest.saturating_sub(policy.len_max);
                    if excess > 0 {
                        dropped += slice.drop_front_but_newest(excess);
                    }
                }
            }
        }
        if !slice.bytes().is_empty() {
            self.append(slice, memory);
        }
        match dropped {
            0 => Push::Queued,
            count => Push::Dropped(count as u64),
        }
    }

    /// Queues publications that come from history: they are bounded by who reads it.
    pub fn push_replay(&mut self, slice: Slice, memory: &Arc<Memory>) {
        self.append(slice, memory);
    }

    fn append(&mut self, slice: Slice, memory: &Arc<Memory>) {
        slice.charge(memory);
        self.len += slice.bytes().len();
        self.items.push_back(Item::Shared(slice));
        self.settle(memory);
    }

    /// Queues bytes of the connection's own behind all that waits.
    pub fn push_own(&mut self, bytes: Box<[u8]>) {
        self.len += bytes.len();
        self.items.push_back(Item::Own { bytes, at: 0, role: Role::Control });
    }

    /// Queues the answer to a ping ahead of the publications; it replaces one that waits.
    pub fn push_pong(&mut self, bytes: Box<[u8]>) {
        self.put(bytes, Role::Pong, |role| role == Role::Pong);
    }

    /// Number of lost publications that the client is yet to be told of.
    pub fn skipped(&self) -> u64 {
        let waiting = self.items.iter().take(3).find_map(|item| match item {
            Item::Own { role: Role::Skipped(count), at: 0, .. } => Some(*count),
            _ => None,
        });
        waiting.unwrap_or(0)
    }

    /// Queues the notice that `count` publications in all are lost at the front; it replaces one
    /// that waits.
    pub fn put_skipped(&mut self, count: u64, bytes: Box<[u8]>) {
        self.put(bytes, Role::Skipped(count), |role| matches!(role, Role::Skipped(_)));
    }

    /// Puts `bytes` in the place of the item that `is_old` names, or else at the front, behind a
    /// begun frame.
    fn put(&mut self, bytes: Box<[u8]>, role: Role, is_old: impl Fn(Role) -> bool) {
        self.split_begun();
        let index = usize::from(self.is_begun());
        let item = Item::Own { at: 0, role, bytes };
        self.len += item.len();
        let old = self
            .items
            .iter()
            .take(index + 2)
            .position(|item| matches!(item, Item::Own { at: 0, role, .. } if is_old(*role)));
        match old {
            Some(old) => {
                self.len -= self.items[old].len();
                self.items[old] = item;
            }
            None => self.items.insert(index, item),
        }
    }

    fn is_begun(&self) -> bool {
        self.items.front().is_some_and(Item::is_begun)
    }

    /// Makes a begun publication an item of its own, so that something can go behind it.
    fn split_begun(&mut self) {
        if let Some(Item::Shared(slice)) = self.items.front_mut()
            && slice.is_begun()
        {
            let begun = slice.split_begun();
            if slice.bytes().is_empty() {
                *slice = begun;
            } else {
                self.items.push_front(Item::Shared(begun));
            }
        }
    }

    /// Drops every publication but one that is begun. Returns how many.
    pub fn clear(&mut self) -> usize {
        self.clear_where(|_| true)
    }

    /// Drops every publication of `topic` but one that is begun. Returns how many.
    pub fn clear_topic(&mut self, topic: u32) -> usize {
        self.clear_where(|slice| slice.topic() == topic)
    }

    fn clear_where(&mut self, is_meant: impl Fn(&Slice) -> bool) -> usize {
        let mut dropped = 0;
        self.items.retain_mut(|item| match item {
            Item::Shared(slice) if is_meant(slice) => {
                dropped += slice.keep_begun();
                !slice.bytes().is_empty()
            }
            Item::Shared(_) | Item::Own { .. } | Item::Rewritten(_) => true,
        });
        self.len = self.items.iter().map(Item::len).sum();
        dropped
    }

    /// Drops the oldest publications of `topic` until `len` bytes went; one that is begun must be an
    /// item of its own, and stays. Returns how many.
    fn drop_oldest(&mut self, topic: u32, len: usize) -> usize {
        let (mut dropped, mut left) = (0, len);
        let mut is_front = true;
        self.items.retain_mut(|item| {
            let is_begun = is_front && item.is_begun();
            is_front = false;
            let Item::Shared(slice) = item else { return true };
            if left == 0 || is_begun || slice.topic() != topic {
                return true;
            }
            let before = slice.bytes().len();
            dropped += slice.drop_front(left);
            left = left.saturating_sub(before - slice.bytes().len());
            !slice.bytes().is_empty()
        });
        self.len = self.items.iter().map(Item::len).sum();
        dropped
    }

    /// The next bytes to write, in order, at most [`SLICES_MAX`] pieces.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let mut count = 0;
        for (item, slice) in self.items.iter().zip(slices) {
            *slice = IoSlice::new(item.bytes());
            count += 1;
        }
        count
    }

    /// Takes off what was written. Returns how many publications are now whole at the kernel.
    pub fn advance(&mut self, len: usize) -> usize {
        self.len -= len;
        let (mut left, mut completed) = (len, 0);
        while let Some(item) = self.items.front_mut() {
            let taken = item.len().min(left);
            completed += item.advance(taken);
            left -= taken;
            if item.len() > 0 {
                break;
            }
            self.items.pop_front();
        }
        completed
    }

    /// Has `rewrite` put what comes next in other words: bytes of the connection's own, or
    /// publications of `len_max` bytes, or one that is longer. What comes of it is begun: it is
    /// neither dropped nor written to again.
    pub fn rewrite_front(
        &mut self,
        len_max: usize,
        memory: &Arc<Memory>,
        mut rewrite: impl FnMut(Front<'_>) -> Vec<u8>,
    ) {
        // Ends: each round takes something out, until something is put in.
        loop {
            let (bytes, count) = match self.items.front_mut() {
                None | Some(Item::Rewritten(_)) => return,
                Some(Item::Own { bytes, at, .. }) => {
                    let bytes = &bytes[*at..];
                    let rewritten = rewrite(Front::Own(bytes));
                    self.len -= bytes.len();
                    self.items.pop_front();
                    (rewritten, 0)
                }
                Some(Item::Shared(slice)) => {
                    let front = slice.split_front(len_max);
                    if slice.bytes().is_empty() {
                        self.items.pop_front();
                    }
                    self.len -= front.bytes().len();
                    (rewrite(Front::Publications(&front)), front.count())
                }
            };
            if !bytes.is_empty() {
                self.len += bytes.len();
                let charge = Charge::new(memory, MemoryKind::Outbox, bytes.capacity());
                let rewritten = Rewritten { bytes, at: 0, count, _charge: charge };
                self.items.push_front(Item::Rewritten(Box::new(rewritten)));
                return self.settle(memory);
            }
        }
    }
}

impl Item {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(slice) => slice.bytes(),
            Self::Own { bytes, at, .. } => &bytes[*at..],
            Self::Rewritten(rewritten) => &rewritten.bytes[rewritten.at..],
        }
    }

    fn len(&self) -> usize {
        self.bytes().len()
    }

    fn is_begun(&self) -> bool {
        match self {
            Self::Shared(slice) => slice.is_begun(),
            Self::Own { at, .. } => *at > 0,
            Self::Rewritten(_) => true,
        }
    }

    fn advance(&mut self, len: usize) -> usize {
        match self {
            Self::Shared(slice) => slice.advance(len),
            Self::Own { at, .. } => {
                *at += len;
                0
            }
            Self::Rewritten(rewritten) => {
                rewritten.at += len;
                if rewritten.at == rewritten.bytes.len() { rewritten.count } else { 0 }
            }
        }
    }
}
