//! The payload of close frames (RFC 6455 sections 5.5.1 and 7.4).

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::reason::ProtocolFault;

/// Reads the close code, `None` where the peer gave none; the reason is checked and dropped.
pub(super) fn parse(payload: &[u8]) -> Result<Option<u16>, ProtocolFault> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(ProtocolFault::ClosePayload) };
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(ProtocolFault::CloseCode);
    }
    if simdutf8::basic::from_utf8(reason).is_err() {
        return Err(ProtocolFault::Utf8);
    }
    Ok(Some(code))
}

/// Whether a close frame may carry the code: those the RFC and IANA define, and the free ranges.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::reason::ProtocolFault;

    fn payload(code: u16, reason: &[u8]) -> Vec<u8> {
        [&code.to_be_bytes(), reason].concat()
    }

    #[test]
    fn codes_that_may_be_sent_are_read() {
        assert_eq!(parse(b""), Ok(None));
        for code in [
            1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999,
            4000, 4999,
        ] {
            assert_eq!(parse(&payload(code, b"")), Ok(Some(code)));
            assert_eq!(parse(&payload(code, "bye \u{1f44b}".as_bytes())), Ok(Some(code)));
        }
    }

    #[test]
    fn codes_that_may_not_be_sent_are_faults() {
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 5001, 65_535]
        {
            assert_eq!(parse(&payload(code, b"")), Err(ProtocolFault::CloseCode), "{code}");
        }
    }

    #[test]
    fn half_a_code_and_a_broken_reason_are_faults() {
        assert_eq!(parse(b"\x03"), Err(ProtocolFault::ClosePayload));
        assert_eq!(parse(&payload(1000, b"\xce\xba\xe1")), Err(ProtocolFault::Utf8));
        assert_eq!(parse(&payload(999, b"\xff")), Err(ProtocolFault::CloseCode));
    }
}
