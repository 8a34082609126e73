//! What clients may send that is not TLS, or not all of it.

use std::io::{ErrorKind, IoSlice};

use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, Error};

use super::crafted::{Forger, hello};
use super::{BOTH, Pair, Setup, bytes};

/// The client was told `alert`, nothing can be said or heard any more, and nothing is held.
fn check_failed(pair: &mut Pair, alert: AlertDescription) {
    let outgoing = std::mem::take(&mut pair.server.socket.outgoing);
    pair.client.read_tls(&mut &*outgoing).expect("memory");
    let told = pair.client.process_new_packets().expect_err("an alert");
    assert_eq!(told, Error::AlertReceived(alert));
    pair.server.socket.incoming.extend(b"\x17\x03\x03\x00\x05sorry");
    assert_eq!(pair.server_reads(100), (vec![], Err(ErrorKind::InvalidData)));
    let written = pair.server.write(&[IoSlice::new(b"what?")]);
    assert_eq!(written.map_err(|error| error.kind()), Err(ErrorKind::InvalidData));
    pair.server.close().expect("there is nothing to be said");
    assert!(pair.server.socket.outgoing.is_empty());
    assert_eq!(pair.held(), 0);
}

#[test]
fn what_is_no_tls_fails_a_handshake_at_its_first_bytes() {
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x09\x01\x00\x05", b"\x16\x03\x01\xff\xff"]
    {
        let mut server = Setup::new(&TLS13).server();
        server.socket.incoming.extend(bytes);
        let failed = server.handshake().map_err(|error| error.kind());
        assert_eq!(failed, Err(ErrorKind::InvalidData));
        // An alert of two bytes: fatal, and what.
        assert!(matches!(server.socket.outgoing[..], [21, 3, _, 0, 2, 2, _]), "{server:?}");
        let failed = server.handshake().map_err(|error| error.kind());
        assert_eq!(failed, Err(ErrorKind::InvalidData), "and stays failed");
    }
}

#[test]
fn a_handshake_that_is_cut_off_is_one_that_failed() {
    let setup = Setup::new(&TLS13);
    let mut pair = Pair { server: setup.server(), client: setup.client() };
    pair.client_sends();
    pair.server.socket.incoming.truncate(100);
    let failed = pair.server.handshake().map_err(|error| error.kind());
    assert_eq!(failed, Err(ErrorKind::WouldBlock));
    assert!(pair.held() >= 100, "it may still go on");
    pair.server.socket.is_over = true;
    let failed = pair.server.handshake().map_err(|error| error.kind());
    assert_eq!((failed, pair.held()), (Err(ErrorKind::UnexpectedEof), 0));
}

#[test]
fn a_fault_is_told_after_what_came_before_it() {
    let faults: [(&[u8], AlertDescription); 4] = [
        (b"GET / HTTP/1.1\r\n\r\n", AlertDescription::DecodeError),
        (b"\x17\x03\x03\xff\xff", AlertDescription::DecodeError),
        (b"\x16\x03\x03\x00\x00", AlertDescription::DecodeError),
        (b"\x17\x03\x03\x00\x20 as long as is said, but no record", AlertDescription::BadRecordMac),
    ];
    for (fault, alert) in faults {
        for version in BOTH {
            let mut pair = Setup::new(version).connected();
            pair.client_says(b"good");
            pair.server.socket.incoming.extend(fault);
            assert_eq!(pair.server_reads(100), (b"good".to_vec(), Err(ErrorKind::InvalidData)));
            check_failed(&mut pair, alert);
        }
    }
}

#[test]
fn a_changed_byte_is_noticed() {
    for version in BOTH {
        let mut pair = Setup::new(version).connected();
        pair.client_says(b"one");
        let last = pair.server.socket.incoming.back_mut().expect("a record");
        *last ^= 1;
        assert_eq!(pair.server_reads(100), (vec![], Err(ErrorKind::InvalidData)));
        check_failed(&mut pair, AlertDescription::BadRecordMac);
    }
}

#[test]
fn a_truncated_record_is_held_until_the_end_and_never_read() {
    for version in BOTH {
        let mut pair = Setup::new(version).connected();
        pair.client_says(b"whole");
        let whole_len = pair.server.socket.incoming.len();
        pair.client_says(&bytes(10_000));
        pair.server.socket.incoming.truncate(whole_len + 5_000);
        assert_eq!(pair.server_reads(100), (b"whole".to_vec(), Err(ErrorKind::WouldBlock)));
        assert!((5_000..=10_100).contains(&pair.held()), "{}", pair.held());
        // It does not keep us from writing.
        assert_eq!(pair.server_says(b"go on", usize::MAX), b"go on");
        pair.server.socket.is_over = true;
        assert_eq!((pair.server_reads(100), pair.held()), ((vec![], Ok(())), 0));
    }
}

#[test]
fn a_client_that_asks_for_renegotiation_is_refused_and_goes_on() {
    // Whoever sends a hello on a connection asks for it (RFC 5746 section 4.5 has the answer).
    let mut pair = Setup::new(&TLS12).connected();
    let mut forger = Forger::of(&mut pair);
    forger.sends_handshake(&mut pair, &hello());
    assert_eq!(pair.server_reads(100), (vec![], Err(ErrorKind::WouldBlock)));
    assert_eq!(pair.server.socket.outgoing[0], 21, "an alert, encrypted");
    assert_eq!((pair.server.write(&[IoSlice::new(b"go on")]).ok(), pair.held()), (Some(5), 0));
}
