//! permessage-deflate (RFC 7692): what is agreed on, deflated once, and refused.

use std::fs;

use crate::harness::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, RSV1, Request, Server, TEXT, WebSocket,
    close_payload, deflated, frame,
};
use crate::invariant::Position;

const ON: &str = "[websocket]\ncompression = true\n";
const OFFER: &str = "permessage-deflate; client_max_window_bits";
const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

fn offer(target: &str, offer: &str) -> Request {
    Request::handshake(target).header("Sec-WebSocket-Extensions", offer)
}

/// A connection that agreed on compression.
#[track_caller]
fn open(server: &Server, target: &str) -> WebSocket {
    let socket = WebSocket::open(server.wire(), &offer(target, OFFER));
    assert_eq!(socket.extension(), Some(ANSWER));
    socket
}

/// JSON of some 40 bytes for each of `count` entries.
fn json(count: usize) -> String {
    let entry =
        |number: usize| format!("{{\"user\":\"user {number}\",\"text\":\"hello {number}\"}}");
    format!("[{}]", (0..count).map(entry).collect::<Vec<_>>().join(","))
}

fn encodings(server: &Server, variant: &str) -> u64 {
    server.metric("fanwire_encodings_total", &[("variant", variant)])
}

fn reading_bytes(server: &Server) -> u64 {
    server.metric("fanwire_memory_bytes", &[("kind", "reading")])
}

#[test]
fn the_first_offer_that_can_be_met_is_accepted() {
    let server = Server::start(ON);
    let with_bits = |bits: u8| format!("{ANSWER}; server_max_window_bits={bits}");
    for (offers, expected) in [
        (&["permessage-deflate"][..], Some(ANSWER.to_owned())),
        (&[OFFER], Some(ANSWER.to_owned())),
        (&["permessage-deflate; server_max_window_bits=\"10\""], Some(with_bits(9))),
        (&["permessage-deflate; server_max_window_bits=8"], Some(with_bits(8))),
        (
            &[
                "permessage-deflate; unknown",
                "x-other, permessage-deflate; server_max_window_bits=12",
            ],
            Some(with_bits(12)),
        ),
        (&["permessage-deflate; server_max_window_bits=16"], None),
        (&["permessage-deflate; client_max_window_bits; client_max_window_bits"], None),
        (&["permessage-deflate=1", "x-webkit-deflate-frame", "\"", ";;,,="], None),
    ] {
        let mut request = Request::handshake("/topics/a");
        for offer in offers {
            request = request.header("Sec-WebSocket-Extensions", offer);
        }
        let mut socket = WebSocket::open(server.wire(), &request);
        assert_eq!(socket.extension().map(str::to_owned), expected, "{offers:?}");
        socket.text("fine");
        assert_eq!(socket.next_text(), "fine", "a bad offer is no bad handshake");
    }
}

#[test]
fn a_publication_is_deflated_once_however_many_get_it() {
    let server = Server::start_with(ON, &["--workers", "2"]);
    let mut sockets: Vec<_> = (0..20).map(|_| open(&server, "/topics/a")).collect();
    let mut plain = server.websocket("/topics/a");
    let payload = json(30);
    for count in 1..=5 {
        server.publish("a", &payload);
        for socket in &mut sockets {
            assert_eq!(socket.next_text(), payload);
            assert_eq!(socket.deflated_count, count);
        }
        assert_eq!(plain.next_text(), payload);
    }
    assert_eq!(plain.deflated_count, 0);
    assert_eq!(encodings(&server, "plain_deflate_15"), 5);
    assert_eq!(encodings(&server, "plain"), 0, "that is how they come");
    let bytes = server.metric("fanwire_delivery_bytes_total", &[("door", "plain")]);
    let whole = (21 * 5 * payload.len()) as u64;
    assert!(bytes < whole / 2, "{bytes} of {whole} bytes");
}

#[test]
fn each_window_is_a_variant_of_its_own() {
    let server = Server::start(ON);
    let bits = [15, 14, 13, 12, 11, 10, 9, 8];
    let mut sockets = bits.map(|bits| {
        let offer_of = format!("permessage-deflate; server_max_window_bits={bits}");
        WebSocket::open(server.wire(), &offer("/topics/a", &offer_of))
    });
    let payload = json(100);
    server.publish("a", &payload);
    for socket in &mut sockets {
        assert_eq!((socket.next_text(), socket.deflated_count), (payload.clone(), 1));
    }
    for variant in ["plain_deflate_15", "plain_deflate_12", "plain_deflate_9"] {
        assert_eq!(encodings(&server, variant), 1, "{variant}");
    }
}

