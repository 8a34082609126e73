//! TLS without sockets: ciphertext in, plaintext out, and back.
//!
//! It works in buffers of others, which its callers share among all connections, and keeps nothing
//! but what is incomplete.

use std::fmt;
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus,
};
use rustls::{Error, InvalidMessage, ServerConfig};

/// The longest incomplete input: a handshake message in many records (a limit of rustls, too). A
/// record alone is at most 16 KiB of plaintext and 2 KiB beside it (RFC 8446 section 5.2).
pub(super) const PARTIAL_LEN_MAX: usize = 64 * 1024;

/// How the client's sending ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// With a `close_notify`.
    Closed,
    /// Without a word.
    Cut,
    /// By a fault of the client; nothing can be sent any more either.
    Fault(Error),
}

/// The server's end of one encrypted connection.
///
/// Invariant: `partial` holds no complete record, and rustls nothing that waits to be encoded; else
/// it would answer a wish to send with something that has to be done first.
pub(super) struct Session {
    tls: UnbufferedServerConnection,
    partial: Vec<u8>,
    end: Option<End>,
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tls, partial, end } = self;
        let mut it = formatter.debug_struct("Session");
        it.field("version", &tls.protocol_version()).field("partial", &partial.len());
        it.field("end", end).finish_non_exhaustive()
    }
}

impl Session {
    /// One whose handshake has not begun.
    ///
    /// # Errors
    /// When `config` cannot be used.
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        let tls = UnbufferedServerConnection::new(config)?;
        Ok(Self { tls, partial: Vec::new(), end: None })
    }

    /// Whether the handshake goes on.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// What came of a record, or of a handshake message, that is not complete.
    pub(super) fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// Bytes held for that.
    pub(super) fn held_len(&self) -> usize {
        self.partial.capacity()
    }

    /// How the client's sending ended, once it has.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Notes that nothing more comes.
    pub(super) fn cut(&mut self) {
        self.end.get_or_insert(End::Cut);
        self.partial = Vec::new();
    }

    /// Takes in `input`, which is what [`Session::partial`] gave and what came behind it. It is
    /// decrypted in place and handed to `plaintext` in pieces; answers are appended to `flight`.
    /// What comes after the end is ignored.
    pub(super) fn receive(
        &mut self,
        input: &mut [u8],
        plaintext: &mut impl FnMut(&[u8]),
        flight: &mut Flight,
    ) {
        if self.end.is_some() {
            return;
        }
        let kept = match self.process(input, plaintext, flight) {
            Ok(used) if input.len() - used <= PARTIAL_LEN_MAX => &input[used..],
            Ok(_) => return self.fail(InvalidMessage::HandshakePayloadTooLarge.into(), flight),
            Err(error) => return self.fail(error, flight),
        };
        if kept.is_empty() || self.end.is_some() {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
            self.partial.reserve_exact(kept.len());
            self.partial.extend_from_slice(kept);
        }
    }

    /// Goes through `input` as far as it is complete. Returns the length that is used up.
    fn process(
        &mut self,
        input: &mut [u8],
        plaintext: &mut impl FnMut(&[u8]),
        flight: &mut Flight,
    ) -> Result<usize, Error> {
        let mut used = 0;
        // Ends: each round takes from the input, or from the finite rest of what rustls has to say.
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.tls.process_tls_records(&mut input[used..]);
            match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        plaintext(record.payload);
                        discard += record.discard;
                    }
                }
                ConnectionState::EncodeTlsData(data) => flight.encode(data)?,
                // The flight is the caller's, who sends it in any case.
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.end = Some(End::Closed),
                ConnectionState::WriteTraffic(_)
                | ConnectionState::BlockedHandshake
                | ConnectionState::Closed => return Ok(used + discard),
                // Early data is not offered.
                _ => return Err(Error::General("a state that is not expected".into())),
            }
            used += discard;
        }
    }

    /// Ends by a fault, of which the client is told by an alert.
    fn fail(&mut self, error: Error, flight: &mut Flight) {
        self.end = Some(End::Fault(error));
        self.partial = Vec::new();
        // What waits is given out before any input is looked at, and there must be none: it would
        // be at fault once more.
        while self.tls.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(data)) =
                self.tls.process_tls_records(&mut []).state
            && flight.encode(data).is_ok()
        {}
    }

    /// Appends `plaintext` to `flight`, as one record for each 16 KiB that are begun.
    ///
    /// # Errors
    /// When the handshake is not over, the connection failed, or its keys are used up.
    pub(super) fn encrypt(&mut self, plaintext: &[u8], flight: &mut Flight) -> Result<(), Error> {
        if let Some(End::Fault(error)) = &self.end {
            return Err(error.clone());
        }
        let result = match self.tls.process_tls_records(&mut self.partial).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                flight.put(|free| traffic.encrypt(plaintext, free))
            }
            Ok(_) => Err(Error::HandshakeNotComplete),
            Err(error) => Err(error),
        };
        // Keys that are used up and cannot be renewed (TLS 1.2) end the connection in order.
        result.inspect_err(|error| self.fail(error.clone(), flight))
    }

    /// Appends a `close_notify` to `flight`, unless one or an alert was there before.
    pub(super) fn close(&mut self, flight: &mut Flight) {
        if !matches!(self.end, Some(End::Fault(_)))
            && let Ok(ConnectionState::WriteTraffic(mut traffic)) =
                self.tls.process_tls_records(&mut self.partial).state
        {
            // It fails only for want of room, which a flight makes.
            let _ = flight.put(|free| traffic.queue_close_notify(free));
        }
    }
}

/// Ciphertext that is sent together.
#[derive(Debug)]
pub(super) struct Flight {
    /// All of it may be written to; it grows with the longest flight.
    buf: Vec<u8>,
    len: usize,
}

impl Flight {
    /// An empty one with room for `len` bytes.
    pub(super) fn with_room(len: usize) -> Self {
        Self { buf: vec![0; len], len: 0 }
    }

    /// The ciphertext.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buf[..self.len]
    }

    /// Forgets the ciphertext.
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends a record of rustls's own.
    fn encode<D>(&mut self, mut data: EncodeTlsData<'_, D>) -> Result<(), Error> {
        self.put(|free| {
            data.encode(free).map_err(|error| match error {
                EncodeError::InsufficientSize(size) => EncryptError::InsufficientSize(size),
                EncodeError::AlreadyEncoded => EncryptError::EncryptExhausted,
            })
        })
    }

    /// Appends what `encode` writes, which is called again if it asks for more room.
    fn put(
        &mut self,
        mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Error> {
        loop {
            match encode(&mut self.buf[self.len..]) {
                Ok(len) => {
                    self.len += len;
                    return Ok(());
                }
                Err(EncryptError::InsufficientSize(short)) => {
                    self.buf.resize(self.len + short.required_size, 0);
                }
                Err(EncryptError::EncryptExhausted) => return Err(Error::EncryptError),
            }
        }
    }
}
