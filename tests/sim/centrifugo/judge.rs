//! Says what of a record cannot be. As the model of the other doors, it knows no state of the
//! server: the order of each topic is what all clients saw together, and where a step could come
//! before or after another, it allows both.

use std::collections::BTreeMap;

use super::record::{Answer, Call, Heard, Outcome, Record, Stay};
use super::setup::{Hears, Order};
use crate::invariant::{Checker, Closes, Position, Violation};
use crate::record::{By, Tick, number};
use fanwire::limits::JoinLeave;

/// Publications that one reply holds at most.
const PAGE_COUNT_MAX: u64 = 300;

/// How a server may end a session that does not read.
const ENDS: [&str; 4] = ["3008 ", "3009 ", "3012 ", "End("];

/// How it ends all sessions when it drains.
pub(crate) const SHUTDOWN: &str = "3001 shutdown";

/// How it ends those that the application does not want.
pub(crate) const DISCONNECTED: &str = "3503 force disconnect";

/// How it refuses who comes while it drains.
const REFUSED: &str = "Head { status: 503,";

/// Everything in `record` that breaks the contract.
pub(crate) fn judge(record: &Record) -> Vec<String> {
    let mut judge = Judge {
        record,
        places: BTreeMap::new(),
        checker: Checker::default(),
        findings: record.faults.clone(),
    };
    judge.learns_the_order();
    judge.publishers_are_served();
    record.seen.stays.iter().enumerate().for_each(|(index, stay)| judge.stay(index, stay));
    judge.everybody_is_at_the_top();
    judge.sessions_live();
    judge.calls_are_carried_out();
    judge.closes_are_counted();
    judge.looks_are_right();
    record.seen.stays.iter().enumerate().for_each(|(index, stay)| judge.hears(index, stay));
    if record.forced.is_none() {
        let left = record.left_behind.emptied().is_back(&record.left_behind);
        judge.expect("when all had left", left);
    }
    judge.findings
}

/// Where a publication is.
struct Place {
    position: Position,
    /// When somebody first saw it: it was accepted no later.
    seen: Tick,
}

/// A time that is known up to the steps in which it may have been.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: Tick,
    last: Tick,
}

struct Judge<'a> {
    record: &'a Record,
    /// By the number of the payload.
    places: BTreeMap<usize, Place>,
    checker: Checker,
    findings: Vec<String>,
}

