//! `/connection/websocket`, and `/connection/uni_websocket` for clients that only listen: the
//! Centrifugo protocol over a WebSocket.

use std::rc::Rc;

use http::HeaderValue;
use http::request::Parts;
use hyper::upgrade::OnUpgrade;

use super::connection::{Connection, Upgrade};
use super::emulation::{connect_parameter, connect_request};
use super::handshake::Handshake;
use super::route::Route;
use super::service::{Answer, Service};
use super::subscribe::switching_protocols;
use crate::auth::{Identity, Rights};
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
    /// The subprotocol to select.
    protocol: Option<HeaderValue>,
}

impl Service {
    /// Answers a handshake; who the client is, the request says, or its first message.
    pub(super) async fn connect(
        &self,
        connection: &Rc<Connection>,
        route: &Route,
        (parts, upgrade): (Parts, OnUpgrade),
        handshake: Option<Handshake>,
    ) -> Answer {
        let Some(handshake) = handshake else {
            let message = "this path takes WebSocket handshakes only";
            return Err(Refusal::HandshakeInvalid.because(message).into());
        };
        let identity = self.caller(connection, &parts).await?;
        let query = parts.uri.query();
        let (terms, commands) = if *route == Route::UniSocket {
            let said = connect_parameter(query)?;
            let request = said.map(|said| connect_request(said.as_bytes())).transpose()?;
            // It does not answer our messages, so the transport has to look after it, too.
            let terms = Terms { wire: Wire::UniFrames, pings: Pings::Transport, protocol: None };
            (terms, request.map_or_else(Commands::none, |request| Commands::connect(Ok(request))))
        } else {
            (Terms::agree(query.unwrap_or_default(), &handshake), Commands::none())
        };
        let Terms { wire, pings, protocol } = terms;
        let session = SessionOpening { wire, identity, pings, name: None };
        let agreement = self.agreement(&parts.headers);
        let opening = Opening {
            rights: Rights::NONE,
            grant: None,
            door: wire.codec().door(),
            deflate: agreement.map(Agreement::window),
            session: Some(session),
        };
        let pending = self.worker.open_session(opening, b"", commands);
        let address = connection.address.take();
        *connection.upgrade.borrow_mut() = Some(Upgrade { pending, socket: upgrade, address });
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

impl Terms {
    /// What a client of both directions offers and asks for.
    fn agree(query: &str, handshake: &Handshake) -> Self {
        let offers = |name| handshake.protocols().any(|offer| offer == name);
        let asks = |parameter| query.split('&').any(|one| one == parameter);
        let wants_protobuf = offers(PROTOBUF) || PROTOBUF_PARAMETERS.into_iter().any(asks);
        let wire = if wants_protobuf { Wire::ProtobufFrames } else { Wire::JsonFrames };
        let protocol = match wire.codec() {
            Codec::Json => JSON,
            Codec::Protobuf => PROTOBUF,
        };
        let has_pings = asks(TRANSPORT_PINGS_PARAMETER);
        Self {
            wire,
            pings: if has_pings { Pings::Transport } else { Pings::Messages },
            protocol: offers(protocol).then(|| HeaderValue::from_static(protocol)),
        }
    }
}
