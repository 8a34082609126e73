//! Commands and replies in both encodings, from bytes and from noise.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;

use crate::protocol::centrifugo::json::Json;
use crate::protocol::centrifugo::message::{
    Command, ConnectRequest, HistoryRequest, HistoryResult, PublishRequest, Push, Reply,
    StreamPosition, SubscribeRequest, SubscribeResult,
};
use crate::protocol::centrifugo::{
    ClientInfo, Codec, Commands, DEPTH_MAX, Disconnect, EmulationRequest, Malformed, Wire, message,
};

fn commands(codec: Codec, frame: &[u8]) -> Vec<Result<Command, Malformed>> {
    Commands::new(codec, frame).collect()
}

fn json(frame: &str) -> Vec<Result<Command, Malformed>> {
    commands(Codec::Json, frame.as_bytes())
}

fn write(message: &impl Json) -> String {
    let mut out = Vec::new();
    message.write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn json_commands_are_lines() {
    let id = |id| Ok(Command { id, ..Command::default() });
    for (frame, expected) in [
        ("{}", vec![id(0)]),
        ("{\"id\":1}", vec![id(1)]),
        ("{\"id\":1}\n", vec![id(1)]),
        (" {\"id\" : 1} \r\n{\"id\":2}\t", vec![id(1), id(2)]),
        ("{\"id\":1}\n{}\n{\"id\":2}", vec![id(1), id(0), id(2)]),
        ("", vec![Err(Malformed)]),
        ("\n", vec![Err(Malformed)]),
        ("{\"id\":1}\n\n", vec![id(1), Err(Malformed)]),
        ("{\"id\":1}\n\n{\"id\":2}", vec![id(1), Err(Malformed)]),
        ("{\"id\":1}{\"id\":2}", vec![Err(Malformed)]),
        ("{\"id\":1}\nx\n{\"id\":2}", vec![id(1), Err(Malformed)]),
        ("null", vec![Err(Malformed)]),
        ("1", vec![Err(Malformed)]),
    ] {
        assert_eq!(json(frame), expected, "{frame:?}");
    }
    assert_eq!(commands(Codec::Json, b"{\"id\":1,\"x\":\"\xff\"}"), [Err(Malformed)]);
}

#[test]
fn unknown_members_and_nulls_are_as_if_they_were_not_there() {
    for frame in [
        r#"{"id":1,"subscribe":{"channel":"a"}}"#,
        r#"{"id":1,"method":7,"subscribe":{"x":[{"y":null}],"channel":"a"},"params":{}}"#,
        r#"{"id":1,"error":null,"publish":null,"subscribe":{"channel":"a","token":null,"tf":null}}"#,
        r#"{"subscribe":{"offset":0,"chann\u0065l":"a","recover":false},"id":1}"#,
    ] {
        let subscribe = SubscribeRequest { channel: "a".into(), ..SubscribeRequest::default() };
        let expected = Command { id: 1, subscribe: Some(subscribe), ..Command::default() };
        assert_eq!(json(frame), [Ok(expected)], "{frame}");
    }
}

#[test]
fn values_of_another_kind_are_malformed() {
    for member in [
        r#""id":1.5"#,
        r#""id":"1""#,
        r#""id":-1"#,
        r#""id":4294967296"#,
        r#""subscribe":"a""#,
        r#""subscribe":{"channel":1}"#,
        r#""subscribe":{"channel":"a","offset":-1}"#,
        r#""subscribe":{"channel":"a","offset":18446744073709551616}"#,
        r#""subscribe":{"channel":"a","recover":1}"#,
        r#""subscribe":{"channel":"\ud800"}"#,
        r#""subscribe":{"tf":7}"#,
        r#""connect":{"subs":[]}"#,
        r#""connect":{"subs":{"a":1}}"#,
        r#""history":{"since":"a:1"}"#,
        r#""history":{"limit":2147483648}"#,
    ] {
        assert_eq!(json(&format!("{{{member}}}")), [Err(Malformed)], "{member}");
    }
}

#[test]
fn data_are_kept_as_they_were_written_and_not_deeper_than_the_limit() {
    let data = |frame: &str| {
        let command = json(frame).remove(0);
        command.map(|command| command.publish.unwrap().data)
    };
    for written in [r#"{"b":1, "a" :[1.0e2,"\u00e9"]}"#, "7", "\"x\"", "[ ]", "true"] {
        let frame = format!(r#"{{"publish":{{"data": {written} }}}}"#);
        assert_eq!(data(&frame), Ok(Bytes::from(written.to_owned())));
    }
    let nested = |depth: usize| {
        format!(r#"{{"publish":{{"data":{}{}}}}}"#, "[".repeat(depth), "]".repeat(depth))
    };
    assert!(data(&nested(DEPTH_MAX)).is_ok());
    assert_eq!(data(&nested(DEPTH_MAX + 1)), Err(Malformed));
}

#[test]
fn protobuf_commands_stand_behind_their_length() {
    let id = |id| Ok(Command { id, ..Command::default() });
    for (frame, expected) in [
        (&b"\x00"[..], vec![id(0)]),
        (b"\x02\x08\x01", vec![id(1)]),
        (b"\x02\x08\x01\x00\x02\x08\x02", vec![id(1), id(0), id(2)]),
        (b"", vec![Err(Malformed)]),
        (b"\x03\x08\x01", vec![Err(Malformed)]),
        (b"\x02\x08\x01\x80", vec![id(1), Err(Malformed)]),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", vec![Err(Malformed)]),
        (b"\x01\x08", vec![Err(Malformed)]),
        // An unknown field is skipped.
        (b"\x04\xf8\x07\x01\x00", vec![Err(Malformed)]),
        (b"\x05\x08\x01\xf8\x07\x01", vec![id(1)]),
    ] {
        assert_eq!(commands(Codec::Protobuf, frame), expected, "{frame:?}");
    }
    let subscribe = b"\x0c\x08\x02\x2a\x08\x0a\x01a\x18\x01\x3a\x05x";
    assert_eq!(commands(Codec::Protobuf, subscribe), [Err(Malformed)]);
    let subscribe = b"\x0b\x08\x02\x2a\x07\x0a\x01a\x18\x01\x38\x05";
    let request = SubscribeRequest {
        channel: "a".into(),
        recover: true,
        offset: 5,
        ..SubscribeRequest::default()
    };
    let expected = Command { id: 2, subscribe: Some(request), ..Command::default() };
    assert_eq!(commands(Codec::Protobuf, subscribe), [Ok(expected)]);
}

/// Checks lines of `member value number`: JSON with that member is protobuf with that field.
fn check_numbers<T: Json + prost::Message + Default>(table: &str) {
    for line in table.split(", ") {
        let words: Vec<_> = line.split_whitespace().collect();
        let [member, value, number] = words[..] else { panic!("{line}") };
        let mut message = T::default();
        message.read(&format!("{{\"{member}\":{value}}}")).unwrap();
        let bytes = message.encode_to_vec();
        let (key, _) = prost::encoding::decode_key(&mut &bytes[..]).unwrap();
        assert_eq!(key.to_string(), number, "{member}");
    }
}

#[test]
fn names_and_numbers_are_those_of_the_protocol() {
    check_numbers::<Command>(
        "id 1 1, connect {} 4, subscribe {} 5, unsubscribe {} 6, publish {} 7, presence {} 8, \
         presence_stats {} 9, history {} 10, ping {} 11, send {} 12, rpc {} 13, refresh {} 14, \
         sub_refresh {} 15",
    );
    check_numbers::<ConnectRequest>("token \"a\" 1, data 1 2, subs {\"a\":{}} 3, name \"a\" 4");
    check_numbers::<SubscribeRequest>(
        "channel \"a\" 1, token \"a\" 2, recover true 3, epoch \"a\" 6, offset 1 7, \
         join_leave true 11, delta \"a\" 12, tf {} 13, flag 1 14, type 1 15",
    );
    check_numbers::<PublishRequest>("channel \"a\" 1, data 1 2, type 1 3");
    check_numbers::<HistoryRequest>("channel \"a\" 1, limit 1 7, since {} 8, reverse true 9");
    check_numbers::<StreamPosition>("offset 1 1, epoch \"a\" 2");
    check_numbers::<message::RpcRequest>("data 1 1, method \"a\" 2");
    check_numbers::<message::SubRefreshRequest>("channel \"a\" 1, token \"a\" 2");
    check_numbers::<EmulationRequest>("node \"a\" 1, session \"a\" 2, data 1 3");
    check_numbers::<Reply>(
        "id 1 1, error {} 2, push {} 4, connect {} 5, subscribe {} 6, unsubscribe {} 7, \
         publish {} 8, presence {} 9, presence_stats {} 10, history {} 11, refresh {} 14, \
         sub_refresh {} 15",
    );
    check_numbers::<message::Error>("code 1 1, message \"a\" 2, temporary true 3");
    check_numbers::<message::ConnectResult>(
        "client \"a\" 1, version \"a\" 2, expires true 3, ttl 1 4, data 1 5, subs {\"a\":{}} 6, \
         ping 1 7, pong true 8, session \"a\" 9, node \"a\" 10",
    );
    check_numbers::<SubscribeResult>(
        "expires true 1, ttl 1 2, recoverable true 3, epoch \"a\" 6, publications [{}] 7, \
         recovered true 8, offset 1 9, positioned true 10, data 1 11, was_recovering true 12, \
         delta true 13",
    );
    check_numbers::<message::PresenceResult>("presence {\"a\":{}} 1");
    check_numbers::<message::PresenceStatsResult>("num_clients 1 1, num_users 1 2");
    check_numbers::<HistoryResult>("publications [{}] 1, epoch \"a\" 2, offset 1 3");
    check_numbers::<message::RefreshResult>("client \"a\" 1, version \"a\" 2, expires true 3");
    check_numbers::<message::SubRefreshResult>("expires true 1, ttl 1 2");
    check_numbers::<Push>(
        "channel \"a\" 2, pub {} 4, join {} 5, leave {} 6, unsubscribe {} 7, subscribe {} 9, \
         disconnect {} 11, refresh {} 12",
    );
    check_numbers::<message::Publication>(
        "data 1 4, info {} 5, offset 1 6, tags {\"a\":\"b\"} 7, delta true 8, epoch \"a\" 14",
    );
    check_numbers::<ClientInfo>("user \"a\" 1, client \"a\" 2, conn_info 1 3, chan_info 1 4");
    check_numbers::<message::Join>("info {} 1");
    check_numbers::<message::Leave>("info {} 1");
    check_numbers::<message::Unsubscribe>("code 1 2, reason \"a\" 3");
    check_numbers::<message::Subscribe>(
        "recoverable true 1, epoch \"a\" 4, offset 1 5, positioned true 6, data 1 7",
    );
    check_numbers::<message::Disconnect>("code 1 1, reason \"a\" 2");
    check_numbers::<message::Refresh>("expires true 1, ttl 1 2");
}

#[test]
fn json_shows_what_is_set_and_what_sdks_read_without_asking() {
    for (reply, expected) in [
        (Reply::default(), "{}"),
        (
            Reply { id: 2, subscribe: Some(SubscribeResult::default()), ..Reply::default() },
            r#"{"id":2,"subscribe":{}}"#,
        ),
        (
            Reply { id: 2, history: Some(HistoryResult::default()), ..Reply::default() },
            r#"{"id":2,"history":{"publications":[],"epoch":"","offset":0}}"#,
        ),
        (
            Reply {
                presence_stats: Some(message::PresenceStatsResult::default()),
                ..Reply::default()
            },
            r#"{"presence_stats":{"num_clients":0,"num_users":0}}"#,
        ),
        (
            Reply { presence: Some(message::PresenceResult::default()), ..Reply::default() },
            r#"{"presence":{"presence":{}}}"#,
        ),
    ] {
        assert_eq!(write(&reply), expected);
    }
    assert_eq!(write(&ClientInfo::default()), r#"{"user":"","client":""}"#);
}

#[test]
fn a_request_to_emulation_brings_a_frame_of_commands() {
    let expected = EmulationRequest {
        node: "n".into(),
        session: "s".into(),
        data: Bytes::from_static(b"{\"id\":1}\n{}"),
    };
    let body = br#"{"session":"s","node":"n","data":"{\"id\":1}\n{}"}"#;
    assert_eq!(EmulationRequest::parse(Codec::Json, body), Ok(expected.clone()));
    let body = expected.encode_to_vec();
    assert_eq!(EmulationRequest::parse(Codec::Protobuf, &body), Ok(expected));
    for body in ["", "{}", "[]", r#"{"session":"s","node":"n","data":{"id":1}}"#, "{\"data\":\"x"] {
        assert_eq!(EmulationRequest::parse(Codec::Json, body.as_bytes()), Err(Malformed), "{body}");
    }
}

#[test]
fn the_last_message_of_a_session_tells_why_it_ends_where_no_close_frame_is_read() {
    let said = |wire: Wire| wire.farewell(Disconnect::Shutdown, "shutdown").map(Vec::from);
    let json = r#"{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}"#;
    assert_eq!(said(Wire::JsonBody), Some(format!("{json}\n").into_bytes()));
    assert_eq!(said(Wire::Events), Some(format!("data: {json}\n\n").into_bytes()));
    let disconnect = message::Disconnect { code: 3001, reason: "shutdown".to_owned() };
    let push = Some(Push { disconnect: Some(disconnect), ..Push::default() });
    let reply = Reply { push, ..Reply::default() };
    assert_eq!(said(Wire::ProtobufBody), Some(reply.encode_length_delimited_to_vec()));
    assert_eq!((said(Wire::JsonFrames), said(Wire::ProtobufFrames)), (None, None));
    let bare = r#"{"disconnect":{"code":3001,"reason":"shutdown"}}"#;
    assert_eq!(said(Wire::UniFrames), Some([b"\x81\x30", bare.as_bytes()].concat()));
    assert_eq!(said(Wire::UniBody), Some(format!("{bare}\n").into_bytes()));
    assert_eq!(said(Wire::UniEvents), Some(format!("data: {bare}\n\n").into_bytes()));
}

/// Any JSON text that is one value on one line.
fn any_value() -> impl Strategy<Value = Bytes> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(serde_json::Value::from),
        any::<String>().prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
    ];
    let value = leaf.prop_recursive(3, 8, 3, |inner| {
        prop::collection::vec(inner, 0..3).prop_map(serde_json::Value::from)
    });
    prop_oneof![Just(Bytes::new()), value.prop_map(|value| Bytes::from(value.to_string()))]
}

prop_compose! {
    fn any_subscribe()(
        (channel, token, epoch, delta) in any::<(String, String, String, String)>(),
        (recover, join_leave, offset, flag, r#type) in any::<(bool, bool, u64, i64, i32)>(),
    ) -> SubscribeRequest {
        SubscribeRequest {
            channel, token, recover, epoch, offset, join_leave, delta, tf: None, flag, r#type,
        }
    }
}

prop_compose! {
    fn any_command()(
        id: u32,
        which in 0..4,
        (text, limit, offset, reverse) in any::<(String, i32, u64, bool)>(),
        data in any_value(),
        subscribe in any_subscribe(),
    ) -> Command {
        let mut command = Command { id, ..Command::default() };
        match which {
            0 => {
                let subs = [(text.clone(), subscribe)].into();
                let token = text;
                let connect = ConnectRequest { token, data, subs, ..ConnectRequest::default() };
                command.connect = Some(connect);
            }
            1 => command.subscribe = Some(subscribe),
            2 => command.publish = Some(PublishRequest { channel: text, data, r#type: limit }),
            _ => {
                let since = Some(StreamPosition { offset, epoch: subscribe.epoch });
                let history = HistoryRequest { channel: text, limit, since, reverse };
                command.history = Some(history);
            }
        }
        command
    }
}

proptest! {
    #[test]
    fn both_encodings_read_back_as_the_same(sent in prop::collection::vec(any_command(), 1..4)) {
        let lines: Vec<_> = sent.iter().map(write).collect();
        let read: Result<Vec<_>, _> = Commands::new(Codec::Json, lines.join("\n").as_bytes()).collect();
        prop_assert_eq!(read.as_ref(), Ok(&sent));
        let mut frame = Vec::new();
        for command in &sent {
            command.encode_length_delimited(&mut frame)?;
        }
        let read: Result<Vec<_>, _> = Commands::new(Codec::Protobuf, &frame).collect();
        prop_assert_eq!(read.as_ref(), Ok(&sent));
        // Who only listens sends the request without a command around it.
        for connect in sent.iter().filter_map(|command| command.connect.as_ref()) {
            prop_assert_eq!(ConnectRequest::parse(&connect.to_json()), Ok(connect.clone()));
        }
    }

    #[test]
    fn noise_is_read_to_its_end_and_takes_no_more_than_it_brings(
        noise in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            "[{}\\[\\]\":,0-9a-z\\\\\n]{0,200}".prop_map(String::into_bytes),
        ],
        is_json: bool,
    ) {
        let codec = if is_json { Codec::Json } else { Codec::Protobuf };
        let read = commands(codec, &noise);
        prop_assert!(read.len() <= noise.len() + 1);
        let held: usize = read.iter().flatten().map(prost::Message::encoded_len).sum();
        prop_assert!(held <= noise.len() + 16 * read.len(), "{} of {}", held, noise.len());
        let request = ConnectRequest::parse(&noise).unwrap_or_default();
        prop_assert!(request.encoded_len() <= noise.len() + 16);
        let faults = read.iter().filter(|one| one.is_err()).count();
        prop_assert!(faults <= 1 && (faults == 0 || read.last() == Some(&Err(Malformed))));
    }

    #[test]
    fn a_cut_frame_is_never_more_than_the_whole(sent in any_command(), cut in 0.0..1.0) {
        let frame = sent.encode_length_delimited_to_vec();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a part of a short length")]
        let cut = (frame.len() as f64 * cut) as usize;
        let expected: &[_] = if cut == frame.len() { &[Ok(sent.clone())] } else { &[Err(Malformed)] };
        prop_assert_eq!(commands(Codec::Protobuf, &frame[..cut]), expected);
        let line = write(&sent);
        let whole = line.len();
        let cut = line.floor_char_boundary(cut.min(whole - 1));
        prop_assert_eq!(json(&line[..cut]), [Err(Malformed)]);
    }
}
