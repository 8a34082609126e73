//! Chains of proxies, true and made up.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::{Client, HOPS_MAX, Proxies};

const PROXY: &str = "10.0.0.1";

fn proxies() -> Proxies {
    let networks = ["10.0.0.0/8", "fd00::/8", "127.0.0.1/32"];
    Proxies::new(networks.map(|network| network.parse().expect("a network")))
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn headers<'a>(lines: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    headers
}

/// The address behind the proxy; empty where none is believed.
fn behind(peer: &str, lines: &[(&str, &str)]) -> String {
    let headers = headers(lines.iter().map(|(name, value)| (*name, value.as_bytes())));
    let client = proxies().client(ip(peer), &headers);
    assert_eq!(client.address(), client.behind.unwrap_or(ip(peer).to_canonical()));
    client.behind.map_or_else(String::new, |address| address.to_string())
}

#[test]
fn only_trusted_peers_are_believed() {
    for (peer, expected) in [
        (PROXY, "192.0.2.7"),
        ("fd00::1", "192.0.2.7"),
        ("::ffff:10.0.0.1", "192.0.2.7"),
        ("127.0.0.1", "192.0.2.7"),
        ("127.0.0.2", ""),
        ("192.0.2.1", ""),
        ("fe00::1", ""),
        ("::ffff:192.0.2.1", ""),
    ] {
        for name in ["x-forwarded-for", "forwarded"] {
            let value = if name == "forwarded" { "for=192.0.2.7" } else { "192.0.2.7" };
            assert_eq!(behind(peer, &[(name, value)]), expected, "{peer}");
        }
        assert_eq!(behind(peer, &[]), "");
    }
    let none = Proxies::default().client(ip(PROXY), &headers([("x-forwarded-for", &b"::1"[..])]));
    assert_eq!(none, Client::direct(ip(PROXY)));
}

#[test]
fn the_right_most_untrusted_hop_wins() {
    for (lines, expected) in [
        (&["192.0.2.7"][..], "192.0.2.7"),
        (&["203.0.113.9, 192.0.2.7"], "192.0.2.7"),
        (&["203.0.113.9, 192.0.2.7, 10.9.9.9, 10.1.1.1"], "192.0.2.7"),
        (&["203.0.113.9", "192.0.2.7"], "192.0.2.7"),
        (&["203.0.113.9", "192.0.2.7", "10.0.0.7"], "192.0.2.7"),
        (&["127.0.0.1, 192.0.2.7"], "192.0.2.7"),
        (&["10.0.0.9, 192.0.2.7"], "192.0.2.7"),
        (&["10.0.0.9"], "10.0.0.9"),
        (&["10.0.0.9,10.0.0.8"], "10.0.0.9"),
        (&["192.0.2.7:5555"], "192.0.2.7"),
        (&["2001:db8::7"], "2001:db8::7"),
        (&["[2001:db8::7]"], "2001:db8::7"),
        (&["[2001:db8::7]:443"], "2001:db8::7"),
        (&["::ffff:192.0.2.7"], "192.0.2.7"),
        (&["  192.0.2.7 ,  "], "192.0.2.7"),
        (&["192.0.2.7, unknown"], ""),
        (&["192.0.2.7, 10.0.0.9, nonsense, 10.0.0.8"], "10.0.0.8"),
        (&["192.0.2.7.evil.example"], ""),
        (&["192.0.2.7:99999"], ""),
        (&["[192.0.2.7]"], ""),
        (&["[2001:db8::7]x"], ""),
        (&["192.0.2"], ""),
        (&["0x7f.1"], ""),
        (&["localhost"], ""),
        (&[""], ""),
        (&[","], ""),
    ] {
        let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        assert_eq!(behind(PROXY, &lines), expected, "{lines:?}");
    }
}

