//! Which servers these are: ScyllaDB and Apache Cassandra differ in little, and this is where it is asked. Never decides what
//! follows from it beyond what its names say.

use std::fmt;

use super::servers::Servers;
use crate::OpenError;

/// The servers' make and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Product {
    /// Its own version, not the one of Cassandra that it resembles.
    Scylla(String),
    Cassandra(String),
}

impl Product {
    pub(super) async fn of(servers: &Servers) -> Result<Product, OpenError> {
        let state = servers.session().get_cluster_state();
        if state.get_nodes_info().iter().any(|node| node.sharder().is_some()) {
            let text = "SELECT version FROM system.versions WHERE key = 'local'";
            let version = servers.rows::<(String,)>(text).await?.pop();
            return Ok(Product::Scylla(version.map(|(version,)| version).unwrap_or_default()));
        }
        let text = "SELECT release_version FROM system.local WHERE key = 'local'";
        let version = servers.rows::<(String,)>(text).await?.pop();
        Ok(Product::Cassandra(version.map(|(version,)| version).unwrap_or_default()))
    }

    /// ScyllaDB places new keyspaces on tablets since 6.0 (2024.2), and takes conditional writes there since 2025.4.
    pub(super) fn lacks_conditional_writes_on_tablets(&self) -> bool {
        let Product::Scylla(version) = self else { return false };
        let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        ((6, 0)..(2000, 0)).contains(&version) || ((2024, 2)..(2025, 4)).contains(&version)
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Product::Scylla(version) => write!(f, "ScyllaDB {version}"),
            Product::Cassandra(version) => write!(f, "Apache Cassandra {version}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tablets_are_switched_off_where_they_refuse_conditional_writes() {
        let lacks = |version: &str| Product::Scylla(version.into()).lacks_conditional_writes_on_tablets();
        for version in ["6.0.0", "6.2.3-0.20250101", "2024.2.1", "2025.1.0", "2025.3.9-rc1"] {
            assert!(lacks(version), "{version}");
        }
        for version in ["5.4.9", "2023.1.2", "2024.1.9", "2025.4.0", "2026.1.0"] {
            assert!(!lacks(version), "{version}");
        }
        assert!(!Product::Cassandra("5.0.8".into()).lacks_conditional_writes_on_tablets());
    }
}
