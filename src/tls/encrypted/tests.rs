//! Encrypted sockets over a kernel in memory, which takes and gives as little as a test wants, with
//! a client of rustls's buffered interface at the other end.

mod crafted;
mod hostile;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::{Arc, OnceLock};

use proptest::prelude::*;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion,
};

use super::{RECORD_LEN_MAX, TLS_COST, TlsSocket};
use crate::metrics::{Memory, MemoryKind};

/// The kernel's side of a connection.
#[derive(Debug)]
struct Kernel {
    /// What the client sent.
    incoming: VecDeque<u8>,
    /// Whether the client sends no more.
    is_over: bool,
    /// What the client has not read.
    outgoing: Vec<u8>,
    /// How much more it takes.
    room: usize,
    /// How much it takes and gives at a time, in turn.
    steps: Vec<usize>,
    calls: usize,
    /// Writes of which it took something.
    writes: usize,
}

impl Kernel {
    fn step(&mut self) -> usize {
        self.calls += 1;
        self.steps[self.calls % self.steps.len()]
    }
}

impl Read for Kernel {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return if self.is_over { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let len = self.step().min(buf.len());
        self.incoming.read(&mut buf[..len])
    }
}

impl Write for Kernel {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let len = self.step().min(buf.len()).min(self.room);
        if len == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.writes += 1;
        self.room -= len;
        self.outgoing.extend_from_slice(&buf[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What both ends are made with.
#[derive(Debug, Clone)]
struct Setup {
    version: &'static SupportedProtocolVersion,
    provider: Arc<CryptoProvider>,
    /// The longest record of the client's.
    fragment_len: Option<usize>,
    steps: Vec<usize>,
}

impl Setup {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        Self { version, provider, fragment_len: None, steps: vec![usize::MAX] }
    }

    fn server(&self) -> TlsSocket<Kernel> {
        let (certificate, key) = certificate();
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[self.version])
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a certificate");
        config.ticketer = aws_lc_rs::Ticketer::new().expect("tickets");
        let kernel = Kernel {
            incoming: VecDeque::new(),
            is_over: false,
            outgoing: Vec::new(),
            room: usize::MAX,
            steps: self.steps.clone(),
            calls: 0,
            writes: 0,
        };
        let memory = Arc::new(Memory::new(u64::MAX));
        TlsSocket::new(kernel, Arc::new(config), &memory).expect("a connection")
    }

    fn client(&self) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots.add(certificate().0).expect("a certificate");
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[self.version])
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.max_fragment_size = self.fragment_len;
        config.enable_secret_extraction = true;
        let name = ServerName::try_from("localhost").expect("a name");
        ClientConnection::new(Arc::new(config), name).expect("a connection")
    }

    /// Both ends after their handshake, with nothing on the way.
    fn connected(&self) -> Pair {
        let mut pair = Pair { server: self.server(), client: self.client() };
        while pair.server.session.is_handshaking() || pair.client.is_handshaking() {
            pair.client_sends();
            let made = pair.server.handshake();
            assert!(made.is_ok() || made.is_err_and(|e| e.kind() == ErrorKind::WouldBlock));
            pair.client_receives();
        }
        pair.client_receives();
        pair
    }
}

fn certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    static MADE: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    let (certificate, key) = MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
        (made.cert.der().to_vec(), made.signing_key.serialize_der())
    });
    (certificate.clone().into(), key.clone().try_into().expect("a key"))
}

struct Pair {
    server: TlsSocket<Kernel>,
    client: ClientConnection,
}

