//! The listener: one request per connection, all of it within a deadline.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::State;
use super::answer::{Answer, answer};

/// Connections at once; the next ones wait in the kernel's queue until one ends.
const CONNECTIONS_MAX: usize = 256;
/// To the end of the request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// From accepting a connection to its end, so that nobody can sit on a place.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two tries to accept when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
const HEAD_LEN_MAX: usize = 16_384;
const BODY_LEN_MAX: usize = 16_384;

/// Answers on `listener` until dropped, which also cuts what is under way.
///
/// # Cancel safety
/// It holds nothing but its connections.
pub async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        // Both arms are cancel safe: tokio documents it of `accept` and `join_next`.
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(exchange(socket, Arc::clone(&state)));
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin door cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection; ends with its answer or at the deadline.
async fn exchange(socket: TcpStream, state: Arc<State>) {
    let service = service_fn(move |request| respond(Arc::clone(&state), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LEN_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service);
    match timeout(EXCHANGE_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an admin connection failed"),
        Err(_) => tracing::debug!("an admin connection took too long"),
    }
}

async fn respond(state: Arc<State>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    // Bytes left unread would make the kernel reset the connection and destroy the answer.
    Limited::new(body, BODY_LEN_MAX).collect().await.ok();
    Ok(answer(&state, &head))
}