#[test]
fn what_is_short_or_would_not_become_shorter_goes_out_as_it_is() {
    let server = Server::start(&format!("{ON}compression_min_bytes = 300\n"));
    let mut socket = open(&server, "/topics/a");
    let noise = noise(10_000);
    for (payload, is_deflated) in
        [(vec![b'a'; 299], false), (vec![b'a'; 300], true), (noise, false), (Vec::new(), false)]
    {
        let before = socket.deflated_count;
        socket.send(BINARY, &payload);
        let message = socket.message();
        assert_eq!((message.opcode, message.payload), (BINARY, payload));
        assert_eq!(socket.deflated_count > before, is_deflated);
    }
    assert_eq!(encodings(&server, "plain_deflate_15"), 1);
}

#[test]
fn objects_are_deflated_once_beside_those_that_are_not() {
    let server = Server::start(ON);
    let mut deflating = [(); 3].map(|()| open(&server, "/topics/a?format=json"));
    let mut whole = [(); 2].map(|()| server.websocket("/topics/a?format=json"));
    for socket in deflating.iter_mut().chain(&mut whole) {
        assert_eq!(socket.json()["subscribed"]["topic"], "a");
    }
    let payload = json(20);
    let position = server.publish("a", &payload);
    for socket in deflating.iter_mut().chain(&mut whole) {
        let object = socket.json();
        assert_eq!(
            (&object["data"], Position::of(&object)),
            (&payload.clone().into(), position.clone())
        );
    }
    assert!(deflating.iter().all(|socket| socket.deflated_count == 1));
    assert_eq!((encodings(&server, "json"), encodings(&server, "json_deflate_15")), (1, 1));
    server.publish("a", "short");
    for socket in deflating.iter_mut().chain(&mut whole) {
        assert_eq!(socket.json()["data"], "short");
    }
    assert!(deflating.iter().all(|socket| socket.deflated_count == 1));
    assert_eq!((encodings(&server, "json"), encodings(&server, "json_deflate_15")), (2, 1));
}

#[test]
fn a_replay_has_the_bytes_that_were_made_before() {
    let server = Server::start(ON);
    let mut live = open(&server, "/topics/a");
    let payloads: Vec<String> = (20..30).map(json).collect();
    let start = server.publish("a", "start");
    for payload in &payloads {
        server.publish("a", payload);
    }
    assert_eq!(live.next_text(), "start");
    let mut late = open(&server, &format!("/topics/a?since={start}"));
    for payload in &payloads {
        assert_eq!(live.next_text(), *payload);
        assert_eq!(late.next_text(), *payload);
    }
    assert_eq!((live.deflated_count, late.deflated_count), (10, 10));
    assert_eq!(encodings(&server, "plain_deflate_15"), 10);
}

#[test]
fn a_deflated_message_is_published_as_what_it_says() {
    let server = Server::start(ON);
    let mut plain = server.websocket("/topics/a");
    let mut socket = open(&server, "/topics/a?echo=false");
    let payload = json(50);
    let short = deflated(payload.as_bytes());
    socket.wire.send(&frame(FIN | RSV1 | TEXT, &short));
    assert_eq!(plain.next_text(), payload);
    // In fragments, a ping between them, byte by byte.
    let (start, end) = short.split_at(short.len() / 2);
    let frames = [
        frame(RSV1 | TEXT, start),
        frame(FIN | PING, b"?"),
        frame(CONTINUATION, b""),
        frame(FIN | CONTINUATION, end),
    ];
    for byte in frames.concat() {
        socket.wire.send(&[byte]);
    }
    assert_eq!(socket.frame().opcode, PONG);
    assert_eq!(plain.next_text(), payload);
    // As it is, empty, and binary that is no text.
    socket.text("not deflated");
    socket.wire.send(&frame(FIN | RSV1 | TEXT, b"\x00"));
    socket.wire.send(&frame(FIN | RSV1 | BINARY, &deflated(&[0xFF; 1_000])));
    assert_eq!(plain.next_text(), "not deflated");
    assert_eq!(plain.next_text(), "");
    assert_eq!(plain.message().payload, [0xFF; 1_000]);
    server.await_metric("fanwire_publications_total", &[("door", "plain")], 5);
    assert_eq!(socket.deflated_count, 0, "its own are left out");
}