impl Pair {
    /// The client's ciphertext goes to the kernel.
    fn client_sends(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.server.socket.incoming).expect("memory");
        }
    }

    /// The kernel's ciphertext goes to the client. Returns what it says.
    fn client_receives(&mut self) -> Vec<u8> {
        let outgoing = std::mem::take(&mut self.server.socket.outgoing);
        let (mut rest, mut received) = (&*outgoing, Vec::new());
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).expect("memory");
            self.client.process_new_packets().expect("what a server says");
            match self.client.reader().read_to_end(&mut received) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                Ok(_) => assert!(rest.is_empty(), "nothing follows the end"),
            }
        }
        received
    }

    fn client_says(&mut self, data: &[u8]) {
        let mut rest = data;
        while !rest.is_empty() {
            let len = self.client.writer().write(rest).expect("memory");
            rest = &rest[len..];
            self.client_sends();
        }
    }

    /// Reads until nothing is there or the end, `len` bytes at a time. Returns what came, and `Ok`
    /// at an end.
    fn server_reads(&mut self, len: usize) -> (Vec<u8>, Result<(), ErrorKind>) {
        let (mut all, mut buf) = (Vec::new(), vec![0; len]);
        loop {
            match self.server.read(&mut buf) {
                Ok(0) => return (all, Ok(())),
                Ok(len) => all.extend_from_slice(&buf[..len]),
                Err(error) => return (all, Err(error.kind())),
            }
        }
    }

    /// Writes all of `data`, making room when there is none. Returns what the client got.
    fn server_says(&mut self, data: &[u8], room: usize) -> Vec<u8> {
        let (mut rest, mut received) = (data, Vec::new());
        while !rest.is_empty() || self.server.has_waiting() {
            self.server.socket.room = room;
            match self.server.write(&[IoSlice::new(rest)]) {
                Ok(len) => rest = &rest[len..],
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            received.extend(self.client_receives());
        }
        self.server.socket.room = usize::MAX;
        received
    }

    /// Bytes on the memory account beyond those of an idle connection.
    fn held(&self) -> usize {
        let TlsSocket { session, plaintext, waiting, charge, .. } = &self.server;
        let held = session.held_len() + plaintext.capacity() + waiting.capacity();
        assert_eq!(charge.len(), TLS_COST + held, "what is held is charged");
        held
    }

    /// Nothing is held, and bytes pass both ways.
    fn check_alive(&mut self) {
        self.client_says(b"alive?");
        assert_eq!(self.server_reads(100), (b"alive?".to_vec(), Err(ErrorKind::WouldBlock)));
        assert_eq!(self.server_says(b"alive.", usize::MAX), b"alive.");
        assert_eq!(self.held(), 0);
    }
}

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn steps() -> impl Strategy<Value = Vec<usize>> {
    let step = prop_oneof![1..8_usize, 1..2_000_usize, 10_000..40_000_usize];
    prop::collection::vec(step, 1..6)
}

fn lens() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..200_usize, 15_000..50_000_usize], 1..5)
}

fn bytes(len: usize) -> Vec<u8> {
    (0_u32..).flat_map(u32::to_le_bytes).take(len).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However the kernel cuts what passes it, and however the client cuts its messages into
    /// records, both ends read what the other wrote, and hold nothing when all is read.
    #[test]
    fn any_split_of_the_stream_gives_the_same_plaintext(
        is_new in any::<bool>(),
        steps in steps(),
        fragment_len in prop::option::of(40..2_000_usize),
        (asked, told) in (lens(), lens()),
        (buf_len, room) in (prop_oneof![1..100_usize, 1_000..70_000_usize], 1..40_000_usize),
    ) {
        let version = BOTH[usize::from(is_new)];
        let mut pair = Setup { fragment_len, steps, ..Setup::new(version) }.connected();
        prop_assert_eq!(pair.held(), 0);
        for len in asked {
            let sent = bytes(len);
            pair.client_says(&sent);
            prop_assert!(pair.server_reads(buf_len) == (sent, Err(ErrorKind::WouldBlock)));
        }
        prop_assert_eq!(pair.held(), 0);
        for len in told {
            let sent = bytes(len);
            prop_assert!(pair.server_says(&sent, room) == sent);
        }
        prop_assert_eq!(pair.held(), 0);
    }
}

#[test]
fn an_idle_connection_holds_no_buffer_and_gives_its_charge_back() {
    for version in BOTH {
        let memory = Arc::new(Memory::new(u64::MAX));
        let mut pair = Setup::new(version).connected();
        pair.server.charge =
            crate::metrics::Charge::new(&memory, MemoryKind::Connections, TLS_COST);
        pair.check_alive();
        assert_eq!(memory.held(MemoryKind::Connections), TLS_COST as u64);
        drop(pair);
        assert_eq!(memory.held(MemoryKind::Connections), 0);
    }
}

