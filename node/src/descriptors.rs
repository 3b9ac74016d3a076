//! How many descriptors this process may open, and what is kept of them for itself. Counts none.

/// Descriptors kept for the store, listeners and admin connections.
pub(crate) const RESERVED: usize = 256;

/// The descriptors this process may open.
pub(crate) fn max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// Raises what this process may open to what the system lets it: the customary 1,024 are for programs that `select`.
pub(crate) fn raise() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, fewer connections are taken.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
