//! Deltas: known ones, broken ones, and that any two payloads come through.

use proptest::prelude::*;

use crate::protocol::centrifugo::fossil::{DeltaError, decode, encode};

#[test]
fn a_delta_is_these_bytes() {
    for (source, target, expected) in [
        ("", "", "0\n0;"),
        ("", "a", "1\n1:a1X0000;"),
        ("0123456789abcdef", "0123456789abcdef", "G\nG@0,12xn;"),
        ("0123456789abcdef", "x0123456789abcdefy", "I\n1:xG@0,1:y2gUGGj;"),
    ] {
        let delta = encode(source.as_bytes(), target.as_bytes());
        assert_eq!(String::from_utf8_lossy(&delta), expected);
        let decoded = decode(source.as_bytes(), &delta, 100);
        assert_eq!(decoded.as_deref(), Ok(target.as_bytes()));
    }
}

#[test]
fn a_small_change_is_a_small_delta() {
    let row = |index: u32, value: u32| format!(r#"{{"id":{index},"price":{value},"open":true}}"#);
    let table = |changed: u32| {
        let rows: Vec<_> = (0..200).map(|at| row(at, if at == 77 { changed } else { 5 })).collect();
        format!("[{}]", rows.join(","))
    };
    let (before, after) = (table(5), table(123_456));
    let delta = encode(before.as_bytes(), after.as_bytes());
    assert!(delta.len() < 40, "{}", String::from_utf8_lossy(&delta));
}

#[test]
fn a_broken_delta_is_refused() {
    let source = b"0123456789abcdef";
    let good = encode(source, b"0123456789abcdef and more");
    assert!(decode(source, &good, 25).is_ok());
    assert_eq!(decode(source, &good, 24), Err(DeltaError::Length));
    assert_eq!(decode(&source[1..], &good, 25), Err(DeltaError::Source));
    assert_eq!(decode(b"X123456789abcdef", &good, 25), Err(DeltaError::Checksum));
    for cut in 0..good.len() {
        assert_eq!(decode(source, &good[..cut], 25), Err(DeltaError::Malformed), "{cut}");
    }
    for (delta, error) in [
        ("", DeltaError::Malformed),
        ("0", DeltaError::Malformed),
        ("\n0;", DeltaError::Malformed),
        ("0\n;", DeltaError::Malformed),
        ("0\n0;0", DeltaError::Malformed),
        ("0\n1;", DeltaError::Checksum),
        ("1\n0;", DeltaError::Length),
        ("1\n2:ab0;", DeltaError::Length),
        ("1\n1!a0;", DeltaError::Malformed),
        ("1\n1@0;0;", DeltaError::Malformed),
        ("1\n1@G,0;", DeltaError::Source),
        ("1\n~~~~~~~~~~~@1,0;", DeltaError::Malformed),
        ("1\nE~~~~~~~~~~@1,0;", DeltaError::Source),
    ] {
        assert_eq!(decode(source, delta.as_bytes(), 25), Err(error), "{delta}");
    }
}

/// Two payloads that have pieces in common.
fn any_pair() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        any::<String>().prop_map(String::into_bytes),
        Just(b"a common piece of both".to_vec()),
        Just(vec![0x80; 70]),
    ];
    let pieces = prop::collection::vec(piece, 1..6);
    (pieces, prop::collection::vec(any::<prop::sample::Index>(), 0..8), any::<Vec<u8>>()).prop_map(
        |(pieces, picks, other)| {
            let target: Vec<_> = picks.iter().map(|pick| pick.get(&pieces).clone()).collect();
            (pieces.concat(), [target.concat(), other].concat())
        },
    )
}

proptest! {
    #[test]
    fn any_delta_makes_its_target_again((source, target) in any_pair()) {
        let delta = encode(&source, &target);
        // A length, a literal and a checksum are the worst there is.
        prop_assert!(delta.len() <= target.len() + 24, "{} for {}", delta.len(), target.len());
        prop_assert_eq!(decode(&source, &delta, target.len()), Ok(target));
    }

    #[test]
    fn deltas_of_text_are_text(source: String, pieces in prop::collection::vec(any::<String>(), 3)) {
        let source = source + "\u{e4}\u{6f22}\u{1f600} a common piece \u{6f22}\u{e4}";
        let target = pieces.join("\u{1f600} a common piece \u{6f22}");
        let delta = encode(source.as_bytes(), target.as_bytes());
        prop_assert!(String::from_utf8(delta.clone()).is_ok());
        prop_assert_eq!(decode(source.as_bytes(), &delta, target.len()), Ok(target.into_bytes()));
    }

    #[test]
    fn noise_is_no_delta_and_takes_no_more_than_is_allowed(
        source: Vec<u8>,
        noise in prop_oneof![any::<Vec<u8>>(), "[0-9A-C@:,;\n]{0,60}".prop_map(String::into_bytes)],
    ) {
        if let Ok(target) = decode(&source, &noise, 50) {
            prop_assert!(target.len() <= 50);
        }
    }
}
