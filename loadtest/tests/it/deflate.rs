//! The tester's deflated door against a small server of this test, which deflates what it passes on.

use std::process::Output;

use flate2::{Compress, Compression, FlushCompress};
use serde_json::Value;

use crate::{
    harness::{self, faults},
    relay::{self, Answers},
};

const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                        Connection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
                        Sec-WebSocket-Extensions: permessage-deflate; \
                        server_no_context_takeover; client_no_context_takeover\r\n\r\n";
const ANSWERS: Answers = Answers {
    subscriber: ACCEPTED,
    publisher: ACCEPTED,
    wanted: "Sec-WebSocket-Extensions: permessage-deflate;",
};

/// What the server does with every tenth publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tenth {
    /// Deflates it, like all others.
    Deflate,
    /// Passes it on as it is.
    Leave,
    /// Deflates other letters.
    Change,
}

/// A short frame of the server.
fn frame(bits: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).ok().filter(|len| *len < 126).expect("it is short");
    [&[0x81 | bits, len], payload].concat()
}

fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(500);
    let mut deflater = Compress::new(Compression::fast(), false);
    deflater.compress_vec(payload, &mut out, FlushCompress::Sync).expect("room");
    frame(0x40, &out[..out.len() - 4])
}

fn tester(tenth: Tenth, pace: &str) -> (Output, Value) {
    let arguments = "fanout --door deflate --topics 3 --subscribers 5 --payload 100 \
                     --duration 200ms --warmup 50ms --drain 2s";
    let address = relay::serve(ANSWERS, move |number, mut payload| {
        Some(match tenth {
            Tenth::Leave if number % 10 == 0 => frame(0, &payload),
            Tenth::Change if number % 10 == 0 => {
                *payload.last_mut()? ^= 1;
                deflated(&payload)
            }
            _ => deflated(&payload),
        })
    });
    harness::tester(&format!("http://{address}"), &format!("{arguments} {pace}"))
}

#[test]
fn a_whole_stream_is_whole_deflated_or_not() {
    for (tenth, pace) in
        [(Tenth::Deflate, "--window 4"), (Tenth::Leave, "--window 4"), (Tenth::Leave, "--rate 500")]
    {
        let (output, report) = tester(tenth, pace);
        assert_eq!(output.status.code(), Some(0), "{report:#}");
        assert!(report["deliveries"].as_u64().expect("a count") > 0, "{report:#}");
    }
}

#[test]
fn a_change_under_the_deflation_is_found() {
    let (output, report) = tester(Tenth::Change, "--rate 500");
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert!(faults(&report, "corrupted") > 0, "{report:#}");
    for other in ["duplicated", "reordered", "misrouted", "closed"] {
        assert_eq!(report["faults"][other], 0, "{other}: {report:#}");
    }
}
