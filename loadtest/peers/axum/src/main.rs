//! The plain door as the examples of axum have it: a task per connection and a
//! `tokio::sync::broadcast` channel per topic.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::broadcast::{Receiver, Sender, channel, error::RecvError};

/// Publications that a subscriber may be behind.
const CAPACITY: usize = 1024;

type Topics = Arc<Mutex<HashMap<String, Sender<Message>>>>;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app = Router::new().route("/topics/{topic}", get(open)).with_state(Topics::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|socket| {
        // The only thing that can be wrong is that the socket is gone; reading will say so.
        let _ = socket.set_nodelay(true);
    });
    axum::serve(listener, app).await
}

async fn open(
    State(topics): State<Topics>,
    Path(topic): Path<String>,
    RawQuery(query): RawQuery,
    upgrade: WebSocketUpgrade,
) -> Response {
    let sender = {
        let mut topics = topics.lock().expect("nobody panics with it");
        topics.entry(topic).or_insert_with(|| channel(CAPACITY).0).clone()
    };
    // Subscribed before the answer leaves: nothing published after it is missed.
    let receiver = (query.as_deref() != Some("echo=false")).then(|| sender.subscribe());
    upgrade.on_upgrade(move |socket| async move {
        match receiver {
            Some(receiver) => subscriber(socket, sender, receiver).await,
            None => publisher(socket, &sender).await,
        }
    })
}

async fn publisher(mut socket: WebSocket, sender: &Sender<Message>) {
    while let Some(Ok(message)) = socket.recv().await {
        publish(sender, message);
    }
}

async fn subscriber(
    mut socket: WebSocket,
    sender: Sender<Message>,
    mut receiver: Receiver<Message>,
) {
    loop {
        tokio::select! {
            publication = receiver.recv() => match publication {
                Ok(message) => if socket.send(message).await.is_err() { return },
                Err(RecvError::Lagged(_) | RecvError::Closed) => return,
            },
            message = socket.recv() => match message {
                Some(Ok(message)) => publish(&sender, message),
                _ => return,
            },
        }
    }
}

fn publish(sender: &Sender<Message>, message: Message) {
    if matches!(message, Message::Text(_) | Message::Binary(_)) {
        // An error means that nobody subscribes.
        let _ = sender.send(message);
    }
}
