//! One topic's stream without I/O: lines in; what to print, what to warn of, where to go on, out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Deserialize;

use crate::cli::client::ClientError;
use crate::hub::{Epoch, Since};

/// What a person wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// The payload of each publication, with a line end.
    Data,
    /// Every object as received.
    Objects,
}

/// What one line leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) print: Option<Bytes>,
    pub(super) warning: Option<String>,
}

/// The state of one topic over all its connections.
#[derive(Debug)]
pub(super) struct Stream {
    topic: String,
    show: Show,
    /// Where the next connection goes on.
    since: Option<Since>,
    /// Whether a connection has worked before.
    was_open: bool,
}

/// A publication or control object; what is unknown is ignored.
#[derive(Debug, Deserialize)]
struct Object {
    #[serde(flatten)]
    position: Shown,
    data: Option<String>,
    data64: Option<String>,
    subscribed: Option<Subscribed>,
    skipped: Option<Skipped>,
}

/// A position; absent on topics without history.
#[derive(Debug, Deserialize)]
struct Shown {
    epoch: Option<String>,
    offset: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Subscribed {
    #[serde(flatten)]
    position: Shown,
    recovered: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Skipped {
    count: u64,
}

impl Shown {
    fn since(&self) -> Option<Since> {
        let epoch = Some(Epoch::parse(self.epoch.as_deref()?)?);
        let offset = self.offset?;
        Some(Since { epoch, offset })
    }
}

impl Stream {
    pub(super) fn new(topic: String, since: Option<Since>, show: Show) -> Self {
        Self { topic, show, since, was_open: false }
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// The position to ask for, as the server takes it.
    pub(super) fn since(&self) -> Option<String> {
        self.since.map(|Since { epoch, offset }| match epoch {
            Some(epoch) => format!("{epoch}:{offset}"),
            None => offset.to_string(),
        })
    }

    /// Takes one line of the stream.
    pub(super) fn on_line(&mut self, line: &Bytes) -> Result<Seen, ClientError> {
        const NO_OBJECT: ClientError = ClientError::Foreign("a line of its stream is no object");
        let object: Object = serde_json::from_slice(line).map_err(|_| NO_OBJECT)?;
        let warning = match (&object.subscribed, &object.skipped) {
            (Some(subscribed), _) => self.on_subscribed(subscribed),
            (_, Some(Skipped { count })) => {
                Some(format!("{count} publications skipped: too slow for them"))
            }
            _ => None,
        };
        let is_publication = object.data.is_some() || object.data64.is_some();
        if is_publication && let Some(since) = object.position.since() {
            self.since = Some(since);
        }
        let data = match (object.data, object.data64) {
            (Some(text), _) => Some(text.into_bytes()),
            (_, Some(text)) => Some(STANDARD.decode(text).map_err(|_| NO_OBJECT)?),
            _ => None,
        };
        let print = match self.show {
            Show::Data => data.as_deref().map(with_line_end),
            Show::Objects => Some(with_line_end(line)),
        };
        Ok(Seen { print, warning })
    }

    /// Takes the position of a new connection; tells when something may be missing before it.
    fn on_subscribed(&mut self, subscribed: &Subscribed) -> Option<String> {
        let is_first = !std::mem::replace(&mut self.was_open, true);
        let asked = self.since();
        let now = subscribed.position.since();
        if subscribed.recovered == Some(true) {
            // The replay follows: only what has been received moves the position.
            if let (Some(since), Some(now)) = (&mut self.since, now) {
                since.epoch = now.epoch;
            }
            return None;
        }
        self.since = now;
        match (asked, is_first) {
            (Some(asked), _) => {
                Some(format!("not recovered from {asked}: publications may be missing here"))
            }
            (None, true) => None,
            (None, false) => {
                Some("reconnected; without history, publications may be missing here".to_owned())
            }
        }
    }
}

fn with_line_end(bytes: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(bytes.len() + 1);
    line.put_slice(bytes);
    line.put_u8(b'\n');
    line.freeze()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Seen, Show, Stream};
    use crate::hub::Since;

    fn stream(since: &str) -> Stream {
        Stream::new("news".to_owned(), Since::parse(since), Show::Data)
    }

    fn take(stream: &mut Stream, line: &str) -> Seen {
        let line = Bytes::copy_from_slice(line.as_bytes());
        stream.on_line(&line).expect("a line of a stream")
    }

    fn warning(stream: &mut Stream, line: &str) -> String {
        take(stream, line).warning.unwrap_or_default()
    }

    #[test]
    fn publications_are_printed_and_move_the_position() {
        let mut stream = stream("");
        let line = r#"{"subscribed":{"topic":"news","epoch":"e1","offset":4}}"#;
        assert_eq!(take(&mut stream, line), Seen::default());
        assert_eq!(stream.since().as_deref(), Some("e1:4"));
        let line = r#"{"topic":"news","offset":5,"epoch":"e1","time":1,"data":"a\nb","new":[]}"#;
        assert_eq!(take(&mut stream, line).print.as_deref(), Some(&b"a\nb\n"[..]));
        let line = r#"{"topic":"news","offset":6,"epoch":"e1","time":1,"data64":"/wA="}"#;
        let print = take(&mut stream, line).print;
        assert_eq!(print.as_deref(), Some(&b"\xff\0\n"[..]));
        assert_eq!(take(&mut stream, r#"{"ping":{}}"#), Seen::default());
        assert_eq!(stream.since().as_deref(), Some("e1:6"));
    }

    #[test]
    fn a_recovered_stream_goes_on_from_what_was_received() {
        let mut stream = stream("3");
        let line = r#"{"subscribed":{"topic":"news","epoch":"e1","offset":9,"recovered":true}}"#;
        assert_eq!(warning(&mut stream, line), "");
        assert_eq!(stream.since().as_deref(), Some("e1:3"));
    }

    #[test]
    fn what_is_not_recovered_is_told() {
        let mut stream = stream("e0:3");
        let line = r#"{"subscribed":{"topic":"news","epoch":"e1","offset":9,"recovered":false}}"#;
        let told = "not recovered from e0:3: publications may be missing here";
        assert_eq!(warning(&mut stream, line), told);
        assert_eq!(stream.since().as_deref(), Some("e1:9"));
    }

    #[test]
    fn without_history_a_reconnect_is_told() {
        let mut stream = stream("");
        let line = r#"{"subscribed":{"topic":"news"}}"#;
        assert_eq!(warning(&mut stream, line), "");
        take(&mut stream, r#"{"topic":"news","time":1,"data":"a"}"#);
        assert_eq!(stream.since(), None);
        assert!(warning(&mut stream, line).contains("without history"));
    }

    #[test]
    fn skipped_publications_are_told() {
        let told = warning(&mut stream(""), r#"{"skipped":{"count":7}}"#);
        assert_eq!(told, "7 publications skipped: too slow for them");
    }

    #[test]
    fn objects_are_printed_as_received() {
        let mut stream = Stream::new("news".to_owned(), None, Show::Objects);
        for line in [r#"{"ping": {}}"#, r#"{"offset":1,"epoch":"e","data64":"AA=="}"#] {
            let print = take(&mut stream, line).print.unwrap_or_default();
            assert_eq!(print, format!("{line}\n"));
        }
    }

    #[test]
    fn other_lines_are_no_stream_of_ours() {
        for line in ["", "<html>", "[]", r#"{"data":{}}"#, r#"{"data64":"%"}"#] {
            let line = Bytes::copy_from_slice(line.as_bytes());
            assert!(stream("").on_line(&line).is_err(), "{line:?}");
        }
    }
}
