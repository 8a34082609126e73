//! The tester's SSE door against a small server of this test, which breaks chunks anywhere.

use std::process::Output;

use serde_json::Value;

use crate::{
    harness::{self, faults},
    relay::{self, Answers},
};

const ANSWERS: Answers = Answers {
    subscriber: "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                 transfer-encoding: chunked\r\n\r\n9\r\nid: e:0\n\n\r\n",
    publisher: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                Connection: Upgrade\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    wanted: "Accept: text/event-stream",
};

/// What the server does with every tenth publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tenth {
    Deliver,
    Drop,
}

/// An event in two chunks, broken elsewhere each time.
fn event(number: usize, payload: Vec<u8>) -> Option<Vec<u8>> {
    let block = format!("id: e:{number}\ndata: {}\n\n", String::from_utf8(payload).ok()?);
    let (a, b) = block.split_at(number % block.len());
    let chunks = [a, b].into_iter().filter(|part| !part.is_empty());
    let chunks = chunks.map(|part| format!("{:x}\r\n{part}\r\n", part.len()));
    Some(chunks.collect::<Vec<_>>().concat().into_bytes())
}

fn tester(tenth: Tenth, arguments: &str) -> (Output, Value) {
    let address = relay::serve(ANSWERS, move |number, payload| {
        let is_dropped = tenth == Tenth::Drop && number % 10 == 0;
        if is_dropped { None } else { event(number, payload) }
    });
    harness::tester(&format!("http://{address}"), &format!("{arguments} --door sse"))
}

const FANOUT: &str = "fanout --topics 3 --subscribers 5 --payload 100 --duration 200ms \
                      --warmup 50ms --drain 2s";

#[test]
fn a_whole_event_stream_is_whole() {
    for pace in ["--window 4", "--rate 500"] {
        let (output, report) = tester(Tenth::Deliver, &format!("{FANOUT} {pace}"));
        assert_eq!(output.status.code(), Some(0), "{report:#}");
        assert!(report["deliveries"].as_u64().expect("a count") > 0, "{report:#}");
    }
}

#[test]
fn what_an_event_stream_lacks_is_found() {
    let (output, report) = tester(Tenth::Drop, &format!("{FANOUT} --rate 500"));
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert!(faults(&report, "lost") > 0, "{report:#}");
    for other in ["duplicated", "reordered", "misrouted", "corrupted", "closed"] {
        assert_eq!(report["faults"][other], 0, "{other}: {report:#}");
    }
}

#[test]
fn idle_streams_get_the_message_from_publishers_of_their_own() {
    let arguments = "idle --connections 20 --topics 7 --hold 50ms --messages 1";
    let (output, report) = tester(Tenth::Deliver, arguments);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(report["messaged"], 20);
}
