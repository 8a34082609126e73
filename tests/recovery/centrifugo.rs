//! Clients of the Centrifugo protocol, over each of its transports and in both encodings.

use std::fmt::Write as _;
use std::net::SocketAddr;

use prost::Message as _;

use crate::account::{Account, Content};
use crate::harness::{BINARY, Request, TEXT, token};
use crate::invariant::Position;
use crate::line::{Broken, Line, Plan};
use crate::message::{Command, Connect, Emulation, Reply, Subscribe, Subscribed};
use crate::pipe::{Pipe, Units, ask};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket,
    HttpStream,
    Sse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Json,
    Protobuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deltas {
    Off,
    On,
}

/// What such a client speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect {
    pub(crate) transport: Transport,
    pub(crate) codec: Codec,
    pub(crate) deltas: Deltas,
}

/// A connected client.
struct Session<'a> {
    dialect: Dialect,
    account: &'a mut Account,
    pipe: Pipe,
    addr: SocketAddr,
    /// What its requests suffer that are sent beside the stream.
    plan: Plan,
    emulation: Emulation,
    /// Feeds whose `subscribe` waits for its reply; the command's id is the place.
    asked: Vec<usize>,
}

const CONNECT_ID: u32 = 1;
const SUBSCRIBE_ID: u32 = 2;

impl Dialect {
    /// Goes on where the account is, until it has everything or the connection breaks.
    pub(crate) fn follow(
        self,
        account: &mut Account,
        (addr, plans): (SocketAddr, [Plan; 2]),
    ) -> Result<(), Broken> {
        let line = Line::connect(addr, plans[0]);
        let connect = Some(Connect { token: token(&account.name) });
        let connect = Command { id: CONNECT_ID, connect, subscribe: None };
        let (request, units) = self.request(&connect);
        let pipe = Pipe::open(line, &request, units)?;
        let emulation = Emulation::default();
        let (plan, asked) = (plans[1], Vec::new());
        let mut session = Session { dialect: self, account, pipe, addr, plan, emulation, asked };
        if self.transport == Transport::WebSocket {
            session.send(&[connect])?;
        }
        while !session.account.is_done() {
            let unit = session.pipe.next()?;
            for reply in self.decode(&unit) {
                session.on_reply(reply)?;
            }
        }
        Ok(())
    }

    /// The request that opens the transport; a body carries the first command.
    fn request(self, connect: &Command) -> (Request, Units) {
        let first = self.encode(std::slice::from_ref(connect));
        match (self.transport, self.codec) {
            (Transport::WebSocket, Codec::Json) => {
                (Request::handshake("/connection/websocket"), Units::Frames)
            }
            (Transport::WebSocket, Codec::Protobuf) => {
                let request = Request::handshake("/connection/websocket");
                (request.header("Sec-WebSocket-Protocol", "centrifuge-protobuf"), Units::Frames)
            }
            (Transport::HttpStream, Codec::Json) => {
                (Request::post("/connection/http_stream", first), Units::Lines)
            }
            (Transport::HttpStream, Codec::Protobuf) => {
                let request = Request::post("/connection/http_stream", first);
                (request.header("Content-Type", "application/octet-stream"), Units::Delimited)
            }
            (Transport::Sse, _) => {
                let mut target = "/connection/sse?cf_connect=".to_owned();
                for byte in first {
                    write!(target, "%{byte:02X}").unwrap();
                }
                (Request::sse(&target), Units::Blocks)
            }
        }
    }

    fn encode(self, commands: &[Command]) -> Vec<u8> {
        match self.codec {
            Codec::Json => {
                let lines: Vec<_> = commands.iter().map(Command::to_json).collect();
                lines.join("\n").into_bytes()
            }
            Codec::Protobuf => {
                commands.iter().flat_map(Command::encode_length_delimited_to_vec).collect()
            }
        }
    }

    fn decode(self, unit: &[u8]) -> Vec<Reply> {
        match (self.transport, self.codec) {
            (Transport::WebSocket, Codec::Protobuf) => {
                let mut rest = unit;
                let mut replies = Vec::new();
                while !rest.is_empty() {
                    replies.push(Reply::decode_length_delimited(&mut rest).expect("a reply"));
                }
                replies
            }
            (_, Codec::Protobuf) => vec![Reply::decode(unit).expect("a reply")],
            (_, Codec::Json) => {
                let lines = unit.split(|byte| *byte == b'\n');
                let lines = lines.map(|line| line.strip_prefix(b"data: ").unwrap_or(line));
                let lines = lines.filter(|line| !line.trim_ascii().is_empty());
                lines.map(Reply::of_json).collect()
            }
        }
    }
}

