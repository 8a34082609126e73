//! Requests without a session: publications by POST, their keys, and pages of history.

use std::time::Duration;

use super::Judge;
use super::start::{Claim, Truth};
use crate::record::{Answer, Post, Tick};
use crate::topics::record::{Asked, Page};
use crate::wire;

/// How long an idempotency key is remembered.
const KEY_TTL: Duration = Duration::from_mins(5);

impl Judge<'_> {
    pub(super) fn requests(&mut self) {
        for (index, post) in self.record.posts.iter().enumerate() {
            match &post.answer {
                Some((tick, answer)) => self.post(index, post, (*tick, answer)),
                None if self.record.forced.is_some() => {}
                None => self.find(format!("post {index} is never answered")),
            }
        }
        for (index, page) in self.record.seen.pages.iter().enumerate() {
            match &page.answer {
                Some((tick, answer)) => self.page(index, page, (*tick, answer)),
                None if self.record.forced.is_some() => {}
                None => self.find(format!("page {index} is never answered")),
            }
        }
    }

    fn is_refused_for_draining(&self, (tick, answer): (Tick, &Answer)) -> bool {
        answer.status == 503
            && answer.body["error"]["code"] == "draining"
            && self.record.drained.is_some_and(|drained| drained <= tick)
    }

    fn post(&mut self, index: usize, post: &Post, (tick, answer): (Tick, &Answer)) {
        let is_new = answer.status == 200 && answer.body.get("duplicate").is_none();
        if answer.status != 200 && !self.is_refused_for_draining((tick, answer)) {
            self.find(format!("post {index} is answered {answer:?}"));
        }
        let payload = &self.record.payloads[post.payload];
        let topic = &self.record.setup.topics[payload.topic];
        let position = wire::place(&answer.body);
        if answer.status == 200 && position.is_some() != (topic.rule.history_size > 0) {
            self.find(format!("post {index} is at {position:?}"));
        }
        let place = self.orders.place(post.payload);
        if !is_new && place.is_some() {
            self.find(format!("post {index} was not accepted, and is at {place:?}"));
        }
        if let (true, Some(position), Some(text)) =
            (is_new, &position, self.record.payload(post.payload))
        {
            let result = self.checker.acknowledged(&topic.name, position, text);
            self.expect(format!("post {index}"), result);
        }
        if answer.status == 200 {
            self.key(index, post, (tick, answer));
        }
    }

    /// A key that is remembered makes a repeat, and only such a key.
    fn key(&mut self, index: usize, post: &Post, (tick, answer): (Tick, &Answer)) {
        let record = self.record;
        let topic = record.payloads[post.payload].topic;
        let sent = record.payloads[post.payload].sent;
        let is_first = |one: &Post| {
            let first = one.answer.as_ref().filter(|(_, answer)| {
                answer.status == 200 && answer.body.get("duplicate").is_none()
            });
            first.filter(|_| {
                one.key == post.key
                    && record.payloads[one.payload].topic == topic
                    && one.payload != post.payload
            })?;
            one.answer.as_ref().map(|(tick, answer)| {
                (record.payloads[one.payload].sent, *tick, wire::place(&answer.body))
            })
        };
        let is_duplicate = answer.body.get("duplicate").is_some();
        if post.key.is_none() {
            if is_duplicate {
                self.find(format!("post {index} has no key and is a repeat"));
            }
            return;
        }
        let mut firsts = record.posts.iter().filter_map(is_first);
        let is_right = if is_duplicate {
            let position = wire::place(&answer.body);
            firsts.any(|(first_sent, first_seen, its)| {
                its == position && first_sent <= tick && record.between(first_seen, sent) < KEY_TTL
            })
        } else {
            firsts.all(|(first_sent, first_seen, _)| {
                first_seen >= sent || record.between(first_sent, tick) >= KEY_TTL
            })
        };
        if !is_right {
            self.find(format!("post {index}: duplicate is {is_duplicate}"));
        }
    }

    fn page(&mut self, index: usize, page: &Page, (tick, answer): (Tick, &Answer)) {
        if answer.status != 200 {
            if !self.is_refused_for_draining((tick, answer)) {
                self.find(format!("page {index} is answered {answer:?}"));
            }
            return;
        }
        let Some(top) = wire::place(&answer.body) else {
            return self.find(format!("page {index} has no position: {answer:?}"));
        };
        let offsets: Vec<u64> = answer.body["publications"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| wire::place(one).filter(|its| its.epoch == top.epoch))
            .map(|position| position.offset)
            .collect();
        let recovered = answer.body.get("recovered").and_then(serde_json::Value::as_bool);
        let is_run = offsets.windows(2).all(|pair| pair[1] == pair[0] + 1);
        let count = answer.body["publications"].as_array().map_or(0, Vec::len);
        let range = self.top(page.topic, &top.epoch, (page.sent, tick));
        let is_unknown = top.epoch.is_empty() && top.offset == 0;
        let is_at_top = is_unknown || (range.sure..=range.possible).contains(&top.offset);
        let is_short = count <= page.limit && offsets.len() == count;
        let mut is_right = is_run && is_at_top && is_short;
        match &page.asked {
            Asked::Since { epoch, offset } => {
                let claim = Claim {
                    topic: page.topic,
                    epoch: epoch.as_deref(),
                    offset: *offset,
                    sent: page.sent,
                    answered: tick,
                    current: &top.epoch,
                };
                is_right &= match (self.is_recoverable(claim), recovered) {
                    _ if is_unknown => true,
                    (Truth::Yes, Some(false)) | (Truth::No, Some(true)) => false,
                    (_, Some(true)) => {
                        let due = top.offset.saturating_sub(*offset).min(page.limit as u64);
                        offsets.len() as u64 == due
                            && offsets.first().is_none_or(|first| *first == offset + 1)
                    }
                    (_, recovered) => recovered == Some(false),
                };
            }
            // The newest: they end at the top.
            _ => {
                is_right &=
                    recovered.is_none() && offsets.last().is_none_or(|last| *last == top.offset);
            }
        }
        if !is_right {
            self.find(format!("page {index} of {:?} at {range:?}: {answer:?}", page.asked));
        }
    }
}
