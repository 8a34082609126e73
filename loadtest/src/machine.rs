//! Where and how a figure was made: the machine's line, the command, this thread's core.

use std::fs;

use anyhow::Context as _;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// One line: processors, kernel, memory, load.
pub(crate) fn line() -> String {
    let cpuinfo = read("/proc/cpuinfo");
    let models: Vec<&str> = cpuinfo.lines().filter(|line| line.starts_with("model name")).collect();
    let model = models.first().and_then(|line| line.split_once(": ")).map_or("unknown", |m| m.1);
    let kibibytes: u64 = read("/proc/meminfo")
        .split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .unwrap_or(0);
    let load = read("/proc/loadavg");
    format!(
        "{} x {model}, Linux {}, {} GiB, load {}",
        models.len().max(1),
        read("/proc/sys/kernel/osrelease").trim(),
        kibibytes.div_ceil(1 << 20),
        load.split(' ').next().unwrap_or("unknown"),
    )
}

/// This process's command line, ready to paste into a shell.
pub(crate) fn command() -> String {
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or("fanwire-loadtest").to_owned();
    std::iter::once(name)
        .chain(arguments.map(|argument| quoted(&argument)))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(argument: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=./:,@%+".contains(&byte);
    if !argument.is_empty() && argument.bytes().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

/// Pins this thread, and every process it starts from now on, to `core`.
///
/// # Errors
/// There is no such core, or it is not ours to use.
pub(crate) fn pin(core: usize) -> anyhow::Result<()> {
    let mut cores = CpuSet::new();
    cores
        .set(core)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cores))
        .with_context(|| format!("core {core} cannot be had"))
}

/// Bytes that programs may still take before the system runs out of memory.
pub(crate) fn available_bytes() -> u64 {
    let meminfo = read("/proc/meminfo");
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    // A system that does not say cannot be watched.
    kibibytes.map_or(u64::MAX, |kibibytes| kibibytes << 10)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_the_shell() {
        assert_eq!(quoted("--url=http://127.0.0.1:1/"), "--url=http://127.0.0.1:1/");
        assert_eq!(quoted("ours=a b"), "'ours=a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
