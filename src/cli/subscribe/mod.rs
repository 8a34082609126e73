//! `fanwire sub`: prints publications of some topics, each over its own stream.
//!
//! A stream that breaks is opened again after a backoff and recovers from the last position seen.

mod line;
mod stream;

use std::process::ExitCode;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::ACCEPT;
use http::{HeaderValue, Method};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::UsageError;
use super::argument::SubscribeArguments;
use super::backoff::{Backoff, DELAY_MAX, random};
use super::client::{Client, ClientError, ask, has_type};
use super::output::Output;
use line::Lines;
use stream::{Show, Stream};

const NDJSON: &str = "application/x-ndjson";

/// A server speaks at least every 15 s; one that is silent for longer than this is gone.
const SILENCE_MAX: Duration = Duration::from_secs(40);

/// Lines that wait for standard output; a reader that is slower slows its streams.
const QUEUE_COUNT_MAX: usize = 256;

pub(super) fn run(arguments: SubscribeArguments) -> anyhow::Result<ExitCode> {
    if arguments.since.is_some() && arguments.topics.len() > 1 {
        let text = "--since is a position in one topic: subscribe to one topic with it";
        return Err(UsageError(text.to_owned()).into());
    }
    let client = arguments.client.client()?;
    super::runtime()?.block_on(subscribe(arguments, client))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs until a stream fails for good or nobody reads the output.
async fn subscribe(arguments: SubscribeArguments, client: Client) -> anyhow::Result<()> {
    let show = if arguments.json { Show::Objects } else { Show::Data };
    let (tx, mut rx) = mpsc::channel(QUEUE_COUNT_MAX);
    let mut streams = JoinSet::new();
    for topic in arguments.topics {
        let path = client.topic_path(&topic);
        let mut follower = Follower {
            client: client.clone(),
            path,
            stream: Stream::new(topic, arguments.since, show),
            lines: tx.clone(),
            is_failure_told: false,
        };
        streams.spawn(async move { follower.follow().await });
    }
    let mut output = Output::new();
    loop {
        // Both arms are cancel safe: the channel's `recv` and the set's `join_next`.
        tokio::select! {
            biased;
            Some(line) = rx.recv() => {
                output.write(&line)?;
                while let Ok(line) = rx.try_recv() {
                    output.write(&line)?;
                }
                output.flush()?;
            }
            Some(ended) = streams.join_next() => {
                // What came before the failure is printed before it is told.
                while let Ok(line) = rx.try_recv() {
                    output.write(&line)?;
                }
                output.flush()?;
                return Err(ended?.into());
            }
        }
    }
}

/// One topic's stream and the way to the output.
struct Follower {
    client: Client,
    path: String,
    stream: Stream,
    lines: mpsc::Sender<Bytes>,
    /// Failures in a row are told once.
    is_failure_told: bool,
}

/// What ends a topic's stream for good.
#[derive(Debug, thiserror::Error)]
#[error("{topic}")]
struct FollowError {
    topic: String,
    #[source]
    source: ClientError,
}

impl Follower {
    /// Follows the topic over as many connections as it takes; ends with what no retry can mend.
    async fn follow(&mut self) -> FollowError {
        let mut backoff = Backoff::new(random());
        loop {
            let began = Instant::now();
            let Err(error) = self.connect_and_print().await;
            if !is_retried(&error) {
                let topic = self.stream.topic().to_owned();
                return FollowError { topic, source: error };
            }
            // A server that takes a connection only to end it is not hurried.
            if began.elapsed() >= DELAY_MAX {
                backoff.reset();
            }
            let delay = backoff.delay(error.retry_after());
            if !std::mem::replace(&mut self.is_failure_told, true) {
                let error = anyhow::Error::new(error);
                super::warn(&format!("{}: {error:#}; trying again", self.stream.topic()));
            }
            sleep(delay).await;
        }
    }

    async fn connect_and_print(&mut self) -> Result<std::convert::Infallible, ClientError> {
        let path = match self.stream.since() {
            Some(since) => format!("{}?since={since}", self.path),
            None => self.path.clone(),
        };
        let request = self
            .client
            .request(Method::GET, &path)
            .header(ACCEPT, HeaderValue::from_static(NDJSON))
            .body(Full::default())
            .map_err(|_| ClientError::Foreign("the address makes no request"))?;
        let mut connection = self.client.connect().await?;
        let response = ask(&mut connection, request).await?;
        if !has_type(response.headers(), NDJSON) {
            return Err(ClientError::Foreign("its answer is no ndjson stream"));
        }
        self.print(response.into_body()).await
    }

    async fn print(&mut self, mut body: Incoming) -> Result<std::convert::Infallible, ClientError> {
        let mut lines = Lines::new(BytesMut::new());
        loop {
            let frame = timeout(SILENCE_MAX, body.frame())
                .await
                .map_err(|_| ClientError::Silent(SILENCE_MAX))?
                .ok_or(ClientError::Ended)?
                .map_err(ClientError::Broken)?;
            let Ok(bytes) = frame.into_data() else { continue };
            lines.push(&bytes)?;
            while let Some(line) = lines.next() {
                let seen = self.stream.on_line(&line)?;
                self.is_failure_told = false;
                if let Some(warning) = seen.warning {
                    super::warn(&format!("{}: {warning}", self.stream.topic()));
                }
                // The receiver lives as long as this task does.
                if let Some(print) = seen.print
                    && self.lines.send(print).await.is_err()
                {
                    return Err(ClientError::Ended);
                }
            }
        }
    }
}

/// A refusal of 4xx other than 429 is the client's fault and stays; the rest may pass.
fn is_retried(error: &ClientError) -> bool {
    match error {
        ClientError::Refused(refused) => refused.status == 429 || refused.status >= 500,
        error => error.is_transient(),
    }
}
