//! Where the servers of CQL are, and how the keyspace there is to be. Never prints a password.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

/// How to reach a cluster of ScyllaDB or Apache Cassandra.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Some of its servers, `host:port`; the others are learnt from them.
    pub nodes: Vec<String>,
    /// Whose tables: a lowercase letter, then lowercase letters, digits and underscores, at most 48. Made if it is not there.
    pub keyspace: String,
    /// With `password`: who signs in there.
    pub username: Option<String>,
    /// See `username`.
    pub password: Option<String>,
    /// How many copies there are of everything. A keyspace with another number is refused.
    pub replication: Replication,
    /// Set: only servers of this datacenter are spoken to, and what is agreed on is agreed on within it. All nodes of the
    /// cluster must then say the same.
    pub datacenter: Option<String>,
    /// Set: TLS, with certificates that this authority (PEM) issued for the servers' addresses.
    pub tls_ca: Option<PathBuf>,
    /// Members that a conversation may have. Each 10,000 of them are a partition; a conversation keeps those it was made
    /// with.
    pub members_max: usize,
}

impl Settings {
    /// A statement about tables of `ks.`, which stands for the keyspace.
    pub(super) fn qualified(&self, text: &str) -> String {
        text.replace(" ks.", &format!(" {}.", self.keyspace))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("nodes", &self.nodes)
            .field("keyspace", &self.keyspace)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("replication", &self.replication)
            .field("datacenter", &self.datacenter)
            .field("tls_ca", &self.tls_ca)
            .field("members_max", &self.members_max)
            .finish()
    }
}

/// What is said of this store in messages.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the CQL keyspace {} on {}", self.keyspace, self.nodes.join(","))
    }
}

/// Whether CQL takes this name without quotes, as it is written.
pub fn is_keyspace_name(name: &str) -> bool {
    name.len() <= 48
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// How many copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replication {
    /// As many in every datacenter there is: `3`.
    Everywhere(u8),
    /// Datacenter by datacenter: `dc1:3,dc2:2`.
    ByDatacenter(BTreeMap<String, u8>),
}

/// Why a text is not a [`Replication`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is neither a number of copies (3) nor a list of datacenters (dc1:3,dc2:2), each from 1 to 255")]
pub struct InvalidReplication {
    text: String,
}

impl FromStr for Replication {
    type Err = InvalidReplication;

    fn from_str(text: &str) -> Result<Replication, InvalidReplication> {
        let copies = |number: &str| number.trim().parse().ok().filter(|&copies: &u8| copies > 0);
        let pair = |pair: &str| {
            let (datacenter, number) = pair.split_once(':')?;
            let datacenter = datacenter.trim();
            let named = !datacenter.is_empty() && !datacenter.contains(['\'', '"', '\\']);
            copies(number).filter(|_| named).map(|copies| (datacenter.to_owned(), copies))
        };
        let by_datacenter = || {
            let pairs = text.split(',').map(pair).collect::<Option<Vec<_>>>()?;
            let n_pairs = pairs.len();
            let by_datacenter: BTreeMap<_, _> = pairs.into_iter().collect();
            (by_datacenter.len() == n_pairs).then_some(by_datacenter)
        };
        copies(text)
            .map(Replication::Everywhere)
            .or_else(|| by_datacenter().map(Replication::ByDatacenter))
            .ok_or_else(|| InvalidReplication { text: text.to_owned() })
    }
}

impl fmt::Display for Replication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Replication::Everywhere(copies) => copies.fmt(f),
            Replication::ByDatacenter(by_datacenter) => {
                let pairs: Vec<_> = by_datacenter.iter().map(|(name, copies)| format!("{name}:{copies}")).collect();
                f.write_str(&pairs.join(","))
            }
        }
    }
}

impl Replication {
    /// As CQL writes it.
    pub(super) fn to_cql(&self) -> String {
        let copies = match self {
            Replication::Everywhere(copies) => format!("'replication_factor': {copies}"),
            Replication::ByDatacenter(by_datacenter) => {
                let pairs: Vec<_> = by_datacenter.iter().map(|(name, copies)| format!("'{name}': {copies}")).collect();
                pairs.join(", ")
            }
        };
        format!("{{'class': 'NetworkTopologyStrategy', {copies}}}")
    }

    /// Whether there are servers for so many copies, datacenter by datacenter. Otherwise: what is missing.
    pub(super) fn fits(&self, servers: &BTreeMap<String, usize>) -> Result<(), String> {
        let wished: Vec<(&str, u8)> = match self {
            Replication::Everywhere(copies) => servers.keys().map(|name| (name.as_str(), *copies)).collect(),
            Replication::ByDatacenter(wished) => wished.iter().map(|(name, copies)| (name.as_str(), *copies)).collect(),
        };
        for (name, copies) in wished {
            let n_servers = servers.get(name).copied().unwrap_or(0);
            if usize::from(copies) > n_servers {
                return Err(format!("{copies} copies in {name}, where there are {n_servers} servers"));
            }
        }
        Ok(())
    }

