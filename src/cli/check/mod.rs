//! `fanwire check`: configuration and host, one line per finding, each with its fix.

mod auth;
mod host;

use std::error::Error as _;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use super::argument::ServeArguments;
use super::output::Output;
use super::{EXIT_CONFIG, EXIT_FAILURE};
use crate::config::{Config, Loaded};
use crate::log::one_line;
use crate::time::Stamp;
use crate::tls::CertificateFiles;
use host::Host;

/// Descriptors that a server needs beside its connections.
const DESCRIPTORS_SPARE: u64 = 256;

/// A hard descriptor limit below this is worth a word even where no number is asked for.
const DESCRIPTORS_USUAL: u64 = 65_536;

/// Connection attempts that the kernel should keep for us; its own default since Linux 5.4.
const SOMAXCONN_USUAL: u64 = 4096;

/// A day, in seconds.
const DAY: i64 = 24 * 60 * 60;

/// A certificate that is valid for less than this should have been renewed.
const CERTIFICATE_SECONDS_USUAL: i64 = 7 * DAY;

/// Kernel memory that one quiet connection may take of `net.ipv4.tcp_mem`.
const TCP_MEMORY_PER_CONNECTION: u64 = 4096;

pub(super) fn run(arguments: ServeArguments) -> anyhow::Result<ExitCode> {
    let mut output = Output::new();
    let (findings, code) = match arguments.load() {
        Err(problems) => {
            let lines = problems.iter().map(|problem| format!("error: {problem}"));
            (lines.collect(), EXIT_CONFIG)
        }
        Ok(loaded) => found(&loaded),
    };
    for finding in findings {
        output.write(one_line(&finding).as_bytes())?;
        output.write(b"\n")?;
    }
    output.flush()?;
    Ok(ExitCode::from(code))
}

fn found(loaded: &Loaded) -> (Vec<String>, u8) {
    let config = &loaded.config;
    let mut findings = host_findings(config, &Host::read());
    let addresses = [Some(config.listen), config.admin_listen];
    findings.extend(addresses.into_iter().flatten().filter_map(address_finding));
    findings.extend(auth::findings(&config.auth));
    findings.extend(certificate_finding(&config.tls, Stamp::now().wall / 1000));
    let has_fault = findings.iter().any(|finding| finding.severity == Severity::Error);
    let warnings = loaded.warnings.iter();
    let mut lines: Vec<_> = warnings
        .map(|problem| format!("warning: {problem}"))
        .chain(findings.iter().map(ToString::to_string))
        .collect();
    if lines.is_empty() {
        lines.push("ok: configuration and host".to_owned());
    }
    (lines, if has_fault { EXIT_FAILURE } else { 0 })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    Warning,
    Error,
}

/// What is wrong with the host, and what to do.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    severity: Severity,
    text: String,
    fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {}; fix: {}", self.text, self.fix)
    }
}

fn warning(text: String, fix: String) -> Finding {
    let severity = Severity::Warning;
    Finding { severity, text, fix }
}

/// What stands against the connections that `config` wants; a value that is unknown never does.
fn host_findings(config: &Config, host: &Host) -> Vec<Finding> {
    let wanted = config.limits.connections_max as u64;
    let mut findings = descriptor_findings(config, host);
    if let Some(count) = host.somaxconn.filter(|count| *count < SOMAXCONN_USUAL) {
        findings.push(warning(
            format!("net.core.somaxconn is {count}: bursts of new connections will be dropped"),
            format!("sysctl -w net.core.somaxconn={SOMAXCONN_USUAL}"),
        ));
    }
    if let Some(count) = host.local_ports.filter(|count| *count < wanted) {
        findings.push(warning(
            format!(
                "net.ipv4.ip_local_port_range has {count} ports: a proxy or load tester on this \
                 host cannot open {wanted} connections from one address"
            ),
            "sysctl -w net.ipv4.ip_local_port_range='1024 65535', or several addresses".to_owned(),
        ));
    }
    let tcp_wanted = wanted * TCP_MEMORY_PER_CONNECTION;
    if let Some(len) = host.tcp_memory.filter(|len| *len < tcp_wanted) {
        let pages = tcp_wanted / host::PAGE_LEN;
        findings.push(warning(
            format!(
                "net.ipv4.tcp_mem ends at {len} bytes, {wanted} connections may need {tcp_wanted}"
            ),
            format!("sysctl -w net.ipv4.tcp_mem='{pages} {pages} {}'", pages * 2),
        ));
    }
    findings.extend(memory_findings(config, host));
    findings
}

