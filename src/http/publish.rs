//! POST on a topic: a body becomes a publication.

use http::HeaderMap;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::answer::{self, Acceptance};
use super::body::Content;
use super::connection::Connection;
use super::payload::Declared;
use super::service::{Answer, Checked, Fault, Service};
use crate::auth::Right;
use crate::auth::header::Field;
use crate::hub::{Admission, Draft, IDEMPOTENCY_KEY_LEN_MAX, Publish, TopicName};
use crate::id::Door;
use crate::metrics::{Charge, MemoryKind};
use crate::protocol;
use crate::reason::{Refusal, Refused};
use crate::time::Stamp;

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Why a body was not collected.
enum Collecting {
    Refused(Refusal),
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl Service {
    /// Publishes the request's body to `topic`.
    pub(super) async fn publish(
        &self,
        connection: &Connection,
        topic: &TopicName,
        checked: Checked,
    ) -> Answer {
        let mut bucket = connection.bucket.get();
        let is_in_rate = bucket.take(self.limits.publish_rate_max, Instant::now());
        connection.bucket.set(bucket);
        if !is_in_rate {
            return Err(Refusal::RateLimit.into());
        }
        self.require(Right::Publish, topic, &checked)?;
        let Checked { parts, body, identified, .. } = checked;
        let declared = check_head(&parts.headers)?;
        let limit = (self.limits.message_bytes_max, "limits.message_bytes_max");
        let (data, _) = self.read_body(&parts.headers, body, limit).await?;
        let draft = Draft {
            publisher: identified.identity.publisher(),
            ..Draft::new(protocol::plain::payload(declared.kind(&data)?, &data))
        };
        self.accept(topic, &draft, &parts.headers)
    }

    /// Reads a body of at most so many bytes, which `what` limits. It is on the memory account for
    /// as long as the charge is there.
    pub(super) async fn read_body(
        &self,
        headers: &HeaderMap,
        body: Incoming,
        (limit, what): (usize, &str),
    ) -> Result<(Vec<u8>, Charge), Fault> {
        let too_large = || {
            let message = format!("a body has at most {limit} bytes ({what})");
            Refusal::MessageTooLarge.because(message)
        };
        let announced = Field::of(headers, http::header::CONTENT_LENGTH).one();
        let announced = announced.and_then(|text| text.parse::<u64>().ok());
        if announced.is_some_and(|len| len > limit as u64) {
            return Err(too_large().into());
        }
        let body = self.collect(Limited::new(body, limit));
        match tokio::time::timeout(self.limits.http_idle_timeout, body).await {
            Ok(Err(Collecting::Failed(error))) if error.is::<LengthLimitError>() => {
                Err(too_large().into())
            }
            Ok(Err(Collecting::Failed(error))) => Err(Fault::Body(std::io::Error::other(error))),
            Ok(Err(Collecting::Refused(refusal))) => Err(refusal.into()),
            Ok(Ok(data)) => Ok(data),
            Err(_) => Err(Fault::Body(std::io::ErrorKind::TimedOut.into())),
        }
    }

    /// Collects a body, on the memory account. When memory is used up it is read to
    /// its end all the same, so that the connection can go on, but not kept.
    async fn collect(&self, mut body: Limited<Incoming>) -> Result<(Vec<u8>, Charge), Collecting> {
        let memory = self.worker.hub().memory();
        let mut charge = Charge::new(memory, MemoryKind::Reading, 0);
        let mut data = Some(Vec::new());
        while let Some(frame) = body.frame().await {
            let bytes = frame.map_err(Collecting::Failed)?.into_data().unwrap_or_default();
            data = data.filter(|_| !memory.is_exhausted());
            if let Some(data) = &mut data {
                data.extend_from_slice(&bytes);
            }
            charge.set(data.as_ref().map_or(0, Vec::capacity));
        }
        data.map(|data| (data, charge)).ok_or(Collecting::Refused(Refusal::MemoryLimit))
    }

    fn accept(&self, topic: &TopicName, draft: &Draft, headers: &HeaderMap) -> Answer {
        let len = draft.payload.data().len() as u64;
        let options = Publish {
            idempotency_key: idempotency_key(headers)?,
            ..Publish::new(Stamp::now(), Admission::IfRoom)
        };
        let published = self.worker.hub().publish(topic, draft, options);
        // A drain may have begun while the body came.
        let published = published.map_err(Refusal::from)?;
        let acceptance = if published.duplicate {
            Acceptance::Duplicate
        } else {
            self.worker.metrics().count_publication(Door::Http, len);
            Acceptance::New
        };
        let body = answer::published_body(topic, published.position, acceptance);
        Ok(answer::json(body).map(Content::short))
    }
}

/// What can refuse a publication by its head, before its body is read.
fn check_head(headers: &HeaderMap) -> Result<Declared, Refused> {
    idempotency_key(headers)?;
    Declared::read(headers)
}

/// The idempotency key, if one is given.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    match Field::of(headers, IDEMPOTENCY_KEY) {
        Field::Absent => Ok(None),
        Field::One(key) if !key.is_empty() && key.len() <= IDEMPOTENCY_KEY_LEN_MAX => Ok(Some(key)),
        Field::One(_) | Field::Faulty => {
            let message = format!("Idempotency-Key has 1 to {IDEMPOTENCY_KEY_LEN_MAX} characters");
            Err(Refusal::QueryInvalid.because(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use http::HeaderMap;

    use super::{Draft, Fault, Service, TopicName};
    use crate::admission::Admission;
    use crate::auth::{Access, AuthConfig, Proxies};
    use crate::http::origin::OriginPolicy;
    use crate::hub::{Hub, HubParts, INBOX_LEN_MAX, Inbox, PayloadKind, Start};
    use crate::id::WorkerId;
    use crate::limits::Limits;
    use crate::metrics::Memory;
    use crate::protocol;
    use crate::protocol::centrifugo::Settings;
    use crate::reason::Refusal;
    use crate::worker::{Gate, Portions, WorkerHandle, WorkerParts};

    fn service() -> Service {
        let memory = Arc::new(Memory::new(u64::MAX));
        let hub = Arc::new(Hub::new(HubParts {
            rules: Vec::new(),
            meta_ttl: Duration::ZERO,
            inboxes: vec![Arc::new(Inbox::new(Arc::clone(&memory), || {}))],
            variants: Arc::new(protocol::variants(None)),
            memory,
        }));
        let poll = mio::Poll::new().expect("a poller");
        let access = Arc::new(Access::new(&AuthConfig::default(), None, &[]));
        let settings = Settings::new(&Limits::default(), "node");
        let gate = Gate::new(Arc::clone(&hub), Arc::clone(&access), settings);
        let worker = WorkerHandle::new(WorkerParts {
            id: WorkerId(0),
            hub,
            limits: Arc::default(),
            metrics: Arc::default(),
            registry: poll.registry().try_clone().expect("a registry"),
            drain: Arc::default(),
            gate: Arc::new(gate),
            portions: Portions::default(),
        });
        Service {
            worker,
            limits: Arc::default(),
            access,
            proxies: Arc::new(Proxies::default()),
            admission: Arc::new(Admission::new(9, &Limits::default())),
            origins: Arc::new(OriginPolicy::new(Vec::new()).expect("an empty list")),
            drain: Arc::default(),
            compression: false,
            tls: None,
        }
    }

    #[test]
    fn a_publisher_that_overruns_a_worker_is_refused_until_there_is_room() {
        let service = service();
        let topic = TopicName::new("a", 255).expect("a topic name");
        let hub = service.worker.hub();
        let _subscribed = hub.subscribe(&topic, WorkerId(0), Start::Live, |_| 0);
        let post = |len| {
            let payload = protocol::plain::payload(PayloadKind::Binary, &vec![0; len]);
            let draft = Draft::new(payload);
            match service.accept(&topic, &draft, &HeaderMap::new()) {
                Ok(_) => None,
                Err(Fault::Refused(refused)) => Some(refused.refusal),
                Err(Fault::Body(_)) => Some(Refusal::Internal),
            }
        };
        assert_eq!(post(INBOX_LEN_MAX), None, "there was room when it came");
        assert_eq!(post(1), Some(Refusal::PublisherOverrun));
        let inbox = hub.inbox(WorkerId(0));
        let arrival = inbox.pop().expect("the first is there");
        assert!(inbox.release(&arrival.publication));
        assert_eq!(post(1), None);
    }
}
