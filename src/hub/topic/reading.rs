//! What a topic's history gives: where a stream begins, pieces to catch up with, pages.

use std::sync::Arc;

use tokio::time::Instant;

use super::{State, Topic};
use crate::hub::position::{Position, Since, Start};
use crate::hub::publication::Publication;

/// What a subscriber that catches up gets next.
#[derive(Debug)]
pub enum CatchUp {
    /// The next publications, oldest first; never empty.
    Behind(Vec<Arc<Publication>>),
    /// It is at the top: live from here on.
    Live,
    /// History no longer has the next one; this is the oldest it has (or will have).
    Trimmed {
        /// Sequence to go on with.
        oldest: u64,
    },
}

/// A page of history.
#[derive(Debug)]
pub struct Page {
    /// The topic's position.
    pub top: Position,
    /// Whether the position asked for is exact; `None` = none was asked.
    pub recovered: Option<bool>,
    /// Oldest first.
    pub publications: Vec<Arc<Publication>>,
}

impl Topic {
    /// The publication that a stream asked to begin at `start` begins with, `None` = the next one;
    /// and whether that recovers.
    pub(super) fn begin<'a>(
        &self,
        state: &'a State,
        start: Start,
    ) -> (Option<&'a Publication>, Option<bool>) {
        let history = &state.history;
        let (first, recovered) = match start {
            Start::Live => (None, None),
            Start::Last(count) => (history.last(count).next(), None),
            Start::Since(since) if self.is_kept(state, since) => {
                (history.after(since.offset).next(), Some(true))
            }
            Start::Since(_) | Start::Unknown => (None, Some(false)),
        };
        (first.map(|first| &**first), recovered)
    }

    /// Whether everything after `since` up to the top is still there, in this epoch.
    fn is_kept(&self, state: &State, since: Since) -> bool {
        self.has_history()
            && since.epoch.is_none_or(|epoch| epoch == self.epoch)
            && since.offset <= state.offset()
            && (since.offset == state.offset()
                || state.history.oldest().is_some_and(|oldest| oldest.offset <= since.offset + 1))
    }

    /// What comes at `next` for a subscriber that is not live yet: up to `len_max` payload bytes,
    /// at least one publication.
    pub fn catch_up(&self, next: u64, len_max: usize) -> CatchUp {
        let state = self.state.lock();
        if next > state.top {
            return CatchUp::Live;
        }
        if !state.history.reaches(next) {
            let oldest = state.history.oldest().map_or(state.top + 1, |oldest| oldest.sequence);
            return CatchUp::Trimmed { oldest };
        }
        let mut len = 0;
        let page = state.history.from(next).take_while(|publication| {
            let is_first = len == 0;
            len += publication.payload().framed().len();
            is_first || len <= len_max
        });
        let page: Vec<_> = page.map(Arc::clone).collect();
        // What is left was for those who were live when it came.
        if page.is_empty() { CatchUp::Live } else { CatchUp::Behind(page) }
    }

    /// A page of at most `limit` publications: those after `since`, or else the newest.
    pub fn page(&self, since: Option<Since>, limit: usize) -> Page {
        let mut state = self.state.lock();
        self.expire(&mut state, Instant::now());
        let recovered = since.map(|since| self.is_kept(&state, since));
        let kept = &state.history;
        let publications = match (since, recovered) {
            (Some(since), Some(true)) => page(kept.after(since.offset), limit),
            // What is left, from the oldest; the caller sees `recovered: false`.
            (Some(_), _) => page(kept.after(0), limit),
            (None, _) => page(kept.last(limit), limit),
        };
        let top = Position { epoch: self.epoch, offset: state.offset() };
        Page { top, recovered, publications }
    }
}

fn page<'a>(
    publications: impl Iterator<Item = &'a Arc<Publication>>,
    limit: usize,
) -> Vec<Arc<Publication>> {
    publications.take(limit).map(Arc::clone).collect()
}
