//! Public keys from a file and from an address: rotation, a server of keys that is away, floods.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Authority, Process, Request, Server, eventually, fanwire};

const FETCHES: &str = "fanwire_jwks_fetches_total";

/// A key pair with its id.
struct Signer {
    kid: &'static str,
    pair: KeyPair,
    algorithm: Algorithm,
}

impl Signer {
    fn new(kid: &'static str, algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::EdDSA => &PKCS_ED25519,
            _ => &PKCS_ECDSA_P256_SHA256,
        };
        Self { kid, pair: KeyPair::generate_for(kind).unwrap(), algorithm }
    }

    fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let raw = self.pair.public_key_raw();
        match self.algorithm {
            Algorithm::EdDSA => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": encode(raw) })
            }
            _ => {
                // Behind one byte that says "uncompressed".
                let (x, y) = (encode(&raw[1..33]), encode(&raw[33..]));
                json!({ "kty": "EC", "crv": "P-256", "kid": self.kid, "x": x, "y": y })
            }
        }
    }

    fn sign(&self, header: impl FnOnce(&mut Header)) -> String {
        let pem = self.pair.serialize_pem();
        let key = match self.algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_ec_pem(pem.as_bytes()),
        };
        let mut head = Header::new(self.algorithm);
        head.kid = Some(self.kid.to_owned());
        header(&mut head);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({ "sub": "alice", "exp": now + 3600 });
        jsonwebtoken::encode(&head, &claims, &key.unwrap()).unwrap()
    }

    fn token(&self) -> String {
        self.sign(|_| {})
    }
}

/// A server that answers every request with the same.
struct KeyServer {
    addr: SocketAddr,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    fn start(keys: &[&Signer], tls: Option<&Authority>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let tls = tls.map(tls_config);
        let server = Self { addr, answer: Arc::default(), asked: Arc::default() };
        server.publish(keys);
        let (answer, asked) = (Arc::clone(&server.answer), Arc::clone(&server.asked));
        // Ends with the test's process.
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (socket, answer) = (socket.unwrap(), answer.lock().unwrap().clone());
                // A client that does not trust us hangs up.
                let is_answered = match &tls {
                    None => reply(socket, &answer),
                    Some(config) => {
                        let session = ServerConnection::new(Arc::clone(config)).unwrap();
                        reply(StreamOwned::new(session, socket), &answer)
                    }
                };
                asked.fetch_add(usize::from(is_answered.is_ok()), Ordering::SeqCst);
            }
        });
        server
    }

    fn publish(&self, keys: &[&Signer]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        let body = json!({ "keys": keys }).to_string();
        *self.answer.lock().unwrap() =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    }

    fn fail(&self) {
        let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        answer.clone_into(&mut self.answer.lock().unwrap());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn config(&self) -> String {
        format!("[auth]\nanonymous = \"none\"\njwks_url = \"http://{}/keys\"\n", self.addr)
    }
}

fn tls_config(authority: &Authority) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::from_pem_slice(authority.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    Arc::new(builder.with_single_cert(vec![authority.der()], key).unwrap())
}

/// Reads one request head and answers it.
fn reply(mut stream: impl Read + Write, answer: &str) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    stream.write_all(answer.as_bytes())?;
    stream.flush()
}

fn history(server: &Server, token: &str) -> u16 {
    let request = Request::get("/topics/a/history");
    server.request(&request.header("Authorization", &format!("Bearer {token}"))).status
}

/// Waits until a token is answered so: between two fetches, some seconds pass.
fn await_status(server: &Server, token: &str, status: u16) {
    let is_there = || (history(server, token) == status).then_some(());
    eventually(&format!("a token is answered with {status}"), is_there);
}

#[test]
fn keys_change_without_a_restart() {
    let (old, new) = (Signer::new("1", Algorithm::ES256), Signer::new("2", Algorithm::EdDSA));
    let keys = KeyServer::start(&[&old], None);
    let server = Server::start(&keys.config());
    assert_eq!(history(&server, &old.token()), 200, "the first fetch is waited for");
    assert_eq!(history(&server, &new.token()), 401);
    keys.publish(&[&old, &new]);
    await_status(&server, &new.token(), 200);
    assert_eq!(history(&server, &old.token()), 200);
    assert_eq!(server.metric("fanwire_jwks_keys", &[]), 2);
    // A forger has neither key.
    let forger = Signer::new("2", Algorithm::EdDSA);
    assert_eq!(history(&server, &forger.token()), 401);
    keys.publish(&[&new]);
    let unknown = Signer::new("3", Algorithm::EdDSA);
    eventually("the set is fetched again", || {
        history(&server, &unknown.token());
        (server.metric("fanwire_jwks_keys", &[]) == 1).then_some(())
    });
    assert_eq!(history(&server, &old.token()), 401, "a key that was withdrawn is gone");
    assert_eq!(history(&server, &new.token()), 200);
}

#[test]
fn the_keys_at_hand_stay_while_their_server_is_away() {
    let known = Signer::new("1", Algorithm::ES256);
    let keys = KeyServer::start(&[&known], None);
    let server = Server::start(&keys.config());
    assert_eq!(history(&server, &known.token()), 200);
    keys.fail();
    let unknown = Signer::new("2", Algorithm::ES256);
    eventually("a fetch has failed", || {
        assert_eq!(history(&server, &unknown.token()), 401);
        (server.metric(FETCHES, &[("result", "status")]) > 0).then_some(())
    });
    assert_eq!(history(&server, &known.token()), 200);
    assert!(server.process.stderr().contains("cannot fetch the keys of auth.jwks_url"));
}

