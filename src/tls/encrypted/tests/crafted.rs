//! Keys that change or run out, and records that no library sends: written with the client's keys.

use std::io::{ErrorKind, IoSlice, Read as _};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS13_AES_128_GCM_SHA256,
};
use rustls::crypto::cipher::{MessageEncrypter, OutboundPlainMessage};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CipherSuiteCommon, ConnectionTrafficSecrets, ContentType, ProtocolVersion,
    SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite,
};

use super::{Pair, Setup};
use crate::tls::session::PARTIAL_LEN_MAX;

/// A `KeyUpdate` (RFC 8446 section 4.6.3) that asks for one in return.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 1];

/// Writes records as the client of a pair would.
pub(super) struct Forger {
    encrypter: Box<dyn MessageEncrypter>,
    number: u64,
}

impl Forger {
    /// Takes the keys of the client, which is then of no more use.
    pub(super) fn of(pair: &mut Pair) -> Self {
        let client = std::mem::replace(&mut pair.client, Setup::new(&TLS13).client());
        let suite = client.negotiated_cipher_suite().expect("a handshake");
        let (number, secrets) = client.dangerous_extract_secrets().expect("allowed").tx;
        let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
        else {
            panic!("a cipher that is not known")
        };
        let encrypter = match suite {
            SupportedCipherSuite::Tls13(suite) => suite.aead_alg.encrypter(key, iv),
            SupportedCipherSuite::Tls12(suite) => {
                suite.aead_alg.encrypter(key, &iv.as_ref()[..4], &[0; 8])
            }
        };
        Self { encrypter, number }
    }

    /// Has the kernel bring one record of a handshake.
    pub(super) fn sends_handshake(&mut self, pair: &mut Pair, payload: &[u8]) {
        let record = OutboundPlainMessage {
            typ: ContentType::Handshake,
            version: ProtocolVersion::TLSv1_2,
            payload: payload.into(),
        };
        let record = self.encrypter.encrypt(record, self.number).expect("a record");
        self.number += 1;
        pair.server.socket.incoming.extend(record.encode());
    }
}

/// A `ClientHello` with nothing in it that matters.
pub(super) fn hello() -> Vec<u8> {
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0xc0, 0x2b], &[1, 0]].concat();
    let len = u8::try_from(body.len()).expect("a short one");
    [&[1, 0, 0, len][..], &body].concat()
}

/// A provider whose keys are good for `limit` records.
fn limited(limit: u64) -> Arc<CryptoProvider> {
    let SupportedCipherSuite::Tls13(new) = TLS13_AES_128_GCM_SHA256 else { unreachable!() };
    let SupportedCipherSuite::Tls12(old) = TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 else {
        unreachable!()
    };
    let common = |of: &CipherSuiteCommon| CipherSuiteCommon {
        suite: of.suite,
        hash_provider: of.hash_provider,
        confidentiality_limit: limit,
    };
    let new = Box::leak(Box::new(Tls13CipherSuite { common: common(&new.common), ..*new }));
    let old = Box::leak(Box::new(Tls12CipherSuite { common: common(&old.common), ..*old }));
    let cipher_suites = vec![(&*new).into(), (&*old).into()];
    Arc::new(CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() })
}

#[test]
fn keys_that_the_client_changes_go_on() {
    let mut pair = Setup::new(&TLS13).connected();
    for _ in 0..3 {
        pair.client.refresh_traffic_keys().expect("a connection");
        pair.check_alive();
    }
}

#[test]
fn keys_that_are_used_up_are_renewed_in_tls_1_3() {
    let mut pair = Setup { provider: limited(10), ..Setup::new(&TLS13) }.connected();
    for number in 0..100_u32 {
        let text = number.to_string().into_bytes();
        assert_eq!(pair.server_says(&text, usize::MAX), text);
        // Its answers to new keys.
        pair.client_sends();
        assert_eq!(pair.server_reads(100), (vec![], Err(ErrorKind::WouldBlock)));
    }
    assert_eq!(pair.held(), 0);
}

#[test]
fn keys_that_are_used_up_end_a_connection_of_tls_1_2_in_order() {
    let mut pair = Setup { provider: limited(10), ..Setup::new(&TLS12) }.connected();
    let mut written = 0;
    let error = loop {
        match pair.server.write(&[IoSlice::new(b"one"), IoSlice::new(b"two")]) {
            Ok(len) => written += len,
            Err(error) => break error,
        }
        assert!(written < 100, "keys that never end");
    };
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(pair.client_receives().len() >= written);
    let end = pair.client.reader().read(&mut [0; 8]);
    assert_eq!(end.expect("a close_notify"), 0);
}

#[test]
fn a_handshake_message_in_pieces_is_put_together_and_keeps_nobody_from_writing() {
    let mut pair = Setup::new(&TLS13).connected();
    let mut forger = Forger::of(&mut pair);
    for piece in KEY_UPDATE.chunks(2) {
        forger.sends_handshake(&mut pair, piece);
        assert_eq!(pair.server_reads(100), (vec![], Err(ErrorKind::WouldBlock)));
        pair.server.socket.outgoing.clear();
        assert_eq!(pair.server.write(&[IoSlice::new(b"hello")]).expect("there is room"), 5);
    }
    // The answer and the word behind it: each five bytes, and 22 of a record.
    assert_eq!(pair.server.socket.outgoing.len(), 2 * (5 + 22));
    assert_eq!(pair.held(), 0);
}

#[test]
fn a_handshake_message_without_end_is_refused() {
    let mut pair = Setup::new(&TLS13).connected();
    let mut forger = Forger::of(&mut pair);
    // As long as is allowed, but in records of which most is not message.
    forger.sends_handshake(&mut pair, &[1, 0, 0xff, 0xff]);
    let mut most = 0;
    let end = loop {
        forger.sends_handshake(&mut pair, &[0; 8]);
        match pair.server_reads(100) {
            (none, Err(ErrorKind::WouldBlock)) => assert!(none.is_empty()),
            (_, end) => break end,
        }
        most = most.max(pair.held());
        assert!(forger.number < 65_536, "it never ends");
    };
    assert_eq!(end, Err(ErrorKind::InvalidData));
    assert!((PARTIAL_LEN_MAX / 2..=PARTIAL_LEN_MAX).contains(&most), "{most}");
    assert_eq!(pair.held(), 0);
}

#[test]
fn updates_without_any_data_between_them_are_limited() {
    let mut pair = Setup::new(&TLS13).connected();
    let end = (0..100).find_map(|_| {
        pair.client.refresh_traffic_keys().expect("a connection");
        pair.client_sends();
        let (none, end) = pair.server_reads(100);
        assert!(none.is_empty());
        (end != Err(ErrorKind::WouldBlock)).then_some(end)
    });
    assert_eq!(end, Some(Err(ErrorKind::InvalidData)));
}
