//! A TCP proxy whose connections can be cut.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Forwards every connection to one server until cut; new connections work again after a cut.
#[derive(Debug)]
pub(crate) struct CutProxy {
    pub(crate) addr: SocketAddr,
    links: Arc<Mutex<Vec<TcpStream>>>,
}

impl CutProxy {
    /// Starts the proxy; its threads end with the test process.
    pub(crate) fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let links = Arc::new(Mutex::new(Vec::new()));
        let held = Arc::clone(&links);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // The server may be gone; its client then sees a connection that ends at once.
                let _ = link(client, server, &held);
            }
        });
        Self { addr, links }
    }

    /// Ends every connection of this moment in both directions.
    pub(crate) fn cut(&self) {
        for stream in self.links.lock().unwrap().drain(..) {
            // An error means that the connection has ended already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn link(client: TcpStream, server: SocketAddr, held: &Mutex<Vec<TcpStream>>) -> io::Result<()> {
    let upstream = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let ends = [client.try_clone()?, upstream.try_clone()?];
    held.lock().unwrap().extend(ends);
    let (client_reads, upstream_reads) = (client.try_clone()?, upstream.try_clone()?);
    thread::spawn(move || forward(client_reads, upstream));
    thread::spawn(move || forward(upstream_reads, client));
    Ok(())
}

fn forward(mut from: TcpStream, mut to: TcpStream) {
    let mut chunk = [0; 16384];
    while let Ok(len @ 1..) = from.read(&mut chunk) {
        if to.write_all(&chunk[..len]).is_err() {
            break;
        }
    }
    // An error means that the other end has gone first.
    let _ = to.shutdown(Shutdown::Write);
}

#[test]
fn a_cut_ends_connections_and_new_ones_work() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = CutProxy::to(server.local_addr().unwrap());
    for _ in 0..2 {
        let mut client = TcpStream::connect(proxy.addr).unwrap();
        let (mut accepted, _) = server.accept().unwrap();
        accepted.write_all(b"a").unwrap();
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        proxy.cut();
        assert_eq!(client.read(&mut byte).unwrap(), 0);
        assert_eq!(accepted.read(&mut byte).unwrap(), 0);
    }
}
