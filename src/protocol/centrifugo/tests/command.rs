//! Publishing, history and presence.

use super::world::World;
use crate::auth::{Identity, Right};
use crate::hub::TopicName;
use crate::protocol::centrifugo::{ErrorCode, Wire};

fn error(code: u32, message: &str) -> String {
    format!(r#"{{"id":2,"error":{{"code":{code},"message":"{message}"}}}}"#)
}

#[test]
fn commands_that_cannot_be_get_their_error() {
    let none = &[][..];
    for (rights, command, code, message) in [
        (none, r#""publish":{"channel":"a","data":1}"#, 103, "permission denied"),
        (&Right::ALL, r#""publish":{"channel":"nowhere:a","data":1}"#, 102, "unknown channel"),
        (&Right::ALL, r#""publish":{"channel":"caf\u00e9","data":1}"#, 107, "bad request"),
        (&Right::ALL, r#""publish":{"channel":"a"}"#, 107, "bad request"),
        (&Right::ALL, r#""publish":{"channel":"a","data":null}"#, 107, "bad request"),
        (&Right::ALL, r#""publish":{"channel":"a","data":1,"type":1}"#, 108, "not available"),
        (none, r#""history":{"channel":"a"}"#, 103, "permission denied"),
        (none, r#""history":{"channel":"off:a"}"#, 108, "not available"),
        (none, r#""history":{"channel":"nowhere:a"}"#, 102, "unknown channel"),
        (&Right::ALL, r#""history":{"channel":"\u00e9"}"#, 107, "bad request"),
        (
            &Right::ALL,
            r#""history":{"channel":"a","since":{"offset":0},"reverse":true}"#,
            107,
            "bad request",
        ),
        (none, r#""presence":{"channel":"members:a"}"#, 103, "permission denied"),
        (none, r#""presence":{"channel":"a"}"#, 108, "not available"),
        (none, r#""presence":{"channel":"nowhere:a"}"#, 102, "unknown channel"),
        (none, r#""presence_stats":{"channel":"members:a"}"#, 103, "permission denied"),
        (none, r#""presence_stats":{"channel":"a"}"#, 108, "not available"),
        (none, r#""rpc":{"method":"m","data":{}}"#, 108, "not available"),
    ] {
        let mut world = World::new();
        let client = world.connected_with(rights);
        let _ = world.got(client);
        assert_eq!(world.say(client, &format!(r#"{{"id":2,{command}}}"#)), [error(code, message)]);
        let counted: Vec<_> = world.town.refused.take().iter().map(|one| one.code()).collect();
        assert_eq!(counted, [code]);
        assert!(world.client(client).closed.is_none());
    }
}

#[test]
fn what_the_host_refuses_is_told_and_counted() {
    for command in [
        r#""publish":{"channel":"broken","data":1}"#,
        r#""subscribe":{"channel":"broken"}"#,
        r#""history":{"channel":"broken"}"#,
        r#""presence":{"channel":"members:broken"}"#,
        r#""presence_stats":{"channel":"members:broken"}"#,
    ] {
        let mut world = World::new();
        let client = world.connected();
        let _ = world.got(client);
        let got = world.say(client, &format!(r#"{{"id":2,{command}}}"#));
        let expected =
            r#"{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}"#;
        assert_eq!(got, [expected], "{command}");
        assert_eq!(world.town.refused.take(), [ErrorCode::Internal], "{command}");
    }
}

#[test]
fn what_a_client_publishes_is_kept_as_it_wrote_it() {
    let mut world = World::new();
    let client = world.connected();
    let data = r#"{ "b": 1.50, "a" : "\u00e9é", "a":[ ] }"#;
    world.say(client, &format!(r#"{{"id":2,"publish":{{"channel":"a","data": {data} }}}}"#));
    let page = world.hub.page(&TopicName::new("a", 255).unwrap(), None, 1).unwrap();
    assert_eq!(page.publications[0].payload().data(), data.as_bytes());
}

#[test]
fn history_is_read_from_either_end() {
    let mut world = World::new();
    for data in 1..=5 {
        world.publish("a", &data.to_string());
    }
    let client = world.connected();
    let _ = world.got(client);
    for (request, data) in [
        (r#""limit":0"#, &[][..]),
        ("", &[]),
        (r#""limit":-1"#, &[1, 2, 3, 4, 5]),
        (r#""limit":1000"#, &[1, 2, 3, 4, 5]),
        (r#""limit":2"#, &[1, 2]),
        (r#""limit":2,"reverse":true"#, &[5, 4]),
        (r#""limit":2,"since":{"offset":3,"epoch":"EPOCH"}"#, &[4, 5]),
        (r#""limit":1,"since":{"offset":3}"#, &[4]),
        (r#""limit":9,"since":{"offset":5,"epoch":"EPOCH"}"#, &[]),
        (r#""limit":9,"since":{"offset":3,"epoch":"EPOCH"},"reverse":true"#, &[2, 1]),
    ] {
        let say = format!(r#"{{"id":2,"history":{{"channel":"a",{request}}}}}"#).replace(",}", "}");
        let publication = |offset: &u64| {
            let epoch = if *offset == 1 { r#","epoch":"EPOCH""# } else { "" };
            format!(r#"{{"data":{offset},"offset":{offset}{epoch}}}"#)
        };
        let publications: Vec<_> = data.iter().map(publication).collect();
        let publications = publications.join(",");
        assert_eq!(
            world.say(client, &say),
            [format!(
                r#"{{"id":2,"history":{{"publications":[{publications}],"epoch":"EPOCH","offset":5}}}}"#
            )],
            "{request}"
        );
    }
    for epoch in ["other", "not an epoch at all"] {
        let since = format!(r#""since":{{"offset":3,"epoch":"{epoch}"}}"#);
        let say = format!(r#"{{"id":2,"history":{{"channel":"a","limit":1,{since}}}}}"#);
        assert_eq!(world.say(client, &say), [error(112, "unrecoverable position")]);
    }
}

#[test]
fn a_page_of_history_is_cut_where_a_reply_would_be_too_long() {
    let mut world = World::new();
    for _ in 0..4 {
        world.publish("a", &format!("\"0123456789{}\"", "x".repeat(1_000)));
    }
    world.settings.reply_len_max = 2_500;
    let client = world.connected();
    let count = |got: &[String]| got[0].matches("0123456789").count();
    let say = r#"{"id":2,"history":{"channel":"a","limit":10}}"#;
    let _ = world.got(client);
    assert_eq!(count(&world.say(client, say)), 2);
    world.settings.reply_len_max = 1;
    assert_eq!(count(&world.say(client, say)), 1, "at least one, or nobody gets any further");
}

#[test]
fn long_replies_leave_before_the_next_command_is_looked_at() {
    let mut world = World::new();
    let data = format!("\"{}\"", "x".repeat(20_000));
    world.publish("a", &data);
    world.publish("a", &data);
    let client = world.connected();
    let _ = world.got(client);
    let say = [r#"{"id":2,"history":{"channel":"a","limit":2}}"#; 3].join("\n");
    assert_eq!(world.say(client, &say).len(), 3);
    let say = [r#"{"id":2,"history":{"channel":"a","limit":0}}"#; 3].join("\n");
    assert_eq!(world.say(client, &say).len(), 1);
}

#[test]
fn costly_commands_have_a_rate() {
    for (command, is_costly) in [
        (r#""history":{"channel":"a","limit":1}"#, true),
        (r#""presence":{"channel":"members:a"}"#, true),
        (r#""subscribe":{"channel":"x","recover":true}"#, true),
        (r#""subscribe":{"channel":"x","token":"forged"}"#, true),
        (r#""sub_refresh":{"channel":"x","token":"forged"}"#, true),
        (r#""refresh":{"token":"away"}"#, true),
        (r#""history":{"channel":"a","limit":0}"#, false),
        (r#""presence_stats":{"channel":"members:a"}"#, false),
        (r#""publish":{"channel":"a","data":1}"#, false),
    ] {
        let mut world = World::new();
        world.settings.costly_per_second_max = 3;
        let client = world.connected();
        let refused = |world: &mut World| {
            let say = vec![format!(r#"{{"id":2,{command}}}"#); 10].join("\n");
            world.say(client, &say).concat().matches("\"code\":111").count()
        };
        let expected = if is_costly { 7 } else { 0 };
        assert_eq!(refused(&mut world), expected, "{command}");
        world.pass(std::time::Duration::from_secs(1));
        assert_eq!(refused(&mut world), expected, "{command}");
    }
}

#[test]
fn coming_where_others_hear_of_it_has_a_rate() {
    for (topic, expected) in [("members:a", 7), ("a", 0)] {
        let mut world = World::new();
        world.settings.costly_per_second_max = 3;
        let client = world.connected();
        let come_and_go = format!(
            "{{\"id\":2,\"subscribe\":{{\"channel\":\"{topic}\"}}}}\n\
             {{\"id\":3,\"unsubscribe\":{{\"channel\":\"{topic}\"}}}}"
        );
        let say = vec![come_and_go; 10].join("\n");
        let refused = world.say(client, &say).concat().matches("\"code\":111").count();
        assert_eq!(refused, expected, "{topic}");
    }
}

#[test]
fn presence_tells_who_is_there() {
    let mut world = World::new();
    let client = world.connected_by("ann");
    let say = "{\"id\":2,\"subscribe\":{\"channel\":\"members:a\",\"token\":\"ann//members:a\"}}\n\
               {\"id\":3,\"presence\":{\"channel\":\"members:a\"}}\n\
               {\"id\":4,\"presence_stats\":{\"channel\":\"members:a\"}}\n\
               {\"id\":5,\"presence\":{\"channel\":\"members:b\"}}";
    let _ = world.got(client);
    let got = world.say(client, say);
    let lines: Vec<_> = got[0].lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            r#"{"id":3,"presence":{"presence":{"CLIENT":{"user":"ann","client":"CLIENT","conn_info":{"name":"Ann"},"chan_info":{"role":"guest"}}}}}"#,
            r#"{"id":4,"presence_stats":{"num_clients":1,"num_users":1}}"#,
            r#"{"id":5,"presence":{"presence":{}}}"#,
        ]
    );
}

#[test]
fn bytes_of_protobuf_clients_are_text_where_they_can_be() {
    use prost::Message as _;

    use crate::hub::PayloadKind;
    use crate::protocol::centrifugo::message::{Command, ConnectRequest, PublishRequest};

    let mut world = World::new();
    let client = world.enter(Wire::ProtobufFrames, Some(Identity::SERVER));
    let connect = Some(ConnectRequest::default());
    let connect = Command { id: 1, connect, ..Command::default() };
    world.hear(client, &connect.encode_length_delimited_to_vec());
    for (data, kind) in [
        (&b"{}"[..], PayloadKind::Text),
        (b"hi", PayloadKind::Text),
        (b"\xff", PayloadKind::Binary),
    ] {
        let data = bytes::Bytes::from_static(data);
        let publish = Some(PublishRequest { channel: "a".into(), data: data.clone(), r#type: 0 });
        let publish = Command { id: 2, publish, ..Command::default() };
        world.hear(client, &publish.encode_length_delimited_to_vec());
        let page = world.hub.page(&TopicName::new("a", 255).unwrap(), None, 1).unwrap();
        let payload = page.publications[0].payload();
        assert_eq!((payload.kind(), payload.data()), (kind, &*data));
    }
}
