//! `/api/{method}`: what an application's own servers ask for, in the words of the Centrifugo
//! server API. Only for holders of an API key, wherever they come from.
//!
//! `request` and `answer` are pure; the rest asks the hub and the workers.

mod answer;
mod procedure;
mod publish;
mod request;
mod topic;
mod user;

#[cfg(test)]
mod tests;

use http::request::Parts;
use hyper::body::Incoming;
use serde_json::value::RawValue;

pub use procedure::Procedure;

use super::body::Content;
use super::payload::Declared;
use super::service::{Answer, Service};
use crate::metrics::{Charge, MemoryKind};
use crate::protocol::centrifugo::ErrorCode;
use crate::reason::{Refusal, Refused};
use answer::{CallError, ErrorMode, List, Outcome};
use request::{BareRequest, BatchRequest, Bounds, decode};

/// Longest request, in bytes.
const REQUEST_LEN_MAX: usize = 4 * 1024 * 1024;

/// What a batch may be answered with, in bytes; what would come after it is not carried out.
const REPLIES_LEN_MAX: usize = 16 * 1024 * 1024;

/// Things done before other work of the thread has its turn.
const COUNT_PER_TURN: usize = 64;

impl Service {
    /// Answers a call.
    pub(super) async fn call(&self, procedure: Procedure, parts: &Parts, body: Incoming) -> Answer {
        self.access.require_api_key(parts)?;
        Declared::read(&parts.headers)?;
        let limit = (REQUEST_LEN_MAX, "of the server API");
        let (body, _charge) = self.read_body(&parts.headers, body, limit).await?;
        let text = simdutf8::basic::from_utf8(&body);
        let text = text.map_err(|_| Refusal::QueryInvalid.because("JSON is UTF-8"))?;
        let response = match procedure {
            Procedure::Batch => super::answer::json(self.batch(text).await?.into()),
            procedure => {
                let outcome = self.carry_out(procedure, text).await?;
                self.count(&outcome);
                answer::whole(&outcome, ErrorMode::of(&parts.headers))
            }
        };
        Ok(response.map(|body| Content::long(body, self.worker.hub().memory())))
    }

    /// Carries out anything but a batch.
    ///
    /// # Errors
    /// For a request that is not one.
    async fn carry_out(&self, procedure: Procedure, text: &str) -> Result<Outcome, Refused> {
        Ok(match procedure {
            Procedure::Publish => self.publish_one(&mut decode(text)?),
            Procedure::Broadcast => self.broadcast(&mut decode(text)?).await,
            Procedure::Subscribe
            | Procedure::Unsubscribe
            | Procedure::Disconnect
            | Procedure::Refresh => self.tell_user(procedure, &decode(text)?).await,
            Procedure::Presence => self.who_is_there(&decode(text)?),
            Procedure::PresenceStats => self.how_many_are_there(&decode(text)?),
            Procedure::History => self.read_history(&decode(text)?),
            Procedure::HistoryRemove => self.remove_history(&decode(text)?),
            Procedure::Channels => self.list_topics(&decode(text)?).await,
            Procedure::Info => {
                let BareRequest {} = decode(text)?;
                self.info().await
            }
            Procedure::Rpc => {
                let BareRequest {} = decode(text)?;
                Err(CallError::new(ErrorCode::NotAvailable, "there are no procedures here"))
            }
            Procedure::Batch => Err(CallError::bad("a batch has no batches in it")),
        })
    }

    /// Carries out commands one after the other; `{"replies":[..]}`.
    async fn batch(&self, text: &str) -> Result<Vec<u8>, Refused> {
        let BatchRequest { commands: request::Listed(commands) } = decode(text)?;
        let mut replies = List::new("replies");
        let mut charge = Charge::new(self.worker.hub().memory(), MemoryKind::Outbox, 0);
        for (done, command) in commands.into_iter().enumerate() {
            pause(done).await;
            if replies.len() > REPLIES_LEN_MAX {
                let detail = format!("a batch is answered with {REPLIES_LEN_MAX} bytes at most");
                let outcome = Err(CallError::new(ErrorCode::LimitExceeded, detail));
                self.count(&outcome);
                replies.push(&answer::one(&outcome));
                break;
            }
            replies.push(&self.reply(command).await);
            charge.set(replies.len());
        }
        Ok(replies.end())
    }

    /// `{"publish":{..}}`, `{"error":{..}}`.
    async fn reply(&self, command: &RawValue) -> Vec<u8> {
        let (name, outcome) = match request::command(command) {
            Ok((name, request)) => {
                let outcome = match Procedure::parse(&name) {
                    Some(procedure) => {
                        let carried_out = self.carry_out(procedure, request.get()).await;
                        carried_out.unwrap_or_else(|refused| Err(CallError::bad(refused.message)))
                    }
                    None => Err(CallError::bad("there is no such method")),
                };
                (name, outcome)
            }
            Err(error) => ("".into(), Err(error)),
        };
        self.count(&outcome);
        answer::named(&name, &outcome)
    }

    /// Counts a call that failed.
    fn count(&self, outcome: &Outcome) {
        if let Err(error) = outcome {
            self.worker.gate().count_refused(error.code);
        }
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            message_len_max: self.limits.message_bytes_max,
            topic_name_len_max: self.limits.topic_name_bytes_max,
        }
    }
}

/// Gives other work of the thread its turn every so often.
async fn pause(done: usize) {
    if done > 0 && done.is_multiple_of(COUNT_PER_TURN) {
        tokio::task::yield_now().await;
    }
}
