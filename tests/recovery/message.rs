//! Messages of the Centrifugo protocol in both encodings, as far as these clients need them.

use prost::Message;
use serde_json::{Value, json};

use crate::account::Content;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Command {
    #[prost(uint32, tag = "1")]
    pub(crate) id: u32,
    #[prost(message, optional, tag = "4")]
    pub(crate) connect: Option<Connect>,
    #[prost(message, optional, tag = "5")]
    pub(crate) subscribe: Option<Subscribe>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Connect {
    #[prost(string, tag = "1")]
    pub(crate) token: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Subscribe {
    #[prost(string, tag = "1")]
    pub(crate) channel: String,
    #[prost(bool, tag = "3")]
    pub(crate) recover: bool,
    #[prost(string, tag = "6")]
    pub(crate) epoch: String,
    #[prost(uint64, tag = "7")]
    pub(crate) offset: u64,
    #[prost(bool, tag = "9")]
    pub(crate) positioned: bool,
    #[prost(bool, tag = "10")]
    pub(crate) recoverable: bool,
    #[prost(string, tag = "12")]
    pub(crate) delta: String,
}

/// A request to `/emulation`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Emulation {
    #[prost(string, tag = "1")]
    pub(crate) node: String,
    #[prost(string, tag = "2")]
    pub(crate) session: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Reply {
    #[prost(uint32, tag = "1")]
    pub(crate) id: u32,
    #[prost(message, optional, tag = "2")]
    pub(crate) error: Option<Error>,
    #[prost(message, optional, tag = "4")]
    pub(crate) push: Option<Push>,
    #[prost(message, optional, tag = "5")]
    pub(crate) connect: Option<Connected>,
    #[prost(message, optional, tag = "6")]
    pub(crate) subscribe: Option<Subscribed>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Error {
    #[prost(uint32, tag = "1")]
    pub(crate) code: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Connected {
    #[prost(string, tag = "9")]
    pub(crate) session: String,
    #[prost(string, tag = "10")]
    pub(crate) node: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Subscribed {
    #[prost(string, tag = "6")]
    pub(crate) epoch: String,
    #[prost(message, repeated, tag = "7")]
    pub(crate) publications: Vec<Publication>,
    #[prost(bool, tag = "8")]
    pub(crate) recovered: bool,
    #[prost(uint64, tag = "9")]
    pub(crate) offset: u64,
    #[prost(bool, tag = "12")]
    pub(crate) was_recovering: bool,
    #[prost(bool, tag = "13")]
    pub(crate) delta: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Push {
    #[prost(string, tag = "2")]
    pub(crate) channel: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) publication: Option<Publication>,
    #[prost(message, optional, tag = "7")]
    pub(crate) unsubscribe: Option<Unsubscribed>,
    #[prost(message, optional, tag = "11")]
    pub(crate) disconnect: Option<Disconnected>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Publication {
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) data: Vec<u8>,
    #[prost(uint64, tag = "6")]
    pub(crate) offset: u64,
    #[prost(bool, tag = "8")]
    pub(crate) delta: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Unsubscribed {
    #[prost(uint32, tag = "2")]
    pub(crate) code: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Disconnected {
    #[prost(uint32, tag = "1")]
    pub(crate) code: u32,
}

impl Command {
    pub(crate) fn to_json(&self) -> String {
        let connect = self.connect.as_ref().map(|connect| json!({ "token": connect.token }));
        let subscribe = self.subscribe.as_ref().map(|one| {
            json!({
                "channel": one.channel, "recover": one.recover, "epoch": one.epoch,
                "offset": one.offset, "positioned": one.positioned,
                "recoverable": one.recoverable, "delta": one.delta,
            })
        });
        let (name, request) = match (connect, subscribe) {
            (Some(connect), _) => ("connect", connect),
            (None, Some(subscribe)) => ("subscribe", subscribe),
            // The answer to a ping.
            (None, None) => return "{}".to_owned(),
        };
        json!({ "id": self.id, name: request }).to_string()
    }
}

impl Reply {
    /// Data stay JSON: a string in it is one of a delta, or of what deltas are made of.
    pub(crate) fn of_json(text: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(text)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)));
        let object = |name: &str| value.get(name).filter(|value| value.is_object());
        Self {
            id: number(&value["id"]),
            error: object("error").map(|error| Error { code: number(&error["code"]) }),
            push: object("push").map(|push| Push {
                channel: text_of(&push["channel"]),
                publication: push.get("pub").map(publication),
                unsubscribe: push
                    .get("unsubscribe")
                    .map(|its| Unsubscribed { code: number(&its["code"]) }),
                disconnect: push
                    .get("disconnect")
                    .map(|its| Disconnected { code: number(&its["code"]) }),
            }),
            connect: object("connect").map(|connect| Connected {
                session: text_of(&connect["session"]),
                node: text_of(&connect["node"]),
            }),
            subscribe: object("subscribe").map(|subscribe| Subscribed {
                epoch: text_of(&subscribe["epoch"]),
                publications: subscribe["publications"]
                    .as_array()
                    .map(|list| list.iter().map(publication).collect())
                    .unwrap_or_default(),
                recovered: subscribe["recovered"] == true,
                offset: subscribe["offset"].as_u64().unwrap_or(0),
                was_recovering: subscribe["was_recovering"] == true,
                delta: subscribe["delta"] == true,
            }),
        }
    }
}

impl Publication {
    pub(crate) fn content(self) -> Content {
        if self.delta { Content::Delta(self.data) } else { Content::Whole(self.data) }
    }
}

fn publication(value: &Value) -> Publication {
    let data = match &value["data"] {
        Value::String(text) => text.clone(),
        data => data.to_string(),
    };
    Publication {
        data: data.into_bytes(),
        offset: value["offset"].as_u64().expect("it has a position"),
        delta: value["delta"] == true,
    }
}

fn number(value: &Value) -> u32 {
    value.as_u64().map_or(0, |number| u32::try_from(number).unwrap())
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
