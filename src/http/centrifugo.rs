//! `/connection/websocket`, and `/connection/uni_websocket` for clients that only listen: the
//! Centrifugo protocol over a WebSocket.

use std::rc::Rc;

use http::request::Parts;

use super::connection::Connection;
use super::emulation::{connect_parameter, connect_request};
use super::handshake::Handshake;
use super::route::Route;
use super::service::{Answer, Service};
use super::subscribe::switching_protocols;
use crate::auth::{Identified, Rights};
use crate::protocol::centrifugo::{Codec, Commands, Opening as SessionOpening, Pings, Wire};
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

/// How the two sides speak.
struct Terms {
    wire: Wire,
    pings: Pings,
    /// The subprotocols to select from.
    protocols: &'static [&'static str],
}

impl Service {
    /// Answers a handshake; who the client is, the request says, or its first message.
    pub(super) async fn connect(
        &self,
        connection: &Rc<Connection>,
        route: &Route,
        parts: Parts,
        handshake: Option<Handshake>,
    ) -> Answer {
        let Some(handshake) = handshake else {
            let message = "this path takes WebSocket handshakes only";
            return Err(Refusal::HandshakeInvalid.because(message).into());
        };
        let caller = self.caller(connection, &parts).await?;
        let query = parts.uri.query();
        let (terms, commands) = if *route == Route::UniSocket {
            let said = connect_parameter(query)?;
            let request = said.map(|said| connect_request(said.as_bytes())).transpose()?;
            // It does not answer our messages, so the transport has to look after it, too.
            let terms = Terms { wire: Wire::UniFrames, pings: Pings::Transport, protocols: &[] };
            (terms, request.map_or_else(Commands::none, |request| Commands::connect(Ok(request))))
        } else {
            (Terms::agree(query.unwrap_or_default(), &handshake), Commands::none())
        };
        let Terms { wire, pings, protocols } = terms;
        let used_bearer = caller.as_ref().and_then(|caller| caller.used_bearer.as_deref());
        let protocol = handshake.select_protocol(protocols, used_bearer);
        let session = SessionOpening { wire, caller: caller.map(Into::into), pings, name: None };
        let agreement = self.agreement(&parts.headers);
        let opening = Opening {
            rights: Rights::NONE,
            grant: None,
            door: wire.codec().door(),
            deflate: agreement.map(Agreement::window),
            session: Some(session),
        };
        let pending = self.worker.open_session(opening, b"", commands);
        connection.hand_over(pending);
        Ok(switching_protocols(&handshake, protocol, agreement))
    }

    /// Who the client is, if the request says it, and whether it may come in.
    pub(super) async fn caller(
        &self,
        connection: &Connection,
        parts: &Parts,
    ) -> Result<Option<Identified>, Refused> {
        let client = self.count_client(connection, parts)?;
        self.take_handshake(client)?;
        let caller = match self.access.identify(parts, client).await {
            Ok(identified) => Some(identified),
            Err(refused) if refused.refusal == Refusal::TokenRequired => None,
            Err(refused) => return Err(refused),
        };
        if self.worker.hub().memory().is_scarce() {
            return Err(Refusal::MemoryLimit.into());
        }
        Ok(caller)
    }
}

impl Terms {
    /// What a client of both directions offers and asks for.
    fn agree(query: &str, handshake: &Handshake) -> Self {
        let offers = |name| handshake.protocols().any(|offer| offer == name);
        let asks = |parameter| query.split('&').any(|one| one == parameter);
        let wants_protobuf = offers(PROTOBUF) || PROTOBUF_PARAMETERS.into_iter().any(asks);
        let wire = if wants_protobuf { Wire::ProtobufFrames } else { Wire::JsonFrames };
        let has_pings = asks(TRANSPORT_PINGS_PARAMETER);
        Self {
            wire,
            pings: if has_pings { Pings::Transport } else { Pings::Messages },
            protocols: match wire.codec() {
                Codec::Json => &[JSON],
                Codec::Protobuf => &[PROTOBUF],
            },
        }
    }
}
