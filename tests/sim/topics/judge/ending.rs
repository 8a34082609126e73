//! Why a session ended: every end needs a cause, and most owe something first.

use std::time::Duration;

use fanwire::limits::Delivery;

use super::Judge;
use super::order::Entry;
use crate::client::{End, Offence};
use crate::record::{By, Tick};
use crate::setup::Pace;
use crate::topics::record::{Asked, Deed, Session};
use crate::topics::setup::Echo;

/// What a publication may weigh beside its payload: the wordiest encoding, and what queueing costs.
const WEIGHT_MAX: usize = 320;

impl Judge<'_> {
    pub(super) fn ends_for_a_reason(&mut self, index: usize, session: &Session) {
        let who = format!("session {index}");
        if let Some((tick, code, reason)) = session.close() {
            if !self.may_close(session, tick, (code, reason)) {
                self.find(format!("{who} is closed with {code} {reason} at {tick}, why?"));
            }
            return self.owes_nothing(index, session, (code, reason));
        }
        let Some((tick, end)) = session.end() else {
            return self.must_have_ended(index, session);
        };
        let is_websocket = session.head().is_some_and(|(_, status, ..)| status == 101);
        let is_right = match end {
            End::Whole if !is_websocket => {
                self.has_drained(tick) || self.may_overflow(session, tick)
            }
            _ => {
                session.did(|deed| matches!(deed, Deed::Shut)).is_some()
                    || self.stalled(session, tick) >= self.record.setup.limits.write_timeout
                    || self.is_forced_out(tick)
            }
        };
        if !is_right {
            self.find(format!("{who} ends at {tick} ({end:?}), why?"));
        }
        // A stream is not told why it ends.
        if end == End::Whole && self.has_drained(tick) && !self.may_overflow(session, tick) {
            self.owes_nothing(index, session, (1012, "draining"));
        }
    }

    /// Whether the client gave cause for the close that it was told.
    fn may_close(&self, session: &Session, tick: Tick, close: (u16, &str)) -> bool {
        let offended = |offences: &[Offence]| {
            session
                .did(|deed| matches!(deed, Deed::Offend(offence) if offences.contains(offence)))
                .is_some()
        };
        let limits = &self.record.setup.limits;
        match close {
            (code, "") => session.did(|deed| *deed == Deed::Close(code)).is_some(),
            (1002, "protocol") => offended(&[Offence::Unmasked, Offence::ReservedBits]),
            (1007, "utf8") => offended(&[Offence::Utf8]),
            (1009, "message_too_large") => offended(&[Offence::TooLarge]),
            (1008, "rate_limit") => self.is_over_rate(session),
            (1011, "pong_timeout") => self.stalled(session, tick) >= limits.pong_timeout,
            (1012, "draining") => self.has_drained(tick),
            (1013, "outbox_overflow") => self.may_overflow(session, tick),
            _ => false,
        }
    }

    /// What was accepted before an end began is delivered before it is told, to whoever follows
    /// the live stream.
    fn owes_nothing(&mut self, index: usize, session: &Session, (code, reason): (u16, &str)) {
        let until = match (code, reason) {
            (1012, _) => self.record.drained,
            (_, "") | (1002 | 1007 | 1009, _) => {
                session.did(|deed| matches!(deed, Deed::Close(_) | Deed::Offend(_)))
            }
            _ => None,
        };
        let Some(until) = until else { return };
        // Whoever wants to leave does not wait for old history; it may have left before the drain.
        let is_replay = session.asked != Asked::Nothing && !session.is_prompt();
        let may_wait = code == 1012;
        let left = session.did(|deed| matches!(deed, Deed::Shut | Deed::Vanish));
        if (is_replay && !may_wait) || left.is_some() {
            return;
        }
        let Some((_, _, position, _)) = session.head() else { return };
        let epoch = position.map_or("", |position| position.epoch.as_str());
        let order = self.orders.get(session.opening.topic, epoch);
        let is_owed = |entry: &Entry| {
            let is_own = self.record.payloads[entry.number].by == By::Session(index);
            entry.seen < until && !(is_own && session.opening.echo == Echo::Off)
        };
        let owed = order.0.iter().rev().find(|(_, entry)| is_owed(entry));
        let owed = owed.map_or(0, |(offset, _)| *offset);
        let reached = self.reached(session, Tick::MAX);
        let begins_later = position.is_none() && reached == 0;
        // What history let go before it was read is skipped, where that is no reason to close.
        let delivery = self.record.setup.topics[session.opening.topic].rule.delivery;
        let ended = session.end().map_or(Tick::MAX, |(tick, _)| tick);
        let may_skip = delivery != Delivery::Reliable && self.may_be_trimmed(session, ended);
        if reached < owed && !begins_later && !may_skip {
            self.find(format!(
                "session {index} is closed with {code} {reason} at {reached}, is owed {owed}"
            ));
        }
    }

    /// A client that said its last word, and one that the server gave up, do not live on.
    fn must_have_ended(&mut self, index: usize, session: &Session) {
        if session
            .did(|deed| matches!(deed, Deed::Vanish))
            .is_some_and(|at| at <= self.record.healed)
        {
            return;
        }
        let is_last_word =
            |deed: &Deed| matches!(deed, Deed::Shut | Deed::Close(_) | Deed::Offend(_));
        let is_websocket = session.head().is_some_and(|(_, status, ..)| status == 101);
        if is_websocket && session.did(is_last_word).is_some() {
            self.find(format!("session {index} lives on after its last word"));
        }
    }

    fn has_drained(&self, tick: Tick) -> bool {
        self.record.drained.is_some_and(|drained| drained <= tick)
    }

    /// Whether the drain no longer waits for anybody.
    pub(super) fn is_forced_out(&self, tick: Tick) -> bool {
        let setup = &self.record.setup;
        self.record.drained.is_some_and(|drained| {
            self.record.between(drained, tick) >= setup.drain_window + setup.limits.write_timeout
        })
    }

    fn is_over_rate(&self, session: &Session) -> bool {
        let rate = self.record.setup.limits.publish_rate_max as usize;
        let sent = session.deeds.iter().filter(|(_, deed)| matches!(deed, Deed::Send(_)));
        rate > 0 && sent.count() > rate
    }

    /// The longest time up to `tick` for which the client may have taken nothing.
    fn stalled(&self, session: &Session, tick: Tick) -> Duration {
        let (mut since, mut longest) = (session.sent, Duration::ZERO);
        let mut is_prompt = session.opening.pace == Pace::Prompt;
        let mut note = |is_prompt: bool, since: Tick, until: Tick| {
            if !is_prompt {
                longest = longest.max(self.record.between(since, until));
            }
        };
        for (at, deed) in session.deeds.iter().filter(|(its, _)| *its <= tick) {
            if let Deed::Pace(pace) = deed {
                note(is_prompt, since.saturating_sub(1), *at);
                (is_prompt, since) = (*pace == Pace::Prompt, if is_prompt { *at } else { since });
            }
        }
        note(is_prompt, since.saturating_sub(1), tick);
        longest
    }

    /// Whether a reliable subscriber can have been too far behind at some time up to `tick`.
    fn may_overflow(&self, session: &Session, tick: Tick) -> bool {
        let topic = session.opening.topic;
        let rule = &self.record.setup.topics[topic].rule;
        let Some((answered, _, position, _)) = session.head() else { return false };
        if rule.delivery != Delivery::Reliable {
            return false;
        }
        let epoch = position.map_or("", |position| position.epoch.as_str());
        let order = self.orders.get(topic, epoch);
        let is_behind = (answered..=tick).any(|at| {
            let reached = self.reached(session, at.saturating_sub(1));
            let waiting = order.0.range(reached + 1..).filter(|(_, entry)| entry.sent <= at);
            let lens = waiting.map(|(_, entry)| self.record.payloads[entry.number].len);
            let lens = lens.chain(self.unseen(topic, at));
            lens.map(|len| len + WEIGHT_MAX).sum::<usize>()
                >= self.record.setup.limits.outbox_bytes_max
        });
        is_behind || self.may_be_trimmed(session, tick)
    }

    /// Whether a subscriber that reads history may at `tick` no longer find there what comes next.
    fn may_be_trimmed(&self, session: &Session, tick: Tick) -> bool {
        let topic = session.opening.topic;
        let Some((_, _, position, _)) = session.head() else { return false };
        let epoch = position.map_or("", |position| position.epoch.as_str());
        let top = self.top(topic, epoch, (tick, tick)).possible;
        let now = self.record.clock[tick.min(self.record.clock.len() - 1)];
        let order = self.orders.get(topic, epoch);
        let oldest = order.oldest(self.record, (topic, top), now, |entry| entry.sent);
        let reached = self.reached(session, tick);
        session.asked != Asked::Nothing && oldest.is_none_or(|oldest| oldest > reached + 1)
    }
}
