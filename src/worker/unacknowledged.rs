//! How much of what was written the peer has not taken yet, by the kernel's account.
#![expect(unsafe_code, reason = "the standard library has no name for this ioctl")]

use std::os::fd::RawFd;

/// Bytes in the socket's send queue that are not acknowledged; 0 if the kernel does not tell.
///
/// A slow peer takes bytes long before there is room to write again, so this tells slow from dead.
pub(super) fn unacknowledged_len(socket: RawFd) -> u32 {
    let mut len: libc::c_int = 0;
    // SAFETY: TIOCOUTQ (SIOCOUTQ on sockets) writes one int to where its argument points, and
    // nothing if the descriptor is no socket or not open.
    let result = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &raw mut len) };
    if result == 0 { u32::try_from(len).unwrap_or(0) } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::unacknowledged_len;

    #[test]
    fn what_fills_the_peers_buffer_stays_unacknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut socket = TcpStream::connect(address).expect("it listens");
        let _peer = listener.accept().expect("it connected");
        assert_eq!(unacknowledged_len(socket.as_raw_fd()), 0);
        socket.set_nonblocking(true).expect("a socket");
        while socket.write(&[0; 4096]).is_ok() {}
        assert!(unacknowledged_len(socket.as_raw_fd()) > 0);
    }
}
