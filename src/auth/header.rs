//! Reading request headers: comma lists, and fields that may come only once.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::{AsHeaderName, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};

/// A header field that may come only once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field<'a> {
    /// Not sent.
    Absent,
    /// Sent once, as visible ASCII.
    One(&'a str),
    /// Sent more than once, or with bytes that no such field has.
    Faulty,
}

impl<'a> Field<'a> {
    /// Looks `name` up.
    pub(crate) fn of(headers: &'a HeaderMap, name: impl AsHeaderName) -> Self {
        let mut lines = headers.get_all(name).iter();
        match (lines.next().map(HeaderValue::to_str), lines.next()) {
            (None, _) => Self::Absent,
            (Some(Ok(text)), None) => Self::One(text.trim()),
            (Some(_), _) => Self::Faulty,
        }
    }

    /// The text, where it came exactly once.
    pub(crate) fn one(self) -> Option<&'a str> {
        match self {
            Self::One(text) => Some(text),
            Self::Absent | Self::Faulty => None,
        }
    }
}

/// The members of a comma list, over all lines of the field, in order.
pub(crate) fn list(headers: &HeaderMap, name: impl AsHeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|member| !member.is_empty())
}

/// The one well-formed `Host`, if that is what was sent.
pub(crate) fn host(headers: &HeaderMap) -> Option<Authority> {
    let text = Field::of(headers, HOST).one()?;
    let authority: Authority = text.parse().ok()?;
    // What follows the name can only be a port; a user before it is no part of a Host.
    let port = text.strip_prefix(authority.host())?;
    (port.is_empty() || authority.port_u16().is_some()).then_some(authority)
}

/// Whether `host` cannot be a name that somebody else's DNS answers.
pub(crate) fn is_of_this_machine(host: &str) -> bool {
    let last_label = host.rsplit('.').next().unwrap_or(host);
    if last_label.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(text) => text.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use http::header::HOST;
    use http::{HeaderMap, HeaderValue};

    use super::host;

    #[test]
    fn a_host_is_a_name_with_an_optional_port() {
        for (lines, expected) in [
            (&["a.example"][..], Some("a.example")),
            (&["a.example:8080"], Some("a.example:8080")),
            (&["[::1]:8080"], Some("[::1]:8080")),
            (&["[::1]"], Some("[::1]")),
            (&[], None),
            (&[""], None),
            (&["a", "a"], None),
            (&["user@a"], None),
            (&["a:b"], None),
            (&["a:99999"], None),
            (&["a/b"], None),
            (&["a b"], None),
            (&["[::1"], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(HOST, HeaderValue::from_static(line));
            }
            let got = host(&headers);
            assert_eq!(got.as_ref().map(http::uri::Authority::as_str), expected, "{lines:?}");
        }
    }
}
