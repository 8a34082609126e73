//! Fan-out: one pass hands one batch of a topic to each of its members here, in instalments.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::Worker;
use super::member::{Pick, Seat};
use super::output::Share;
use super::topic::{Late, LocalTopic};
use crate::hub::{Publication, TopicName, VariantId, Variants};
use crate::id::SessionId;
use crate::outbox::Batch;
use crate::protocol::delta;

/// Bytes joined into one batch at most, unless a single publication is longer.
const BATCH_LEN_MAX: usize = 64 * 1024;

/// What a publication counts at least: in a wordier variant the shortest is about that long.
const PUBLICATION_LEN_MIN: usize = 128;

/// Publications longer than this are joined up to [`LARGE_BATCH_LEN_MAX`].
const LARGE_LEN: usize = 8 * 1024;
const LARGE_BATCH_LEN_MAX: usize = 256 * 1024;

/// Buffers above this capacity are not kept for the next batch.
const SPARE_LEN_MAX: usize = 2 * LARGE_BATCH_LEN_MAX;

/// A buffer up to this capacity serves any batch; a longer one only those that fill a quarter of it.
const SPARE_LEN_FREE: usize = 16 * 1024;

/// A batch on its way to the members of a topic.
///
/// Invariant: of the list at `list`, members below `cursor` are served; lists before it are done.
#[derive(Debug)]
pub(super) struct Pass {
    publications: SmallVec<[Arc<Publication>; 4]>,
    batches: SmallVec<[(VariantId, Rc<Batch>); 1]>,
    pub(super) list: usize,
    pub(super) cursor: usize,
}

impl Pass {
    /// Takes the next batch from `pending`.
    pub(super) fn take(topic: &mut LocalTopic, batch_len_max: usize) -> Self {
        let count = fitting(topic.pending.iter(), batch_len_max);
        let publications = topic.pending.drain(..count).collect();
        Self { publications, batches: SmallVec::new(), list: 0, cursor: 0 }
    }

    /// The batch in `variant`, encoded at first use.
    fn batch(&mut self, variant: VariantId, encoding: &mut Encoding<'_>) -> Rc<Batch> {
        if let Some((_, batch)) = self.batches.iter().find(|(its, _)| *its == variant) {
            return Rc::clone(batch);
        }
        let batch = Rc::new(encoding.batch(&self.publications, variant));
        self.batches.push((variant, Rc::clone(&batch)));
        batch
    }

    pub(super) fn first(&self) -> u64 {
        self.publications.first().map_or(u64::MAX, |publication| publication.sequence)
    }

    pub(super) fn last(&self) -> u64 {
        self.publications.last().map_or(0, |publication| publication.sequence)
    }

    fn runs(&self, from: usize, excluded: Option<SessionId>) -> Vec<Range<usize>> {
        runs(&self.publications, from, excluded)
    }

    pub(super) fn publications(&self) -> &[Arc<Publication>] {
        &self.publications
    }
}

/// How many of the first publications go into one batch; at least one. Their offsets follow each
/// other: one that is not kept begins a batch.
fn fitting<'a>(
    publications: impl Iterator<Item = &'a Arc<Publication>>,
    batch_len_max: usize,
) -> usize {
    let (mut len, mut offset) = (0, None);
    let fit = publications.take_while(|publication| {
        let is_next = offset.is_none_or(|offset| publication.offset == offset + 1);
        offset = Some(publication.offset);
        let next = publication.payload().framed().len().max(PUBLICATION_LEN_MIN);
        let large = if next >= LARGE_LEN { LARGE_BATCH_LEN_MAX } else { BATCH_LEN_MAX };
        let is_first = len == 0;
        len += next;
        is_first || is_next && len <= large.min(batch_len_max)
    });
    fit.count()
}

