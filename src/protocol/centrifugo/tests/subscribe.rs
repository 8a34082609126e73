//! Subscriptions: the order of checks, recovery, and how they end.

use std::time::Duration;

use super::world::{START, World};
use crate::auth::{Identity, Right};
use crate::hub::TopicName;
use crate::protocol::centrifugo::{
    Asked, Disconnect, ErrorCode, Hears, ServerSubscription, UnsubscribeCode, Wire,
};

/// What ended the session.
fn end(world: &mut World, client: usize) -> Option<u16> {
    world.client(client).closed.map(Disconnect::code)
}

fn error(id: u32, code: u32, message: &str) -> String {
    format!(r#"{{"id":{id},"error":{{"code":{code},"message":"{message}"}}}}"#)
}

#[test]
fn a_subscription_begins_at_the_top() {
    let mut world = World::new();
    world.publish("a", "1");
    let client = world.connected();
    for (channel, result) in [
        ("a", r#"{"recoverable":true,"epoch":"EPOCH","offset":1,"positioned":true}"#),
        ("b", r#"{"recoverable":true,"epoch":"EPOCH","positioned":true}"#),
        ("off:a", "{}"),
    ] {
        let got =
            world.say(client, &format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#));
        assert_eq!(got, [format!(r#"{{"id":2,"subscribe":{result}}}"#)]);
    }
    assert_eq!(world.topics(client), ["a", "b", "off:a"]);
    assert_eq!(world.client(client).session.topics().count(), 3);
    world.publish("b", "{\"t\": 1}");
    world.publish("off:a", "hello");
    assert_eq!(
        world.got(client),
        [
            r#"{"push":{"channel":"b","pub":{"data":{"t": 1},"offset":1,"epoch":"EPOCH"}}}"#,
            r#"{"push":{"channel":"off:a","pub":{"data":"hello"}}}"#,
        ]
    );
}

#[test]
fn checks_come_in_the_order_of_the_protocol() {
    let long = "x".repeat(256);
    let long = format!(r#""channel":"{long}""#);
    for (request, expected) in [
        (r#""channel":"a","type":1"#, Ok((108, "not available"))),
        (r#""channel":"a","delta":"xor""#, Err(3501)),
        (&long, Ok((107, "bad request"))),
        (r#""channel":"have""#, Ok((105, "already subscribed"))),
        // The limit is looked at before the name is.
        (r#""channel":"nowhere:a""#, Ok((106, "limit exceeded"))),
    ] {
        let mut world = World::new();
        world.settings.topics_per_session_max = 1;
        let client = world.connected();
        world.say(client, r#"{"id":2,"subscribe":{"channel":"have"}}"#);
        let got = world.say(client, &format!(r#"{{"id":3,"subscribe":{{{request}}}}}"#));
        match expected {
            Ok((code, message)) => assert_eq!(got, [error(3, code, message)], "{request}"),
            Err(code) => assert_eq!(end(&mut world, client), Some(code), "{request}"),
        }
    }
    for (request, code, message) in [
        (r#""channel":"nowhere:a""#, 102, "unknown channel"),
        (r#""channel":"nowhere:\u00e9""#, 102, "unknown channel"),
        (r#""channel":"caf\u00e9""#, 107, "bad request"),
        (r#""channel":"a*""#, 107, "bad request"),
        (r#""channel":"$a""#, 103, "permission denied"),
        (r#""channel":"a""#, 103, "permission denied"),
        (r#""channel":"a","token":"forged""#, 103, "permission denied"),
        (r#""channel":"a","token":"old""#, 109, "token expired"),
        (r#""channel":"a","token":"/0/a""#, 110, "expired"),
        (
            r#""channel":"a","token":"//a","tf":{"op":"and","nodes":[{"key":"k"}]}"#,
            107,
            "bad request",
        ),
    ] {
        let mut world = World::new();
        let client = world.connected_with(&[Right::Publish]);
        let got = world.say(client, &format!(r#"{{"id":3,"subscribe":{{{request}}}}}"#));
        assert_eq!(got, [error(3, code, message)], "{request}");
        assert_eq!(world.topics(client), [""; 0]);
    }
}

#[test]
fn a_delta_that_is_not_offered_is_not_granted() {
    let mut world = World::new();
    let client = world.connected();
    let got =
        world.say(client, r#"{"id":2,"subscribe":{"channel":"off:a","delta":"fossil","flag":1}}"#);
    assert_eq!(got, [r#"{"id":2,"subscribe":{}}"#]);
}

#[test]
fn deltas_are_recovered_one_after_the_other() {
    use crate::protocol::centrifugo::fossil;

    let mut world = World::new();
    let row = |price: u32| format!(r#"{{"name":"a thing","price":{price},"open":true}}"#);
    for price in [1, 2, 300] {
        world.publish("delta:a", &row(price));
    }
    world.publish("delta:a", "closed");
    let client = world.connected();
    let _ = world.got(client);
    let got = world.say(
        client,
        r#"{"id":2,"subscribe":{"channel":"delta:a","delta":"fossil","recover":true}}"#,
    );
    let reply: serde_json::Value = serde_json::from_str(&got[0]).unwrap();
    assert_eq!(reply["subscribe"]["delta"], true);
    let mut last = Vec::new();
    let mut contents = Vec::new();
    for publication in reply["subscribe"]["publications"].as_array().unwrap() {
        let data = publication["data"].as_str().unwrap().as_bytes();
        last = match publication["delta"].as_bool() {
            Some(true) => fossil::decode(&last, data, 1_000).unwrap(),
            _ => data.to_vec(),
        };
        contents.push(String::from_utf8(last.clone()).unwrap());
    }
    assert_eq!(contents, [row(1), row(2), row(300), "\"closed\"".to_owned()]);
    let deltas = got[0].matches("\"delta\":true").count();
    assert_eq!(
        deltas, 3,
        "two publications and the subscription: the first and the last are whole"
    );
    // Where nobody knows what a client has, there are none.
    let got = world.say(client, r#"{"id":2,"subscribe":{"channel":"off:a","delta":"fossil"}}"#);
    assert_eq!(got, [r#"{"id":2,"subscribe":{}}"#]);
}

#[test]
fn a_subscription_token_lets_in_whom_it_names() {
    let mut world = World::new();
    for (token, close) in [
        ("ann//$a", None),
        ("ann//$a/CLIENT", None),
        ("bob//$a", Some(3500)),
        ("ann//$b", Some(3500)),
        ("ann//$a/other", Some(3500)),
    ] {
        let client = world.connected_by("ann");
        let _ = world.got(client);
        let say = format!(r#"{{"id":2,"subscribe":{{"channel":"$a","token":"{token}"}}}}"#);
        let got = world.say(client, &say);
        assert_eq!(end(&mut world, client), close, "{token}");
        assert_eq!(got.len(), usize::from(close.is_none()), "{token}");
        if close.is_none() {
            assert!(got[0].contains(r#""data":[1]"#), "{got:?}");
            let info = world.client(client).session.info(&TopicName::new("$a", 255).unwrap());
            assert_eq!((&*info.user, &*info.chan_info), ("ann", &b"{\"role\":\"guest\"}"[..]));
        }
    }
}

#[test]
fn what_was_missed_comes_with_the_reply() {
    let mut world = World::new();
    for data in ["1", "two", "[3]"] {
        world.publish("a", data);
    }
    let base = r#""recoverable":true,"epoch":"EPOCH""#;
    for (asked, answer) in [
        (
            r#""epoch":"EPOCH","offset":1"#,
            format!(
                r#"{base},"publications":[{{"data":"two","offset":2}},{{"data":[3],"offset":3}}],"recovered":true,"offset":1,"positioned":true,"was_recovering":true"#
            ),
        ),
        (
            r#""offset":2"#,
            format!(
                r#"{base},"publications":[{{"data":[3],"offset":3}}],"recovered":true,"offset":2,"positioned":true,"was_recovering":true"#
            ),
        ),
        (
            r#""epoch":"EPOCH","offset":3"#,
            format!(
                r#"{base},"recovered":true,"offset":3,"positioned":true,"was_recovering":true"#
            ),
        ),
        (
            r#""epoch":"EPOCH","offset":0"#,
            format!(
                r#"{base},"publications":[{{"data":1,"offset":1,"epoch":"EPOCH"}},{{"data":"two","offset":2}},{{"data":[3],"offset":3}}],"recovered":true,"positioned":true,"was_recovering":true"#
            ),
        ),
        (
            r#""epoch":"EPOCH","offset":4"#,
            format!(r#"{base},"offset":3,"positioned":true,"was_recovering":true"#),
        ),
        (
            r#""epoch":"elsewhere","offset":3"#,
            format!(r#"{base},"offset":3,"positioned":true,"was_recovering":true"#),
        ),
        (
            r#""epoch":"not an epoch at all","offset":3"#,
            format!(r#"{base},"offset":3,"positioned":true,"was_recovering":true"#),
        ),
    ] {
        let client = world.connected();
        let _ = world.got(client);
        let ask = format!(r#"{{"id":2,"subscribe":{{"channel":"a","recover":true,{asked}}}}}"#);
        assert_eq!(world.say(client, &ask), [format!(r#"{{"id":2,"subscribe":{{{answer}}}}}"#)]);
        // With bit 2 of the flag rather nothing than a gap.
        let client = world.connected();
        let ask = ask.replace("\"recover\"", "\"flag\":2,\"recover\"");
        let got = world.say(client, &ask);
        if answer.contains("\"recovered\"") {
            assert!(got[0].contains(&answer), "{got:?}");
        } else {
            assert_eq!(got, [error(2, 112, "unrecoverable position")]);
            assert_eq!(world.topics(client), [""; 0]);
            assert_eq!(world.client(client).session.topics().count(), 0);
        }
    }
}

#[test]
fn nothing_is_recovered_where_nothing_is_kept() {
    let mut world = World::new();
    world.publish("off:a", "1");
    let client = world.connected();
    let got = world.say(
        client,
        r#"{"id":2,"subscribe":{"channel":"off:a","recover":true,"offset":1,"flag":2}}"#,
    );
    assert_eq!(got, [r#"{"id":2,"subscribe":{"was_recovering":true}}"#]);
    assert_eq!(world.recovered, [false]);
}

#[test]
fn more_than_a_reply_holds_is_not_recovered() {
    let mut world = World::new();
    for _ in 0..301 {
        world.publish("a", "1");
    }
    let recover = |offset: u64| {
        format!(r#"{{"id":2,"subscribe":{{"channel":"a","recover":true,"offset":{offset}}}}}"#)
    };
    let client = world.connected();
    assert!(!world.say(client, &recover(0))[0].contains("recovered"));
    let client = world.connected();
    let got = world.say(client, &recover(1));
    assert!(got[0].contains("\"recovered\":true"));
    assert_eq!(got[0].matches("{\"data\":").count(), 300);
    assert_eq!(world.recovered, [false, true]);
}

#[test]
fn what_is_recovered_has_room_beside_what_waits() {
    for (waiting_len, missed, expected) in [
        (0, 5, false),
        (0, 4, true),
        (1_200, 4, false),
        (1_200, 3, true),
        (9_999, 2, false),
        (9_999, 0, true),
        // The longest publication has room beside a little else.
        (9_999, 1, true),
        (100_000, 1, false),
        (100_000, 0, true),
    ] {
        let mut world = World::new();
        (0..5).for_each(|_| world.publish("a", &"x".repeat(1_000)));
        world.settings.reply_len_max = 4_800;
        world.waiting_len = waiting_len;
        let client = world.connected();
        let offset = 5 - missed;
        let say = format!(
            r#"{{"id":2,"subscribe":{{"channel":"a","recover":true,"offset":{offset},"epoch":"EPOCH"}}}}"#
        );
        let got = world.say(client, &say);
        assert_eq!(got[0].contains("\"recovered\":true"), expected, "{waiting_len} {missed}");
        assert_eq!(got[0].matches("xxx\"").count(), if expected { missed } else { 0 });
        assert_eq!(world.recovered, [expected]);
    }
}

#[test]
fn replies_of_one_frame_share_the_room() {
    let mut world = World::new();
    let topics = ["a", "b", "c"];
    for topic in topics {
        (0..2).for_each(|_| world.publish(topic, &"x".repeat(1_000)));
    }
    world.settings.reply_len_max = 4_900;
    let client = world.connected();
    let say = topics
        .map(|topic| format!(r#"{{"id":2,"subscribe":{{"channel":"{topic}","recover":true}}}}"#));
    let got = world.say(client, &say.join("\n"));
    assert_eq!(got[0].matches("\"recovered\":true").count(), 2, "{got:?}");
    assert_eq!(world.recovered, [true, true, false]);
}

#[test]
fn where_the_newest_is_enough_only_that_is_given() {
    let mut world = World::new();
    let recover = |epoch: &str, offset: u64| {
        format!(
            r#"{{"id":2,"subscribe":{{"channel":"newest:a","recover":true,"epoch":"{epoch}","offset":{offset}}}}}"#
        )
    };
    let client = world.connected();
    let got = world.say(client, &recover("", 0));
    assert!(!got[0].contains("recovered") && got[0].contains("was_recovering"), "{got:?}");
    for data in ["1", "2", "3"] {
        world.publish("newest:a", data);
    }
    let epoch = world.epoch("newest:a");
    for (epoch, offset, publications) in
        [("", 0, 1), ("old", 7, 1), (&epoch, 1, 1), (&epoch, 3, 0), ("", 3, 1)]
    {
        let client = world.connected();
        let got = world.say(client, &recover(epoch, offset));
        assert!(got[0].contains("\"recovered\":true"), "{got:?}");
        assert_eq!(got[0].matches(r#"{"data":3,"offset":3}"#).count(), publications);
        assert_eq!(got[0].matches("{\"data\":").count(), publications);
    }
}

#[test]
fn members_are_heard_by_those_who_ask_and_may() {
    let mut world = World::new();
    for (rights, channel, ask, expected) in [
        (&Right::ALL[..], "members:a", true, Hears::Members),
        (&Right::ALL, "members:a", false, Hears::Publications),
        (&[Right::Subscribe], "members:a", true, Hears::Publications),
        (&Right::ALL, "told:a", false, Hears::Members),
        (&[Right::Subscribe], "told:a", false, Hears::Publications),
        (&Right::ALL, "quiet:a", true, Hears::Publications),
        (&Right::ALL, "a", true, Hears::Publications),
    ] {
        let client = world.connected_with(rights);
        let say = format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}","join_leave":{ask}}}}}"#);
        world.say(client, &say);
        assert_eq!(world.hears(client, channel), Some(expected), "{channel} {ask}");
    }
}

#[test]
fn replies_of_one_frame_leave_in_one_frame() {
    let mut world = World::new();
    let client = world.connected();
    let got = world.say(
        client,
        "{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}\n\
         {\"id\":3,\"publish\":{\"channel\":\"a\",\"data\":{\"x\":1}}}\n\
         {\"id\":4,\"unsubscribe\":{\"channel\":\"b\"}}\n",
    );
    assert_eq!(
        got,
        [
            "{\"id\":2,\"subscribe\":{\"recoverable\":true,\"epoch\":\"EPOCH\",\"positioned\":true}}\n\
             {\"id\":3,\"publish\":{}}\n\
             {\"id\":4,\"unsubscribe\":{}}",
            r#"{"push":{"channel":"a","pub":{"data":{"x":1},"info":{"user":"","client":""},"offset":1,"epoch":"EPOCH"}}}"#,
        ]
    );
}

#[test]
fn an_unsubscription_ends_what_there_is() {
    let mut world = World::new();
    let client = world.connected_by("ann//b");
    world.say(client, r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    for channel in ["a", "b", "a"] {
        let say = format!(r#"{{"id":3,"unsubscribe":{{"channel":"{channel}"}}}}"#);
        assert_eq!(world.say(client, &say), [r#"{"id":3,"unsubscribe":{}}"#]);
    }
    assert_eq!(world.topics(client), [""; 0]);
    world.publish("a", "1");
    assert_eq!(world.got(client), [""; 0]);
    assert!(world.say(client, r#"{"id":4,"subscribe":{"channel":"a"}}"#)[0].contains("offset"));
}

#[test]
fn the_server_ends_subscriptions_with_a_reason() {
    let mut world = World::new();
    let topic = TopicName::new("a", 255).unwrap();
    for (code, expected) in [
        (UnsubscribeCode::Server, r#"{"code":2000,"reason":"server unsubscribe"}"#),
        (UnsubscribeCode::InsufficientState, r#"{"code":2500,"reason":"insufficient state"}"#),
        (UnsubscribeCode::Expired, r#"{"code":2501,"reason":"subscription expired"}"#),
    ] {
        let client = world.connected();
        world.say(client, r#"{"id":2,"subscribe":{"channel":"a"}}"#);
        world.act(client, |session, _| session.end(&topic, code));
        let expected = format!(r#"{{"push":{{"channel":"a","unsubscribe":{expected}}}}}"#);
        assert_eq!(world.got(client), [expected]);
        assert_eq!(world.topics(client), [""; 0]);
        world.act(client, |session, _| session.end(&topic, code));
        assert_eq!(world.got(client), [""; 0], "there is none");
    }
    // A client cannot subscribe again by itself to what it did not ask for.
    let client = world.connected_by("ann//a");
    world.act(client, |session, _| session.end(&topic, UnsubscribeCode::InsufficientState));
    assert_eq!(end(&mut world, client), Some(3010));
}

#[test]
fn the_server_subscribes_clients_and_tells_them() {
    let mut world = World::new();
    world.publish("a", "1");
    let client = world.connected();
    let _ = world.got(client);
    let mut outcome = Vec::new();
    let names = ["a", "a", "nowhere:a", "*"];
    for name in names {
        world.act(client, |session, context| {
            outcome.push(session.subscribe_for_server(ServerSubscription::to(name), context));
        });
    }
    assert_eq!(
        outcome,
        [
            Ok(()),
            Err(ErrorCode::AlreadySubscribed),
            Err(ErrorCode::UnknownTopic),
            Err(ErrorCode::BadRequest)
        ]
    );
    assert_eq!(
        world.got(client),
        [
            r#"{"push":{"channel":"a","subscribe":{"recoverable":true,"epoch":"EPOCH","offset":1,"positioned":true}}}"#
        ]
    );
    assert_eq!(world.topics(client), ["a"]);
    let client = world.enter(Wire::JsonFrames, Some(Identity::SERVER));
    world.act(client, |session, context| {
        let early = session.subscribe_for_server(ServerSubscription::to("a"), context);
        assert_eq!(early, Err(ErrorCode::NotAvailable));
    });
}

#[test]
fn the_server_subscribes_clients_from_a_position_on() {
    let push = |what: &str| format!(r#"{{"push":{{"channel":"a",{what}}}}}"#);
    let begin = |offset| {
        let place = format!(r#""recoverable":true,"epoch":"EPOCH","offset":{offset}"#);
        push(&format!(r#""subscribe":{{{place},"positioned":true}}"#))
    };
    let publication = |offset| push(&format!(r#""pub":{{"data":{offset},"offset":{offset}}}"#));
    for (epoch, offset, expected) in [
        ("EPOCH", 3, [begin(3), publication(4), publication(5)].to_vec()),
        ("", 4, [begin(4), publication(5)].to_vec()),
        ("EPOCH", 5, [begin(5)].to_vec()),
        // The position told is not the one asked for.
        ("EPOCH", 9, [begin(5)].to_vec()),
        ("other", 3, [begin(5)].to_vec()),
        ("no epoch at all", 3, [begin(5)].to_vec()),
    ] {
        let mut world = World::new();
        for data in 1..=5 {
            world.publish("a", &data.to_string());
        }
        let client = world.connected();
        let _ = world.got(client);
        let epoch = world.reveal(client, epoch).into();
        let recover = Some(Asked { epoch, offset });
        let subscription = ServerSubscription { recover, ..ServerSubscription::to("a") };
        world.act(client, |session, context| {
            session.subscribe_for_server(subscription, context).unwrap();
        });
        assert_eq!(world.got(client), [expected.join("\n")]);
        world.publish("a", "6");
        assert_eq!(world.got(client), [publication(6)], "live from there on");
    }
}

#[test]
fn a_subscription_of_the_servers_ends_the_connection_when_its_time_is_over() {
    let mut world = World::new();
    let client = world.connected();
    let mut outcome = Vec::new();
    for (topic, expires_at) in [("a", START), ("b", START + 60), ("c", START + 3600)] {
        let expires_at = Some(expires_at);
        let subscription = ServerSubscription { expires_at, ..ServerSubscription::to(topic) };
        world.act(client, |session, context| {
            outcome.push(session.subscribe_for_server(subscription, context));
        });
    }
    assert_eq!(outcome, [Err(ErrorCode::Expired), Ok(()), Ok(())]);
    assert_eq!(world.topics(client), ["b", "c"]);
    world.answer_pings(client, Duration::from_secs(84));
    assert_eq!(world.client(client).closed, None, "a grace is left");
    world.answer_pings(client, Duration::from_secs(2));
    assert_eq!(world.client(client).closed, Some(Disconnect::SubscriptionExpired));
}

#[test]
fn a_subscription_lasts_as_long_as_its_token_and_a_grace() {
    let mut world = World::new();
    let client = world.connected_by("ann");
    let _ = world.got(client);
    let got = world.say(client, r#"{"id":2,"subscribe":{"channel":"a","token":"ann/60/a"}}"#);
    assert!(got[0].contains(r#""expires":true,"ttl":60"#), "{got:?}");
    // Renewed just in time, for a minute from then.
    world.answer_pings(client, Duration::from_secs(84));
    let got = world.say(client, r#"{"id":3,"sub_refresh":{"channel":"a","token":"ann/60/a"}}"#);
    assert_eq!(got, [r#"{"id":3,"sub_refresh":{"expires":true,"ttl":60}}"#]);
    world.answer_pings(client, Duration::from_secs(84));
    assert_eq!(world.topics(client), ["a"]);
    let got = world.answer_pings(client, Duration::from_secs(2));
    let expected =
        r#"{"push":{"channel":"a","unsubscribe":{"code":2501,"reason":"subscription expired"}}}"#;
    assert!(got.contains(&expected.to_owned()), "{got:?}");
    assert_eq!(world.topics(client), [""; 0]);
    assert_eq!(end(&mut world, client), None);
}

#[test]
fn a_sub_refresh_needs_a_subscription_and_a_token_for_it() {
    for (request, answer, close) in [
        (r#""channel":"b","token":"ann/60/b""#, Some((103, "permission denied")), None),
        (r#""channel":"a""#, Some((107, "bad request")), None),
        (r#""channel":"a","token":"old""#, Some((109, "token expired")), None),
        (r#""channel":"a","token":"ann/0/a""#, Some((110, "expired")), None),
        (r#""channel":"a","token":"forged""#, None, Some(3500)),
        (r#""channel":"a","token":"ann/60/b""#, None, Some(3500)),
        (r#""channel":"a","token":"bob/60/a""#, None, Some(3500)),
        (r#""channel":"a","token":"ann/60/a/other""#, None, Some(3500)),
    ] {
        let mut world = World::new();
        let client = world.connected_by("ann");
        world.say(client, r#"{"id":2,"subscribe":{"channel":"a","token":"ann/60/a"}}"#);
        let got = world.say(client, &format!(r#"{{"id":3,"sub_refresh":{{{request}}}}}"#));
        let answer = answer.map(|(code, message)| error(3, code, message));
        assert_eq!(got, answer.into_iter().collect::<Vec<_>>(), "{request}");
        assert_eq!(end(&mut world, client), close, "{request}");
    }
}

#[test]
fn answers_may_come_late_and_in_any_order() {
    let mut world = World::new();
    let client = world.connected();
    world.is_slow = true;
    let got = world.say(
        client,
        "{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}\n\
         {\"id\":3,\"subscribe\":{\"channel\":\"a\"}}\n\
         {\"id\":4,\"publish\":{\"channel\":\"b\",\"data\":1}}\n\
         {\"id\":5,\"history\":{\"channel\":\"b\"}}",
    );
    assert_eq!(got, [error(3, 105, "already subscribed")], "the rest is on its way");
    world.catch_up();
    assert_eq!(
        world.got(client),
        [
            r#"{"id":5,"history":{"publications":[],"epoch":"","offset":0}}"#,
            r#"{"id":4,"publish":{}}"#,
            r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"EPOCH","positioned":true}}"#,
        ]
    );
}

#[test]
fn a_subscription_that_was_ended_before_it_began_does_not_begin() {
    let mut world = World::new();
    let client = world.connected();
    world.is_slow = true;
    world.say(client, r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    let got = world.say(client, r#"{"id":3,"unsubscribe":{"channel":"a"}}"#);
    assert_eq!(got, [r#"{"id":3,"unsubscribe":{}}"#]);
    world.say(client, r#"{"id":4,"subscribe":{"channel":"a"}}"#);
    world.catch_up();
    assert_eq!(world.client(client).session.topics().count(), 1);
    assert_eq!(world.topics(client), ["a"]);
}

#[test]
fn a_session_with_one_subscription_is_small() {
    use crate::protocol::centrifugo::Session;

    assert!(size_of::<Session>() <= 320, "{}", size_of::<Session>());
}
