//! What the application asks about topics: their history, who is there, which there are.

use std::collections::BTreeMap;

use serde::Serialize;

use super::answer::{CallError, Outcome, json, nothing};
use super::pause;
use super::request::{ITEMS_MAX, ListRequest, TopicRequest};
use crate::http::service::Service;
use crate::hub::{Presence, TopicName};
use crate::limits::covers;
use crate::protocol::centrifugo::message::{
    HistoryResult, PresenceResult, PresenceStatsResult, Publication,
};
use crate::protocol::centrifugo::{ClientInfo, Codec, ErrorCode};

/// What is told of a topic.
#[derive(Debug, Serialize)]
struct Listing {
    num_clients: u64,
}

impl Service {
    pub(super) fn read_history(&self, request: &TopicRequest<'_>) -> Outcome {
        let topic = self.with_history(request)?;
        let span = request.span()?;
        let hub = self.worker.hub();
        if hub.memory().is_exhausted() {
            return Err(CallError::new(ErrorCode::Internal, "the server is short of memory"));
        }
        let page = span.read(hub, &topic);
        if !span.is_of(&page) {
            return Err(ErrorCode::UnrecoverablePosition.into());
        }
        let publications = page.publications.iter().map(|publication| Publication {
            epoch: String::new(),
            ..Publication::of(Codec::Json, publication)
        });
        let result = HistoryResult {
            publications: publications.collect(),
            epoch: page.top.map(|top| top.epoch.to_string()).unwrap_or_default(),
            offset: page.top.map_or(0, |top| top.offset),
        };
        Ok(result.to_json())
    }

    pub(super) fn remove_history(&self, request: &TopicRequest<'_>) -> Outcome {
        let topic = self.with_history(request)?;
        self.worker.hub().remove_history(&topic);
        Ok(nothing())
    }

    fn with_history(&self, request: &TopicRequest<'_>) -> Result<TopicName, CallError> {
        let topic = request.topic(self.bounds())?;
        if self.worker.hub().has_history(&topic) {
            return Ok(topic);
        }
        Err(CallError::new(ErrorCode::NotAvailable, "this topic keeps no history"))
    }

    pub(super) fn who_is_there(&self, request: &TopicRequest<'_>) -> Outcome {
        members(&self.presence_of(request, ITEMS_MAX)?)
    }

    pub(super) fn how_many_are_there(&self, request: &TopicRequest<'_>) -> Outcome {
        let Presence { clients, users, .. } = self.presence_of(request, 0)?;
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let (num_clients, num_users) = (count(clients), count(users));
        Ok(PresenceStatsResult { num_clients, num_users }.to_json())
    }

    fn presence_of(&self, request: &TopicRequest<'_>, limit: usize) -> Result<Presence, CallError> {
        let topic = request.topic(self.bounds())?;
        let presence = self.worker.hub().presence(&topic, limit);
        presence
            .ok_or_else(|| CallError::new(ErrorCode::NotAvailable, "this topic has no presence"))
    }

    /// Lists the topics that have subscribers.
    pub(super) async fn list_topics(&self, request: &ListRequest<'_>) -> Outcome {
        #[derive(Serialize)]
        struct Listed<'a> {
            channels: BTreeMap<&'a str, Listing>,
        }
        let pattern = if request.pattern.is_empty() { "*" } else { &*request.pattern };
        let found = self.subscribed_topics(pattern).await;
        let channels = found.iter().map(|(topic, num_clients)| {
            let listing = Listing { num_clients: *num_clients };
            (topic.as_str(), listing)
        });
        Ok(json(&Listed { channels: channels.collect() }))
    }

    /// Topics of such names with their subscribers, at the price of a look at every topic.
    pub(super) async fn subscribed_topics(&self, pattern: &str) -> Vec<(TopicName, u64)> {
        let mut found = Vec::new();
        for (done, topic) in self.worker.hub().topics().into_iter().enumerate() {
            pause(done).await;
            if !covers(pattern, topic.name().as_str()) {
                continue;
            }
            let count = topic.subscriber_count();
            if count > 0 {
                found.push((topic.name().clone(), count));
            }
        }
        found
    }
}

/// Members by their clients' names, unless there are more than fit into one answer.
fn members(presence: &Presence) -> Outcome {
    if presence.clients > presence.members.len() {
        let detail = format!("more than {ITEMS_MAX} are there; ask for presence_stats");
        return Err(CallError::new(ErrorCode::LimitExceeded, detail));
    }
    let members = presence.members.iter();
    let members = members.map(|peer| (peer.client.to_string(), ClientInfo::of(peer)));
    Ok(PresenceResult { presence: members.collect() }.to_json())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{ErrorCode, Presence, members};
    use crate::hub::Peer;

    #[test]
    fn members_are_all_of_them_or_an_error() {
        let peer = Peer { user: "ann".into(), client: "c".into(), ..Peer::default() };
        let presence = Presence { clients: 1, users: 1, members: vec![Arc::new(peer)] };
        let listed = members(&presence).expect("all are there");
        assert_eq!(listed, br#"{"presence":{"c":{"user":"ann","client":"c"}}}"#);
        let error = members(&Presence { clients: 2, ..presence }).expect_err("one is not");
        assert_eq!(error.code, ErrorCode::LimitExceeded);
    }
}
