//! How much memory this process may use, and how much of it clients may make a node hold.
//!
//! A container's limit is that of its control group, and each group above may have a lower one. So
//! all of them are asked, of both versions of control groups: what is mounted where depends on the
//! container's engine, and what is not there says nothing.

use std::path::{Path, PathBuf};

/// Where the second version's groups are: alone, and beside the first one's.
const UNIFIED: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Where the first version's groups for memory are.
const FIRST: &str = "/sys/fs/cgroup/memory";
/// Memory of a machine that does not say how much it has, in bytes.
const UNKNOWN: u64 = 1 << 30;
/// One part in so many of the memory is for bodies of requests, and as much for replies that
/// clients have not read: a body is held twice while its value is taken out of it.
const PART: u64 = 8;

/// Bytes that bodies of requests may take at a time, and again replies that clients have not read,
/// where no setting says it.
#[must_use]
pub fn for_clients() -> usize {
    usize::try_from(available() / PART).unwrap_or(usize::MAX)
}

/// Bytes of memory that the machine has, or the container that the process runs in.
fn available() -> u64 {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        text.trim().parse().ok()
    });
    let machine = std::fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| total(&text)).unwrap_or(UNKNOWN);
    limits.fold(machine, u64::min)
}

/// The files that may have limits of the groups that `/proc/self/cgroup` names.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
            continue;
        };
        let group = Path::new(group.trim_start_matches('/'));
        // Also those above: inside of a container the names may be those of outside, and only the
        // root is there.
        for group in group.ancestors() {
            if controllers.is_empty() {
                files.extend(UNIFIED.map(|root| Path::new(root).join(group).join("memory.max")));
            } else if controllers.split(',').any(|name| name == "memory") {
                files.push(Path::new(FIRST).join(group).join("memory.limit_in_bytes"));
            }
        }
    }
    files
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_looked_for_in_every_group_above() {
        let second = limit_files("0::/a/b\n");
        for file in ["a/b/memory.max", "a/memory.max", "memory.max"] {
            assert!(second.contains(&Path::new("/sys/fs/cgroup").join(file)));
        }
        let first = limit_files("9:name=systemd:/\n4:cpu,memory:/docker/c\n3:cpuset:/x\n");
        let root = Path::new(FIRST);
        let files = ["docker/c", "docker", ""].map(|g| root.join(g).join("memory.limit_in_bytes"));
        assert_eq!(first, files);
        assert_eq!(limit_files("what is this\n0\n"), Vec::<PathBuf>::new());
    }

    #[test]
    fn this_machine_says_how_much_it_has() {
        let text = "MemTotal:        8388608 kB\nMemFree:  1 kB\n";
        assert_eq!(total(text), Some(8 << 30));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert!((1 << 24..1 << 50).contains(&available()));
        assert_eq!(for_clients() as u64, available() / PART);
    }
}