impl Judge<'_> {
    fn find(&mut self, finding: impl Into<String>) {
        self.findings.push(finding.into());
    }

    fn expect(&mut self, whom: &str, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.find(format!("{whom}: {violation:?}"));
        }
    }

    /// I4: one payload per offset and one offset per payload, in one epoch, as it was published.
    fn learns_the_order(&mut self) {
        let record = self.record;
        let mut observed = Vec::new();
        for stay in &record.seen.stays {
            for (tick, heard) in &stay.heard {
                if let Heard::Publication { position, payload } = heard {
                    observed.push((stay.wish.topic, position.clone(), payload.clone(), *tick));
                }
            }
        }
        for (index, payload) in record.payloads.iter().enumerate() {
            if let Some((tick, Some(position))) = record.acknowledged(index) {
                let text = record.payload(index).unwrap_or_default().into_bytes();
                observed.push((payload.topic, position, text, tick));
            }
        }
        for (topic, position, payload, tick) in observed {
            let name = record.name_of(topic);
            let result = self.checker.observed(name, &position, &payload);
            self.expect(name, result);
            let known = number(&payload).filter(|one| {
                let is_its = record.payloads.get(*one).is_some_and(|its| its.topic == topic);
                is_its && record.payload(*one).is_some_and(|text| text.as_bytes() == payload)
            });
            let Some(known) = known else {
                let text = String::from_utf8_lossy(&payload);
                self.find(format!("{name} {position}: {text:.24}, which nobody published"));
                continue;
            };
            let new = || Place { position: position.clone(), seen: tick };
            let place = self.places.entry(known).or_insert_with(new);
            place.seen = place.seen.min(tick);
            if place.position != position {
                let finding = format!("payload {known} is at {position} and {}", place.position);
                self.find(finding);
            }
        }
    }

    /// What is acknowledged is there; what a session sends is accepted in its order, and all of it
    /// if the session lives on.
    fn publishers_are_served(&mut self) {
        let mut last = BTreeMap::new();
        let drained = self.record.drained.unwrap_or(Tick::MAX);
        for (number, payload) in self.record.payloads.iter().enumerate() {
            let place = self.places.get(&number).map(|place| place.position.offset);
            let must = match payload.by {
                By::Session(session) => self.record.end_of(session).is_none(),
                By::Post(post) => self.is_taken(post),
            };
            let acknowledged = self.record.acknowledged(number).map(|(tick, _)| tick);
            // Nobody may be left to see what is accepted while the server leaves.
            let is_seen = self.record.forced.is_none();
            let is_sure = is_seen && acknowledged.map_or(must, |tick| tick < drained);
            if is_sure && place.is_none() {
                self.find(format!("payload {number} is lost"));
            }
            if must && acknowledged.is_none() {
                self.find(format!("payload {number} is not acknowledged"));
            }
            let (By::Session(session), Some(offset)) = (payload.by, place) else { continue };
            let before = last.insert((session, payload.topic), offset);
            if before.is_some_and(|before| before >= offset) {
                self.find(format!("payload {number} of session {session} came out of order"));
            }
        }
    }

    /// Whether a post must have been accepted: all are, but for a server that leaves.
    fn is_taken(&mut self, post: usize) -> bool {
        match (&self.record.posts[post].answer, self.record.drained) {
            (Some((_, answer)), _) if answer.status == 200 => true,
            (Some((tick, answer)), Some(drained)) if answer.status == 503 && drained <= *tick => {
                false
            }
            (None, Some(_)) => false,
            (answer, _) => {
                let finding = format!("post {post} is answered {answer:?}");
                self.find(finding);
                false
            }
        }
    }

    /// The newest offset of a topic, as far as `is_in` says.
    fn newest(&self, topic: usize, is_in: impl Fn(Tick, &Place) -> bool) -> u64 {
        let places = self.places.iter().map(|(number, place)| {
            let payload = &self.record.payloads[*number];
            (payload, place)
        });
        let places =
            places.filter(|(payload, place)| payload.topic == topic && is_in(payload.sent, place));
        places.map(|(_, place)| place.position.offset).max().unwrap_or(0)
    }

    fn stay(&mut self, index: usize, stay: &Stay) {
        let who = format!("stay {index}");
        if let Some((tick, Answer::Refused(code))) = &stay.answer {
            self.find(format!("{who} is refused with {code} at {tick}"));
        }
        let Some((answered, start, recovered)) = stay.start() else {
            let is_over = self.record.end_of(stay.session).is_some();
            if stay.answer.is_none() && !is_over {
                self.find(format!("{who} is never answered"));
            }
            return;
        };
        let (name, topic) = (self.record.name_of(stay.wish.topic), stay.wish.topic);
        let sure = self.newest(topic, |_, place| place.seen < stay.sent);
        let possible = self.newest(topic, |sent, _| sent <= answered);
        let is_right = match (&stay.asked, recovered) {
            (Some(asked), Some(true)) => start == asked && asked.offset <= possible,
            (Some(asked), Some(false)) => {
                // For who does not read so much may wait that it is given no more.
                let is_slow = !self.record.seen.sessions[stay.session].is_prompt;
                (sure..=possible).contains(&start.offset)
                    && (is_slow && asked.offset < start.offset || self.is_lost(topic, asked, start))
            }
            _ => (sure..=possible).contains(&start.offset),
        };
        // What is accepted while the server leaves, perhaps nobody saw.
        let is_known = self.record.drained.is_none_or(|drained| answered < drained);
        if is_known && !is_right {
            let asked = &stay.asked;
            self.find(format!(
                "{who} asked {asked:?}: {start}, {recovered:?}; {sure}..={possible}"
            ));
        }
        self.checker.starts((&who, name), start);
        let mut reached = start.offset;
        for (tick, heard) in &stay.heard {
            if let Heard::Publication { position, payload } = heard {
                let result = self.checker.delivered((&who, name), position, payload);
                self.expect(&format!("{who} at {tick}"), result);
                reached = reached.max(if *tick == answered { position.offset } else { 0 });
            }
        }
        // What was missed comes with the answer.
        if recovered == Some(true) && reached < sure {
            self.find(format!("{who} is recovered up to {reached} of {sure}"));
        }
        if self.end_of(stay).is_some() {
            self.checker.ends((&who, name));
        }
    }

    /// Whether what comes between `asked` and `top` cannot be had.
    fn is_lost(&self, topic: usize, asked: &Position, top: &Position) -> bool {
        let rule = &self.record.setup.topics[topic].rule;
        if asked.epoch != top.epoch || asked.offset > top.offset {
            return true;
        }
        let missed = top.offset - asked.offset;
        let lens = self.places.iter().filter(|(number, place)| {
            let offset = place.position.offset;
            let is_missed = offset > asked.offset && offset <= top.offset;
            is_missed && self.record.payloads[**number].topic == topic
        });
        // A reply is at most half an outbox long. Escaping may make it longer, and each publication
        // has a publisher, and names for its fields.
        let len: usize = lens.map(|(number, _)| 2 * self.record.payloads[*number].len + 256).sum();
        missed > (rule.history_size as u64).min(PAGE_COUNT_MAX)
            || len > self.record.setup.limits.outbox_bytes_max / 2
    }

    /// I6.
    fn everybody_is_at_the_top(&mut self) {
        for topic in 0..self.record.setup.topics.len() {
            let mut starts = self.record.seen.stays.iter().filter(|stay| stay.wish.topic == topic);
            let epoch = starts.find_map(|stay| Some(stay.start()?.1.epoch.clone()));
            let offset = self.newest(topic, |_, _| true);
            if let Some(epoch) = epoch {
                let top = Position { epoch, offset };
                let result = self.checker.healed(self.record.name_of(topic), &top);
                self.expect("when all had read", result);
            }
        }
    }

    /// Only who did not read is sent away, but for the drain, which is told to everybody.
    fn sessions_live(&mut self) {
        let drained = self.record.drained.unwrap_or(Tick::MAX);
        for (index, session) in self.record.seen.sessions.iter().enumerate() {
            let is_gone = self.record.vanished(index).is_some();
            if session.sent >= drained {
                // It came too late.
                continue;
            }
            let Some((tick, how)) = &session.ended else {
                if session.client.is_none() && !is_gone {
                    self.find(format!("session {index} is never connected"));
                }
                if drained < Tick::MAX && !is_gone {
                    self.find(format!("session {index} is not told of the drain"));
                }
                continue;
            };
            let is_slow = !session.is_prompt && ENDS.iter().any(|end| how.starts_with(end));
            let is_drained = *tick >= drained && (how == SHUTDOWN || how.starts_with(REFUSED));
            let is_ordered = |call: &Call| call.order == Order::Disconnect && call.sent <= *tick;
            let is_unwanted = how == DISCONNECTED && self.calls_of(index).any(is_ordered);
            let is_forced = self.record.forced.is_some() && how.starts_with("End(");
            if !is_slow && !is_drained && !is_unwanted && !is_forced {
                self.find(format!("session {index} ends at {tick} with {how}, why?"));
            }
        }
    }

    /// What the application wanted done to the user of a session.
    fn calls_of(&self, session: usize) -> impl Iterator<Item = &Call> {
        let user = self.record.seen.sessions[session].guise.user;
        self.record.seen.calls.iter().filter(move |call| Some(call.user) == user)
    }

    /// What the application was told is done has been done to all that were there before.
    fn calls_are_carried_out(&mut self) {
        let mut findings = Vec::new();
        for (index, call) in self.record.seen.calls.iter().enumerate() {
            if call.outcome.is_none() && self.record.drained.is_none() {
                findings.push(format!("call {index} is never answered"));
            }
        }
        let done = |call: &&Call| call.outcome == Some(Outcome::Done);
        for (index, session) in self.record.seen.sessions.iter().enumerate() {
            let was_there = |call: &Call| session.connected.is_some_and(|tick| tick < call.sent);
            let is_unwanted = self
                .calls_of(index)
                .filter(done)
                .any(|call| call.order == Order::Disconnect && was_there(call));
            if is_unwanted && self.record.end_of(index).is_none() {
                findings.push(format!("session {index} goes on, though it was to be ended"));
            }
        }
        for (index, stay) in self.record.seen.stays.iter().enumerate() {
            let Some((answered, ..)) = stay.start() else { continue };
            let is_unwanted = self.calls_of(stay.session).filter(done).any(|call| {
                call.order == Order::Unsubscribe(stay.wish.topic) && answered < call.sent
            });
            if is_unwanted && self.end_of(stay).is_none() {
                findings.push(format!("stay {index} goes on, though it was to be ended"));
            }
        }
        self.findings.extend(findings);
    }

    /// I7.
    fn closes_are_counted(&mut self) {
        let (mut told, mut unseen) = (Closes::default(), 0);
        for session in &self.record.seen.sessions {
            let words = session.ended.as_ref().and_then(|(_, how)| how.split_once(' '));
            match words.and_then(|(code, reason)| Some((code.parse().ok()?, reason))) {
                Some((code, reason)) => told.add(code, reason, 1),
                None => unseen += 1,
            }
        }
        let result = told.agree_but(&self.record.counted, unseen);
        self.expect("closes", result);
    }

    /// When a stay was over, as far as its client knows, or began to end.
    fn end_of(&self, stay: &Stay) -> Option<Tick> {
        stay.left.or(stay.over).or(self.record.end_of(stay.session))
    }

    /// When a stay may have been ended at the earliest by somebody else than its client.
    fn ended_by_others(&self, stay: &Stay) -> Option<Tick> {
        let is_ended = self.record.ended(stay.session).is_some();
        let calls = self.calls_of(stay.session).filter(|call| match call.order {
            Order::Disconnect => is_ended,
            Order::Unsubscribe(topic) => topic == stay.wish.topic && stay.over.is_some(),
        });
        let drained = self.record.drained.filter(|_| is_ended);
        calls.map(|call| call.sent).chain(drained).map(|tick| tick.max(stay.sent)).min()
    }

    /// When a stay begins; without an answer, perhaps never.
    fn begins(stay: &Stay) -> Span {
        let last = stay.start().map_or(Tick::MAX, |(answered, ..)| answered);
        Span { first: stay.sent, last }
    }

    /// When a stay ends, if it does.
    fn ends(&self, stay: &Stay) -> Span {
        let session = &self.record.seen.sessions[stay.session];
        // Who does not read may have been given up long before it knows, or goes.
        let is_given_up = self.record.end_of(stay.session).is_some();
        let given_up = (is_given_up && !session.is_prompt).then(|| Self::begins(stay).first);
        let others = self.ended_by_others(stay);
        let first = [stay.left, self.record.vanished(stay.session), given_up, stay.over, others];
        let first = first.into_iter().flatten().min().unwrap_or(Tick::MAX);
        // When all is quiet, the server knows of every end.
        let last = if first == Tick::MAX { first } else { self.record.healed - 1 };
        Span { first, last: stay.over.map_or(last, |over| over.max(first)) }
    }

    fn client(&self, stay: &Stay) -> &str {
        self.record.seen.sessions[stay.session].client.as_deref().unwrap_or_default()
    }

    /// Who is said to be there is, and nobody else.
    fn looks_are_right(&mut self) {
        let mut findings = Vec::new();
        for (index, look) in self.record.seen.looks.iter().enumerate() {
            let Some((answered, clients)) = &look.answer else { continue };
            let stays = self.record.seen.stays.iter().filter(|stay| stay.wish.topic == look.topic);
            let (mut sure, mut possible) = (Vec::new(), Vec::new());
            for stay in stays {
                let (begins, ends) = (Self::begins(stay), self.ends(stay));
                if begins.last < look.sent && ends.first > *answered {
                    sure.push(self.client(stay));
                }
                if begins.first <= *answered && ends.last >= look.sent {
                    possible.push(self.client(stay));
                }
            }
            let is_right = sure.iter().all(|client| clients.contains(*client))
                && clients.iter().all(|client| possible.contains(&client.as_str()));
            if !is_right {
                findings.push(format!("look {index}: {clients:?}, {sure:?}..{possible:?}"));
            }
        }
        self.findings.extend(findings);
    }

    /// A subscriber hears of everybody who comes and goes while it is there, in turn.
    fn hears(&mut self, index: usize, stay: &Stay) {
        let Some((answered, ..)) = stay.start() else { return };
        let rule = &self.record.setup.topics[stay.wish.topic].rule;
        let is_told = rule.presence
            && (rule.join_leave == JoinLeave::All || stay.wish.hears == Hears::Members);
        let stays_on = self.end_of(stay).is_none();
        let drained = self.record.drained.unwrap_or(Tick::MAX);
        let mut heard: BTreeMap<&str, Vec<(Tick, bool)>> = BTreeMap::new();
        for (at, one) in stay.heard.iter().filter(|(tick, _)| *tick <= self.record.healed) {
            match one {
                Heard::Join(client) => heard.entry(client).or_default().push((*at, true)),
                Heard::Leave(client) => heard.entry(client).or_default().push((*at, false)),
                _ => {}
            }
        }
        let mut due: BTreeMap<(&str, bool), (usize, usize)> = BTreeMap::new();
        let others =
            self.record.seen.stays.iter().filter(|other| other.wish.topic == stay.wish.topic);
        for other in others {
            for (is_join, span) in [(true, Self::begins(other)), (false, self.ends(other))] {
                let is_known = other.start().is_some() && span.last < Tick::MAX;
                // When the server goes, all go.
                let is_news = is_join || span.last < drained;
                let is_sure = stays_on && is_known && is_news && span.first > answered;
                let is_possible = span.first < Tick::MAX && span.last >= stay.sent;
                let (sure, possible) = due.entry((self.client(other), is_join)).or_default();
                *sure += usize::from(is_told && is_sure);
                *possible += usize::from(is_told && is_possible);
            }
        }
        let mut findings = Vec::new();
        for (client, told) in &heard {
            if told.windows(2).any(|pair| pair[0].1 == pair[1].1 && pair[1].0 < drained) {
                findings.push(format!("stay {index} hears {told:?} of {client}"));
            }
        }
        for ((client, is_join), (sure, possible)) in due {
            let told = heard.get(client).into_iter().flatten();
            let count = told.filter(|(_, its)| *its == is_join).count();
            if !(sure..=possible).contains(&count) {
                let what = if is_join { "joins" } else { "leaves" };
                findings
                    .push(format!("stay {index}: {client} {what} {count}, {sure}..={possible}"));
            }
        }
        self.findings.extend(findings);
    }
}
