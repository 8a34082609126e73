//! What a seed of the doors of `/topics` came across.

use std::collections::BTreeSet;

use fanwire::limits::Delivery;

use super::record::{Record, Session};
use crate::client::{End, Event};

/// Every thing that the seeds are to come across, and how many of a thousand do at least.
pub(crate) const EXPECTED: &[(&str, usize)] = &[
    ("a publication is a repeat", 50),
    ("a replay", 100),
    ("a stream is cut", 30),
    ("a stream ends with the drain", 100),
    ("a topic is forgotten with its epoch", 5),
    ("a WebSocket is cut", 30),
    ("closed 1000", 100),
    ("closed 1002 protocol", 20),
    ("closed 1007 utf8", 10),
    ("closed 1008 rate_limit", 10),
    ("closed 1009 message_too_large", 10),
    ("closed 1011 pong_timeout", 20),
    ("closed 1012 draining", 100),
    ("closed 1013 outbox_overflow", 30),
    ("counted 1006 abnormal", 50),
    ("counted 1013 write_timeout", 20),
    ("recovered", 100),
    ("not recovered", 100),
    ("refused while draining", 20),
    ("latest skips", 20),
    ("lossy skips", 20),
];

/// What came about in `record`.
pub(crate) fn things(record: &Record) -> BTreeSet<String> {
    let mut things: BTreeSet<String> =
        record.seen.sessions.iter().flat_map(|session| of_session(record, session)).collect();
    for (code, word) in [(1006, "abnormal"), (1013, "write_timeout")] {
        if record.counted.get(code, word) > 0 {
            things.insert(format!("counted {code} {word}"));
        }
    }
    for (_, answer) in record.posts.iter().filter_map(|post| post.answer.as_ref()) {
        if answer.status == 503 {
            things.insert("refused while draining".to_owned());
        }
        if answer.body.get("duplicate").is_some() {
            things.insert("a publication is a repeat".to_owned());
        }
    }
    let mut epochs = BTreeSet::new();
    for session in &record.seen.sessions {
        if let Some((_, _, Some(position), _)) = session.head() {
            epochs.insert((session.opening.topic, &position.epoch));
        }
    }
    let topics: BTreeSet<usize> = epochs.iter().map(|(topic, _)| *topic).collect();
    if epochs.len() > topics.len() {
        things.insert("a topic is forgotten with its epoch".to_owned());
    }
    things
}

fn of_session(record: &Record, session: &Session) -> Vec<String> {
    let mut things = Vec::new();
    let Some((_, status, position, recovered)) = session.head() else { return things };
    let got = session.events.iter().filter(|(_, event)| matches!(event, Event::Publication { .. }));
    match recovered {
        Some(true) if position.is_some() && got.count() > 1 => {
            things.extend(["recovered".to_owned(), "a replay".to_owned()]);
        }
        Some(true) => things.push("recovered".to_owned()),
        Some(false) => things.push("not recovered".to_owned()),
        None => {}
    }
    if session.events.iter().any(|(_, event)| matches!(event, Event::Skipped(_))) {
        let delivery = record.setup.topics[session.opening.topic].rule.delivery;
        things
            .extend((delivery != Delivery::Reliable).then(|| format!("{} skips", delivery.word())));
    }
    match (session.close(), session.end(), status) {
        (Some((_, code, word)), ..) => {
            things.push(format!("closed {code} {word}").trim_end().to_owned());
        }
        (None, Some((_, End::Cut)), 101) => things.push("a WebSocket is cut".to_owned()),
        (None, Some((_, End::Cut)), 200) => things.push("a stream is cut".to_owned()),
        (None, Some((_, End::Whole)), 200) => {
            things.push("a stream ends with the drain".to_owned());
        }
        _ => {}
    }
    things
}
