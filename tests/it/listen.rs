//! What accepted sockets have from their listener: the one look from inside, where no client sees it.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use fanwire::limits::Limits;
use fanwire::listen;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

#[test]
fn accepted_sockets_inherit_the_options_of_their_listener() {
    let write_timeout = Duration::from_secs(7);
    let limits = Limits { write_timeout, ..Limits::default() };
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = listen::bind(any_port, &limits).expect("a free port");
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let accepted = runtime.block_on(async {
        let listener = TcpListener::from_std(listener).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        socket.into_std().unwrap()
    });
    let accepted = SockRef::from(&accepted);
    assert!(accepted.tcp_nodelay().unwrap());
    assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(write_timeout));
    assert_eq!(accepted.tcp_notsent_lowat().unwrap(), 128 * 1024);
}

#[test]
fn a_port_that_the_kernel_chose_is_held_until_all_listen() {
    // Without SO_REUSEADDR, as the kernel itself looks when it chooses a port for somebody.
    let take = |address: SocketAddr| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&address.into())
    };
    let place = listen::probe((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
    let address = place.address;
    assert_eq!(take(address).expect_err("it is held").kind(), ErrorKind::AddrInUse);
    let workers = [(); 2].map(|()| listen::bind(address, &Limits::default()).unwrap());
    drop(place);
    assert_eq!(take(address).expect_err("they listen").kind(), ErrorKind::AddrInUse);
    drop(workers);
    take(address).expect("it is nobody's");
}
