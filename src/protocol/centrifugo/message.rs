//! The messages of the protocol, each declared once: protobuf fields by number, JSON members by
//! name.
//!
//! What this server neither reads nor writes is not declared: unknown fields are ignored, as the
//! protocol has it.

#![expect(missing_docs, reason = "names are those of the protocol, explained in its documentation")]

use std::collections::BTreeMap;
use std::io::{self, Write};

use bytes::Bytes;

use super::frame::Malformed;
use super::json::{self, Json, Object, Show};

/// Derives both encodings from one declaration. `= always` marks members that JSON shows even when
/// they are zero.
macro_rules! messages {
    ($(
        $(#[$about:meta])*
        pub struct $message:ident {
            $( $(#[$number:meta])* pub $field:ident: $kind:ty $(= $always:ident)?, )*
        }
    )*) => {$(
        $(#[$about])*
        #[derive(Clone, PartialEq, prost::Message)]
        pub struct $message {
            $( $(#[$number])* pub $field: $kind, )*
        }

        impl $message {
            /// The message in JSON.
            ///
            /// # Panics
            /// Never: writing to memory cannot fail.
            pub fn to_json(&self) -> Vec<u8> {
                let mut out = Vec::new();
                self.write(&mut out).expect("a vector takes what it is given");
                out
            }
        }

        impl Json for $message {
            fn is_zero(&self) -> bool {
                false
            }

            fn write(&self, out: &mut dyn Write) -> io::Result<()> {
                #[allow(unused_mut, reason = "some messages have no fields")]
                let mut object = Object::new(out);
                $( object.member(name(stringify!($field)), &self.$field, show!($($always)?))?; )*
                object.end()
            }

            fn read(&mut self, text: &str) -> Result<(), Malformed> {
                json::members(text, |_member, _value| {
                    $( if _member == name(stringify!($field)) {
                        return self.$field.read(_value);
                    } )*
                    Ok(())
                })
            }
        }
    )*};
}

macro_rules! show {
    () => {
        Show::IfSet
    };
    (always) => {
        Show::Always
    };
}

/// The member that a field is: some are words of Rust.
fn name(field: &str) -> &str {
    field.strip_prefix("r#").unwrap_or(field)
}

messages! {
    /// What a client asks: at most one request, and an id that its reply carries. Without both it
    /// is the answer to a ping.
    pub struct Command {
        #[prost(uint32, tag = "1")]
        pub id: u32,
        #[prost(message, optional, tag = "4")]
        pub connect: Option<ConnectRequest>,
        #[prost(message, optional, tag = "5")]
        pub subscribe: Option<SubscribeRequest>,
        #[prost(message, optional, tag = "6")]
        pub unsubscribe: Option<UnsubscribeRequest>,
        #[prost(message, optional, tag = "7")]
        pub publish: Option<PublishRequest>,
        #[prost(message, optional, tag = "8")]
        pub presence: Option<PresenceRequest>,
        #[prost(message, optional, tag = "9")]
        pub presence_stats: Option<PresenceStatsRequest>,
        #[prost(message, optional, tag = "10")]
        pub history: Option<HistoryRequest>,
        #[prost(message, optional, tag = "11")]
        pub ping: Option<PingRequest>,
        #[prost(message, optional, tag = "12")]
        pub send: Option<SendRequest>,
        #[prost(message, optional, tag = "13")]
        pub rpc: Option<RpcRequest>,
        #[prost(message, optional, tag = "14")]
        pub refresh: Option<RefreshRequest>,
        #[prost(message, optional, tag = "15")]
        pub sub_refresh: Option<SubRefreshRequest>,
    }

    pub struct ConnectRequest {
        #[prost(string, tag = "1")]
        pub token: String,
        #[prost(bytes = "bytes", tag = "2")]
        pub data: Bytes,
        #[prost(btree_map = "string, message", tag = "3")]
        pub subs: BTreeMap<String, SubscribeRequest>,
        #[prost(string, tag = "4")]
        pub name: String,
        #[prost(string, tag = "5")]
        pub version: String,
    }

    pub struct SubscribeRequest {
        #[prost(string, tag = "1")]
        pub channel: String,
        #[prost(string, tag = "2")]
        pub token: String,
        #[prost(bool, tag = "3")]
        pub recover: bool,
        #[prost(string, tag = "6")]
        pub epoch: String,
        #[prost(uint64, tag = "7")]
        pub offset: u64,
        #[prost(bool, tag = "11")]
        pub join_leave: bool,
        #[prost(string, tag = "12")]
        pub delta: String,
        #[prost(message, optional, tag = "13")]
        pub tf: Option<FilterNode>,
        #[prost(int64, tag = "14")]
        pub flag: i64,
        #[prost(int32, tag = "15")]
        pub r#type: i32,
    }

    /// Filters publications by their tags. Only its presence matters: none is allowed yet.
    pub struct FilterNode {}

    pub struct UnsubscribeRequest {
        #[prost(string, tag = "1")]
        pub channel: String,
    }

    pub struct PublishRequest {
        #[prost(string, tag = "1")]
        pub channel: String,
        #[prost(bytes = "bytes", tag = "2")]
        pub data: Bytes,
        #[prost(int32, tag = "3")]
        pub r#type: i32,
    }

    pub struct PresenceRequest {
        #[prost(string, tag = "1")]
        pub channel: String,
    }

    pub struct PresenceStatsRequest {
        #[prost(string, tag = "1")]
        pub channel: String,
    }

    pub struct HistoryRequest {
        #[prost(string, tag = "1")]
        pub channel: String,
        #[prost(int32, tag = "7")]
        pub limit: i32,
        #[prost(message, optional, tag = "8")]
        pub since: Option<StreamPosition>,
        #[prost(bool, tag = "9")]
        pub reverse: bool,
    }

    pub struct StreamPosition {
        #[prost(uint64, tag = "1")]
        pub offset: u64,
        #[prost(string, tag = "2")]
        pub epoch: String,
    }

    pub struct PingRequest {}

    pub struct SendRequest {
        #[prost(bytes = "bytes", tag = "1")]
        pub data: Bytes,
    }

    pub struct RpcRequest {
        #[prost(bytes = "bytes", tag = "1")]
        pub data: Bytes,
        #[prost(string, tag = "2")]
        pub method: String,
    }

    pub struct RefreshRequest {
        #[prost(string, tag = "1")]
        pub token: String,
    }

    pub struct SubRefreshRequest {
        #[prost(string, tag = "1")]
        pub channel: String,
        #[prost(string, tag = "2")]
        pub token: String,
    }

    /// The body of a request that brings commands to a session elsewhere.
    pub struct EmulationRequest {
        #[prost(string, tag = "1")]
        pub node: String,
        #[prost(string, tag = "2")]
        pub session: String,
        #[prost(bytes = "bytes", tag = "3")]
        pub data: Bytes,
    }

    /// What the client gets: the answer to a command, a push, or, empty, a ping.
    pub struct Reply {
        #[prost(uint32, tag = "1")]
        pub id: u32,
        #[prost(message, optional, tag = "2")]
        pub error: Option<Error>,
        #[prost(message, optional, tag = "4")]
        pub push: Option<Push>,
        #[prost(message, optional, tag = "5")]
        pub connect: Option<ConnectResult>,
        #[prost(message, optional, tag = "6")]
        pub subscribe: Option<SubscribeResult>,
        #[prost(message, optional, tag = "7")]
        pub unsubscribe: Option<UnsubscribeResult>,
        #[prost(message, optional, tag = "8")]
        pub publish: Option<PublishResult>,
        #[prost(message, optional, tag = "9")]
        pub presence: Option<PresenceResult>,
        #[prost(message, optional, tag = "10")]
        pub presence_stats: Option<PresenceStatsResult>,
        #[prost(message, optional, tag = "11")]
        pub history: Option<HistoryResult>,
        #[prost(message, optional, tag = "14")]
        pub refresh: Option<RefreshResult>,
        #[prost(message, optional, tag = "15")]
        pub sub_refresh: Option<SubRefreshResult>,
    }

    pub struct Error {
        #[prost(uint32, tag = "1")]
        pub code: u32,
        #[prost(string, tag = "2")]
        pub message: String,
        #[prost(bool, tag = "3")]
        pub temporary: bool,
    }

    pub struct ConnectResult {
        #[prost(string, tag = "1")]
        pub client: String,
        #[prost(string, tag = "2")]
        pub version: String,
        #[prost(bool, tag = "3")]
        pub expires: bool,
        #[prost(uint32, tag = "4")]
        pub ttl: u32,
        #[prost(bytes = "bytes", tag = "5")]
        pub data: Bytes,
        #[prost(btree_map = "string, message", tag = "6")]
        pub subs: BTreeMap<String, SubscribeResult>,
        #[prost(uint32, tag = "7")]
        pub ping: u32,
        #[prost(bool, tag = "8")]
        pub pong: bool,
        #[prost(string, tag = "9")]
        pub session: String,
        #[prost(string, tag = "10")]
        pub node: String,
    }

    pub struct SubscribeResult {
        #[prost(bool, tag = "1")]
        pub expires: bool,
        #[prost(uint32, tag = "2")]
        pub ttl: u32,
        #[prost(bool, tag = "3")]
        pub recoverable: bool,
        #[prost(string, tag = "6")]
        pub epoch: String,
        #[prost(message, repeated, tag = "7")]
        pub publications: Vec<Publication>,
        #[prost(bool, tag = "8")]
        pub recovered: bool,
        #[prost(uint64, tag = "9")]
        pub offset: u64,
        #[prost(bool, tag = "10")]
        pub positioned: bool,
        #[prost(bytes = "bytes", tag = "11")]
        pub data: Bytes,
        #[prost(bool, tag = "12")]
        pub was_recovering: bool,
        #[prost(bool, tag = "13")]
        pub delta: bool,
    }

    pub struct UnsubscribeResult {}

    pub struct PublishResult {}

    pub struct PresenceResult {
        #[prost(btree_map = "string, message", tag = "1")]
        pub presence: BTreeMap<String, ClientInfo> = always,
    }

    pub struct PresenceStatsResult {
        #[prost(uint32, tag = "1")]
        pub num_clients: u32 = always,
        #[prost(uint32, tag = "2")]
        pub num_users: u32 = always,
    }

    pub struct HistoryResult {
        #[prost(message, repeated, tag = "1")]
        pub publications: Vec<Publication> = always,
        #[prost(string, tag = "2")]
        pub epoch: String = always,
        #[prost(uint64, tag = "3")]
        pub offset: u64 = always,
    }

    pub struct RefreshResult {
        #[prost(string, tag = "1")]
        pub client: String,
        #[prost(string, tag = "2")]
        pub version: String,
        #[prost(bool, tag = "3")]
        pub expires: bool,
        #[prost(uint32, tag = "4")]
        pub ttl: u32,
    }

    pub struct SubRefreshResult {
        #[prost(bool, tag = "1")]
        pub expires: bool,
        #[prost(uint32, tag = "2")]
        pub ttl: u32,
    }

    /// What happens without being asked for.
    pub struct Push {
        #[prost(string, tag = "2")]
        pub channel: String,
        #[prost(message, optional, tag = "4")]
        pub r#pub: Option<Publication>,
        #[prost(message, optional, tag = "5")]
        pub join: Option<Join>,
        #[prost(message, optional, tag = "6")]
        pub leave: Option<Leave>,
        #[prost(message, optional, tag = "7")]
        pub unsubscribe: Option<Unsubscribe>,
        #[prost(message, optional, tag = "9")]
        pub subscribe: Option<Subscribe>,
        #[prost(message, optional, tag = "10")]
        pub connect: Option<ConnectResult>,
        #[prost(message, optional, tag = "11")]
        pub disconnect: Option<Disconnect>,
        #[prost(message, optional, tag = "12")]
        pub refresh: Option<Refresh>,
    }

    pub struct Publication {
        #[prost(bytes = "bytes", tag = "4")]
        pub data: Bytes,
        #[prost(message, optional, tag = "5")]
        pub info: Option<ClientInfo>,
        #[prost(uint64, tag = "6")]
        pub offset: u64,
        #[prost(btree_map = "string, string", tag = "7")]
        pub tags: BTreeMap<String, String>,
        #[prost(bool, tag = "8")]
        pub delta: bool,
        #[prost(string, tag = "14")]
        pub epoch: String,
    }

    /// Who is behind a publication, a join or a place in presence.
    pub struct ClientInfo {
        #[prost(string, tag = "1")]
        pub user: String = always,
        #[prost(string, tag = "2")]
        pub client: String = always,
        #[prost(bytes = "bytes", tag = "3")]
        pub conn_info: Bytes,
        #[prost(bytes = "bytes", tag = "4")]
        pub chan_info: Bytes,
    }

    pub struct Join {
        #[prost(message, optional, tag = "1")]
        pub info: Option<ClientInfo>,
    }

    pub struct Leave {
        #[prost(message, optional, tag = "1")]
        pub info: Option<ClientInfo>,
    }

    pub struct Unsubscribe {
        #[prost(uint32, tag = "2")]
        pub code: u32,
        #[prost(string, tag = "3")]
        pub reason: String,
    }

    pub struct Subscribe {
        #[prost(bool, tag = "1")]
        pub recoverable: bool,
        #[prost(string, tag = "4")]
        pub epoch: String,
        #[prost(uint64, tag = "5")]
        pub offset: u64,
        #[prost(bool, tag = "6")]
        pub positioned: bool,
        #[prost(bytes = "bytes", tag = "7")]
        pub data: Bytes,
    }

    pub struct Disconnect {
        #[prost(uint32, tag = "1")]
        pub code: u32,
        #[prost(string, tag = "2")]
        pub reason: String,
    }

    pub struct Refresh {
        #[prost(bool, tag = "1")]
        pub expires: bool,
        #[prost(uint32, tag = "2")]
        pub ttl: u32,
    }
}
