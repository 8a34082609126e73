//! Pings, stale connections and expired ones, in simulated time.

use std::time::Duration;

use bytes::Bytes;

use super::world::{START, World};
use crate::auth::Identity;
use crate::protocol::centrifugo::{Disconnect, Wire};

const SECOND: Duration = Duration::from_secs(1);

impl World {
    /// Lets time pass until the client is pinged, and at most a second more.
    fn await_ping(&mut self, client: usize) {
        for _ in 0..25 {
            self.pass(SECOND);
            if self.got(client).contains(&"{}".to_owned()) {
                return;
            }
        }
        panic!("no ping came");
    }

    /// Lets time pass while the client answers pings. Returns what else it got.
    pub(super) fn answer_pings(&mut self, client: usize, time: Duration) -> Vec<String> {
        let (mut got, mut left) = (self.got(client), time);
        while !left.is_zero() {
            let step = left.min(SECOND);
            self.pass(step);
            left -= step;
            for frame in self.got(client) {
                if frame == "{}" {
                    got.extend(self.say(client, "{}"));
                } else {
                    got.push(frame);
                }
            }
        }
        got
    }
}

#[test]
fn the_first_ping_comes_at_a_random_time_and_the_next_after_an_interval() {
    let mut world = World::new();
    let clients: Vec<_> = (0..50).map(|_| world.connected()).collect();
    let mut firsts = Vec::new();
    for second in 1..=25 {
        world.pass(SECOND);
        for client in &clients {
            if world.got(*client).contains(&"{}".to_owned()) {
                firsts.push(second);
                assert_eq!(world.say(*client, "{}"), [""; 0]);
            }
        }
    }
    assert_eq!(firsts.len(), clients.len(), "all in half an interval to one");
    assert!(firsts.iter().all(|second| (13..=25).contains(second)), "{firsts:?}");
    firsts.dedup();
    assert!(firsts.len() > 5, "spread: {firsts:?}");
    let client = clients[0];
    let pings = |world: &mut World| {
        world.pass(Duration::from_secs(24) + SECOND);
        let got = world.got(client);
        let _ = world.say(client, "{}");
        got
    };
    for _ in 0..3 {
        assert_eq!(pings(&mut world), ["{}"]);
    }
}

#[test]
fn a_ping_without_an_answer_closes_and_an_answer_without_a_ping_too() {
    let mut world = World::new();
    let client = world.connected();
    world.await_ping(client);
    world.pass(Duration::from_secs(9));
    assert_eq!(world.client(client).closed, None);
    world.pass(SECOND);
    assert_eq!(world.client(client).closed, Some(Disconnect::NoPong));

    let client = world.connected();
    world.await_ping(client);
    world.say(client, "{}");
    assert_eq!(world.client(client).closed, None);
    world.say(client, "{}");
    assert_eq!(world.client(client).closed, Some(Disconnect::BadRequest));
}

#[test]
fn a_client_that_was_not_listened_to_is_not_given_up() {
    let mut world = World::new();
    let client = world.connected();
    world.await_ping(client);
    world.pass(Duration::from_secs(5));
    world.act(client, |session, context| session.on_resume(context));
    world.pass(Duration::from_secs(9));
    assert_eq!(world.client(client).closed, None);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.client(client).closed, Some(Disconnect::NoPong));
}

#[test]
fn who_does_not_connect_is_stale() {
    let mut world = World::new();
    let silent = world.enter(Wire::JsonFrames, Some(Identity::SERVER));
    let refused = world.connected_by("old");
    let connected = world.connected();
    world.pass(Duration::from_secs(9));
    assert_eq!(world.client(silent).closed, None);
    world.pass(SECOND);
    assert_eq!(world.client(silent).closed, Some(Disconnect::Stale));
    assert_eq!(world.client(refused).closed, Some(Disconnect::Stale));
    assert_eq!(world.client(connected).closed, None);
}

#[test]
fn a_connection_lasts_as_long_as_its_token_and_a_grace() {
    let mut world = World::new();
    let client = world.connected_by("ann/60");
    world.answer_pings(client, Duration::from_secs(84));
    assert_eq!(world.client(client).closed, None);
    world.say(client, r#"{"id":2,"refresh":{"token":"ann/60"}}"#);
    world.answer_pings(client, Duration::from_secs(84));
    assert_eq!(world.client(client).closed, None);
    world.answer_pings(client, SECOND * 2);
    assert_eq!(world.client(client).closed, Some(Disconnect::Expired));
}

#[test]
fn the_application_moves_the_end_of_a_connection() {
    let mut world = World::new();
    let client = world.connected_by("ann/60");
    let refresh = |world: &mut World, expires_at, info: &'static str| {
        world.act(client, |session, context| {
            session.refresh_for_server(expires_at, Bytes::from_static(info.as_bytes()), context);
        });
        world.got(client)
    };
    let told = r#"{"push":{"refresh":{"expires":true,"ttl":600}}}"#;
    assert_eq!(refresh(&mut world, Some(START + 600), ""), [told]);
    world.answer_pings(client, SECOND * 300);
    assert_eq!(world.client(client).closed, None);
    assert_eq!(refresh(&mut world, None, "[1]"), [r#"{"push":{"refresh":{}}}"#]);
    world.answer_pings(client, SECOND * 2000);
    assert_eq!(world.client(client).closed, None);
    assert_eq!(refresh(&mut world, Some(START), ""), [""; 0]);
    assert_eq!(world.client(client).closed, Some(Disconnect::Expired));
    let early = world.enter(Wire::JsonFrames, None);
    world.act(early, |session, context| {
        session.refresh_for_server(Some(START), Bytes::new(), context);
    });
    assert_eq!(world.client(early).closed, None, "it is nobody's yet");
}

#[test]
fn a_wall_clock_that_jumps_ends_nobody_early() {
    let mut world = World::new();
    let client = world.connected_by("ann/60");
    world.say(client, r#"{"id":2,"subscribe":{"channel":"a","token":"ann/60/a"}}"#);
    world.now.wall += 3_600 * 1_000;
    world.answer_pings(client, SECOND * 84);
    assert_eq!((world.client(client).closed, world.topics(client)), (None, vec!["a"]));
    world.answer_pings(client, SECOND * 2);
    assert_eq!(world.client(client).closed, Some(Disconnect::Expired));
}

#[test]
fn a_token_for_longer_than_a_year_is_to_be_renewed_within_a_year() {
    let mut world = World::new();
    let client = world.enter(Wire::JsonFrames, None);
    let got = world.say(client, r#"{"id":1,"connect":{"token":"ann/99999999999"}}"#);
    assert!(got[0].contains(r#""ttl":31536000"#), "{got:?}");
}
