//! The protocol's messages in protobuf, to and from the JSON that says the same. What a client here
//! neither says nor looks at is not listed.

use serde_json::{Map, Value};

/// What a field holds.
enum Kind {
    Number,
    Flag,
    /// A string, or bytes that are text here.
    Text,
    One(Fields),
    Many(Fields),
    /// A map from strings to messages.
    Named(Fields),
}

/// Number, name and kind of each.
type Fields = &'static [(u64, &'static str, Kind)];

use Kind::{Flag, Many, Named, Number, One, Text};

const TOPIC: Fields = &[(1, "channel", Text)];

const SUBSCRIBE: Fields = &[
    (1, "channel", Text),
    (3, "recover", Flag),
    (6, "epoch", Text),
    (7, "offset", Number),
    (11, "join_leave", Flag),
    (12, "delta", Text),
];

pub(crate) const COMMAND: Message = Message(&[
    (1, "id", Number),
    (4, "connect", One(&[(1, "token", Text)])),
    (5, "subscribe", One(SUBSCRIBE)),
    (6, "unsubscribe", One(TOPIC)),
    (7, "publish", One(&[(1, "channel", Text), (2, "data", Text)])),
    (8, "presence", One(TOPIC)),
]);

/// The body of a request to `/emulation` but for its data, field 3.
pub(crate) const EMULATION: Message = Message(&[(1, "node", Text), (2, "session", Text)]);

const PUBLICATION: Fields =
    &[(4, "data", Text), (6, "offset", Number), (8, "delta", Flag), (14, "epoch", Text)];

const INFO: Fields = &[(1, "user", Text), (2, "client", Text)];

const REASON: Fields = &[(2, "code", Number), (3, "reason", Text)];

const PUSH: Fields = &[
    (2, "channel", Text),
    (4, "pub", One(PUBLICATION)),
    (5, "join", One(&[(1, "info", One(INFO))])),
    (6, "leave", One(&[(1, "info", One(INFO))])),
    (7, "unsubscribe", One(REASON)),
    (11, "disconnect", One(&[(1, "code", Number), (2, "reason", Text)])),
];

const SUBSCRIBED: Fields = &[
    (3, "recoverable", Flag),
    (6, "epoch", Text),
    (7, "publications", Many(PUBLICATION)),
    (8, "recovered", Flag),
    (9, "offset", Number),
    (10, "positioned", Flag),
    (12, "was_recovering", Flag),
    (13, "delta", Flag),
];

pub(crate) const REPLY: Message = Message(&[
    (1, "id", Number),
    (2, "error", One(&[(1, "code", Number), (2, "message", Text), (3, "temporary", Flag)])),
    (4, "push", One(PUSH)),
    (
        5,
        "connect",
        One(&[
            (1, "client", Text),
            (2, "version", Text),
            (7, "ping", Number),
            (8, "pong", Flag),
            (9, "session", Text),
            (10, "node", Text),
        ]),
    ),
    (6, "subscribe", One(SUBSCRIBED)),
    (7, "unsubscribe", One(&[])),
    (8, "publish", One(&[])),
    (9, "presence", One(&[(1, "presence", Named(INFO))])),
]);

/// What a field is written as.
const VARINT: u64 = 0;
const BYTES: u64 = 2;

/// One of the protocol's messages.
pub(crate) struct Message(Fields);

impl Message {
    /// The message that says what `value` does.
    pub(crate) fn encode(&self, value: &Value) -> Vec<u8> {
        encode(self.0, value)
    }

    /// What a message says; `None` if that makes no sense.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Option<Value> {
        decode(self.0, bytes)
    }
}

/// A field of bytes.
pub(crate) fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | BYTES), delimited(bytes)].concat()
}

/// A message behind its length.
pub(crate) fn delimited(bytes: &[u8]) -> Vec<u8> {
    [&varint(bytes.len() as u64), bytes].concat()
}

/// The message in front of `bytes`, with its length before it, if all of it is there; and the rest.
pub(crate) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes;
    let len = usize::try_from(take_varint(&mut rest)?).ok()?;
    rest.split_at_checked(len)
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = number.to_le_bytes()[0] & 0x7F;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let len = bytes.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let (number, rest) = bytes.split_at(len);
    *bytes = rest;
    (len <= 9).then(|| number.iter().rev().fold(0, |sum, byte| sum << 7 | u64::from(byte & 0x7F)))
}

fn encode(fields: Fields, value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, name, kind) in fields {
        let Some(value) = value.get(name) else { continue };
        match kind {
            Number | Flag => {
                let held = value.as_u64().unwrap_or_else(|| u64::from(value == true));
                bytes.extend([varint(number << 3 | VARINT), varint(held)].concat());
            }
            Text => bytes.extend(field(*number, value.as_str().unwrap_or_default().as_bytes())),
            One(fields) => bytes.extend(field(*number, &encode(fields, value))),
            Many(_) | Named(_) => unreachable!("no client says that"),
        }
    }
    bytes
}

fn decode(fields: Fields, mut bytes: &[u8]) -> Option<Value> {
    let mut object = Map::new();
    for (_, name, kind) in fields {
        if let Named(_) = kind {
            object.insert((*name).to_owned(), Value::Object(Map::new()));
        }
    }
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes)?;
        let (number, content) = match key & 7 {
            VARINT => (take_varint(&mut bytes)?, &b""[..]),
            BYTES => {
                let (content, rest) = split(bytes)?;
                bytes = rest;
                (0, content)
            }
            _ => return None,
        };
        let Some((_, name, kind)) = fields.iter().find(|(its, ..)| *its == key >> 3) else {
            continue;
        };
        let value = match kind {
            Number => number.into(),
            Flag => (number != 0).into(),
            Text => str::from_utf8(content).ok()?.into(),
            One(fields) => decode(fields, content)?,
            Many(fields) => {
                let mut all = object.remove(*name).unwrap_or_else(|| Vec::<Value>::new().into());
                all.as_array_mut()?.push(decode(fields, content)?);
                all
            }
            Named(fields) => {
                let (name_of, its) = entry(fields, content)?;
                let mut all = object.remove(*name)?;
                all.as_object_mut()?.insert(name_of, its);
                all
            }
        };
        object.insert((*name).to_owned(), value);
    }
    Some(Value::Object(object))
}

/// Name and message of an entry of a map.
fn entry(fields: Fields, mut bytes: &[u8]) -> Option<(String, Value)> {
    let (mut name, mut value) = (String::new(), Value::Object(Map::new()));
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes)?;
        let (content, rest) = split(bytes)?;
        bytes = rest;
        match key >> 3 {
            1 => str::from_utf8(content).ok()?.clone_into(&mut name),
            _ => value = decode(fields, content)?,
        }
    }
    Some((name, value))
}
