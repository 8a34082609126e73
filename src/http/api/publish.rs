//! Publishing for the application, to one topic or to many.

use std::sync::Arc;

use serde::Serialize;

use super::answer::{self, CallError, List, Outcome, json};
use super::pause;
use super::request::{Content, PublishRequest};
use crate::http::service::Service;
use crate::hub::{Admission, Draft, Publish, Published, TopicName};
use crate::id::Door;
use crate::time::Stamp;

impl Service {
    pub(super) fn publish_one(&self, request: &mut PublishRequest<'_>) -> Outcome {
        let topic = request.topic(self.bounds())?;
        let draft = draft(request.content(self.bounds())?);
        self.publish_draft(&topic, &draft, request)
    }

    /// Publishes the same to many topics: `{"responses":[..]}`, in their order.
    pub(super) async fn broadcast(&self, request: &mut PublishRequest<'_>) -> Outcome {
        let draft = draft(request.content(self.bounds())?);
        let mut responses = List::new("responses");
        for (done, topic) in request.topics(self.bounds())?.enumerate() {
            pause(done).await;
            let outcome = topic.and_then(|topic| self.publish_draft(&topic, &draft, request));
            self.count(&outcome);
            responses.push(&answer::one(&outcome));
        }
        Ok(responses.end())
    }

    fn publish_draft(
        &self,
        topic: &TopicName,
        draft: &Draft,
        request: &PublishRequest<'_>,
    ) -> Outcome {
        let options = Publish {
            idempotency_key: request.idempotency_key()?,
            version: request.version()?,
            reach: request.reach(),
            ..Publish::new(Stamp::now(), Admission::IfRoom)
        };
        let published = self.worker.hub().publish(topic, draft, options);
        let published = published.map_err(CallError::from)?;
        if !published.duplicate {
            let len = draft.payload.data().len() as u64;
            self.worker.metrics().count_publication(Door::Http, len);
        }
        Ok(accepted(published))
    }
}

fn draft(Content { payload, tags }: Content) -> Draft {
    Draft { tags: tags.map(Arc::new), ..Draft::new(payload) }
}

/// `{"offset","epoch"}`, and nothing where it is not kept.
fn accepted(published: Published) -> Vec<u8> {
    #[derive(Serialize)]
    struct Place<'a> {
        offset: u64,
        epoch: &'a str,
    }
    match &published.position {
        Some(at) => json(&Place { offset: at.offset, epoch: at.epoch.as_str() }),
        None => answer::nothing(),
    }
}
