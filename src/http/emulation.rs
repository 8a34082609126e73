//! `/connection/http_stream`, `/connection/sse` and `/emulation`: the Centrifugo protocol for
//! clients that cannot have a WebSocket; `/connection/uni_http_stream` and `/connection/uni_sse` for
//! those that only listen.
//!
//! Messages to the client are the body of an answer that does not end; its first commands come with
//! the request, later ones by requests of their own. Who only listens sends a request to connect.

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
use crate::protocol::centrifugo::{
    Codec, Commands, ConnectRequest, EmulationRequest, Opening as SessionOpening, Pings, Wire,
};
use crate::reason::{Refusal, Refused};
use crate::worker::{Opening, Undelivered};

/// Query parameter with the first commands, or with the request to connect.
const CONNECT_PARAMETER: &str = "cf_connect";

/// The chunk that event streams begin with: some clients wait for a first byte.
const EVENTS_GREETING: &[u8] = b"2\r\n\r\n\r\n";

impl Service {
    /// Answers a request on one of these paths.
    pub(super) async fn emulated(
        &self,
        connection: &Rc<Connection>,
        route: &Route,
        (parts, body): (Parts, Incoming),
    ) -> Answer {
        if *route == Route::Emulation {
            return self.emulate(connection, (parts, body)).await;
        }
        let caller = self.caller(connection, &parts).await?.map(Into::into);
        let wire = match (route, codec(&parts.headers)?) {
            (Route::UniEvents, _) => Wire::UniEvents,
            (Route::UniStream, _) => Wire::UniBody,
            (Route::CentrifugoEvents, _) => Wire::Events,
            (_, Codec::Json) => Wire::JsonBody,
            (_, Codec::Protobuf) => Wire::ProtobufBody,
        };
        let said = if parts.method == Method::GET {
            connect_parameter(parts.uri.query())?.map(String::into_bytes)
        } else {
            Some(self.read(&parts, body).await?)
        };
        let commands = if wire.is_unidirectional() {
            let request = said.as_deref().map(connect_request).transpose()?;
            Commands::connect(Ok(request.unwrap_or_default()))
        } else {
            let said = said.as_deref().ok_or_else(no_connect_parameter)?;
            Commands::new(wire.codec(), said)
        };
        if self.drain.is_draining() {
            // It began while the body came.
            return Err(Refusal::Draining.into());
        }
        let (content_type, greeting) = match wire {
            Wire::Events | Wire::UniEvents => ("text/event-stream", EVENTS_GREETING),
            Wire::ProtobufBody => ("application/octet-stream", &b""[..]),
            _ => ("application/x-ndjson", &b""[..]),
        };
        let session = SessionOpening { wire, caller, pings: Pings::Messages, name: None };
        let opening = Opening {
            rights: Rights::NONE,
            grant: None,
            door: wire.codec().door(),
            deflate: None,
            session: Some(session),
        };
        let pending = self.worker.open_session(opening, greeting, commands);
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

/// What a query says first, if it does; it is written as forms are: a plus is a space.
pub(super) fn connect_parameter(query: Option<&str>) -> Result<Option<String>, Refused> {
    let parameters = query.unwrap_or_default().split('&');
    let mut values = parameters.filter_map(|parameter| match parameter.split_once('=') {
        Some((CONNECT_PARAMETER, value)) => Some(decode_strict(&value.replace('+', " "))),
        _ => None,
    });
    match (values.next(), values.next()) {
        (Some(Some(said)), None) => Ok((!said.is_empty()).then_some(said)),
        (None, _) => Ok(None),
        _ => Err(no_connect_parameter()),
    }
}

fn no_connect_parameter() -> Refused {
    Refusal::QueryInvalid.because("`cf_connect` is the first command, percent-encoded, once")
}

/// What a client that only listens says; nothing is a request without wishes.
pub(super) fn connect_request(said: &[u8]) -> Result<ConnectRequest, Refused> {
    ConnectRequest::parse(said).map_err(|_| {
        let message =
            "a client that only listens sends a JSON object with `token`, `subs`, or neither";
        Refusal::QueryInvalid.because(message)
    })
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
            (Some("cf_connect=%7B%22id%22%3A1%7D"), Ok(Some("{\"id\":1}"))),
            (Some("a=b&cf_connect={}&cf_connector=x"), Ok(Some("{}"))),
            (Some("cf_connect=a+b%2Bc%20d"), Ok(Some("a b+c d"))),
            (Some("cf_connect="), Ok(None)),
            (None, Ok(None)),
            (Some(""), Ok(None)),
            (Some("cf_connect"), Ok(None)),
            (Some("cf_connect={}&cf_connect={}"), Err(Refusal::QueryInvalid)),
            (Some("cf_connect=%zz"), Err(Refusal::QueryInvalid)),
            (Some("cf_connect=%FF"), Err(Refusal::QueryInvalid)),
        ] {
            let got = connect_parameter(query).map_err(|refused| refused.refusal);
            assert_eq!(got, expected.map(|said| said.map(str::to_owned)), "{query:?}");
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
            let expected = (!commands.is_empty()).then_some(commands);
            prop_assert_eq!(connect_parameter(Some(&query)), Ok(expected));
        }
    }
}
