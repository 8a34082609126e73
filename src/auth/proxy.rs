//! Where a request really comes from: what proxies in front of the server say, if they are trusted.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{AsHeaderName, FORWARDED};
use ipnet::IpNet;

use super::header::list;

/// Proxies that one request may have come through, as far as they are looked at.
const HOPS_MAX: usize = 32;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Whoever is at the other end of the connection.
    pub peer: IpAddr,
    /// Whoever a trusted proxy speaks for; `None` where the peer is none, or does not say so.
    pub behind: Option<IpAddr>,
}

impl Client {
    /// A client without a proxy.
    pub fn direct(peer: IpAddr) -> Self {
        Self { peer: peer.to_canonical(), behind: None }
    }

    /// The address that limits count for.
    pub fn address(self) -> IpAddr {
        self.behind.unwrap_or(self.peer)
    }
}

/// `limits.trusted_proxies`: whose word about addresses is taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxies(Box<[IpNet]>);

impl Proxies {
    /// Takes the networks.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self(networks.into_iter().collect())
    }

    /// Whether `address` is a proxy of ours.
    pub fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Says where a request of `peer` comes from. Of what the proxies wrote, the right-most address
    /// that is not itself a trusted proxy counts: what stands before it, the client may have written.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let peer = peer.to_canonical();
        let behind = if self.has(peer) { self.behind(headers) } else { None };
        Client { peer, behind }
    }

    fn behind(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let x_forwarded = || {
            let hops: Vec<&str> = list(headers, X_FORWARDED_FOR).collect();
            self.last_untrusted(hops.iter().rev().map(|hop| address(hop)))
        };
        let forwarded = || {
            let hops = forwarded_for(headers)?;
            self.last_untrusted(hops.iter().rev().map(|hop| address(hop)))
        };
        // A proxy keeps one of the two and passes the other on as the client wrote it. Where they
        // disagree, neither is believed.
        match (has(headers, X_FORWARDED_FOR), has(headers, FORWARDED)) {
            (true, true) => x_forwarded().filter(|address| forwarded() == Some(*address)),
            (true, false) => x_forwarded(),
            (false, true) => forwarded(),
            (false, false) => None,
        }
    }

    /// Goes from the nearest hop outwards until one is not ours, or does not say who it is.
    fn last_untrusted(&self, hops: impl Iterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
        let mut last = None;
        for hop in hops.take(HOPS_MAX) {
            let Some(hop) = hop else { return last };
            last = Some(hop);
            if !self.has(hop) {
                return last;
            }
        }
        last
    }
}

fn has(headers: &HeaderMap, name: impl AsHeaderName) -> bool {
    headers.contains_key(name)
}

/// An address with or without a port, as proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = || {
        let (inner, port) = text.strip_prefix('[')?.split_once(']')?;
        let is_port = port.is_empty() || port.strip_prefix(':')?.parse::<u16>().is_ok();
        inner.parse().ok().filter(|ip: &IpAddr| ip.is_ipv6() && is_port)
    };
    let parsed = text.parse::<IpAddr>().ok();
    let parsed = parsed.or_else(bracketed);
    let parsed = parsed.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    parsed.map(|ip| ip.to_canonical())
}

/// The `for` of each element of `Forwarded` (RFC 7239 section 4), nearest proxy last. An element
/// without one is empty. `None` where a quoted string does not end: then nobody knows which comma
/// is one.
fn forwarded_for(headers: &HeaderMap) -> Option<Vec<String>> {
    let mut hops = Vec::new();
    for line in headers.get_all(FORWARDED) {
        for element in split(line.to_str().ok()?, ',')? {
            let pairs = split(element, ';')?;
            let hop = pairs.into_iter().find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                name.trim().eq_ignore_ascii_case("for").then(|| unquoted(value.trim()))
            });
            hops.push(hop.unwrap_or_default());
        }
    }
    Some(hops)
}

/// Splits at `mark` outside of quoted strings. `None` where one does not end.
fn split(text: &str, mark: char) -> Option<Vec<&str>> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = text.split(|letter| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match letter {
            '"' if !was_escaped => is_quoted = !is_quoted,
            '\\' if is_quoted && !was_escaped => is_escaped = true,
            _ => {}
        }
        letter == mark && !is_quoted
    });
    let parts = parts.collect();
    (!is_quoted).then_some(parts)
}

/// The content of a quoted string, or the text itself.
fn unquoted(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let Some(inner) = inner else { return text.to_owned() };
    let mut is_escaped = false;
    let keep = |letter: &char| {
        is_escaped = *letter == '\\' && !is_escaped;
        !is_escaped
    };
    inner.chars().filter(keep).collect()
}

#[cfg(test)]
mod tests;
