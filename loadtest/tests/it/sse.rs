//! The tester's SSE door against a small server of this test, which breaks chunks anywhere.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Output,
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

use crate::harness::{self, faults};

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                      transfer-encoding: chunked\r\n\r\n9\r\nid: e:0\n\n\r\n";
const WEBSOCKET: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                         Connection: Upgrade\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Streams by topic.
type Topics = Arc<Mutex<HashMap<String, Vec<TcpStream>>>>;

/// What the server does with every tenth publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tenth {
    Deliver,
    Drop,
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
    let topic = head.split([' ', '?']).nth(1)?.to_owned();
    if head.contains("Accept: text/event-stream") {
        let mut topics = topics.lock().ok()?;
        stream.write_all(STREAM.as_bytes()).ok()?;
        topics.entry(topic).or_default().push(stream);
        return Some(());
    }
    stream.write_all(WEBSOCKET.as_bytes()).ok()?;
    for number in 1.. {
        // The tester's payloads here are short, and its mask key is zero.
        let mut head = [0; 6];
        stream.read_exact(&mut head).ok()?;
        let mut payload = vec![0; usize::from(head[1] & 0x7F)];
        stream.read_exact(&mut payload).ok()?;
        if tenth == Tenth::Drop && number % 10 == 0 {
            continue;
        }
        let block = format!("id: e:{number}\ndata: {}\n\n", String::from_utf8(payload).ok()?);
        let (a, b) = block.split_at(number % block.len());
        let chunks = [a, b].into_iter().filter(|part| !part.is_empty());
        let chunks = chunks.map(|part| format!("{:x}\r\n{part}\r\n", part.len()));
        let chunks = chunks.collect::<Vec<_>>().concat();
        for subscriber in topics.lock().ok()?.get_mut(&topic)? {
            subscriber.write_all(chunks.as_bytes()).ok();
        }
    }
    None
}

fn tester(tenth: Tenth, arguments: &str) -> (Output, Value) {
    harness::tester(&format!("http://{}", serve(tenth)), &format!("{arguments} --door sse"))
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
