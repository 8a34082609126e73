//! Says what of a record cannot be: a model of the contract, simple and apart from the server.
//!
//! It knows no state of the server. From what all clients saw together it takes the one order of
//! each topic, and holds every single client against it. Where a step could come before or after
//! another (a thread that did not run), it allows both.

mod ending;
mod feed;
mod order;
mod request;
mod start;

use crate::client::{Door, Event};
use crate::invariant::{Checker, Closes, Violation};
use crate::topics::record::{Deed, Record, Session};
use crate::topics::setup::Echo;

use order::Orders;

/// Everything in `record` that breaks the contract.
pub(crate) fn judge(record: &Record) -> Vec<String> {
    let mut judge = Judge {
        record,
        orders: Orders::of(record),
        checker: Checker::default(),
        findings: record.faults.clone(),
    };
    judge.orders_agree();
    judge.publishers_are_served();
    judge.requests();
    judge.epochs();
    for (index, session) in record.seen.sessions.iter().enumerate() {
        judge.session(index, session);
    }
    judge.everybody_is_at_the_top();
    judge.closes_are_counted();
    judge.deliveries_are_counted();
    judge.nothing_is_left();
    judge.findings
}

struct Judge<'a> {
    record: &'a Record,
    orders: Orders,
    checker: Checker,
    findings: Vec<String>,
}

impl Judge<'_> {
    fn find(&mut self, finding: impl Into<String>) {
        self.findings.push(finding.into());
    }

    fn expect(&mut self, whom: impl AsRef<str>, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.find(format!("{}: {violation:?}", whom.as_ref()));
        }
    }

    fn session(&mut self, index: usize, session: &Session) {
        match session.head() {
            Some((_, 101 | 200, _, _)) if !self.is_comparable(session) => {}
            Some((_, 101 | 200, _, _)) => {
                self.starts_where_it_asked(index, session);
                self.is_fed(index, session);
                self.ends_for_a_reason(index, session);
            }
            Some((tick, 503, _, _))
                if self.record.drained.is_some_and(|drained| drained <= tick) => {}
            Some((_, status, _, _)) => self.find(format!("session {index} is answered {status}")),
            None => {
                let has_left = session.did(|deed| matches!(deed, Deed::Vanish | Deed::Shut));
                let is_gone = has_left.is_some_and(|tick| tick <= self.record.healed);
                if !is_gone && self.record.forced.is_none() {
                    self.find(format!("session {index} is never answered"));
                }
            }
        }
    }

    /// Whether it can be told what the session is to get.
    fn is_comparable(&self, session: &Session) -> bool {
        let topic = session.opening.topic;
        let shows_positions = self.record.setup.topics[topic].rule.history_size > 0
            && session.opening.door != Door::Plain
            && session.opening.echo == Echo::On;
        shows_positions || self.orders.is_known(topic)
    }

    /// I2 and I6.
    fn everybody_is_at_the_top(&mut self) {
        for (topic, setup) in self.record.setup.topics.iter().enumerate() {
            if self.orders.is_known(topic)
                && let Some(top) = self.orders.top_at(topic, self.record.healed)
            {
                let result = self.checker.healed(&setup.name, &top);
                self.expect("when all had read", result);
            }
        }
        let result = self.checker.finish();
        self.expect("when all had read", result);
    }

    fn deliveries_are_counted(&mut self) {
        let received = self.record.seen.sessions.iter().flat_map(|session| &session.events);
        let received =
            received.filter(|(_, event)| matches!(event, Event::Publication { .. })).count() as u64;
        let counted = self.record.delivered;
        if counted < received {
            self.find(format!("{received} publications came, {counted} are counted"));
        }
    }

    /// I5, but for a server that was told not to wait for the last ones.
    fn nothing_is_left(&mut self) {
        match self.record.forced {
            Some(tick) if self.is_forced_out(tick) => {}
            Some(tick) => self.find(format!("at {tick}, a worker ended before its clients left")),
            None => {
                let left = self.record.left_behind.emptied().is_back(&self.record.left_behind);
                self.expect("when all had left", left);
            }
        }
    }

    /// I7.
    fn closes_are_counted(&mut self) {
        let (mut told, mut unseen, mut sessions) = (Closes::default(), 0, 0);
        for session in &self.record.seen.sessions {
            let Some((_, status, _, _)) = session.head() else {
                unseen += 1;
                continue;
            };
            sessions += u64::from(status == 101);
            match session.close() {
                Some((_, code @ (1000 | 1001), "")) => told.add(code, "client", 1),
                Some((_, _, "")) => told.add(0, "client", 1),
                Some((_, code, reason)) => told.add(code, reason, 1),
                None => unseen += 1,
            }
        }
        let counted = &self.record.counted;
        let result = told.agree_but(counted, unseen);
        if counted.count() < sessions && self.record.forced.is_none() {
            self.find(format!("{sessions} WebSocket sessions, {} closes counted", counted.count()));
        }
        self.expect("closes", result);
    }
}
