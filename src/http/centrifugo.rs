//! `/connection/websocket`: the Centrifugo protocol over a WebSocket.

use std::rc::Rc;

use http::HeaderValue;
use http::request::Parts;

use super::connection::Connection;
use super::handshake::Handshake;
use super::service::{Answer, Service};
use super::subscribe::switching_protocols;
use crate::auth::{Identity, Rights};
use crate::id::Door;
use crate::protocol::centrifugo::{Codec, Opening as SessionOpening, Pings, Wire};
use crate::reason::{Refusal, Refused};
use crate::worker::Opening;
use crate::ws::Agreement;

/// Subprotocols of the door.
const JSON: &str = "centrifuge-json";
const PROTOBUF: &str = "centrifuge-protobuf";

/// Query parameters that choose the encoding, for clients that offer no subprotocol.
const PROTOBUF_PARAMETERS: [&str; 2] = ["format=protobuf", "cf_protocol=protobuf"];

/// Query parameter of a client that wants pings of the transport instead of messages.
const TRANSPORT_PINGS_PARAMETER: &str = "cf_ws_frame_ping_pong=true";

impl Service {
    /// Answers a handshake; who the client is, the request says, or its first command.
    pub(super) async fn connect(
        &self,
        connection: &Rc<Connection>,
        parts: Parts,
        handshake: Option<Handshake>,
    ) -> Answer {
        let Some(handshake) = handshake else {
            let message = "this path takes WebSocket handshakes only";
            return Err(Refusal::HandshakeInvalid.because(message).into());
        };
        let identity = self.caller(connection, &parts).await?;
        let offers = |name| handshake.protocols().any(|offer| offer == name);
        let asks = |parameter| {
            let query = parts.uri.query().unwrap_or_default();
            query.split('&').any(|one| one == parameter)
        };
        let (wire, door) = if offers(PROTOBUF) || PROTOBUF_PARAMETERS.into_iter().any(asks) {
            (Wire::ProtobufFrames, Door::CentrifugoProtobuf)
        } else {
            (Wire::JsonFrames, Door::CentrifugoJson)
        };
        let protocol = match wire.codec() {
            Codec::Json => JSON,
            Codec::Protobuf => PROTOBUF,
        };
        let protocol = offers(protocol).then(|| HeaderValue::from_static(protocol));
        let transport_pings = asks(TRANSPORT_PINGS_PARAMETER);
        let pings = if transport_pings { Pings::Transport } else { Pings::Messages };
        let session = SessionOpening { wire, identity, pings, emulation_key: None };
        let agreement = self.agreement(&parts.headers);
        let opening = Opening {
            rights: Rights::NONE,
            grant: None,
            door,
            deflate: agreement.map(Agreement::window),
            session: Some(session),
        };
        let pending = self.worker.open_session(opening);
        connection.hand_over(pending);
        Ok(switching_protocols(&handshake, protocol, agreement))
    }

    /// Who the client is, if the request says it, and whether it may come in.
    pub(super) async fn caller(
        &self,
        connection: &Connection,
        parts: &Parts,
    ) -> Result<Option<Identity>, Refused> {
        let client = self.count_client(connection, parts)?;
        self.take_handshake(client)?;
        let identity = match self.access.identify(parts, client).await {
            Ok(identified) => Some(identified.identity),
            Err(refused) if refused.refusal == Refusal::TokenRequired => None,
            Err(refused) => return Err(refused),
        };
        if self.worker.hub().memory().is_scarce() {
            return Err(Refusal::MemoryLimit.into());
        }
        Ok(identity)
    }
}
