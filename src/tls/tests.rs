//! Encrypted sockets between two ends on one thread, and certificates that change.

use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::{Certificate, CertificateError, CertificateFiles, Socket, TlsSocket, server_config};
use crate::metrics::Memory;

type Client = StreamOwned<ClientConnection, TcpStream>;

/// Writes a fresh certificate for `localhost`. Returns it.
fn write(files: &CertificateFiles) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
    std::fs::write(&files.cert_file, made.cert.pem()).expect("a file");
    std::fs::write(&files.key_file, made.signing_key.serialize_pem()).expect("a file");
    made.cert.into()
}

fn files() -> (TempDir, CertificateFiles) {
    let folder = tempfile::tempdir().expect("a folder");
    let (cert_file, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    (folder, CertificateFiles { cert_file, key_file })
}

/// A server's socket after its handshake, and the client at the other end.
fn connected() -> (Socket, Client) {
    let (_folder, files) = files();
    let authority = write(&files);
    let certificate = Certificate::load(files).expect("it was just written");
    let config = server_config(Arc::new(certificate)).expect("a configuration");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    let (socket, _) = listener.accept().expect("it connected");
    let memory = Arc::new(Memory::new(u64::MAX));
    let mut tls = TlsSocket::new(socket, config, &memory).expect("a connection");
    let server = std::thread::spawn(move || {
        tls.handshake().expect("a handshake");
        tls.get_ref().set_nonblocking(true).expect("a socket");
        Socket::Tls(Box::new(tls))
    });
    let mut client = Client::new(client_connection(authority), client);
    client.conn.complete_io(&mut client.sock).expect("a handshake");
    (server.join().expect("no panic"), client)
}

fn client_connection(authority: CertificateDer<'static>) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(authority).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(super::VERSIONS)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a connection")
}

/// Reads until the socket has given `len` bytes.
fn read(socket: &mut Socket, len: usize) -> Vec<u8> {
    let (mut all, mut buf) = (Vec::new(), [0; 1000]);
    while all.len() < len {
        match socket.read(&mut buf) {
            Ok(len) => all.extend_from_slice(&buf[..len]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    all
}

#[test]
fn what_a_client_sends_is_read_to_its_end() {
    let (mut socket, mut client) = connected();
    assert!(!socket.is_emptied_by_short_read(), "a record may wait inside");
    let sent: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
    let writer = std::thread::spawn({
        let sent = sent.clone();
        move || {
            client.write_all(&sent).expect("it is read");
            client.conn.send_close_notify();
            client.flush().expect("it is read");
            client
        }
    });
    assert_eq!(read(&mut socket, sent.len()), sent);
    let _client = writer.join().expect("no panic");
    let end = std::iter::repeat_with(|| socket.read(&mut [0; 8])).find_map(Result::ok);
    assert_eq!(end, Some(0), "an end of file");
}

#[test]
fn a_client_that_reads_later_gets_every_byte_in_order() {
    let (mut socket, mut client) = connected();
    let sent: Vec<u8> = (0..4_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut taken = 0;
    // The kernel takes what it has room for, and one record waits behind it.
    while !socket.has_waiting() {
        let (one, two) = sent[taken..].split_at(100);
        taken += match taken % 3 {
            0 => socket.write(&sent[taken..]).expect("there was room"),
            _ => socket.write_vectored(&[IoSlice::new(one), IoSlice::new(two)]).expect("room"),
        };
    }
    assert!(taken < sent.len());
    let full = socket.write(&sent[taken..]).map_err(|error| error.kind());
    assert_eq!(full, Err(ErrorKind::WouldBlock), "nothing more is taken");
    let reader = std::thread::spawn(move || {
        let mut received = Vec::new();
        // The server ends without a word of TLS in other tests only.
        client.read_to_end(&mut received).expect("all of it, and a proper end");
        received
    });
    while taken < sent.len() {
        match socket.write(&sent[taken..]) {
            Ok(len) => taken += len,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    while let Err(error) = socket.shutdown() {
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
    assert!(reader.join().expect("no panic") == sent);
}

#[test]
fn bytes_that_are_no_tls_are_an_error_and_answered_with_an_alert() {
    let (mut socket, mut client) = connected();
    client.sock.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it is read");
    let error = std::iter::repeat_with(|| socket.read(&mut [0; 8]))
        .find_map(|result| result.err().filter(|error| error.kind() != ErrorKind::WouldBlock));
    assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::InvalidData));
    let mut answer = [0; 5];
    client.sock.read_exact(&mut answer).expect("an alert");
}

#[test]
fn a_certificate_is_read_again_and_a_bad_one_leaves_the_old() {
    let (_folder, files) = files();
    let first = write(&files);
    let certificate = Certificate::load(files.clone()).expect("it was just written");
    let shown = || certificate.current().cert[0].clone();
    assert_eq!(shown(), first);
    assert!(!certificate.is_stale());
    let second = write(&files);
    assert!(certificate.is_stale(), "a file was written");
    certificate.reload().expect("a good pair");
    assert_eq!(shown(), second);
    std::fs::write(&files.cert_file, "").expect("a file");
    assert!(matches!(certificate.reload(), Err(CertificateError::NoCertificate(_))));
    assert!(!certificate.is_stale(), "it is not tried again before it changes");
    assert_eq!(shown(), second);
}

#[test]
fn what_cannot_be_used_is_told() {
    let (folder, files) = files();
    let told = |files: &CertificateFiles| match files.read().expect_err("not usable") {
        CertificateError::Read { path, .. } => path.display().to_string(),
        CertificateError::NoCertificate(path) => format!("none in {}", path.display()),
        CertificateError::Pair(error) => error.to_string(),
    };
    let (cert_file, key_file) = (files.cert_file.clone(), files.key_file.clone());
    assert_eq!(told(&files), cert_file.display().to_string(), "absent");
    write(&files);
    let other = CertificateFiles { cert_file, key_file: folder.path().join("other.pem") };
    assert_eq!(told(&other), other.key_file.display().to_string(), "absent");
    let swapped = CertificateFiles { cert_file: key_file.clone(), key_file };
    assert_eq!(told(&swapped), format!("none in {}", swapped.cert_file.display()));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
    std::fs::write(&other.key_file, made.signing_key.serialize_pem()).expect("a file");
    assert!(told(&other).contains("keys may not be consistent"), "{}", told(&other));
}
