//! Which stream a client wants, by its `Accept` (RFC 9110 section 12.5.1).

use http::HeaderMap;
use http::header::ACCEPT;

use crate::auth::header::list;
use crate::reason::{Refusal, Refused};

/// The kinds of stream over plain HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Server-sent events.
    Sse,
    /// One JSON object per line.
    Ndjson,
}

impl Stream {
    /// Chooses the stream. SSE must be asked for by name, and then wins where nothing is preferred
    /// to it; whoever takes anything gets ndjson.
    ///
    /// # Errors
    /// 406 `not_acceptable`.
    pub fn negotiate(headers: &HeaderMap) -> Result<Self, Refused> {
        let mut ranges = list(headers, ACCEPT).map(parse).peekable();
        if ranges.peek().is_none() {
            return Ok(Self::Ndjson);
        }
        let (mut sse, mut ndjson, mut wild) = (None, None, 0.0_f32);
        for (range, quality) in ranges {
            match range.to_ascii_lowercase().as_str() {
                "text/event-stream" => sse = Some(quality),
                "application/x-ndjson" => ndjson = Some(quality),
                "application/json" | "text/*" | "*/*" => wild = wild.max(quality),
                _ => {}
            }
        }
        // The exact name says more than a range that covers it.
        let (sse, ndjson) = (sse.unwrap_or(0.0), ndjson.unwrap_or(wild));
        if sse > 0.0 && sse >= ndjson {
            Ok(Self::Sse)
        } else if ndjson > 0.0 {
            Ok(Self::Ndjson)
        } else {
            Err(Refusal::NotAcceptable.into())
        }
    }
}

/// A media range and its quality; a quality that makes no sense counts as none given.
fn parse(member: &str) -> (&str, f32) {
    let mut parts = member.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default();
    let quality = parts
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .filter(|quality| (0.0..=1.0).contains(quality));
    (range, quality.unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;
    use http::{HeaderMap, HeaderValue};

    use super::Stream::{self, Ndjson, Sse};

    #[test]
    fn accept_chooses_the_stream() {
        for (lines, expected) in [
            (&[][..], Some(Ndjson)),
            (&[""], Some(Ndjson)),
            (&["*/*"], Some(Ndjson)),
            (&["text/*"], Some(Ndjson)),
            (&["application/json"], Some(Ndjson)),
            (&["application/x-ndjson"], Some(Ndjson)),
            (&["Application/X-NDJSON; charset=utf-8"], Some(Ndjson)),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], Some(Ndjson)),
            (&["text/event-stream"], Some(Sse)),
            (&["Text/Event-Stream;charset=utf-8"], Some(Sse)),
            (&["text/event-stream, */*"], Some(Sse)),
            (&["*/*", "text/event-stream"], Some(Sse)),
            (&["application/json, text/event-stream"], Some(Sse)),
            (&["text/event-stream;q=0.5, */*;q=0.1"], Some(Sse)),
            (&["text/event-stream;q=0.5, */*"], Some(Ndjson)),
            (&["text/event-stream;q=0.1, text/html"], Some(Sse)),
            (&["text/event-stream;q=0, */*"], Some(Ndjson)),
            (&["text/event-stream; Q=0.000, application/json;q=0.2"], Some(Ndjson)),
            (&["text/event-stream;q=0.5, application/x-ndjson;q=0.1, */*"], Some(Sse)),
            (&["*/*;q=x"], Some(Ndjson)),
            (&["*/*;q=NaN"], Some(Ndjson)),
            (&["text/event-stream;q=0"], None),
            (&["*/*;q=0"], None),
            (&["application/x-ndjson;q=0, */*"], None),
            (&["text/html"], None),
            (&["text/plain, image/png"], None),
            (&["application/*"], None),
            (&["text/event-streams"], None),
            (&["application/json-seq"], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(ACCEPT, HeaderValue::from_static(line));
            }
            assert_eq!(Stream::negotiate(&headers).ok(), expected, "{lines:?}");
        }
    }
}
