//! A small server of the tests: what publishers send goes on to subscribers as a test wants it.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Subscribers by topic.
type Topics = Mutex<HashMap<String, Vec<TcpStream>>>;

/// What makes a publication's bytes for subscribers of its number, from 1, and its payload; `None` =
/// it is not passed on.
pub(crate) trait Encode:
    Fn(usize, Vec<u8>) -> Option<Vec<u8>> + Send + Sync + 'static
{
}

impl<F: Fn(usize, Vec<u8>) -> Option<Vec<u8>> + Send + Sync + 'static> Encode for F {}

/// What the tester's requests are answered with; publishers' paths have a query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answers {
    pub(crate) subscriber: &'static str,
    pub(crate) publisher: &'static str,
    /// What every subscriber must ask for.
    pub(crate) wanted: &'static str,
}

/// Serves for as long as the test runs.
pub(crate) fn serve(answers: Answers, encode: impl Encode) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let shared = Arc::new((Topics::default(), encode));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = Arc::clone(&shared);
            thread::spawn(move || connection(stream, answers, &shared.0, &shared.1));
        }
    });
    address
}

/// Ends with its client, and with `None` then.
fn connection(
    mut stream: TcpStream,
    answers: Answers,
    topics: &Topics,
    encode: &impl Encode,
) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let head = head(&mut stream)?;
    let path = head.split(' ').nth(1)?;
    let Some((topic, _)) = path.split_once('?') else {
        assert!(head.contains(answers.wanted), "{head}");
        let mut topics = topics.lock().ok()?;
        stream.write_all(answers.subscriber.as_bytes()).ok()?;
        topics.entry(path.to_owned()).or_default().push(stream);
        return Some(());
    };
    stream.write_all(answers.publisher.as_bytes()).ok()?;
    for number in 1.. {
        let payload = payload(&mut stream)?;
        let Some(bytes) = encode(number, payload) else { continue };
        for subscriber in topics.lock().ok()?.get_mut(topic)? {
            subscriber.write_all(&bytes).ok();
        }
    }
    None
}

fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// Of one frame: the tester's payloads here are short, and its mask key is zero.
fn payload(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 6];
    stream.read_exact(&mut head).ok()?;
    let mut payload = vec![0; usize::from(head[1] & 0x7F)];
    stream.read_exact(&mut payload).ok()?;
    Some(payload)
}