fn descriptor_findings(config: &Config, host: &Host) -> Vec<Finding> {
    let wanted = config.limits.connections_max as u64;
    let (soft, hard) = host.descriptors;
    let tables = match (config.private_fd_tables, config.workers) {
        (false, _) => 1,
        (true, 0) => host.cores,
        (true, workers) => workers as u64,
    };
    let mut findings = Vec::new();
    let needed = wanted.div_ceil(tables) + DESCRIPTORS_SPARE;
    if wanted > 0 && hard < needed {
        findings.push(warning(
            format!(
                "limits.connections_max = {wanted} needs {needed} descriptors, the limit is {hard} \
                 (soft {soft})"
            ),
            format!(
                "LimitNOFILE={needed} in the systemd unit, or ulimit -n {needed}, or \
                 private_fd_tables = true with more workers"
            ),
        ));
    } else if wanted == 0 && hard < DESCRIPTORS_USUAL {
        findings.push(warning(
            format!(
                "the descriptor limit {hard} (soft {soft}) allows about {} connections",
                (hard * tables).saturating_sub(DESCRIPTORS_SPARE)
            ),
            "LimitNOFILE=1048576 in the systemd unit, or ulimit -n 1048576".to_owned(),
        ));
    }
    if let Some(count) = host.nr_open.filter(|count| *count < needed) {
        findings.push(warning(
            format!("fs.nr_open is {count}: no limit for {needed} descriptors can be set"),
            format!("sysctl -w fs.nr_open={needed}"),
        ));
    }
    let total = wanted + DESCRIPTORS_SPARE;
    if let Some(count) = host.file_max.filter(|count| *count < total) {
        findings.push(warning(
            format!("fs.file-max is {count}, {total} files are needed"),
            format!("sysctl -w fs.file-max={}", total * 2),
        ));
    }
    findings
}

fn memory_findings(config: &Config, host: &Host) -> Option<Finding> {
    let budget = config.limits.memory_bytes_max;
    let memory = host.memory?;
    if budget > memory {
        return Some(warning(
            format!("limits.memory_bytes_max = {budget}, the machine or cgroup has {memory}"),
            "set it to 0 (80 % of what there is), or give more memory".to_owned(),
        ));
    }
    let budget = match budget {
        0 => memory / 5 * 4,
        budget => budget,
    };
    let outbox = config.limits.outbox_bytes_max as u64;
    (budget < outbox).then(|| {
        warning(
            format!("one full outbox ({outbox} bytes) exceeds the memory budget ({budget} bytes)"),
            "lower limits.outbox_bytes_max or give more memory".to_owned(),
        )
    })
}

/// What is wrong with the certificate at `now`, in seconds since 1970.
fn certificate_finding(files: &CertificateFiles, now: u64) -> Option<Finding> {
    if files.is_none() {
        return None;
    }
    let expires = match files.expires() {
        Ok(expires) => expires,
        Err(error) => {
            let source = error.source().map_or_else(String::new, |source| format!(": {source}"));
            return Some(Finding {
                severity: Severity::Error,
                text: format!("[tls]: {error}{source}"),
                fix: "set cert_file and key_file to a PEM certificate chain and its key".to_owned(),
            });
        }
    };
    let left = expires.saturating_sub_unsigned(now);
    if left > CERTIFICATE_SECONDS_USUAL {
        return None;
    }
    let severity = if left <= 0 { Severity::Error } else { Severity::Warning };
    let text = match left {
        ..=0 => format!("the certificate of tls.cert_file expired {} days ago", -left / DAY),
        _ => format!("the certificate of tls.cert_file expires in {} days", left / DAY),
    };
    let fix = "replace the files; the server takes them within seconds, or on SIGHUP".to_owned();
    Some(Finding { severity, text, fix })
}

