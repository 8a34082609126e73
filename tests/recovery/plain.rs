//! Clients of the plain door and of streams: the position goes with the request.

use serde_json::Value;

use crate::account::{Account, Content};
use crate::harness::Request;
use crate::invariant::Position;
use crate::line::{Broken, Line};
use crate::pipe::{Pipe, Units};
use crate::publisher::bearer;

/// What such a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A WebSocket with payloads only.
    Raw,
    /// A WebSocket with objects.
    Json,
    Ndjson,
    Sse,
    /// Server-sent events of several topics.
    Several,
}

impl Form {
    /// Goes on where the account is, until it has everything or the connection breaks.
    pub(crate) fn follow(self, account: &mut Account, line: Line) -> Result<(), Broken> {
        let asked: Option<Vec<_>> = account.feeds.iter().map(|feed| feed.at.clone()).collect();
        let request = self.request(account, asked.as_deref());
        let units = match self {
            Self::Raw | Self::Json => Units::Frames,
            Self::Ndjson => Units::Lines,
            Self::Sse | Self::Several => Units::Blocks,
        };
        let mut pipe = Pipe::open(line, &bearer(request, &account.name), units)?;
        let recovered = pipe.head.header("fanwire-recovered").map(|word| word == "true");
        assert_eq!(recovered.is_some(), asked.is_some(), "{} asked {asked:?}", account.name);
        if self != Self::Several {
            account.starts(0, Position::of_head(&pipe.head), recovered);
        } else if let (Some(asked), Some(true)) = (asked, recovered) {
            for (feed, position) in asked.into_iter().enumerate() {
                account.starts(feed, position, recovered);
            }
        }
        while !account.is_done() {
            let unit = pipe.next()?;
            match self {
                Self::Raw => account.takes(0, None, Content::Whole(unit)),
                Self::Json | Self::Ndjson => on_object(account, &unit),
                Self::Sse | Self::Several => on_block(account, &unit),
            }
        }
        Ok(())
    }

    fn request(self, account: &Account, asked: Option<&[Position]>) -> Request {
        let topics = (0..account.feeds.len()).map(|feed| account.name_of(feed));
        let ids: Vec<_> = asked.into_iter().flatten().map(ToString::to_string).collect();
        let ids = ids.join(",");
        let path = match self {
            Self::Several => {
                let topics: Vec<_> = topics.map(|topic| format!("topic={topic}")).collect();
                format!("/topics?{}", topics.join("&"))
            }
            _ => format!("/topics/{}", account.name_of(0)),
        };
        let since = asked.map(|_| format!("since={ids}"));
        let query = |first: &str| match &since {
            Some(since) => format!("{path}?{first}{since}"),
            None => format!("{path}?{first}").trim_end_matches(['?', '&']).to_owned(),
        };
        match self {
            Self::Raw => Request::handshake(&query("")),
            Self::Json => Request::handshake(&query("format=json&")),
            Self::Ndjson => Request::get(&query("")),
            Self::Sse | Self::Several if asked.is_some() => {
                Request::sse(&path).header("Last-Event-ID", &ids)
            }
            Self::Sse | Self::Several => Request::sse(&path),
        }
    }
}

fn on_block(account: &mut Account, block: &[u8]) {
    let block = str::from_utf8(block).expect("a stream is text");
    let field = |name: &str| {
        let mut lines = block.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(its, _)| *its == name).map(|(_, value)| value)
    };
    let ids: Option<Vec<_>> = field("id").map(|id| id.split(',').map(position).collect());
    let (event, data) = (field("event"), field("data"));
    match (event, ids, data) {
        // Topics that are not where they were asked for were reset; each is told of.
        (Some("reset"), Some(ids), Some(data)) => {
            let object: Value = serde_json::from_str(data).unwrap();
            let reset = &object["subscribed"];
            let feed = account.feed_of(reset["topic"].as_str().unwrap());
            assert_eq!(ids[feed], Position::of(reset), "{block}");
            for (feed, id) in ids.into_iter().enumerate() {
                if account.feeds[feed].at.as_ref() != Some(&id) {
                    account.starts(feed, id, Some(false));
                }
            }
        }
        (None, Some(ids), None) => {
            for (feed, id) in ids.into_iter().enumerate() {
                if account.feeds[feed].at.is_none() {
                    account.starts(feed, id, None);
                }
            }
        }
        (None, Some(ids), Some(data)) => {
            let moved = account.feeds.iter().zip(&ids);
            let moved = moved.map(|(feed, id)| feed.at.as_ref() != Some(id));
            let moved: Vec<_> = moved.enumerate().filter(|(_, moved)| *moved).collect();
            let [(feed, _)] = moved[..] else {
                panic!("{} is at {:?}, got {block}", account.name, account.feeds);
            };
            let content = Content::Whole(data.as_bytes().to_vec());
            account.takes(feed, Some(ids[feed].clone()), content);
        }
        // `retry:` and comments.
        (None, None, None) => {}
        _ => panic!("{} got {block}", account.name),
    }
}

fn on_object(account: &mut Account, text: &[u8]) {
    let object: Value = serde_json::from_slice(text).unwrap();
    if let Some(subscribed) = object.get("subscribed") {
        assert_eq!(Some(Position::of(subscribed)), account.feeds[0].at, "the head said so");
    } else if let Some(data) = object["data"].as_str() {
        let content = Content::Whole(data.as_bytes().to_vec());
        account.takes(0, Some(Position::of(&object)), content);
    } else {
        assert!(object.get("ping").is_some(), "{} got {object}", account.name);
    }
}

fn position(id: &str) -> Position {
    let (epoch, offset) = id.split_once(':').unwrap_or_else(|| panic!("{id} is no position"));
    Position { epoch: epoch.to_owned(), offset: offset.parse().unwrap() }
}