#[test]
fn forwarded_is_read_as_its_grammar_says() {
    for (lines, expected) in [
        (&["for=192.0.2.7"][..], "192.0.2.7"),
        (&["For=\"192.0.2.7\"; proto=https ;by=10.0.0.1"], "192.0.2.7"),
        (&["proto=http;for=\"[2001:db8::7]:4711\""], "2001:db8::7"),
        (&["for=203.0.113.9, for=192.0.2.7;host=a, for=10.0.0.9"], "192.0.2.7"),
        (&["for=203.0.113.9", "for=192.0.2.7"], "192.0.2.7"),
        (&["for=\"19\\2.0.2.7\""], "192.0.2.7"),
        (&["for=x;host=\"a,for=1.2.3.4\", for=192.0.2.7"], "192.0.2.7"),
        (&["host=\"a\\\",for=1.2.3.4\", for=192.0.2.7"], "192.0.2.7"),
        (&["for=192.0.2.7, proto=https"], ""),
        (&["for=192.0.2.7, for=unknown"], ""),
        (&["for=192.0.2.7, for=_hidden"], ""),
        (&["for=192.0.2.7, for=\"10.0.0.9"], ""),
        // A quote before what the proxy added would hide it.
        (&["for=\", for=192.0.2.7"], ""),
        (&["for=\"1.2.3.4, for=\"[2001:db8::7]\""], ""),
        (&["xfor=192.0.2.7"], ""),
        (&["for"], ""),
        (&["192.0.2.7"], ""),
        (&[""], ""),
    ] {
        let lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
        assert_eq!(behind(PROXY, &lines), expected, "{lines:?}");
    }
}

#[test]
fn two_headers_that_disagree_are_not_believed() {
    let both = |x_forwarded, forwarded| {
        behind(PROXY, &[("x-forwarded-for", x_forwarded), ("forwarded", forwarded)])
    };
    assert_eq!(both("192.0.2.7", "for=192.0.2.7"), "192.0.2.7");
    assert_eq!(both("192.0.2.7", "for=127.0.0.1"), "");
    assert_eq!(both("127.0.0.1", "for=192.0.2.7"), "");
    assert_eq!(both("192.0.2.7", "nonsense"), "");
    assert_eq!(both("nonsense", "for=192.0.2.7"), "");
}

#[test]
fn headers_that_say_nothing_of_addresses_do_not_count() {
    for name in ["x-real-ip", "via", "x-forwarded-host", "true-client-ip"] {
        assert_eq!(behind(PROXY, &[(name, "192.0.2.7")]), "", "{name}");
    }
}

#[test]
fn a_long_chain_is_followed_only_so_far() {
    let chain = |trusted| ["192.0.2.7"].into_iter().chain(vec!["10.0.0.9"; trusted]);
    let of = |trusted| chain(trusted).collect::<Vec<_>>().join(",");
    assert_eq!(behind(PROXY, &[("x-forwarded-for", &of(HOPS_MAX - 1))]), "192.0.2.7");
    assert_eq!(behind(PROXY, &[("x-forwarded-for", &of(HOPS_MAX))]), "10.0.0.9");
}

proptest! {
    /// Whatever a client writes, it cannot be somebody else: a proxy appends what it sees.
    #[test]
    fn nobody_writes_an_address_for_another(
        text in "[ -~]{0,60}|(for=|\"|,|;|\\\\|10.0.0.9| |\\[|\\]|::1){0,20}",
        is_forwarded in any::<bool>(),
    ) {
        let (name, own) = if is_forwarded {
            ("forwarded", "for=192.0.2.7")
        } else {
            ("x-forwarded-for", "192.0.2.7")
        };
        let same_line = behind(PROXY, &[(name, &format!("{text}, {own}"))]);
        prop_assert!(["", "192.0.2.7"].contains(&same_line.as_str()), "{}", same_line);
        let next_line = behind(PROXY, &[(name, &text), (name, own)]);
        prop_assert!(["", "192.0.2.7"].contains(&next_line.as_str()), "{}", next_line);
    }

    #[test]
    fn any_bytes_are_read_or_not_believed(lines in prop::collection::vec(any::<Vec<u8>>(), 0..4)) {
        for name in ["forwarded", "x-forwarded-for"] {
            let headers = headers(lines.iter().map(|line| (name, line.as_slice())));
            let _ = proxies().client(ip(PROXY), &headers);
        }
    }
}
