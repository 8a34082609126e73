//! Offers of permessage-deflate in a handshake (RFC 7692 section 7.1), and which one is accepted.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;

/// The extension's name (RFC 7692 section 7).
const NAME: &str = "permessage-deflate";

/// How far back an outgoing message may refer to itself. The steps are few, so that clients with
/// different wishes share bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// 32 KiB, for whoever does not ask for less.
    Full,
    /// 4 KiB.
    Medium,
    /// 512 bytes, of which deflating uses 250: that suits clients with 256 bytes, too.
    Small,
}

impl Window {
    /// Every window, in the order of the variants.
    pub const ALL: [Self; 3] = [Self::Full, Self::Medium, Self::Small];

    /// Base-2 logarithm of its size.
    pub fn bits(self) -> u8 {
        match self {
            Self::Full => 15,
            Self::Medium => 12,
            Self::Small => 9,
        }
    }

    /// The largest that a client with so many bits can follow.
    fn within(bits: u8) -> Self {
        match bits {
            15.. => Self::Full,
            12..15 => Self::Medium,
            _ => Self::Small,
        }
    }
}

/// An accepted offer. Neither side takes a context over from one message to the next: that is what
/// lets all subscribers share one deflated frame, and what spares a window per connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// Bits that the client limits us to, if it does.
    bits_max: Option<u8>,
}

impl Agreement {
    /// Accepts the first offer that can be met. `lines` are those of `Sec-WebSocket-Extensions`;
    /// what is malformed or unknown in one offer declines that one only.
    pub fn reach<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        lines.into_iter().flat_map(|line| split(line, ',')).find_map(accept)
    }

    /// The window to deflate with.
    pub fn window(self) -> Window {
        self.bits_max.map_or(Window::Full, Window::within)
    }

    /// Value of `Sec-WebSocket-Extensions` in the answer. A server may ask for
    /// `client_no_context_takeover` unoffered (RFC 7692 section 7.1.1.2), but it may limit the
    /// client's window only if offered, and has no reason to: one inflater takes any.
    pub fn answer(self) -> String {
        let takeover = "server_no_context_takeover; client_no_context_takeover";
        match self.bits_max {
            None => format!("{NAME}; {takeover}"),
            Some(bits_max) => {
                let bits = self.window().bits().min(bits_max);
                format!("{NAME}; {takeover}; server_max_window_bits={bits}")
            }
        }
    }
}

/// Reads one offer; `None` declines it.
fn accept(offer: &str) -> Option<Agreement> {
    let mut parts = split(offer, ';');
    if parts.next() != Some(NAME) {
        return None;
    }
    let (mut seen, mut bits_max) = (Vec::new(), None);
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(unquoted(value.trim_start())?)),
            None => (part, None),
        };
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
        match (name, value) {
            (
                "server_no_context_takeover"
                | "client_no_context_takeover"
                | "client_max_window_bits",
                None,
            ) => {}
            ("client_max_window_bits", Some(value)) => {
                window_bits(&value)?;
            }
            ("server_max_window_bits", Some(value)) => bits_max = Some(window_bits(&value)?),
            _ => return None,
        }
    }
    Some(Agreement { bits_max })
}

/// Cuts `text` at separators outside of quoted strings (RFC 6455 section 9.1).
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let pieces = text.split(move |letter| {
        let is_cut = letter == separator && !is_quoted;
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = is_quoted,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        is_cut
    });
    pieces.map(|piece| piece.trim_matches([' ', '\t']))
}

/// A value without its quotes, if it has them; `None` for half of them.
fn unquoted(value: &str) -> Option<Cow<'_, str>> {
    let Some(rest) = value.strip_prefix('"') else { return Some(value.into()) };
    let inner = rest.strip_suffix('"')?;
    Some(inner.replace('\\', "").into())
}

