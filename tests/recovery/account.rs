//! What one client knows and was told, whichever door it comes by.

use std::sync::Arc;

use fanwire::protocol::centrifugo::fossil;

use crate::invariant::Position;
use crate::line::Broken;
use crate::world::World;

/// One topic of a client.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) topic: usize,
    /// Where the client is.
    pub(crate) at: Option<Position>,
    /// The payload there, which the next delta may be of.
    payload: Vec<u8>,
}

/// Something that a client was told of a topic.
#[derive(Debug)]
pub(crate) enum Told {
    /// It goes on after `start`; `recovered` if it had asked to go on where it was.
    Start {
        topic: usize,
        start: Position,
        recovered: Option<bool>,
    },
    Publication {
        topic: usize,
        position: Position,
        payload: Vec<u8>,
    },
}

/// A payload as it came.
#[derive(Debug)]
pub(crate) enum Content {
    Whole(Vec<u8>),
    /// What makes it of the one before.
    Delta(Vec<u8>),
}

/// How a door answers who asks for what it missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replay {
    /// By all that is kept, however much.
    Stream,
    /// By one reply: so many at most, and they must still be there when it is written.
    Reply,
}

/// A client's topics, and all that it was told.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) replay: Replay,
    pub(crate) feeds: Vec<Feed>,
    pub(crate) told: Vec<Told>,
    pub(crate) breaks: Vec<Broken>,
    pub(crate) delta_count: usize,
    world: Arc<World>,
}

impl Account {
    pub(crate) fn new(name: String, replay: Replay, topics: &[usize], world: &Arc<World>) -> Self {
        let feed = |topic: &usize| Feed { topic: *topic, at: None, payload: Vec::new() };
        Self {
            name,
            replay,
            feeds: topics.iter().map(feed).collect(),
            told: Vec::new(),
            breaks: Vec::new(),
            delta_count: 0,
            world: Arc::clone(world),
        }
    }

    /// The topic's name.
    pub(crate) fn name_of(&self, feed: usize) -> &'static str {
        World::TOPICS[self.feeds[feed].topic]
    }

    /// The feed of a topic's name.
    pub(crate) fn feed_of(&self, name: &str) -> usize {
        let found = (0..self.feeds.len()).find(|feed| self.name_of(*feed) == name);
        found.unwrap_or_else(|| panic!("{} got something of {name}", self.name))
    }

    /// Whether the client has all that is to be waited for.
    pub(crate) fn is_done(&self) -> bool {
        self.feeds.iter().all(|feed| {
            let target = self.world.target(feed.topic);
            feed.at.as_ref().zip(target).is_some_and(|(at, target)| at.offset >= target)
        })
    }

    /// The server said where a feed goes on, and whether it recovered what was asked for.
    pub(crate) fn starts(&mut self, feed: usize, start: Position, recovered: Option<bool>) {
        let Feed { topic, at, .. } = &mut self.feeds[feed];
        *at = Some(start.clone());
        self.told.push(Told::Start { topic: *topic, start, recovered });
    }

    /// A publication came; a door without positions counts.
    pub(crate) fn takes(&mut self, feed: usize, position: Option<Position>, content: Content) {
        let Feed { topic, at, payload } = &mut self.feeds[feed];
        let before = at.as_ref().unwrap_or_else(|| panic!("{} is not subscribed", self.name));
        let position = position.unwrap_or_else(|| before.plus(1));
        *payload = match content {
            Content::Whole(whole) => whole,
            Content::Delta(delta) => {
                self.delta_count += 1;
                let made = fossil::decode(payload, &delta, 1 << 20);
                made.unwrap_or_else(|error| panic!("{}: {error:?} at {position}", self.name))
            }
        };
        *at = Some(position.clone());
        self.told.push(Told::Publication { topic: *topic, position, payload: payload.clone() });
    }
}