/// Maximal runs of indices from `from` on, publications of the `excluded` session left out.
fn runs(
    publications: &[Arc<Publication>],
    from: usize,
    excluded: Option<SessionId>,
) -> Vec<Range<usize>> {
    let is_excluded =
        |publication: &Publication| excluded.is_some() && publication.draft.session == excluded;
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (index, publication) in publications.iter().enumerate().skip(from) {
        match runs.last_mut() {
            _ if is_excluded(publication) => {}
            Some(run) if run.end == index => run.end += 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

/// What encoding a batch takes.
#[derive(Debug)]
pub(super) struct Encoding<'a> {
    pub(super) topic: &'a TopicName,
    /// The worker's number for it.
    pub(super) local: u32,
    pub(super) variants: &'a Variants,
    /// A buffer to join in.
    pub(super) spare: &'a mut Vec<u8>,
}

impl Encoding<'_> {
    /// Publications, one after the other, in `variant`.
    pub(super) fn batch(&mut self, publications: &[Arc<Publication>], variant: VariantId) -> Batch {
        let first = publications.first().map_or(0, |publication| publication.offset);
        if let [one] = publications {
            let encoded = one.encoded(variant, self.topic, self.variants);
            return Batch::single(self.local, encoded.clone()).numbered(first);
        }
        let encoded =
            || publications.iter().map(|one| one.encoded(variant, self.topic, self.variants));
        let len = encoded().map(Bytes::len).sum::<usize>();
        // Whoever queues the batch holds the whole buffer.
        let buf = if self.spare.capacity() <= SPARE_LEN_FREE.max(4 * len) {
            std::mem::take(self.spare)
        } else {
            Vec::with_capacity(len)
        };
        Batch::join(self.local, buf, encoded()).numbered(first)
    }
}

impl Worker {
    /// Moves what arrived, from other threads and this one, to the topics it is for.
    pub(super) fn drain_inbox(&mut self) {
        while let Some(arrival) = self.inbox.pop() {
            let topic = self.topics.get_mut(arrival.local as usize);
            let Some(topic) = topic.filter(|topic| topic.topic.id() == arrival.topic) else {
                // The last subscriber left while it was on its way.
                self.release(&arrival.publication);
                continue;
            };
            if arrival.publication.sequence <= topic.arrived {
                // Meant for members who had left when the first of the present ones joined.
                self.release(&arrival.publication);
                continue;
            }
            topic.arrived = arrival.publication.sequence;
            if !topic.is_dirty() {
                self.dirty.push_back(arrival.local);
            }
            topic.pending.push_back(arrival.publication);
        }
    }

    /// Gives every dirty topic a share of this turn's writes, in rotation.
    pub(super) fn flush_topics(&mut self) {
        let mut budget = self.portions.writes;
        for _ in 0..self.dirty.len() {
            let Some(local) = self.dirty.pop_front() else { return };
            if self.step(local, &mut budget) {
                self.dirty.push_back(local);
            }
            if budget == 0 {
                return;
            }
        }
    }

    /// Goes on with a topic's pass, or begins the next. Returns whether there is more to do.
    fn step(&mut self, local: u32, budget: &mut usize) -> bool {
        let Some(topic) = self.topics.get_mut(local as usize) else { return false };
        if topic.pass.is_none() && !topic.pending.is_empty() {
            let batch_len_max = (self.limits.outbox_bytes_max / 4).max(LARGE_LEN);
            topic.pass = Some(Box::new(Pass::take(topic, batch_len_max)));
            self.serve_late(local, budget);
        }
        if !self.run_pass(local, budget) {
            return true;
        }
        self.end_pass(local);
        self.topics[local as usize].is_dirty()
    }

    /// Serves members who joined in the middle of the batch.
    fn serve_late(&mut self, local: u32, budget: &mut usize) {
        let Self { topics, connections, output, variants, .. } = self;
        let LocalTopic { topic, late, pass, .. } = &mut topics[local as usize];
        let Some(pass) = pass.as_mut() else { return };
        let (first, last) = (pass.first(), pass.last());
        for Late { seat, next } in late.iter_mut().filter(|late| late.next <= last) {
            let connection = &mut connections[seat.index as usize];
            let member = *connection.members.at(seat.slot);
            let from = usize::try_from(next.saturating_sub(first)).unwrap_or(usize::MAX);
            let batch = pass.batch(member.variant, &mut output.encoding(topic, local, variants));
            let own = member.pick.excluded(connection.key(seat.index).session(output.worker));
            for run in pass.runs(from, own) {
                let share = Share::new(&batch, run, topic, member.variant);
                output.deliver(seat.index, connection, &share);
            }
            *next = last + 1;
            let member = connection.members.at(seat.slot);
            member.variant = delta::following(member.variant);
            *budget = budget.saturating_sub(1);
        }
    }

    /// Hands the batch to members until the budget is used up. Returns whether all are served.
    fn run_pass(&mut self, local: u32, budget: &mut usize) -> bool {
        let Self { topics, connections, output, variants, .. } = self;
        let LocalTopic { topic, lists, pass, .. } = &mut topics[local as usize];
        let Some(pass) = pass.as_mut() else { return true };
        while let Some(list) = lists.get(pass.list) {
            let batch = pass.batch(list.variant, &mut output.encoding(topic, local, variants));
            let end = list.members.len().min(pass.cursor + *budget);
            let members = &list.members[pass.cursor..end];
            let all = Share::all(&batch, topic, list.variant);
            for Seat { index, .. } in members {
                let connection = &mut connections[*index as usize];
                if list.pick == Pick::All {
                    output.deliver(*index, connection, &all);
                    continue;
                }
                let own = list.pick.excluded(connection.key(*index).session(output.worker));
                for run in pass.runs(0, own) {
                    let share = Share::new(&batch, run, topic, list.variant);
                    output.deliver(*index, connection, &share);
                }
            }
            *budget -= members.len();
            pass.cursor = end;
            if end < list.members.len() {
                return false;
            }
            pass.list += 1;
            pass.cursor = 0;
        }
        true
    }

    /// Accounts for a batch that everybody has been served, and lets latecomers into the lists.
    fn end_pass(&mut self, local: u32) {
        let topic = &mut self.topics[local as usize];
        let Some(pass) = topic.pass.take() else { return };
        topic.passed = self.output.now;
        topic.lists.retain(|list| !list.members.is_empty());
        topic.begin_deltas(&mut self.connections);
        topic.promote(&mut self.connections);
        let now = Instant::now();
        for publication in &pass.publications {
            let duration = now.saturating_duration_since(publication.accepted);
            self.metrics.fanout.observe(duration, 1);
            self.release(publication);
        }
        for (_, batch) in pass.batches {
            // Nobody queued it: its buffer serves the next batch.
            if let Some(buf) = Rc::into_inner(batch).and_then(Batch::into_buf)
                && (self.output.spare.capacity()..=SPARE_LEN_MAX).contains(&buf.capacity())
            {
                self.output.spare = buf;
            }
        }
    }

    /// Gives back a publication's room; held-back publishers may go on when that makes some.
    pub(super) fn release(&self, publication: &Publication) {
        if self.inbox.release(publication) {
            let waiting = self.hub.inboxes().iter().filter(|inbox| inbox.publishers_wait());
            waiting.for_each(|inbox| inbox.wake());
        }
    }
}
