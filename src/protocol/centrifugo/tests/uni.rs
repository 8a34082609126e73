//! Clients that only listen: a request to connect, and bare pushes from then on.

use std::time::Duration;

use bytes::Bytes;

use super::world::{START, World};
use crate::auth::{Identity, Right};
use crate::hub::TopicName;
use crate::protocol::centrifugo::{
    ConnectRequest, Disconnect, ErrorCode, Malformed, Opening, Pings, ServerSubscription,
    UnsubscribeCode, Wire,
};

const WIRES: [Wire; 3] = [Wire::UniFrames, Wire::UniBody, Wire::UniEvents];

/// `push` as it is written on `wire`.
fn on(wire: Wire, push: &str) -> String {
    match wire {
        Wire::UniBody => format!("{push}\n"),
        Wire::UniEvents => format!("data: {push}\n\n"),
        _ => push.to_owned(),
    }
}

fn close_code(world: &mut World, client: usize) -> Option<u16> {
    world.client(client).closed.map(Disconnect::code)
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name, 255).unwrap()
}

/// A client of frames that asks for `subs`, and what it got for that.
fn connected(world: &mut World, subs: &str) -> (usize, Vec<String>) {
    let client = world.enter(Wire::UniFrames, Some(Identity::SERVER));
    let got = world.say(client, &format!(r#"{{"subs":{subs}}}"#));
    (client, got)
}

#[test]
fn the_first_push_says_that_the_client_is_connected() {
    for wire in WIRES {
        let mut world = World::new();
        world.publish("a", "1");
        let client = world.enter(wire, None);
        let got = world.say(client, r#"{"token":"ann/600/a","name":"js"}"#);
        let connect = r#"{"connect":{"client":"CLIENT","version":"Fanwire","expires":true,"ttl":600,"subs":{"a":{"recoverable":true,"epoch":"EPOCH","offset":1,"positioned":true}},"ping":25,"session":"secret"}}"#;
        assert_eq!(got, [on(wire, connect)]);
        assert_eq!(world.client(client).session.user().map(|user| &**user), Some("ann"));
        world.publish("a", "2");
        let push = r#"{"channel":"a","pub":{"data":2,"offset":2}}"#;
        assert_eq!(world.got(client), [on(wire, push)]);
    }
}

#[test]
fn who_cannot_connect_is_told_by_an_end() {
    for (request, code) in [
        (r#"{"token":"old"}"#, 3005),
        (r#"{"token":"ann/0"}"#, 3005),
        (r#"{"token":"away"}"#, 3004),
        (r#"{"token":"forged"}"#, 3500),
        (r#"{"token":"ann//broken,a"}"#, 3004),
        (r#"{"token":"ann//a,b,c"}"#, 3505),
        (r#"{"token":"ann","subs":{"nowhere:a":{}}}"#, 3501),
        ("{}", 3501),
        ("", 3501),
        ("[]", 3501),
        (r#"{"id":1,"connect":[}"#, 3501),
    ] {
        for wire in WIRES {
            let mut world = World::new();
            world.settings.topics_per_session_max = 2;
            let client = world.enter(wire, None);
            assert_eq!(world.say(client, request), [""; 0], "{request}");
            assert_eq!(close_code(&mut world, client), Some(code), "{request}");
            assert_eq!(world.say(client, r#"{"token":"ann"}"#), [""; 0], "it is over");
        }
    }
    let mut world = World::new();
    let client = world.enter(Wire::UniFrames, None);
    world.say(client, r#"{"token":"old"}"#);
    assert_eq!(*world.town.refused.borrow(), [ErrorCode::TokenExpired]);
}

#[test]
fn every_error_has_an_end_of_its_own_or_is_our_fault() {
    for error in ErrorCode::ALL {
        let code = match error {
            ErrorCode::TokenExpired | ErrorCode::Expired => 3005,
            ErrorCode::TooManyRequests => 3013,
            ErrorCode::PermissionDenied => 3507,
            _ => 3004,
        };
        assert_eq!(error.disconnect().code(), code, "{error:?}");
    }
}

#[test]
fn a_request_is_an_object() {
    for text in ["", "{", "[]", "1", "null", r#"{"token":1}"#, r#"{"subs":[]}"#, "\u{fffd}"] {
        assert_eq!(ConnectRequest::parse(text.as_bytes()), Err(Malformed), "{text}");
    }
    let request = ConnectRequest::parse(br#"{"token":"t","subs":{"a":{"offset":7}},"x":1}"#);
    let request = request.unwrap();
    assert_eq!((request.token.as_str(), request.subs["a"].offset), ("t", 7));
    assert_eq!(ConnectRequest::parse(b" {}\n"), Ok(ConnectRequest::default()));
}

#[test]
fn wanted_subscriptions_recover_or_say_that_they_cannot() {
    let mut world = World::new();
    world.publish("a", "1");
    world.publish("a", "2");
    let subs = r#"{"a":{"recover":true,"epoch":"EPOCH","offset":1}}"#;
    let (client, got) = connected(&mut world, subs);
    let connect = |sub: &str| {
        format!(
            r#"{{"connect":{{"client":"CLIENT","version":"Fanwire","subs":{{"a":{{"recoverable":true,"epoch":"EPOCH",{sub}"positioned":true,"was_recovering":true}}}},"ping":25,"session":"secret"}}}}"#
        )
    };
    let recovered = r#""publications":[{"data":2,"offset":2}],"recovered":true,"offset":1,"#;
    assert_eq!(got, [connect(recovered)]);
    world.publish("a", "3");
    assert_eq!(world.got(client), [r#"{"channel":"a","pub":{"data":3,"offset":3}}"#]);

    let subs = r#"{"a":{"recover":true,"epoch":"other","offset":1}}"#;
    let (_, got) = connected(&mut world, subs);
    assert_eq!(got, [connect(r#""offset":3,"#)]);
}

#[test]
fn only_subscriptions_that_the_client_may_have_are_given() {
    let mut world = World::new();
    let client = world.enter(Wire::UniBody, Some(Identity::with(&[Right::Publish])));
    let got = world.say(client, r#"{"subs":{"a":{}}}"#);
    let connect =
        r#"{"connect":{"client":"CLIENT","version":"Fanwire","ping":25,"session":"secret"}}"#;
    assert_eq!(got, [on(Wire::UniBody, connect)]);
    let (client, _) = connected(&mut world, r#"{"a":{},"$b":{},"*":{}}"#);
    assert_eq!(world.topics(client), ["a"]);
}

#[test]
fn pings_are_empty_and_nobody_waits_for_an_answer() {
    for pings in [Pings::Messages, Pings::Transport] {
        for wire in WIRES {
            let mut world = World::new();
            let caller = Some(Identity::SERVER.into());
            let client = world.enter_by(Opening { wire, caller, pings, name: None });
            let got = world.say(client, "{}");
            let connect = r#"{"connect":{"client":"CLIENT","version":"Fanwire","ping":25}}"#;
            assert_eq!(got, [on(wire, connect)]);
            world.pass(Duration::from_secs(12));
            assert_eq!(world.got(client), [""; 0]);
            world.pass(Duration::from_secs(13));
            assert_eq!(world.got(client), [on(wire, "{}")]);
            world.pass(Duration::from_secs(250));
            assert_eq!(world.got(client), vec![on(wire, "{}"); 10]);
            assert_eq!(close_code(&mut world, client), None);
        }
    }
}

#[test]
fn a_client_that_says_nothing_is_given_up() {
    let mut world = World::new();
    let client = world.enter(Wire::UniFrames, Some(Identity::SERVER));
    world.pass(Duration::from_secs(9));
    assert_eq!(close_code(&mut world, client), None);
    world.pass(Duration::from_secs(2));
    assert_eq!(close_code(&mut world, client), Some(3502));
}

#[test]
fn what_the_client_says_later_is_not_looked_at() {
    let mut world = World::new();
    let (client, _) = connected(&mut world, r#"{"a":{}}"#);
    for frame in ["", "{}", "no json", r#"{"id":2,"publish":{"channel":"a","data":1}}"#] {
        assert_eq!(world.say(client, frame), [""; 0], "{frame}");
    }
    assert_eq!(close_code(&mut world, client), None);
    assert_eq!(world.topics(client), ["a"]);
}

#[test]
fn what_the_application_does_comes_as_a_push() {
    let mut world = World::new();
    world.publish("a", "1");
    let (client, _) = connected(&mut world, "{}");
    world.act(client, |session, context| {
        let subscription =
            ServerSubscription { data: Bytes::from_static(b"[7]"), ..ServerSubscription::to("a") };
        session.subscribe_for_server(subscription, context).unwrap();
    });
    let push = r#"{"channel":"a","subscribe":{"recoverable":true,"epoch":"EPOCH","offset":1,"positioned":true,"data":[7]}}"#;
    assert_eq!(world.got(client), [push]);
    world.act(client, |session, context| {
        session.refresh_for_server(Some(START + 60), Bytes::new(), context);
    });
    assert_eq!(world.got(client), [r#"{"refresh":{"expires":true,"ttl":60}}"#]);
    let topic = topic("a");
    world.act(client, |session, _| session.end(&topic, UnsubscribeCode::Server));
    let push = r#"{"channel":"a","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}"#;
    assert_eq!(world.got(client), [push]);
    // It has no way to renew that, so it ends.
    world.pass(Duration::from_secs(90));
    let _ = world.got(client);
    assert_eq!(close_code(&mut world, client), Some(3005));
}

#[test]
fn each_push_is_a_frame_of_its_own() {
    let mut world = World::new();
    let (client, _) = connected(&mut world, r#"{"a":{},"b":{}}"#);
    let topics = ["a", "b"].map(topic);
    world.act(client, |session, _| {
        for topic in &topics {
            session.end(topic, UnsubscribeCode::Server);
        }
    });
    let push = |topic| {
        format!(
            r#"{{"channel":"{topic}","unsubscribe":{{"code":2000,"reason":"server unsubscribe"}}}}"#
        )
    };
    assert_eq!(world.got(client), [push("a"), push("b")]);
}

#[test]
fn a_gap_ends_the_connection_which_then_recovers() {
    let mut world = World::new();
    let (client, _) = connected(&mut world, r#"{"a":{}}"#);
    let topic = topic("a");
    world.act(client, |session, _| session.end(&topic, UnsubscribeCode::InsufficientState));
    assert_eq!(close_code(&mut world, client), Some(3010));
}
