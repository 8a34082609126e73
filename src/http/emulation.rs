//! `/connection/http_stream`, `/connection/sse` and `/emulation`: the Centrifugo protocol for
//! clients that cannot have a WebSocket.
//!
//! Messages to the client are the body of an answer that does not end; its first commands come with
//! the request, later ones by requests of their own.

use std::rc::Rc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use hyper::body::Incoming;

use super::body::Content;
use super::connection::Connection;
use super::payload::Declared;
use super::route::Route;
use super::service::{Answer, Fault, Service};
use super::subscribe::streaming;
use crate::auth::Rights;
use crate::hub::decode_strict;
use crate::id::Door;
use crate::protocol::centrifugo::{
    Codec, EmulationRequest, Opening as SessionOpening, Pings, Wire,
};
use crate::reason::{Refusal, Refused};
use crate::worker::{Opening, Undelivered};

/// Query parameter with the first commands.
const CONNECT_PARAMETER: &str = "cf_connect";

/// The chunk that event streams begin with: some clients wait for a first byte.
const EVENTS_GREETING: &[u8] = b"2\r\n\r\n\r\n";

impl Service {
    /// Answers a request on one of the three paths.
    pub(super) async fn emulated(
        &self,
        connection: &Rc<Connection>,
        route: &Route,
        (parts, body): (Parts, Incoming),
    ) -> Answer {
        if *route == Route::Emulation {
            return self.emulate(connection, (parts, body)).await;
        }
        let identity = self.caller(connection, &parts).await?;
        let (wire, commands) = match (route, codec(&parts.headers)?) {
            (Route::CentrifugoEvents, _) if parts.method == Method::GET => {
                (Wire::Events, connect_parameter(parts.uri.query())?.into_bytes())
            }
            (Route::CentrifugoEvents, _) => (Wire::Events, self.read(&parts, body).await?),
            (_, Codec::Json) => (Wire::JsonBody, self.read(&parts, body).await?),
            (_, Codec::Protobuf) => (Wire::ProtobufBody, self.read(&parts, body).await?),
        };
        if self.drain.is_draining() {
            // It began while the body came.
            return Err(Refusal::Draining.into());
        }
        let (content_type, greeting) = match wire {
            Wire::Events => ("text/event-stream", EVENTS_GREETING),
            Wire::ProtobufBody => ("application/octet-stream", &b""[..]),
            _ => ("application/x-ndjson", &b""[..]),
        };
        let session =
            SessionOpening { wire, identity, pings: Pings::Messages, emulation_key: None };
        let opening = Opening {
            rights: Rights::NONE,
            grant: None,
            door: match wire.codec() {
                Codec::Json => Door::CentrifugoJson,
                Codec::Protobuf => Door::CentrifugoProtobuf,
            },
            deflate: None,
            session: Some(session),
        };
        let pending = self.worker.open_emulated(opening, greeting, &commands);
        Ok(streaming(connection, pending, content_type))
    }

    /// Hands the commands of a request to the session that it names, which is all the credential
    /// that it needs.
    async fn emulate(&self, connection: &Connection, (parts, body): (Parts, Incoming)) -> Answer {
        self.count_client(connection, &parts)?;
        let codec = codec(&parts.headers)?;
        let body = self.read(&parts, body).await?;
        let request = EmulationRequest::parse(codec, &body).map_err(|_| {
            let message = "the body is {\"session\",\"node\",\"data\"}, as JSON or as protobuf";
            Refusal::QueryInvalid.because(message)
        })?;
        drop(body);
        match self.worker.emulate(request).await {
            Ok(()) => {
                let mut response = Response::new(Content::short(Bytes::new()));
                *response.status_mut() = StatusCode::NO_CONTENT;
                Ok(response)
            }
            Err(Undelivered::Unknown) => {
                Err(Refusal::NotFound.because("there is no such session on this node").into())
            }
            Err(Undelivered::HeldBack) => Err(Refusal::PublisherOverrun.into()),
        }
    }

    async fn read(&self, parts: &Parts, body: Incoming) -> Result<Vec<u8>, Fault> {
        let limit = (self.limits.message_bytes_max, "limits.message_bytes_max");
        let (data, _) = self.read_body(&parts.headers, body, limit).await?;
        Ok(data)
    }
}

/// How the body of a request is written.
fn codec(headers: &HeaderMap) -> Result<Codec, Refused> {
    Declared::read(headers)?;
    let content_type = headers.get(CONTENT_TYPE).and_then(|line| line.to_str().ok());
    let essence = content_type.and_then(|line| line.split(';').next()).unwrap_or_default();
    let is_protobuf = essence.trim().eq_ignore_ascii_case("application/octet-stream");
    Ok(if is_protobuf { Codec::Protobuf } else { Codec::Json })
}

/// The first commands in a query, which is written as forms are: a plus is a space.
fn connect_parameter(query: Option<&str>) -> Result<String, Refused> {
    let parameters = query.unwrap_or_default().split('&');
    let mut values = parameters.filter_map(|parameter| match parameter.split_once('=') {
        Some((CONNECT_PARAMETER, value)) => Some(decode_strict(&value.replace('+', " "))),
        _ => None,
    });
    if let (Some(Some(commands)), None) = (values.next(), values.next()) {
        return Ok(commands);
    }
    Err(Refusal::QueryInvalid.because("`cf_connect` is the first command, percent-encoded, once"))
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::{codec, connect_parameter};
    use crate::protocol::centrifugo::Codec;
    use crate::reason::Refusal;

    #[test]
    fn the_content_type_chooses_the_codec() {
        for (content_type, expected) in [
            (None, Codec::Json),
            (Some("application/json"), Codec::Json),
            (Some("text/plain"), Codec::Json),
            (Some("application/octet-stream"), Codec::Protobuf),
            (Some("Application/Octet-Stream; x=y"), Codec::Protobuf),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(content_type) = content_type {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            }
            assert_eq!(codec(&headers), Ok(expected), "{content_type:?}");
        }
    }

    #[test]
    fn the_first_commands_come_once_and_percent_encoded() {
        for (query, expected) in [
            (Some("cf_connect=%7B%22id%22%3A1%7D"), Some("{\"id\":1}")),
            (Some("a=b&cf_connect={}&cf_connector=x"), Some("{}")),
            (Some("cf_connect=a+b%2Bc%20d"), Some("a b+c d")),
            (Some("cf_connect="), Some("")),
            (None, None),
            (Some(""), None),
            (Some("cf_connect"), None),
            (Some("cf_connect={}&cf_connect={}"), None),
            (Some("cf_connect=%zz"), None),
            (Some("cf_connect=%FF"), None),
        ] {
            let got = connect_parameter(query).map_err(|refused| refused.refusal);
            let expected = expected.map(str::to_owned).ok_or(Refusal::QueryInvalid);
            assert_eq!(got, expected, "{query:?}");
        }
    }

    proptest! {
        #[test]
        fn any_commands_survive_the_query(commands in any::<String>()) {
            let written = percent_encoding::utf8_percent_encode(
                &commands,
                percent_encoding::NON_ALPHANUMERIC,
            );
            let query = format!("cf_connect={written}");
            prop_assert_eq!(connect_parameter(Some(&query)), Ok(commands));
        }
    }
}
