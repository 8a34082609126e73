//! `connect` and `refresh`, and what may come before them.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::world::{START, World};
use crate::auth::{Expiry, Grant, Identity, Right};
use crate::hub::{Peer, TopicName};
use crate::protocol::centrifugo::{ConnectionToken, Opening, Pings, ServerSubscription, Wire};
use crate::time::Stamp;

/// What ended the session, as code and reason.
fn end(world: &mut World, client: usize) -> Option<(u16, String)> {
    let closed = world.client(client).closed;
    closed.map(|disconnect| (disconnect.code(), disconnect.reason().to_owned()))
}

#[test]
fn a_client_without_a_token_is_let_in_where_its_request_is() {
    let mut world = World::new();
    let client = world.enter(Wire::JsonFrames, Some(Identity::SERVER));
    let got = world.say(client, r#"{"id":1,"connect":{"name":"js","version":"1.2"}}"#);
    let expected =
        r#"{"id":1,"connect":{"client":"CLIENT","version":"Fanwire","ping":25,"pong":true}}"#;
    assert_eq!(got, [expected]);
    assert_eq!(world.client(client).session.user(), None);

    let client = world.enter(Wire::JsonFrames, None);
    assert_eq!(world.say(client, r#"{"id":1,"connect":{}}"#), [""; 0]);
    assert_eq!(end(&mut world, client), Some((3501, "bad request".to_owned())));
}

#[test]
fn a_token_says_who_the_client_is_and_for_how_long() {
    let mut world = World::new();
    let client = world.enter(Wire::JsonFrames, None);
    let got = world.say(client, r#"{"id":1,"connect":{"token":"ann/600"}}"#);
    assert_eq!(
        got,
        [
            r#"{"id":1,"connect":{"client":"CLIENT","version":"Fanwire","expires":true,"ttl":600,"ping":25,"pong":true}}"#
        ]
    );
    assert_eq!(world.client(client).session.user().map(|user| &**user), Some("ann"));
}

#[test]
fn a_token_that_is_no_good_gets_its_own_answer() {
    for (token, error, close) in [
        ("old", Some(r#""code":109,"message":"token expired""#), None),
        ("ann/0", Some(r#""code":110,"message":"expired""#), None),
        ("away", Some(r#""code":100,"message":"internal server error","temporary":true"#), None),
        ("forged", None, Some(3500)),
    ] {
        let mut world = World::new();
        // Where anybody may come, a bad token still is no way in.
        let client = world.enter(Wire::JsonFrames, Some(Identity::SERVER));
        let got = world.say(client, &format!(r#"{{"id":3,"connect":{{"token":"{token}"}}}}"#));
        let error = error.map(|error| format!(r#"{{"id":3,"error":{{{error}}}}}"#));
        assert_eq!(got, error.into_iter().collect::<Vec<_>>(), "{token}");
        assert_eq!(end(&mut world, client).map(|(code, _)| code), close, "{token}");
        if close.is_none() {
            world.say(client, r#"{"id":4,"connect":{}}"#);
            assert_eq!(end(&mut world, client).map(|(code, _)| code), Some(3501), "unusable");
        }
    }
    let mut world = World::new();
    world.town.has_key = false;
    let client = world.connected_by("ann");
    assert_eq!(end(&mut world, client).map(|(code, _)| code), Some(3500), "no key");
}

#[test]
fn what_is_not_a_connect_at_first_closes() {
    for frame in [
        "",
        "\n",
        "{}",
        "[]",
        "null",
        "{",
        r#"{"id":1}"#,
        r#"{"connect":{}}"#,
        r#"{"id":-1,"connect":{}}"#,
        r#"{"id":1,"connect":[]}"#,
        r#"{"id":1,"connect":{"token":1}}"#,
        r#"{"id":1,"subscribe":{"channel":"a"}}"#,
        r#"{"id":1,"ping":{}}"#,
        r#"{"send":{"data":1}}"#,
        "{\"id\":1,\"connect\":{\"name\":\"\u{1}\"}}",
    ] {
        let mut world = World::new();
        let client = world.enter(Wire::JsonFrames, Some(Identity::SERVER));
        assert_eq!(world.say(client, frame), [""; 0], "{frame}");
        assert_eq!(end(&mut world, client), Some((3501, "bad request".to_owned())), "{frame}");
    }
}

#[test]
fn what_is_not_a_command_after_connect_closes() {
    for (frame, code) in [
        ("", 3501),
        ("{}", 3501),
        ("no json", 3501),
        (r#"{"id":2,"connect":{}}"#, 3501),
        (r#"{"id":2}"#, 3501),
        (r#"{"id":2,"dance":{}}"#, 3501),
        (r#"{"id":2,"ping":{}}"#, 3501),
        (r#"{"subscribe":{"channel":"a"}}"#, 3501),
        (r#"{"id":2,"subscribe":{}}"#, 3501),
        (r#"{"id":2,"unsubscribe":{"channel":""}}"#, 3501),
        (r#"{"id":2,"publish":{"data":1}}"#, 3501),
        (r#"{"id":2,"history":{}}"#, 3501),
        (r#"{"id":2,"presence":{}}"#, 3501),
        (r#"{"id":2,"presence_stats":{}}"#, 3501),
        (r#"{"id":2,"sub_refresh":{"token":"ann"}}"#, 3501),
        (r#"{"id":2,"refresh":{}}"#, 3501),
        (r#"{"send":{"data":1}}"#, 3508),
        (r#"{"id":2,"send":{"data":1}}"#, 3508),
    ] {
        let mut world = World::new();
        let client = world.connected();
        assert_eq!(world.say(client, frame), [""; 0], "{frame}");
        assert_eq!(end(&mut world, client).map(|(code, _)| code), Some(code), "{frame}");
        assert_eq!(world.say(client, r#"{"id":9,"rpc":{}}"#), [""; 0], "it is over");
    }
}

#[test]
fn what_came_before_a_fault_in_a_frame_is_done() {
    let mut world = World::new();
    let client = world.connected();
    let got = world.say(client, "{\"id\":2,\"rpc\":{}}\n{\"id\":3,\"rpc\":{\"method\":\"m\"}}\n[");
    assert_eq!(
        got,
        ["{\"id\":2,\"error\":{\"code\":108,\"message\":\"not available\"}}\n\
          {\"id\":3,\"error\":{\"code\":108,\"message\":\"not available\"}}"]
    );
    assert_eq!(end(&mut world, client).map(|(code, _)| code), Some(3501));
}

#[test]
fn a_token_brings_subscriptions_with_it() {
    let mut world = World::new();
    world.publish("a", "1");
    let client = world.enter(Wire::JsonFrames, None);
    let got = world.say(client, r#"{"id":1,"connect":{"token":"ann//a,off:x,a"}}"#);
    assert_eq!(
        got,
        [
            r#"{"id":1,"connect":{"client":"CLIENT","version":"Fanwire","subs":{"a":{"recoverable":true,"epoch":"EPOCH","offset":1,"positioned":true},"off:x":{}},"ping":25,"pong":true}}"#
        ]
    );
    assert_eq!(world.topics(client), ["a", "off:x"]);
    world.publish("a", "2");
    assert_eq!(world.got(client), [r#"{"push":{"channel":"a","pub":{"data":2,"offset":2}}}"#]);
}

#[test]
fn one_reply_holds_what_was_missed_in_all_topics_or_says_that_it_does_not() {
    let mut world = World::new();
    for topic in ["a", "b"] {
        (0..4).for_each(|_| world.publish(topic, &"x".repeat(1_000)));
    }
    world.settings.reply_len_max = 6 * 1_200;
    for (offset, recovered) in [(0, 1), (1, 2)] {
        let wish = format!(r#"{{"recover":true,"offset":{offset}}}"#);
        let client = world.enter(Wire::JsonFrames, None);
        let got = world.say(
            client,
            &format!(
                r#"{{"id":1,"connect":{{"token":"ann//a,b","subs":{{"a":{wish},"b":{wish}}}}}}}"#
            ),
        );
        assert_eq!(got[0].matches(r#""was_recovering":true"#).count(), 2, "{got:?}");
        assert_eq!(got[0].matches(r#""recovered":true"#).count(), recovered, "{got:?}");
    }
    assert_eq!(world.recovered, [true, false, true, true]);
}

#[test]
fn subscriptions_that_come_with_the_connection_recover() {
    let mut world = World::new();
    world.publish("a", "1");
    world.publish("a", "2");
    let client = world.enter(Wire::JsonFrames, None);
    let got = world.say(
        client,
        r#"{"id":1,"connect":{"token":"ann//a","subs":{"a":{"recover":true,"epoch":"EPOCH","offset":1}}}}"#,
    );
    assert_eq!(
        got,
        [
            r#"{"id":1,"connect":{"client":"CLIENT","version":"Fanwire","subs":{"a":{"recoverable":true,"epoch":"EPOCH","publications":[{"data":2,"offset":2}],"recovered":true,"offset":1,"positioned":true,"was_recovering":true}},"ping":25,"pong":true}}"#
        ]
    );
}

#[test]
fn a_client_that_wants_subscriptions_gets_those_it_may_have() {
    let mut world = World::new();
    let client = world.enter(Wire::JsonFrames, Some(Identity::SERVER));
    world.say(client, r#"{"id":1,"connect":{"subs":{"a":{},"$b":{},"caf\u00e9":{},"*":{}}}}"#);
    assert_eq!(world.topics(client), ["a"]);

    let client = world
        .enter(Wire::JsonFrames, Some(Identity::anonymous([Right::Publish].into_iter().collect())));
    let got = world.say(client, r#"{"id":1,"connect":{"subs":{"a":{}}}}"#);
    assert!(got[0].contains(r#""connect""#) && !got[0].contains(r#""subs""#), "{got:?}");

    let client = world.enter(Wire::JsonFrames, Some(Identity::SERVER));
    world.say(client, r#"{"id":1,"connect":{"subs":{"nowhere:a":{}}}}"#);
    assert_eq!(end(&mut world, client).map(|(code, _)| code), Some(3501));
}

#[test]
fn more_subscriptions_than_a_session_can_have_do_not_come_with_the_connection() {
    let mut world = World::new();
    world.settings.topics_per_session_max = 2;
    let client = world.connected_by("ann//a,b");
    assert_eq!(end(&mut world, client), None);
    let client = world.connected_by("ann//a,b,c");
    assert_eq!(end(&mut world, client), Some((3505, "channel limit".to_owned())));
}

#[test]
fn a_connect_whose_subscription_fails_fails_whole() {
    let mut world = World::new();
    let client = world.enter(Wire::JsonFrames, None);
    let got = world.say(client, r#"{"id":1,"connect":{"token":"ann//a,broken,b"}}"#);
    assert_eq!(
        got,
        [r#"{"id":1,"error":{"code":100,"message":"internal server error","temporary":true}}"#]
    );
    assert_eq!(world.topics(client), [""; 0]);
}

#[test]
fn an_emulated_client_learns_how_to_send_more() {
    let mut world = World::new();
    let client = world.enter(Wire::JsonBody, Some(Identity::SERVER));
    let got = world.say(client, r#"{"id":1,"connect":{}}"#);
    assert_eq!(
        got,
        [
            "{\"id\":1,\"connect\":{\"client\":\"CLIENT\",\"version\":\"Fanwire\",\"ping\":25,\"pong\":true,\"session\":\"secret\",\"node\":\"node-1\"}}\n"
        ]
    );
    world.say(client, "{\"id\":2,\"rpc\":{}}\nx");
    let client = world.enter(Wire::Events, Some(Identity::SERVER));
    world.say(client, r#"{"id":1,"connect":{}}"#);
    let got = world.say(client, "{\"id\":2,\"rpc\":{}}\nx");
    assert_eq!(
        got,
        ["data: {\"id\":2,\"error\":{\"code\":108,\"message\":\"not available\"}}\n\n"]
    );
    assert_eq!(end(&mut world, client).map(|(code, _)| code), Some(3501));
}

#[test]
fn a_connection_ends_with_the_token_that_its_request_came_with() {
    let mut world = World::new();
    let now = Stamp { wall: START * 1_000, instant: Instant::now() };
    let expiry = Expiry::new(START + 60, Duration::ZERO, now);
    let client = world.enter_by(Opening {
        wire: Wire::JsonFrames,
        caller: Some(Identity::token(Grant { publisher: None, caps: None, expiry }).into()),
        pings: Pings::Transport,
        name: None,
    });
    world.say(client, r#"{"id":1,"connect":{}}"#);
    world.pass(Duration::from_secs(58));
    assert_eq!(end(&mut world, client), None);
    world.pass(Duration::from_secs(4));
    assert_eq!(end(&mut world, client), Some((3005, "connection expired".to_owned())));
}

/// A client whose request has a token that names a topic.
fn come_with_token(world: &mut World) -> usize {
    let grant = Grant { publisher: Some(Peer::user("pat".into())), caps: None, expiry: None };
    let subscription =
        ServerSubscription { data: Bytes::from_static(b"[2]"), ..ServerSubscription::to("a") };
    world.enter_by(Opening {
        wire: Wire::JsonFrames,
        caller: Some(ConnectionToken {
            info: Bytes::from_static(b"{\"name\":\"Pat\"}"),
            subscriptions: vec![subscription],
            ..Identity::token(grant).into()
        }),
        pings: Pings::Messages,
        name: None,
    })
}

#[test]
fn a_token_of_the_request_counts_as_one_in_connect() {
    let mut world = World::new();
    let client = come_with_token(&mut world);
    let got = world.say(client, r#"{"id":1,"connect":{}}"#);
    assert!(got[0].contains(r#""a":{"#) && got[0].contains(r#""data":[2]"#), "{got:?}");
    assert!(!got[0].contains("expires"), "{got:?}");
    assert_eq!(world.topics(client), ["a", "#pat"]);
    let topic = TopicName::new("a", 255).unwrap();
    let info = world.client(client).session.info(&topic);
    assert_eq!((&*info.user, &*info.conn_info), ("pat", &b"{\"name\":\"Pat\"}"[..]));
    for (token, close) in [("pat//a", None), ("pat//a,b", Some(3010)), ("ann//a", Some(3500))] {
        let client = come_with_token(&mut world);
        world.say(client, r#"{"id":1,"connect":{}}"#);
        world.say(client, &format!(r#"{{"id":2,"refresh":{{"token":"{token}"}}}}"#));
        assert_eq!(end(&mut world, client).map(|(code, _)| code), close, "{token}");
    }
    // One in `connect` stands before it, with all that it says.
    let client = come_with_token(&mut world);
    world.say(client, r#"{"id":1,"connect":{"token":"ann//b"}}"#);
    assert_eq!(world.topics(client), ["b"]);
    assert_eq!(world.client(client).session.user().map(|user| &**user), Some("ann"));
}

#[test]
fn a_transport_that_pings_leaves_no_word_of_it() {
    let mut world = World::new();
    let client = world.enter_by(Opening {
        wire: Wire::JsonFrames,
        caller: Some(Identity::SERVER.into()),
        pings: Pings::Transport,
        name: None,
    });
    let got = world.say(client, r#"{"id":1,"connect":{}}"#);
    assert_eq!(got, [r#"{"id":1,"connect":{"client":"CLIENT","version":"Fanwire"}}"#]);
    world.pass(Duration::from_hours(1));
    assert_eq!((world.got(client), end(&mut world, client)), (Vec::new(), None));
}

#[test]
fn a_refresh_lengthens_the_connection() {
    let mut world = World::new();
    let client = world.connected_by("ann/600/a");
    for (token, answer, close) in [
        ("ann/900/a", r#""refresh":{"expires":true,"ttl":900}"#, None),
        ("ann//a", r#""refresh":{}"#, None),
        ("ann//a,a", r#""refresh":{}"#, None),
        (
            "away",
            r#""error":{"code":100,"message":"internal server error","temporary":true}"#,
            None,
        ),
        ("ann/0/a", r#""error":{"code":110,"message":"expired"}"#, None),
        ("old", "", Some(3005)),
        ("bob/900/a", "", Some(3500)),
        ("forged", "", Some(3500)),
        ("ann/900/a,b", "", Some(3010)),
        ("ann/900", "", Some(3010)),
    ] {
        let client = if close.is_some() { world.connected_by("ann/600/a") } else { client };
        let _ = world.got(client);
        let got = world.say(client, &format!(r#"{{"id":2,"refresh":{{"token":"{token}"}}}}"#));
        let expected = (!answer.is_empty()).then(|| format!(r#"{{"id":2,{answer}}}"#));
        assert_eq!(got, expected.into_iter().collect::<Vec<_>>(), "{token}");
        assert_eq!(end(&mut world, client).map(|(code, _)| code), close, "{token}");
    }
    world.town.has_key = false;
    let got = world.say(client, r#"{"id":2,"refresh":{"token":"ann"}}"#);
    assert_eq!(got, [r#"{"id":2,"error":{"code":108,"message":"not available"}}"#]);
}
