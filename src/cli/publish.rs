//! `fanwire pub`: publishes an argument, standard input, or its lines, in order and each once.

use std::ffi::OsString;
use std::hash::{BuildHasher as _, RandomState};
use std::io::IsTerminal as _;
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use super::argument::PublishArguments;
use super::backoff::{Backoff, random};
use super::client::{Client, ClientError, ask, read};
use super::output::Output;

/// Attempts for one publication: with the backoff's delays about half a minute.
const ATTEMPTS_MAX: u32 = 10;

/// Attempts that fail before a person is told.
const ATTEMPTS_QUIET: u32 = 3;

/// Longest payload that any server can be configured to take.
const PAYLOAD_LEN_MAX: u64 = 1 << 30;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

pub(super) fn run(arguments: PublishArguments) -> anyhow::Result<ExitCode> {
    let client = arguments.client.client()?;
    let runtime = super::runtime()?;
    let published = runtime.block_on(publish(arguments, client));
    // Standard input may still be waited for; the process does not.
    runtime.shutdown_background();
    published.map(|()| ExitCode::SUCCESS)
}

async fn publish(arguments: PublishArguments, client: Client) -> anyhow::Result<()> {
    let mut output = arguments.json.then(Output::new);
    let mut publisher = Publisher::new(client, &arguments.topic);
    publisher.is_binary = arguments.binary;
    let mut input = Input::new(arguments);
    while let Some(payload) = input.next().await? {
        let answer = publisher.publish(payload).await?;
        if let Some(output) = &mut output {
            output.write(answer.trim_ascii_end())?;
            output.write(b"\n")?;
            output.flush()?;
        }
    }
    Ok(())
}

/// Where payloads come from.
enum Input {
    Argument(OsString),
    Whole,
    Lines(BufReader<tokio::io::Stdin>),
    Done,
}

impl Input {
    fn new(arguments: PublishArguments) -> Self {
        match arguments.data {
            Some(data) => Self::Argument(data),
            None if arguments.lines => Self::Lines(BufReader::new(tokio::io::stdin())),
            None => Self::Whole,
        }
    }

    async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        match std::mem::replace(self, Self::Done) {
            Self::Argument(data) => Ok(Some(data.into_vec().into())),
            Self::Whole => whole().await.map(Some),
            Self::Lines(mut input) => {
                let line = line(&mut input).await?;
                *self = Self::Lines(input);
                Ok(line)
            }
            Self::Done => Ok(None),
        }
    }
}

const READ_FAILED: &str = "cannot read standard input";

async fn whole() -> anyhow::Result<Bytes> {
    if std::io::stdin().is_terminal() {
        eprintln!("fanwire: publishing standard input; end it with Ctrl-D");
    }
    let mut bytes = Vec::new();
    let mut input = tokio::io::stdin().take(PAYLOAD_LEN_MAX + 1);
    input.read_to_end(&mut bytes).await.context(READ_FAILED)?;
    bounded(bytes)
}

async fn line(input: &mut BufReader<tokio::io::Stdin>) -> anyhow::Result<Option<Bytes>> {
    let mut bytes = Vec::new();
    let mut input = input.take(PAYLOAD_LEN_MAX + 2);
    let len = input.read_until(b'\n', &mut bytes).await;
    if len.context(READ_FAILED)? == 0 {
        return Ok(None);
    }
    strip_line_end(&mut bytes);
    bounded(bytes).map(Some)
}

/// Takes `\n` or `\r\n` off the end.
fn strip_line_end(bytes: &mut Vec<u8>) {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
}

fn bounded(bytes: Vec<u8>) -> anyhow::Result<Bytes> {
    anyhow::ensure!(
        bytes.len() as u64 <= PAYLOAD_LEN_MAX,
        "a publication has at most {PAYLOAD_LEN_MAX} bytes"
    );
    Ok(bytes.into())
}

/// Publishes to one topic over one connection, which it opens again when it breaks.
struct Publisher {
    client: Client,
    path: String,
    is_binary: bool,
    connection: Option<SendRequest<Full<Bytes>>>,
    /// Once it has worked, losing the server is worth a wait.
    was_connected: bool,
    keys: IdempotencyKeys,
}

impl Publisher {
    fn new(client: Client, topic: &str) -> Self {
        Self {
            path: client.topic_path(topic),
            client,
            is_binary: false,
            connection: None,
            was_connected: false,
            keys: IdempotencyKeys::new(),
        }
    }

    /// Publishes once, however often it has to try; returns the server's answer.
    async fn publish(&mut self, payload: Bytes) -> anyhow::Result<Bytes> {
        let key = self.keys.next();
        let mut backoff = Backoff::new(random());
        let mut attempt = 1;
        loop {
            let error = match self.attempt(&key, payload.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let can_wait = self.was_connected || !matches!(error, ClientError::Connect { .. });
            if !error.is_transient() || !can_wait {
                return Err(error.into());
            }
            if attempt == ATTEMPTS_MAX {
                let failed = format!("not published after {ATTEMPTS_MAX} attempts");
                return Err(anyhow::Error::new(error).context(failed));
            }
            if attempt == ATTEMPTS_QUIET {
                super::warn(&format!("{error}; still trying"));
            }
            attempt += 1;
            tokio::time::sleep(backoff.delay(error.retry_after())).await;
        }
    }

    async fn attempt(&mut self, key: &str, payload: Bytes) -> Result<Bytes, ClientError> {
        let is_text = !self.is_binary && simdutf8::basic::from_utf8(&payload).is_ok();
        let request = self
            .client
            .request(Method::POST, &self.path)
            .header(CONTENT_TYPE, if is_text { TEXT } else { BINARY })
            .header("idempotency-key", key)
            .body(Full::new(payload))
            .map_err(|_| ClientError::Foreign("the address makes no request"))?;
        let mut connection = self.connection().await?;
        let response = ask(&mut connection, request).await?;
        let answer = read(response).await?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// The kept connection if the server has kept it too, else a new one.
    async fn connection(&mut self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        if let Some(mut connection) = self.connection.take()
            && connection.ready().await.is_ok()
        {
            return Ok(connection);
        }
        let connection = self.client.connect().await?;
        self.was_connected = true;
        Ok(connection)
    }
}

/// Keys that no other process makes: a repeat after a lost answer is not published twice.
struct IdempotencyKeys {
    process: u64,
    count: u64,
}

impl IdempotencyKeys {
    fn new() -> Self {
        let process = RandomState::new().hash_one(std::time::SystemTime::now());
        Self { process, count: 0 }
    }

    fn next(&mut self) -> String {
        self.count += 1;
        format!("{:016x}-{}", self.process, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::{IdempotencyKeys, strip_line_end};

    #[test]
    fn a_line_loses_its_end_and_nothing_else() {
        for (line, expected) in
            [("a\n", "a"), ("a\r\n", "a"), ("a", "a"), ("a\r", "a\r"), ("\n", ""), (" a \n", " a ")]
        {
            let mut bytes = line.as_bytes().to_vec();
            strip_line_end(&mut bytes);
            assert_eq!(bytes, expected.as_bytes(), "{line:?}");
        }
    }

    #[test]
    fn keys_differ_between_publications_and_processes() {
        let (mut one, mut other) = (IdempotencyKeys::new(), IdempotencyKeys::new());
        let keys = [one.next(), one.next(), other.next()];
        assert_ne!(keys[0], keys[1]);
        assert_ne!(keys[0], keys[2]);
        assert!(keys[0].len() <= 128);
    }
}
