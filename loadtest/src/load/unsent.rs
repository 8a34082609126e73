//! Bytes that a socket did not take yet.

use std::io::{self, ErrorKind, Write};

/// The queue of one connection; empty, and without memory, nearly always.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    bytes: Vec<u8>,
    /// How many of `bytes` have gone out.
    sent: usize,
}

impl Unsent {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends without writing.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes `bytes` behind what waits already, and keeps what the socket does not take.
    ///
    /// # Errors
    /// The socket is gone.
    #[inline]
    pub(crate) fn write(&mut self, socket: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        if !self.is_empty() {
            self.push(bytes);
            return self.flush(socket);
        }
        let sent = write_some(socket, bytes)?;
        if sent < bytes.len() {
            self.push(&bytes[sent..]);
        }
        Ok(())
    }

    /// Writes as much as the socket takes.
    ///
    /// # Errors
    /// The socket is gone.
    pub(crate) fn flush(&mut self, socket: &mut impl Write) -> io::Result<()> {
        while !self.is_empty() {
            match write_some(socket, &self.bytes[self.sent..])? {
                0 => return Ok(()),
                sent => self.sent += sent,
            }
        }
        *self = Self::default();
        Ok(())
    }
}

/// One write; 0 = the socket is full.
#[inline]
fn write_some(socket: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match socket.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes, then blocks.
    struct Narrow {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(self.room).min(3);
            if len == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.room -= len;
            self.taken.extend_from_slice(&bytes[..len]);
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_narrow_socket_gets_every_byte_once_and_in_order() {
        let mut socket = Narrow { taken: Vec::new(), room: 4 };
        let mut unsent = Unsent::default();
        unsent.write(&mut socket, b"abcdef").expect("open");
        unsent.write(&mut socket, b"ghi").expect("open");
        assert_eq!(unsent.len(), 5, "a full socket keeps the rest waiting");
        socket.room = 100;
        unsent.flush(&mut socket).expect("open");
        unsent.write(&mut socket, b"jk").expect("open");
        assert!(unsent.is_empty());
        assert_eq!(socket.taken, b"abcdefghijk");
    }
}