#[test]
fn faults_of_compression_are_closed_and_counted() {
    let server = Server::start(ON);
    let check = |bytes: &[u8], code: u16, kind: &str| {
        let errors = ("fanwire_protocol_errors_total", [("kind", kind)]);
        let before = server.metric(errors.0, &errors.1);
        let mut socket = open(&server, "/topics/a");
        socket.wire.send(bytes);
        socket.assert_closed(code, if code == 1007 { "utf8" } else { "protocol" });
        server.await_metric(errors.0, &errors.1, before + 1);
    };
    let hello = deflated(b"Hello");
    for bits in [0x20, 0x10, 0x60, 0x70] {
        check(&frame(FIN | bits | TEXT, &hello), 1002, "reserved_bits");
    }
    for opcode in [PING, PONG, CLOSE] {
        check(&frame(FIN | RSV1 | opcode, b""), 1002, "reserved_bits");
    }
    let continued = [frame(RSV1 | TEXT, &hello), frame(FIN | RSV1 | CONTINUATION, b"")].concat();
    check(&continued, 1002, "reserved_bits");
    check(&frame(FIN | RSV1 | TEXT, b"\xFF\xFF"), 1002, "deflate");
    check(&frame(FIN | RSV1 | TEXT, &hello[..3]), 1002, "deflate");
    // The message before, referred to (RFC 7692 section 7.2.3.2): nothing is kept of it.
    let takeover =
        [frame(FIN | RSV1 | TEXT, &hello), frame(FIN | RSV1 | TEXT, b"\xf2\x00\x11\x00\x00")];
    check(&takeover.concat(), 1002, "deflate");
    check(&frame(FIN | RSV1 | TEXT, &deflated(&[0xFF; 100])), 1007, "utf8");
    let mut plain = server.websocket("/topics/a");
    plain.wire.send(&frame(FIN | RSV1 | TEXT, &hello));
    plain.assert_closed(1002, "protocol");
}

#[test]
fn bombs_are_closed_with_1009_and_hold_nothing() {
    let server = Server::start_with(ON, &["--workers", "1"]);
    let bomb = frame(FIN | RSV1 | BINARY, &deflated(&vec![0; 60 << 20]));
    assert!(bomb.len() < 65_536, "within the limit as it comes: {}", bomb.len());
    let throw = || {
        let mut socket = open(&server, "/topics/a");
        socket.wire.send(&bomb);
        socket.assert_closed(1009, "message_too_large");
    };
    throw();
    let (resident, reading) = (resident_bytes(&server), reading_bytes(&server));
    (0..50).for_each(|_| throw());
    server.await_close_counted("1009", "message_too_large", 51);
    assert_eq!(reading_bytes(&server), reading, "one inflater, which keeps what it has");
    assert!(reading <= 65_537, "{reading}");
    let grown = resident_bytes(&server).saturating_sub(resident);
    assert!(grown < 8 << 20, "{grown} bytes more after 3 GB of zeros");
}

#[test]
fn a_message_that_fits_is_no_bomb_and_leaves_no_long_buffer() {
    let config = "[limits]\nmessage_bytes_max = 1000000\noutbox_bytes_max = 4000000\n";
    let server = Server::start_with(&format!("{config}{ON}"), &["--workers", "1"]);
    let mut socket = open(&server, "/topics/a");
    let data = vec![0; 1_000_000];
    let bytes = frame(FIN | RSV1 | BINARY, &deflated(&data));
    socket.wire.send(&bytes);
    assert!(socket.message().payload == data);
    assert!(reading_bytes(&server) <= 65_536);
    socket.wire.send(&frame(FIN | RSV1 | BINARY, &deflated(&vec![0; 1_000_001])));
    socket.assert_closed(1009, "message_too_large");
}

#[test]
fn closes_and_pings_are_not_deflated() {
    let config = format!("[limits]\nping_interval = \"50ms\"\n{ON}compression_min_bytes = 0\n");
    let server = Server::start(&config);
    let mut socket = open(&server, "/topics/a");
    assert_eq!(socket.frame().opcode, PING);
    socket.send(PING, &[b'a'; 125]);
    let pong = std::iter::repeat_with(|| socket.frame()).find(|frame| frame.opcode == PONG);
    assert_eq!(pong.map(|frame| frame.payload), Some(vec![b'a'; 125]));
    socket.close(1000, &"a".repeat(123));
    let (data, payload) = socket.drain();
    assert_eq!(
        (data.len(), &payload[..2], socket.deflated_count),
        (0, &close_payload(1000, "")[..], 0)
    );
}

/// What the server has in memory.
fn resident_bytes(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes * 1024
}

/// Bytes in which nothing repeats.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(len).collect()
}