/// 8 to 15, without leading zeros (RFC 7692 section 7.1.2).
fn window_bits(text: &str) -> Option<u8> {
    (8..=15).find(|bits| bits.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::{Agreement, Window};

    const BASE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    /// What follows the takeover parameters in the answer to `lines`; `None` = declined.
    fn answer(lines: &[&str]) -> Option<String> {
        let answer = Agreement::reach(lines.iter().copied())?.answer();
        let rest = answer.strip_prefix(BASE).expect("no answer is without them");
        Some(rest.to_owned())
    }

    #[test]
    fn good_offers_are_accepted_on_our_terms() {
        for offer in [
            "permessage-deflate",
            " permessage-deflate ",
            "permessage-deflate;client_max_window_bits",
            "permessage-deflate; client_max_window_bits=8",
            "permessage-deflate; client_max_window_bits=\"10\"",
            "permessage-deflate; server_no_context_takeover",
            "permessage-deflate; client_no_context_takeover",
            "permessage-deflate ;\tclient_no_context_takeover ; server_no_context_takeover",
        ] {
            assert_eq!(answer(&[offer]).as_deref(), Some(""), "{offer}");
        }
    }

    #[test]
    fn a_smaller_window_is_granted_in_few_steps() {
        for (bits, granted, window) in [
            (8, 8, Window::Small),
            (9, 9, Window::Small),
            (10, 9, Window::Small),
            (11, 9, Window::Small),
            (12, 12, Window::Medium),
            (13, 12, Window::Medium),
            (14, 12, Window::Medium),
            (15, 15, Window::Full),
        ] {
            let offer = format!("permessage-deflate; server_max_window_bits={bits}");
            let expected = format!("; server_max_window_bits={granted}");
            assert_eq!(answer(&[&offer]), Some(expected));
            assert_eq!(Agreement::reach([&*offer]).map(Agreement::window), Some(window));
            let quoted = format!("permessage-deflate; server_max_window_bits = \"{bits}\"");
            assert_eq!(answer(&[&quoted]), answer(&[&offer]));
        }
    }

    #[test]
    fn bad_offers_are_declined() {
        for parameters in [
            "",
            "x",
            "x=1",
            "server_no_context_takeover=1",
            "client_no_context_takeover=\"\"",
            "server_max_window_bits",
            "server_max_window_bits=",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=08",
            "server_max_window_bits=+9",
            "server_max_window_bits=0xA",
            "server_max_window_bits=\"9",
            "server_max_window_bits=9\"",
            "server_max_window_bits=\"9;\"",
            "server_max_window_bits=9=9",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=x",
            "client_max_window_bits=",
            "server_no_context_takeover; server_no_context_takeover",
            "client_max_window_bits; client_max_window_bits=9",
            "server_max_window_bits=9; server_max_window_bits=9",
            "Server_No_Context_Takeover",
            "client_max_window_bits; x",
        ] {
            let offer = format!("permessage-deflate; {parameters}");
            assert_eq!(answer(&[&offer]), None, "{offer}");
        }
        for offer in ["", ",", ";", "x-webkit-deflate-frame", "permessage-bzip2", "\"", "=", "a; ="]
        {
            assert_eq!(answer(&[offer]), None, "{offer}");
        }
        assert_eq!(answer(&[]), None);
    }

    #[test]
    fn the_first_offer_that_can_be_met_counts() {
        let nine = Some("; server_max_window_bits=9".to_owned());
        let full = Some(String::new());
        for (lines, expected) in [
            (&["permessage-deflate; server_max_window_bits=9, permessage-deflate"][..], &nine),
            (&["permessage-deflate, permessage-deflate; server_max_window_bits=9"], &full),
            (&["permessage-deflate; x, permessage-deflate; server_max_window_bits=9"], &nine),
            (&["other; a=\"b, permessage-deflate\", permessage-deflate"], &full),
            (&["other; a=\"\\\", permessage-deflate\""], &None),
            (&["other, permessage-deflate; y=\"", "permessage-deflate"], &full),
            (&["permessage-deflate; server_max_window_bits=9", "permessage-deflate"], &nine),
        ] {
            assert_eq!(answer(lines), *expected, "{lines:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_lines_are_answered_on_our_terms_or_declined(lines in proptest::collection::vec(
            "((permessage-deflate|x)[;,=\" \\\\]{0,2}|(server|client)_(max_window_bits|no_context_takeover)|=?[0-9\"]{1,3}|[;,] ){0,9}",
            0..3,
        )) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            if let Some(rest) = answer(&lines) {
                let bits = rest.strip_prefix("; server_max_window_bits=");
                proptest::prop_assert!(rest.is_empty() || ["8", "9", "12", "15"].contains(&bits.unwrap_or_default()));
            }
        }
    }
}
