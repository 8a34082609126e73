//! An independent WebSocket library as the client: what our own client cannot get wrong with us.

use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, handshake};
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::harness::{DEADLINE, Server};

type Peer = FragmentCollector<TokioIo<Upgraded>>;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn connect(server: &Server, target: &str) -> Peer {
    let request = Request::get(target)
        .header("Host", server.addr.to_string())
        .header("Upgrade", "websocket")
        .header("Connection", "upgrade")
        .header("Sec-WebSocket-Key", handshake::generate_key())
        .header("Sec-WebSocket-Version", "13")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let stream = TcpStream::connect(server.addr).await.unwrap();
    let executor = TokioExecutor::new();
    let opened = handshake::client(&executor, request, stream).await;
    let (socket, _) = opened.expect("the server agrees to the handshake");
    FragmentCollector::new(socket)
}

async fn read(peer: &mut Peer) -> (OpCode, Vec<u8>) {
    let frame = timeout(DEADLINE, peer.read_frame()).await;
    let frame = frame.expect("in time").expect("a valid frame");
    (frame.opcode, frame.payload.to_vec())
}

#[test]
fn a_library_client_gets_what_it_publishes() {
    let server = Server::start("");
    runtime().block_on(async {
        let mut peer = connect(&server, "/topics/a").await;
        for len in [0, 1, 125, 126, 65535, 65536] {
            let payload = vec![b'x'; len];
            let frame = Frame::text(Payload::Borrowed(&payload));
            peer.write_frame(frame).await.unwrap();
            assert_eq!(read(&mut peer).await, (OpCode::Text, payload.clone()));
            let frame = Frame::binary(Payload::Borrowed(&payload));
            peer.write_frame(frame).await.unwrap();
            assert_eq!(read(&mut peer).await, (OpCode::Binary, payload));
        }
    });
}

#[test]
fn library_clients_see_one_order() {
    let server = Server::start_with("", &["--workers", "2"]);
    runtime().block_on(async {
        let mut peers = Vec::new();
        for _ in 0..4 {
            peers.push(connect(&server, "/topics/a").await);
        }
        for round in 0..50 {
            for (index, peer) in peers.iter_mut().enumerate() {
                let text = format!("{index}:{round}");
                let frame = Frame::text(Payload::Borrowed(text.as_bytes()));
                peer.write_frame(frame).await.unwrap();
            }
        }
        let mut orders = Vec::new();
        for peer in &mut peers {
            let mut order = Vec::new();
            for _ in 0..200 {
                order.push(read(peer).await.1);
            }
            orders.push(order);
        }
        assert!(orders.iter().all(|order| *order == orders[0]));
    });
}

#[test]
fn a_library_client_closes_cleanly() {
    let server = Server::start("");
    runtime().block_on(async {
        let mut peer = connect(&server, "/topics/a").await;
        peer.write_frame(Frame::close(1001, b"away")).await.unwrap();
        let (opcode, payload) = read(&mut peer).await;
        assert_eq!(opcode, OpCode::Close);
        assert_eq!(payload[..2], 1001_u16.to_be_bytes());
    });
    server.await_close_counted("1001", "client", 1);
}
