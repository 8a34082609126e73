//! Sessions of the Centrifugo protocol in the same world: several subscriptions over one
//! connection, with recovery, deltas and members that come and go, in JSON and in protobuf, over a
//! WebSocket and over bodies with requests beside them; an application that sends its users away;
//! and a model of what each of them is owed.

mod client;
mod fault;
mod judge;
mod protobuf;
mod record;
mod run;
mod setup;

use std::collections::BTreeSet;

use fastrand::Rng;

use crate::seed::Play;
use crate::setup::Setup;

pub(crate) use run::Centrifugo;

use fault::Fault;
use judge::{DISCONNECTED, SHUTDOWN};
use record::{Answer, Heard, Record};
use setup::{Codec, Step, Transport};

/// Every thing that the seeds are to come across, and how many of a thousand do at least.
const EXPECTED: &[(&str, usize)] = &[
    ("a delta", 100),
    ("a delta in protobuf", 30),
    ("a gap told and mended", 5),
    ("a join", 500),
    ("a leave", 200),
    ("a replay", 100),
    ("a session too slow", 5),
    ("drained before the end", 30),
    ("not recovered", 200),
    ("over http_stream", 200),
    ("protobuf over a WebSocket", 200),
    ("protobuf over http_stream", 100),
    ("recovered", 200),
    ("sent away by the application", 30),
    ("unsubscribed", 200),
    ("unsubscribed by the application", 30),
];

impl Play for Centrifugo {
    const COUNT: u64 = 2000;
    const TEST: &'static str = "at_the_centrifugo_door";
    const EXPECTED: &'static [(&'static str, usize)] = EXPECTED;
    type Fault = Fault;
    const FAULTS: &'static [Fault] = &Fault::ALL;

    fn plan(seed: u64) -> (Setup, Vec<Step>) {
        setup::plan(seed)
    }

    fn judge(record: &Record) -> Vec<String> {
        judge::judge(record)
    }

    fn story(record: &Record) -> String {
        record.to_string()
    }

    fn things(record: &Record) -> BTreeSet<String> {
        things(record)
    }

    fn plant(fault: Fault, record: &mut Record, _random: &mut Rng) -> bool {
        fault.plant(record)
    }
}

/// What came about in `record`.
fn things(record: &Record) -> BTreeSet<String> {
    let mut things = BTreeSet::new();
    let mut add = |thing: &str, came: bool| {
        if came {
            things.insert(thing.to_owned());
        }
    };
    for stay in &record.seen.stays {
        let heard = |is_it: fn(&Heard) -> bool| stay.heard.iter().any(|(_, one)| is_it(one));
        let recovered = stay.start().and_then(|(.., recovered)| recovered);
        let is_publication = |one: &Heard| matches!(one, Heard::Publication { .. });
        let answered = stay.start().map(|(tick, ..)| tick);
        let is_replay =
            stay.heard.iter().any(|(tick, one)| Some(*tick) == answered && is_publication(one));
        add("recovered", recovered == Some(true));
        add("a replay", recovered == Some(true) && is_replay);
        add("not recovered", recovered == Some(false));
        add("a join", heard(|one| matches!(one, Heard::Join(_))));
        add("a leave", heard(|one| matches!(one, Heard::Leave(_))));
        add("unsubscribed by the application", heard(|one| *one == Heard::Unsubscribed(2000)));
        add("a gap told and mended", heard(|one| matches!(one, Heard::Unsubscribed(2500))));
        add(
            "unsubscribed",
            stay.left.is_some() && matches!(stay.answer, Some((_, Answer::Subscribed { .. }))),
        );
    }
    for session in &record.seen.sessions {
        let ended = session.ended.as_ref();
        add("a session too slow", ended.is_some_and(|(_, how)| how.starts_with("3008")));
        let is_body = session.guise.transport == Transport::HttpStream;
        let is_protobuf = session.guise.codec == Codec::Protobuf;
        let is_drained = ended.is_some_and(|(tick, how)| *tick < record.healed && how == SHUTDOWN);
        add("over http_stream", is_body);
        add("protobuf over a WebSocket", is_protobuf && !is_body);
        add("protobuf over http_stream", is_protobuf && is_body);
        add("a delta in protobuf", is_protobuf && session.delta_count > 0);
        add("sent away by the application", ended.is_some_and(|(_, how)| how == DISCONNECTED));
        add("drained before the end", is_drained);
        add("a delta", session.delta_count > 0);
    }
    things
}