    /// How many copies there are of which more than half must acknowledge: all, or those in `datacenter` if it is named.
    pub(super) fn copies(&self, servers: &BTreeMap<String, usize>, datacenter: Option<&str>) -> usize {
        let counts = |name: &str| datacenter.is_none_or(|datacenter| datacenter == name);
        match self {
            Replication::Everywhere(copies) => {
                usize::from(*copies) * servers.keys().filter(|name| counts(name)).count()
            }
            Replication::ByDatacenter(wished) => {
                wished.iter().filter(|(name, _)| counts(name)).map(|(_, copies)| usize::from(*copies)).sum()
            }
        }
    }

    /// Whether a keyspace that the servers describe so is as wished. Otherwise: what it is.
    pub(super) fn check(&self, found: &BTreeMap<String, String>) -> Result<(), String> {
        let copies: BTreeMap<&str, &str> = found
            .iter()
            .filter(|(key, _)| *key != "class")
            .map(|(key, copies)| (key.as_str(), copies.as_str()))
            .collect();
        let alike = match self {
            Replication::Everywhere(wished) => {
                !copies.is_empty() && copies.values().all(|copies| *copies == wished.to_string())
            }
            Replication::ByDatacenter(wished) => {
                copies.len() == wished.len()
                    && wished.iter().all(|(name, n)| copies.get(name.as_str()) == Some(&n.to_string().as_str()))
            }
        };
        if alike {
            return Ok(());
        }
        let described: Vec<_> = copies.iter().map(|(name, copies)| format!("{name}:{copies}")).collect();
        Err(described.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_need_as_many_servers() {
        let servers = BTreeMap::from([("dc1".to_owned(), 3), ("dc2".to_owned(), 1)]);
        let fits = |text: &str| text.parse::<Replication>().unwrap().fits(&servers);
        assert_eq!((fits("1"), fits("dc1:3"), fits("dc1:3,dc2:1")), (Ok(()), Ok(()), Ok(())));
        assert_eq!(fits("3"), Err("3 copies in dc2, where there are 1 servers".into()));
        assert_eq!(fits("dc3:1"), Err("1 copies in dc3, where there are 0 servers".into()));
    }

    #[test]
    fn copies_that_acknowledge_are_those_everywhere_or_in_one_datacenter() {
        let servers = BTreeMap::from([("dc1".to_owned(), 3), ("dc2".to_owned(), 1)]);
        let copies = |text: &str, datacenter| text.parse::<Replication>().unwrap().copies(&servers, datacenter);
        assert_eq!((copies("1", None), copies("1", Some("dc1"))), (2, 1));
        assert_eq!((copies("dc1:3,dc2:1", None), copies("dc1:3,dc2:1", Some("dc2"))), (4, 1));
    }

    #[test]
    fn a_replication_is_a_number_or_a_list_of_datacenters() {
        let parsed = |text: &str| text.parse::<Replication>().map(|replication| replication.to_string());
        assert_eq!(parsed("3"), Ok("3".into()));
        assert_eq!(parsed(" dc2:2 , dc1:3"), Ok("dc1:3,dc2:2".into()));
        for wrong in ["", "0", "dc1", "dc1:0", "dc1:3,dc1:3", "dc1:3,", ":3", "256", "a'b:3", "-1"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_keyspace_is_compared_with_what_is_wished() {
        let found = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let one = found(&[("class", "org.apache.cassandra.locator.NetworkTopologyStrategy"), ("dc1", "1")]);
        let check = |wished: &str, found| wished.parse::<Replication>().unwrap().check(found);
        assert_eq!(check("1", &one), Ok(()));
        assert_eq!(check("dc1:1", &one), Ok(()));
        assert_eq!(check("3", &one), Err("dc1:1".into()));
        assert_eq!(check("dc1:1,dc2:1", &one), Err("dc1:1".into()));
        assert_eq!(check("dc2:1", &one), Err("dc1:1".into()));
        let uneven = found(&[("class", "NetworkTopologyStrategy"), ("dc1", "3"), ("dc2", "1")]);
        assert_eq!(check("3", &uneven), Err("dc1:3,dc2:1".into()));
    }

    #[test]
    fn a_password_is_not_printed() {
        let settings = Settings {
            nodes: vec!["one:9042".into()],
            keyspace: "starling".into(),
            username: Some("starling".into()),
            password: Some("secret".into()),
            replication: Replication::Everywhere(3),
            datacenter: None,
            tls_ca: None,
            members_max: 10_000,
        };
        assert!(!format!("{settings:?} {settings}").contains("secret"));
    }
}