impl Session<'_> {
    fn send(&mut self, commands: &[Command]) -> Result<(), Broken> {
        let data = self.dialect.encode(commands);
        if self.dialect.transport == Transport::WebSocket {
            let opcode = if self.dialect.codec == Codec::Json { TEXT } else { BINARY };
            return self.pipe.send(opcode, &data);
        }
        let Emulation { node, session, .. } = self.emulation.clone();
        let request = match self.dialect.codec {
            Codec::Json => {
                let data = String::from_utf8(data).unwrap();
                let body = serde_json::json!({ "session": session, "node": node, "data": data });
                Request::post("/emulation", body.to_string())
                    .header("Content-Type", "application/json")
            }
            Codec::Protobuf => {
                let body = Emulation { node, session, data }.encode_to_vec();
                Request::post("/emulation", body).header("Content-Type", "application/octet-stream")
            }
        };
        match ask(Line::connect(self.addr, self.plan), &request)? {
            204 => Ok(()),
            // The session ended meanwhile, as its stream will tell.
            404 => Err(Broken::Ended),
            status => panic!("{} is answered {status}", self.account.name),
        }
    }

    fn on_reply(&mut self, reply: Reply) -> Result<(), Broken> {
        let Reply { id, error, push, connect, subscribe } = reply;
        if let Some(error) = error {
            panic!("{} is told error {} to {id}", self.account.name, error.code);
        } else if let Some(connected) = connect {
            let (node, session) = (connected.node, connected.session);
            self.emulation = Emulation { node, session, data: Vec::new() };
            let feeds: Vec<_> = (0..self.account.feeds.len()).collect();
            self.subscribe(&feeds)
        } else if let Some(subscribed) = subscribe {
            let feed = self.asked[(id - SUBSCRIBE_ID) as usize];
            self.on_subscribed(feed, subscribed);
            Ok(())
        } else if let Some(push) = push {
            if push.disconnect.is_some() {
                return Err(Broken::Ended);
            }
            let feed = self.account.feed_of(&push.channel);
            if let Some(publication) = push.publication {
                self.take(feed, publication.offset, publication.content());
                Ok(())
            } else {
                // The loss is told by the answer to the next.
                assert!(push.unsubscribe.is_some(), "{} got {push:?}", self.account.name);
                self.subscribe(&[feed])
            }
        } else {
            let pong = Command { id: 0, connect: None, subscribe: None };
            self.send(&[pong])
        }
    }

    fn subscribe(&mut self, feeds: &[usize]) -> Result<(), Broken> {
        let mut commands = Vec::new();
        for feed in feeds {
            let at = self.account.feeds[*feed].at.as_ref();
            let subscribe = Subscribe {
                channel: self.account.name_of(*feed).to_owned(),
                recover: at.is_some(),
                epoch: at.map(|at| at.epoch.clone()).unwrap_or_default(),
                offset: at.map_or(0, |at| at.offset),
                positioned: true,
                recoverable: true,
                delta: if self.dialect.deltas == Deltas::On { "fossil" } else { "" }.to_owned(),
            };
            let id = SUBSCRIBE_ID + u32::try_from(self.asked.len()).expect("few");
            self.asked.push(*feed);
            commands.push(Command { id, connect: None, subscribe: Some(subscribe) });
        }
        self.send(&commands)
    }

    fn on_subscribed(&mut self, feed: usize, subscribed: Subscribed) {
        let Subscribed { epoch, publications, recovered, offset, .. } = subscribed;
        assert_eq!(subscribed.delta, self.dialect.deltas == Deltas::On);
        let asks = self.account.feeds[feed].at.is_some();
        assert_eq!(subscribed.was_recovering, asks, "{}", self.account.name);
        let start = Position { epoch, offset };
        self.account.starts(feed, start, asks.then_some(recovered));
        for publication in publications {
            self.take(feed, publication.offset, publication.content());
        }
    }

    fn take(&mut self, feed: usize, offset: u64, content: Content) {
        let at = self.account.feeds[feed].at.as_ref();
        let at = at.unwrap_or_else(|| panic!("{} is not subscribed", self.account.name));
        let position = Position { epoch: at.epoch.clone(), offset };
        self.account.takes(feed, Some(position), content);
    }
}
