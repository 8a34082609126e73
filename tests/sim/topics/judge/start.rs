//! Where a stream begins, and whether `recovered` says the truth.

use super::Judge;
use super::order::{Entry, Order};
use crate::client::{Door, Event};
use crate::invariant::Position;
use crate::record::Tick;
use crate::topics::record::{Asked, Session};

/// A request for a position, and what it was told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) topic: usize,
    pub(super) epoch: Option<&'a str>,
    pub(super) offset: u64,
    pub(super) sent: Tick,
    pub(super) answered: Tick,
    /// The epoch of the answer.
    pub(super) current: &'a str,
}

/// Whether a position can be recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    Yes,
    No,
    /// It depends on when the request was handled, or nobody saw enough.
    Unclear,
}

impl Judge<'_> {
    pub(super) fn starts_where_it_asked(&mut self, index: usize, session: &Session) {
        let Some((answered, _, position, recovered)) = session.head() else { return };
        let topic = session.opening.topic;
        let asks_position = matches!(session.asked, Asked::Since { .. });
        if recovered.is_some() != asks_position {
            self.find(format!("session {index}: recovered is {recovered:?}"));
        }
        if self.record.setup.topics[topic].rule.history_size == 0 {
            if position.is_some() || recovered == Some(true) {
                self.find(format!("session {index}: {position:?} {recovered:?} without history"));
            }
            return self.is_told_the_same(index, session);
        }
        let Some(position) = position else {
            return self.find(format!("session {index} is not told where it begins"));
        };
        let top = self.top(topic, &position.epoch, (session.sent, answered));
        let is_at_top = (top.sure..=top.possible).contains(&position.offset);
        let is_right = match &session.asked {
            Asked::Nothing => is_at_top,
            Asked::Last(count) => self.begins_at_last(session, position, *count),
            Asked::Since { epoch, offset } => {
                let claim = Claim {
                    topic,
                    epoch: epoch.as_deref(),
                    offset: *offset,
                    sent: session.sent,
                    answered,
                    current: &position.epoch,
                };
                match (self.is_recoverable(claim), recovered) {
                    (Truth::Yes, Some(false)) | (Truth::No, Some(true)) => false,
                    (_, Some(true)) => position.offset == *offset,
                    _ => is_at_top,
                }
            }
        };
        if !is_right {
            let asked = &session.asked;
            self.find(format!(
                "session {index} asked {asked:?} at {}, begins at {position}, \
                 recovered {recovered:?}; {top:?}",
                session.sent
            ));
        }
        self.is_told_the_same(index, session);
    }

    /// `last=N` begins so many before the top, if so many are kept.
    fn begins_at_last(&self, session: &Session, position: &Position, count: u64) -> bool {
        let Some((answered, ..)) = session.head() else { return true };
        let topic = session.opening.topic;
        let order = self.orders.get(topic, &position.epoch);
        let top = self.top(topic, &position.epoch, (session.sent, answered));
        if top.sure != top.possible {
            return position.offset <= top.possible;
        }
        let kept = |tick: Tick, accepted: fn(&Entry) -> Tick| {
            let now = self.record.clock[tick];
            order.oldest(self.record, (topic, top.sure), now, accepted)
        };
        let (earliest, latest) =
            (kept(session.sent, |one| one.seen), kept(answered, |one| one.sent));
        match (earliest, latest) {
            (Some(earliest), Some(latest)) if earliest == latest => {
                position.offset == (top.sure.saturating_sub(count)).max(earliest - 1)
            }
            _ => position.offset <= top.sure,
        }
    }

    /// Whether everything after the position that was asked for was kept, in the current epoch.
    pub(super) fn is_recoverable(&self, claim: Claim<'_>) -> Truth {
        if claim.epoch.is_some_and(|epoch| epoch != claim.current) {
            return Truth::No;
        }
        let order = self.orders.get(claim.topic, claim.current);
        let top = self.top(claim.topic, claim.current, (claim.sent, claim.answered));
        if claim.offset > top.possible {
            return Truth::No;
        }
        if claim.offset == top.sure && top.sure == top.possible {
            return Truth::Yes;
        }
        let is_kept = |order: &Order, top: u64, tick: Tick, accepted: fn(&Entry) -> Tick| {
            let now = self.record.clock[tick];
            let oldest = order.oldest(self.record, (claim.topic, top), now, accepted);
            oldest.map(|oldest| oldest <= claim.offset + 1)
        };
        let before = claim.sent.saturating_sub(1);
        let at_best = is_kept(order, top.sure, before, |entry| entry.seen);
        let at_worst = is_kept(order, top.possible, claim.answered, |entry| entry.sent);
        if claim.offset < top.sure && at_best == Some(false) {
            return Truth::No;
        }
        if claim.offset <= top.sure && at_worst == Some(true) { Truth::Yes } else { Truth::Unclear }
    }

    /// Headers, `subscribed` and the first `id:` say the same.
    fn is_told_the_same(&mut self, index: usize, session: &Session) {
        let Some((_, _, position, recovered)) = session.head() else { return };
        let mut told = 0;
        for (_, event) in &session.events {
            let Event::Subscribed { position: its, recovered: its_recovered } = event else {
                continue;
            };
            told += 1;
            let is_opening = its_recovered.is_none()
                && matches!(session.opening.door, Door::Sse | Door::SseJson);
            if its.as_ref() != position || (!is_opening && *its_recovered != recovered) {
                self.find(format!("session {index}: {event:?} is not what its head says"));
            }
        }
        let may_have_ended = session.did(|_| true).is_some() || self.record.drained.is_some();
        let expected = match session.opening.door {
            Door::Plain | Door::Foreign => 0,
            Door::Json | Door::Ndjson => 1,
            Door::Sse | Door::SseJson => {
                usize::from(position.is_some()) + usize::from(recovered == Some(false))
            }
        };
        if told > expected || (told < expected && !may_have_ended) {
            self.find(format!("session {index} was told {told} times where it begins"));
        }
    }

    /// A topic's epoch changes only when it was forgotten, position and all.
    pub(super) fn epochs(&mut self) {
        let mut findings = Vec::new();
        for (topic, setup) in self.record.setup.topics.iter().enumerate() {
            if setup.rule.history_size == 0 {
                continue;
            }
            let mut spans: Vec<(Tick, Tick, Tick, &str)> = Vec::new();
            for (epoch, order) in self.orders.epochs(topic) {
                let begun = order.0.values().map(|entry| entry.sent).min().unwrap_or(0);
                let ended = order.0.values().map(|entry| entry.sent).max().unwrap_or(0);
                let seen = order.0.values().map(|entry| entry.seen).min().unwrap_or(0);
                spans.push((begun, ended, seen, epoch));
            }
            spans.sort_unstable();
            for pair in spans.windows(2) {
                let ((_, ended, seen, before), (_, its_end, its_seen, after)) = (pair[0], pair[1]);
                // What was sent to a worker that did not run came last, perhaps.
                let idle = self.record.between(ended, its_seen);
                let idle = idle.max(self.record.between(its_end, seen));
                let is_forgotten = idle >= setup.rule.history_ttl + self.record.setup.meta_ttl;
                if self.orders.is_known(topic) || !is_forgotten {
                    findings
                        .push(format!("{}: {before} became {after} after {idle:?}", setup.name));
                }
            }
        }
        self.findings.extend(findings);
    }
}
