//! Paths of the listener.

use http::Method;

use super::api::Procedure;
use crate::hub::TopicName;
use crate::reason::{Refusal, Refused};

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/topics/{topic}`: streams, handshakes, publishing.
    Topic(TopicName),
    /// `/topics/{topic}/history`.
    History(TopicName),
    /// `/topics/{topic}/presence`.
    Presence(TopicName),
    /// `/topics`: a stream or handshake of several.
    Topics,
    /// `/connection/websocket`: the Centrifugo protocol.
    Centrifugo,
    /// `/connection/http_stream`: the same in the body of an answer.
    CentrifugoStream,
    /// `/connection/sse`: the same as server-sent events.
    CentrifugoEvents,
    /// `/connection/uni_websocket`: the Centrifugo protocol for clients that only listen.
    UniSocket,
    /// `/connection/uni_http_stream`: the same in the body of an answer.
    UniStream,
    /// `/connection/uni_sse`: the same as server-sent events.
    UniEvents,
    /// `/emulation`: what clients of the other streams send later.
    Emulation,
    /// `/api/{method}`: the server API.
    Api(Procedure),
    /// `/`: the try-it page.
    Index,
}

impl Route {
    /// Reads a path that is still percent-encoded.
    ///
    /// # Errors
    /// 404 for a path that names nothing here, 400 for a segment that is not a topic name.
    pub fn parse(path: &str, topic_name_len_max: usize) -> Result<Self, Refused> {
        let name = |segment| {
            TopicName::from_segment(segment, topic_name_len_max)
                .map_err(|fault| Refusal::TopicNameInvalid.because(fault.to_string()))
        };
        let mut split = path.strip_prefix('/').unwrap_or_default().splitn(4, '/');
        let segments: [Option<&str>; 4] = std::array::from_fn(|_| split.next());
        match segments {
            [Some(""), None, ..] if path == "/" => Ok(Self::Index),
            [Some("topics"), Some(""), ..] => Err(Refusal::NotFound.into()),
            [Some("topics"), Some(topic), None, _] => name(topic).map(Self::Topic),
            [Some("topics"), Some(topic), Some("history"), None] => name(topic).map(Self::History),
            [Some("topics"), Some(topic), Some("presence"), None] => {
                name(topic).map(Self::Presence)
            }
            [Some("topics"), None, ..] => Ok(Self::Topics),
            [Some("connection"), Some("websocket"), None, _] => Ok(Self::Centrifugo),
            [Some("connection"), Some("http_stream"), None, _] => Ok(Self::CentrifugoStream),
            [Some("connection"), Some("sse"), None, _] => Ok(Self::CentrifugoEvents),
            [Some("connection"), Some("uni_websocket"), None, _] => Ok(Self::UniSocket),
            [Some("connection"), Some("uni_http_stream"), None, _] => Ok(Self::UniStream),
            [Some("connection"), Some("uni_sse"), None, _] => Ok(Self::UniEvents),
            [Some("emulation"), None, ..] => Ok(Self::Emulation),
            [Some("api"), Some(word), None, _] => Procedure::parse(word)
                .map(Self::Api)
                .ok_or_else(|| Refusal::NotFound.because(Procedure::listing())),
            [Some("connection" | "app" | "apps" | "stomp"), ..] => Err(Refusal::NotFound
                .because("this front door is not in this build; topics are at /topics/{topic}")),
            _ => Err(Refusal::NotFound.into()),
        }
    }

    /// Methods that the path takes, as `Allow` lists them.
    pub fn methods(&self) -> &'static str {
        match self {
            Self::Topic(_) | Self::CentrifugoEvents | Self::UniEvents => "GET, POST, OPTIONS",
            Self::CentrifugoStream | Self::UniStream | Self::Emulation | Self::Api(_) => {
                "POST, OPTIONS"
            }
            Self::Topics
            | Self::History(_)
            | Self::Presence(_)
            | Self::Centrifugo
            | Self::UniSocket
            | Self::Index => "GET, OPTIONS",
        }
    }

    /// Whether the path takes `method`.
    pub fn takes(&self, method: &Method) -> bool {
        self.methods().split(", ").any(|its| its == method)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Procedure, Route};
    use crate::hub::TopicName;
    use crate::reason::Refusal;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name, 255).expect("a topic name")
    }

    #[test]
    fn a_path_names_one_thing_or_nothing() {
        let not_found = || Err(Refusal::NotFound);
        let name_invalid = || Err(Refusal::TopicNameInvalid);
        for (path, expected) in [
            ("/", Ok(Route::Index)),
            ("/topics/a", Ok(Route::Topic(topic("a")))),
            ("/topics/a%2Fb", Ok(Route::Topic(topic("a/b")))),
            ("/topics/a+b", Ok(Route::Topic(topic("a+b")))),
            ("/topics/%2541", Ok(Route::Topic(topic("%41")))),
            ("/topics/chat:1", Ok(Route::Topic(topic("chat:1")))),
            ("/topics/history", Ok(Route::Topic(topic("history")))),
            ("/topics/a/history", Ok(Route::History(topic("a")))),
            ("/topics/a%2F/history", Ok(Route::History(topic("a/")))),
            ("/topics/a/presence", Ok(Route::Presence(topic("a")))),
            ("/topics/history/history", Ok(Route::History(topic("history")))),
            ("/topics", Ok(Route::Topics)),
            ("/topics/", not_found()),
            ("/topics//", not_found()),
            ("/topics//history", not_found()),
            ("/topics/a/", not_found()),
            ("/topics/a/history/", not_found()),
            ("/topics/a/History", not_found()),
            ("/topics/a/b", not_found()),
            ("/topics/%zz/", not_found()),
            ("//topics/a", not_found()),
            ("/Topics/a", not_found()),
            ("topics/a", not_found()),
            ("", not_found()),
            ("*", not_found()),
            ("//", not_found()),
            ("/health", not_found()),
            ("/connection/websocket", Ok(Route::Centrifugo)),
            ("/connection/websocket/", not_found()),
            ("/connection/http_stream", Ok(Route::CentrifugoStream)),
            ("/connection/sse", Ok(Route::CentrifugoEvents)),
            ("/connection/uni_websocket", Ok(Route::UniSocket)),
            ("/connection/uni_http_stream", Ok(Route::UniStream)),
            ("/connection/uni_sse", Ok(Route::UniEvents)),
            ("/connection/uni_sse/", not_found()),
            ("/emulation", Ok(Route::Emulation)),
            ("/emulation/", not_found()),
            ("/connection/sse/a", not_found()),
            ("/connection/other", not_found()),
            ("/api/publish", Ok(Route::Api(Procedure::Publish))),
            ("/api/presence_stats", Ok(Route::Api(Procedure::PresenceStats))),
            ("/api", not_found()),
            ("/api/", not_found()),
            ("/api/Publish", not_found()),
            ("/api/publish/", not_found()),
            ("/api/map_publish", not_found()),
            ("/app/key", not_found()),
            ("/apps/1/events", not_found()),
            ("/stomp", not_found()),
            ("/topics/.", name_invalid()),
            ("/topics/..", name_invalid()),
            ("/topics/%2e%2E", name_invalid()),
            ("/topics/*", name_invalid()),
            ("/topics/%zz", name_invalid()),
            ("/topics/%", name_invalid()),
            ("/topics/a%00", name_invalid()),
            ("/topics/a%0d%0ab", name_invalid()),
            ("/topics/%FF", name_invalid()),
            ("/topics/%C0%AF/history", name_invalid()),
            ("/topics/%E2%80%AE", name_invalid()),
        ] {
            let got = Route::parse(path, 255).map_err(|refused| refused.refusal);
            assert_eq!(got, expected, "{path}");
        }
    }

    #[test]
    fn a_name_is_as_long_as_the_limit_at_most() {
        for (len, limit, expected) in [(255, 255, true), (256, 255, false), (9, 8, false)] {
            let path = format!("/topics/{}", "a".repeat(len));
            assert_eq!(Route::parse(&path, limit).is_ok(), expected, "{len}");
        }
        let long = format!("/topics/{}", "a".repeat(10_240));
        let refused = Route::parse(&long, 255).expect_err("too long");
        assert_eq!(refused.refusal, Refusal::TopicNameInvalid);
    }

    #[test]
    fn what_this_build_lacks_says_so() {
        for path in ["/stomp", "/app/key", "/connection/uni_grpc"] {
            let refused = Route::parse(path, 255).expect_err("not in this build");
            assert!(refused.message.contains("not in this build"), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_a_route_or_refused(path in any::<String>()) {
            let _ = Route::parse(&path, 255);
            let _ = Route::parse(&format!("/topics/{path}"), 255);
        }

        #[test]
        fn any_bytes_are_the_topic_they_encode_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 1..300),
        ) {
            let all = percent_encoding::NON_ALPHANUMERIC;
            let segment = percent_encoding::percent_encode(&bytes, all);
            let got = Route::parse(&format!("/topics/{segment}"), 255).ok();
            let name = str::from_utf8(&bytes).ok();
            let expected = name.and_then(|name| TopicName::new(name, 255).ok());
            prop_assert_eq!(got, expected.map(Route::Topic));
        }
    }
}
