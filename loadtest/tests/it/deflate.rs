//! The tester's deflated door against a small server of this test, which deflates what it passes on.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Output,
    sync::{Arc, Mutex},
    thread,
};

use flate2::{Compress, Compression, FlushCompress};
use serde_json::Value;

use crate::harness::{self, faults};

const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                        Connection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
                        Sec-WebSocket-Extensions: permessage-deflate; \
                        server_no_context_takeover; client_no_context_takeover\r\n\r\n";

/// Subscribers by topic.
type Topics = Arc<Mutex<HashMap<String, Vec<TcpStream>>>>;

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

fn serve(tenth: Tenth) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let topics = Topics::default();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let topics = Arc::clone(&topics);
            thread::spawn(move || connection(stream, &topics, tenth));
        }
    });
    address
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

/// Ends with its client, and with `None` then.
fn connection(mut stream: TcpStream, topics: &Topics, tenth: Tenth) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    assert!(head.contains("Sec-WebSocket-Extensions: permessage-deflate;"), "{head}");
    let (path, topic) = (head.split(' ').nth(1)?, head.split([' ', '?']).nth(1)?);
    if !path.contains('?') {
        let mut topics = topics.lock().ok()?;
        stream.write_all(ACCEPTED.as_bytes()).ok()?;
        topics.entry(topic.to_owned()).or_default().push(stream);
        return Some(());
    }
    stream.write_all(ACCEPTED.as_bytes()).ok()?;
    for number in 1.. {
        // The tester's payloads here are short, and its mask key is zero.
        let mut head = [0; 6];
        stream.read_exact(&mut head).ok()?;
        let mut payload = vec![0; usize::from(head[1] & 0x7F)];
        stream.read_exact(&mut payload).ok()?;
        let frame = match tenth {
            Tenth::Leave if number % 10 == 0 => frame(0, &payload),
            Tenth::Change if number % 10 == 0 => {
                *payload.last_mut()? ^= 1;
                deflated(&payload)
            }
            _ => deflated(&payload),
        };
        for subscriber in topics.lock().ok()?.get_mut(topic)? {
            subscriber.write_all(&frame).ok();
        }
    }
    None
}

fn tester(tenth: Tenth, pace: &str) -> (Output, Value) {
    let arguments = "fanout --door deflate --topics 3 --subscribers 5 --payload 100 \
                     --duration 200ms --warmup 50ms --drain 2s";
    harness::tester(&format!("http://{}", serve(tenth)), &format!("{arguments} {pace}"))
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
