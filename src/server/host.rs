//! What the machine gives: cores, descriptors, memory.

use std::fs;
use std::num::NonZero;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that are not connections: listeners, pollers, logs, the admin door.
const DESCRIPTORS_RESERVED: usize = 128;

/// Descriptors of a worker itself: pollers, wakers, listener.
const DESCRIPTORS_PER_WORKER: usize = 8;

/// Most workers that a configuration can ask for.
const WORKERS_MAX: usize = 1024;

/// Raises the soft limit of open files to the hard one; a connection is a file.
pub(super) fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Workers to run: as configured, or one per core.
pub(super) fn worker_count(configured: usize) -> usize {
    let count = match configured {
        0 => std::thread::available_parallelism().map_or(1, NonZero::get),
        count => count,
    };
    count.min(WORKERS_MAX)
}

/// Connections to let in: as configured, or what the descriptor tables of `workers` hold, one for
/// all or one each.
pub(super) fn connection_limit(configured: usize, workers: usize, tables: usize) -> usize {
    if configured > 0 {
        return configured;
    }
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let per_table = usize::try_from(soft).unwrap_or(usize::MAX);
    let reserved = DESCRIPTORS_RESERVED + DESCRIPTORS_PER_WORKER * workers;
    per_table.saturating_sub(reserved).max(1).saturating_mul(tables)
}

/// Bytes that the memory account may hold: as configured, or 80 % of the machine or cgroup.
pub(super) fn memory_limit(configured: u64) -> u64 {
    match configured {
        0 => memory().unwrap_or(u64::MAX) / 5 * 4,
        configured => configured,
    }
}

/// Bytes of the machine or of our cgroup, whichever is less; `None` = the kernel does not say.
pub(crate) fn memory() -> Option<u64> {
    let machine =
        fs::read_to_string("/proc/meminfo").ok().and_then(|text| kibibytes(&text, "MemTotal:"));
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    [cgroup_memory(Path::new("/sys/fs/cgroup"), &own), machine].into_iter().flatten().min()
}

/// Bytes of this process that are in RAM; `None` = the kernel does not say.
pub(super) fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    kibibytes(&status, "VmRSS:")
}

/// The smallest limit from the process's cgroup up to the root of its hierarchy, of version 2 or of
/// version 1's memory controller. `own` is the text of /proc/self/cgroup.
///
/// In a container the path may be the host's, which is not there: then the root is the container's.
fn cgroup_memory(root: &Path, own: &str) -> Option<u64> {
    let limits = own.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|one| one == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        smallest(&root, path.trim_start_matches('/'), file)
    });
    limits.min()
}

fn smallest(root: &Path, path: &str, file: &str) -> Option<u64> {
    let group = root.join(path);
    let groups = group.ancestors().take_while(|group| group.starts_with(root));
    groups.filter_map(|group| fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()).min()
}

/// The bytes behind `key` in a text of lines like `MemTotal: 1 kB`.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let count = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(count * 1024)
}

#[cfg(test)]
mod tests {
    use super::{cgroup_memory, connection_limit, kibibytes, memory_limit, resident, worker_count};

    #[test]
    fn what_is_configured_counts() {
        assert_eq!(worker_count(3), 3);
        assert_eq!(connection_limit(7, 1, 2), 7);
        assert_eq!(memory_limit(9), 9);
    }

    #[test]
    fn the_machine_fills_in_what_is_not() {
        assert!(worker_count(0) > 0);
        assert!(connection_limit(0, 1, 1) > 0);
        assert!(memory_limit(0) > 1 << 20);
        assert!(resident() > Some(1 << 20));
        assert_eq!(kibibytes("MemTotal:     16 kB\nMemFree: 1 kB\n", "MemTotal:"), Some(16_384));
        assert_eq!(kibibytes("MemFree: 1 kB\n", "MemTotal:"), None);
    }

    #[test]
    fn the_tightest_cgroup_above_the_process_counts() {
        let root = tempfile::tempdir().expect("a folder");
        let own = root.path().join("a/b/c");
        std::fs::create_dir_all(&own).expect("folders");
        let set =
            |group: &str, text| std::fs::write(root.path().join(group).join("memory.max"), text);
        set("a", "4096\n").expect("a file");
        set("a/b", "1024\n").expect("a file");
        set("a/b/c", "max\n").expect("a file");
        let limit = |own| cgroup_memory(root.path(), own);
        assert_eq!(limit("1:name=x:/y\n0::/a/b/c\n"), Some(1024));
        assert_eq!(limit("0::/a\n"), Some(4096));
        assert_eq!(limit("0::/\n"), None);
        assert_eq!(limit(""), None);
        let v1 = root.path().join("memory/d");
        std::fs::create_dir_all(&v1).expect("folders");
        let set = |group: &str, text| {
            std::fs::write(
                root.path().join("memory").join(group).join("memory.limit_in_bytes"),
                text,
            )
        };
        set("d", "2048\n").expect("a file");
        set("", "9223372036854771712\n").expect("a file");
        assert_eq!(limit("4:memory:/d\n0::/a\n"), Some(2048));
        assert_eq!(limit("7:cpu,memory:/d\n0::/a/b/c\n"), Some(1024));
        assert_eq!(limit("4:memory:/not/here\n3:cpuset:/d\n"), Some(9_223_372_036_854_771_712));
    }
}
