//! What the application has done to users' sessions, and how many there are.

use std::fs;

use serde::Serialize;

use super::answer::{CallError, Outcome, json, nothing};
use super::procedure::Procedure;
use super::request::UserRequest;
use crate::http::service::Service;
use crate::protocol::centrifugo::ErrorCode;
use crate::time::Stamp;

/// Where the kernel tells what this machine is called.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

impl Service {
    /// Carries out what is about the sessions of one user; answers when all workers have.
    pub(super) async fn tell_user(
        &self,
        procedure: Procedure,
        request: &UserRequest<'_>,
    ) -> Outcome {
        let whom = request.whom()?;
        let errand = match procedure {
            Procedure::Subscribe => request.subscribe(self.bounds(), Stamp::now())?,
            Procedure::Unsubscribe => request.unsubscribe(self.bounds())?,
            Procedure::Refresh => request.refresh()?,
            _ => request.disconnect()?,
        };
        self.worker.gate().run_errand(whom, errand).await.map_err(CallError::from)?;
        Ok(nothing())
    }

    /// Tells of the one node that there is.
    pub(super) async fn info(&self) -> Outcome {
        #[derive(Serialize)]
        struct Info<'a> {
            nodes: [Node<'a>; 1],
        }
        #[derive(Serialize)]
        struct Node<'a> {
            uid: &'a str,
            name: &'a str,
            version: &'a str,
            num_clients: usize,
            num_users: usize,
            num_subs: u64,
            num_channels: usize,
            uptime: u64,
        }
        let gate = self.worker.gate();
        let headcount = gate.headcount().await;
        let headcount = headcount.ok_or(ErrorCode::Internal)?;
        let name = fs::read_to_string(HOST_NAME_FILE).unwrap_or_default();
        let name = name.trim();
        let node = Node {
            uid: gate.node(),
            name: if name.is_empty() { "fanwire" } else { name },
            version: concat!("Fanwire ", env!("CARGO_PKG_VERSION")),
            num_clients: headcount.clients,
            num_users: headcount.users,
            num_subs: headcount.subscriptions,
            num_channels: self.subscribed_topics("*").await.len(),
            uptime: gate.uptime().as_secs(),
        };
        Ok(json(&Info { nodes: [node] }))
    }
}