#[test]
fn what_came_with_the_handshake_is_read_after_it() {
    let setup = Setup::new(&TLS13);
    let mut pair = Pair { server: setup.server(), client: setup.client() };
    // Written before the handshake, it leaves with the last of it.
    pair.client.writer().write_all(b"early bird").expect("memory");
    while pair.server.session.is_handshaking() {
        pair.client_sends();
        let made = pair.server.handshake();
        assert_eq!(made.is_ok(), !pair.server.session.is_handshaking(), "{made:?}");
        pair.client_receives();
        if !pair.client.is_handshaking() {
            pair.client.send_close_notify();
        }
    }
    assert!(pair.server.socket.incoming.is_empty(), "all of it was read");
    let Pair { server, client } = pair;
    let server = server.map(Ok).expect("it is handed over");
    let mut pair = Pair { server, client };
    assert!(pair.held() > 0);
    assert_eq!(pair.server_reads(3), (b"early bird".to_vec(), Ok(())));
    assert_eq!((pair.server_says(b"worm", usize::MAX), pair.held()), (b"worm".to_vec(), 0));
}

#[test]
fn a_kernel_that_takes_little_is_handed_one_record_and_no_more() {
    for version in BOTH {
        let mut pair = Setup::new(version).connected();
        let sent = bytes(100_000);
        pair.server.socket.room = 1_000;
        let taken = pair.server.write(&[IoSlice::new(&sent)]).expect("there was room");
        assert_eq!(taken, RECORD_LEN_MAX);
        assert!(pair.server.has_waiting());
        assert!((15_000..RECORD_LEN_MAX + 100).contains(&pair.held()), "{}", pair.held());
        let again = pair.server.write(&[IoSlice::new(&sent[taken..])]);
        assert_eq!(again.map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
        assert_eq!(pair.server.flush().map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
        let mut received = pair.client_receives();
        received.extend(pair.server_says(&sent[taken..], 5_000));
        assert!(received == sent);
        assert_eq!(pair.held(), 0);
    }
}

#[test]
fn what_is_ready_leaves_in_writes_of_a_record_s_length() {
    for (lens, expected) in [(vec![100; 50], 1), (vec![40_000], 3), (vec![10_000; 4], 3)] {
        let mut pair = Setup::new(&TLS13).connected();
        let parts: Vec<Vec<u8>> = lens.into_iter().map(bytes).collect();
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        pair.server.socket.writes = 0;
        let taken = pair.server.write(&slices).expect("there is room");
        assert_eq!((taken, pair.server.socket.writes), (parts.concat().len(), expected));
        assert!(pair.client_receives() == parts.concat());
    }
}

#[test]
fn a_close_notify_ends_each_direction_by_itself_and_is_said_once() {
    for version in BOTH {
        let mut pair = Setup::new(version).connected();
        pair.client_says(b"bye");
        pair.client.send_close_notify();
        pair.client_sends();
        // It is to be ignored (RFC 8446 section 6.1), whatever it is.
        pair.server.socket.incoming.extend(b"and another thing");
        assert_eq!(pair.server_reads(100), (b"bye".to_vec(), Ok(())));
        assert_eq!(pair.server_reads(100), (vec![], Ok(())), "an end stays an end");
        assert_eq!(pair.server_says(b"good", usize::MAX), b"good");
        pair.server.socket.room = 0;
        assert_eq!(pair.server.write(&[IoSlice::new(b"bye")]).expect("a record waits"), 3);
        // Room for some of what waits already, and not for what is said behind it.
        pair.server.socket.room = 10;
        let refused = pair.server.close().map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::WouldBlock));
        pair.server.socket.room = usize::MAX;
        pair.server.close().expect("there is room");
        assert_eq!(pair.client_receives(), b"bye");
        let end = pair.client.reader().read(&mut [0; 8]).expect("an end in order");
        assert_eq!((end, pair.held()), (0, 0));
        pair.server.close().expect("it is said");
        assert!(pair.server.socket.outgoing.is_empty());
    }
}