/// Tries to listen where the server will; `None` = it can.
fn address_finding(address: SocketAddr) -> Option<Finding> {
    let error = TcpListener::bind(address).err()?;
    let fix = match error.kind() {
        std::io::ErrorKind::AddrInUse => "end the process that has it, or choose another port",
        std::io::ErrorKind::PermissionDenied => {
            "choose a port from 1024, or AmbientCapabilities=CAP_NET_BIND_SERVICE"
        }
        std::io::ErrorKind::AddrNotAvailable => "choose an address of this host",
        _ => "choose another address",
    };
    Some(Finding {
        severity: Severity::Error,
        text: format!("cannot listen on {address}: {error}"),
        fix: fix.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::{Host, Severity, address_finding, host_findings};
    use crate::config::Config;

    const GIB: u64 = 1 << 30;

    fn large() -> Host {
        Host {
            cores: 2,
            descriptors: (1024, 1_048_576),
            nr_open: Some(1_048_576),
            file_max: Some(u64::MAX),
            somaxconn: Some(4096),
            local_ports: Some(28_232),
            tcp_memory: Some(GIB),
            memory: Some(8 * GIB),
        }
    }

    /// Checks that each of `expected` begins a finding, in order, and that there is no other.
    fn check(config: &Config, host: &Host, expected: &[&str]) {
        let findings = host_findings(config, host);
        let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(&format!("warning: {expected}")), "{line}");
            assert!(line.contains("; fix: "), "{line}");
        }
    }

    #[test]
    fn a_large_host_has_no_findings_and_an_unknown_one_neither() {
        check(&Config::default(), &large(), &[]);
        let unknown = Host {
            nr_open: None,
            file_max: None,
            somaxconn: None,
            local_ports: None,
            tcp_memory: None,
            memory: None,
            ..large()
        };
        check(&Config::default(), &unknown, &[]);
    }

    #[test]
    fn a_small_host_is_told_what_it_lacks() {
        let mut config = Config::default();
        let small = Host {
            cores: 2,
            descriptors: (1024, 4096),
            nr_open: Some(4096),
            file_max: Some(8192),
            somaxconn: Some(128),
            local_ports: Some(100),
            tcp_memory: Some(1 << 20),
            memory: Some(1 << 20),
        };
        check(
            &config,
            &small,
            &[
                "the descriptor limit 4096 (soft 1024) allows about 3840 connections",
                "net.core.somaxconn is 128",
                "one full outbox",
            ],
        );
        config.limits.connections_max = 10_000;
        config.limits.memory_bytes_max = 2 << 20;
        check(
            &config,
            &small,
            &[
                "limits.connections_max = 10000 needs 10256 descriptors, the limit is 4096",
                "fs.nr_open is 4096",
                "fs.file-max is 8192",
                "net.core.somaxconn is 128",
                "net.ipv4.ip_local_port_range has 100 ports",
                "net.ipv4.tcp_mem ends at 1048576 bytes",
                "limits.memory_bytes_max = 2097152",
            ],
        );
    }

    #[test]
    fn private_descriptor_tables_share_the_need() {
        let mut config = Config::default();
        config.limits.connections_max = 6000;
        config.private_fd_tables = true;
        config.workers = 2;
        let host = Host { descriptors: (1024, 4096), ..large() };
        check(&config, &host, &[]);
    }

    #[test]
    fn a_taken_port_is_a_fault() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("a bound socket has an address");
        let finding = address_finding(address).expect("the port is taken");
        assert_eq!(finding.severity, Severity::Error);
        assert!(finding.to_string().contains(&address.to_string()));
        drop(taken);
        assert_eq!(address_finding(address), None);
    }

    #[test]
    fn a_certificate_is_read_and_its_end_is_told_in_time() {
        use crate::tls::CertificateFiles;
        let folder = tempfile::tempdir().expect("a folder");
        let (cert_file, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let files = CertificateFiles { cert_file, key_file };
        let found = |now| super::certificate_finding(&files, now).map(|one| one.to_string());
        let absent = found(0).expect("there is no file");
        assert!(absent.starts_with("error: [tls]: cannot read"), "{absent}");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
        std::fs::write(&files.cert_file, made.cert.pem()).expect("a file");
        std::fs::write(&files.key_file, made.signing_key.serialize_pem()).expect("a file");
        let expires = u64::try_from(files.expires().expect("it is good")).expect("after 1970");
        let day = 24 * 60 * 60;
        assert_eq!(found(expires - 8 * day), None);
        let soon = found(expires - 3 * day).expect("soon");
        assert!(soon.starts_with("warning: the certificate of tls.cert_file expires in 3 days"));
        let late = found(expires + 2 * day).expect("late");
        assert!(late.starts_with("error: the certificate of tls.cert_file expired 2 days ago"));
        assert_eq!(super::certificate_finding(&CertificateFiles::default(), 0), None);
    }
}