#[test]
fn a_flood_of_unknown_key_ids_is_no_flood_of_fetches() {
    let known = Signer::new("1", Algorithm::ES256);
    let keys = KeyServer::start(&[&known], None);
    let server = Server::start(&keys.config());
    for number in 0..300 {
        let made_up = known.sign(|header| header.kid = Some(format!("{number}")));
        let expected = if number == 1 { 200 } else { 401 };
        assert_eq!(history(&server, &made_up), expected, "{number}");
    }
    // Some seconds may have passed: one fetch each five.
    assert!(keys.asked() <= 4, "{} fetches", keys.asked());
    assert_eq!(history(&server, &known.token()), 200);
}

#[test]
fn addresses_and_keys_in_a_token_are_not_followed() {
    let (known, forger) = (Signer::new("1", Algorithm::ES256), Signer::new("1", Algorithm::ES256));
    let (keys, evil) = (KeyServer::start(&[&known], None), KeyServer::start(&[&forger], None));
    let server = Server::start(&keys.config());
    let url = format!("http://{}/keys", evil.addr);
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(forger.jwk()).unwrap();
    let headers: [&dyn Fn(&mut Header); 4] = [
        &|header| header.jku = Some(url.clone()),
        &|header| header.x5u = Some(url.clone()),
        &|header| header.kid = Some(url.clone()),
        &|header| header.jwk = Some(jwk.clone()),
    ];
    for header in headers {
        assert_eq!(history(&server, &forger.sign(header)), 401);
    }
    assert_eq!(history(&server, &known.sign(|header| header.jku = Some(url.clone()))), 200);
    assert_eq!(evil.asked(), 0);
}

#[test]
fn before_the_first_key_set_a_token_is_nobodys_fault() {
    let known = Signer::new("1", Algorithm::ES256);
    let keys = KeyServer::start(&[&known], None);
    keys.fail();
    let server = Server::start(&keys.config());
    let request = Request::get("/topics/a/history");
    let request = request.header("Authorization", &format!("Bearer {}", known.token()));
    server.request(&request).assert_refused(500, "internal");
    keys.publish(&[&known]);
    await_status(&server, &known.token(), 200);
}

#[test]
fn keys_come_over_tls_from_whom_the_host_trusts() {
    let known = Signer::new("1", Algorithm::ES256);
    let authority = Authority::new();
    let keys = KeyServer::start(&[&known], Some(&authority));
    let start = |trusted: &Authority| {
        let folder = TempDir::new().unwrap();
        let (config, roots) = (folder.path().join("a.toml"), folder.path().join("roots.pem"));
        let text = format!(
            "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n\
             [auth]\nanonymous = \"none\"\njwks_url = \"https://localhost:{}/keys\"\n",
            keys.addr.port()
        );
        fs::write(&config, text).unwrap();
        fs::write(&roots, &trusted.certificate).unwrap();
        let mut command = fanwire(&["serve", "--config", config.to_str().unwrap()]);
        command.env("SSL_CERT_FILE", &roots);
        Server::run(command, folder)
    };
    let server = start(&authority);
    assert_eq!(history(&server, &known.token()), 200);
    assert_eq!(server.metric(FETCHES, &[("result", "ok")]), 1);
    let distrustful = start(&Authority::new());
    assert_eq!(history(&distrustful, &known.token()), 500);
    distrustful.await_metric(FETCHES, &[("result", "unreachable")], 1);
}

#[test]
fn the_check_looks_at_the_keys() {
    let known = Signer::new("1", Algorithm::ES256);
    let keys = KeyServer::start(&[&known], None);
    let folder = TempDir::new().unwrap();
    let check = |auth: &str| {
        let path = folder.path().join("fanwire.toml");
        let text = format!("listen = \"127.0.0.1:0\"\nadmin_listen = \"\"\n[auth]\n{auth}\n");
        fs::write(&path, text).unwrap();
        let command = fanwire(&["check", "--config", path.to_str().unwrap()]);
        Process::start(command).finish()
    };
    let url = |addr: SocketAddr| format!("jwks_url = \"http://{addr}/\"");
    assert_eq!(check(&url(keys.addr)).0, Some(0));
    keys.fail();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (auth, code, expected) in [
        (url(keys.addr), 1, "error: auth.jwks_url: the answer is 503 Service Unavailable, not 200"),
        (url(free), 1, "error: auth.jwks_url: cannot connect"),
        ("jwks_url = \"ftp://a/\"".to_owned(), 78, "auth.jwks_url: this is not an address"),
        ("jwt_public_key_file = \"/nowhere\"".to_owned(), 78, "\"/nowhere\" cannot be read"),
        ("jwt_hmac_secret = \"short\"".to_owned(), 0, "warning: auth.jwt_hmac_secret has 5 bytes"),
    ] {
        let (got, stdout, _) = check(&auth);
        assert_eq!(got, Some(code), "{stdout}");
        assert!(stdout.contains(expected), "{stdout}");
    }
    assert!(TcpStream::connect(keys.addr).is_ok());
}
