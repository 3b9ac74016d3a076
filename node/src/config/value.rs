//! Kinds of values: how each is read from text or TOML, what is refused and why. Opens nothing.

use std::net::{IpAddr, SocketAddr};

use storage::cql::{self, Replication};

use crate::peers::Seed;

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Any text but the empty one.
    Text,
    /// 1 to 64 letters, digits, `.`, `_`, `-`.
    Name,
    /// Path of a file that nobody else may read.
    PrivateFile,
    /// Text that is never shown.
    Secret,
    /// IP address and port.
    Address,
    /// An integer between these, both included.
    Number(u64, u64),
    /// `true` or `false`.
    Flag,
    /// One of these.
    Choice(&'static [&'static str]),
    /// IP addresses and networks.
    Networks,
    /// Web origins.
    Origins,
    /// Servers, `host:port`.
    Nodes,
    /// A name that CQL takes without quotes.
    Keyspace,
    /// How many copies, and where.
    Replication,
    /// A server, `host:port`.
    Server,
    /// Servers, `host:port`, and names that stand for several, `dns:name:port`.
    Seeds,
}

/// A checked value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Unset,
    Text(String),
    Number(u64),
    Flag(bool),
    List(Vec<String>),
}

/// Why a value is refused, and what to do.
#[derive(Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

fn refuse<T>(reason: impl Into<String>, remedy: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { reason: reason.into(), remedy: remedy.into() })
}

impl Kind {
    pub(crate) fn is_secret(self) -> bool {
        matches!(self, Kind::Secret)
    }

    pub(crate) fn is_list(self) -> bool {
        matches!(self, Kind::Networks | Kind::Origins | Kind::Nodes | Kind::Seeds)
    }

    /// Reads text as the environment and flags give it; lists are separated by commas.
    pub(crate) fn read_text(self, text: &str) -> Result<Value, Refusal> {
        let text = text.trim();
        if self.is_list() {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            return self.check(Value::List(items.map(str::to_owned).collect()));
        }
        match self {
            Kind::Number(min, max) => match text.replace('_', "").parse() {
                Ok(number) => self.check(Value::Number(number)),
                Err(_) => refuse("not a whole number", format!("give one between {min} and {max}")),
            },
            Kind::Flag => match text.parse() {
                Ok(flag) => Ok(Value::Flag(flag)),
                Err(_) => refuse("neither true nor false", "write true or false"),
            },
            _ => self.check(Value::Text(text.to_owned())),
        }
    }

    /// Reads what a TOML file gives.
    pub(crate) fn read_toml(self, value: &toml::Value) -> Result<Value, Refusal> {
        match (self, value) {
            (Kind::Number(..), toml::Value::Integer(number)) => match u64::try_from(*number) {
                Ok(number) => self.check(Value::Number(number)),
                Err(_) => refuse("below zero", "give zero or more"),
            },
            (Kind::Number(min, max), _) => refuse("not a whole number", format!("give one between {min} and {max}")),
            (Kind::Flag, toml::Value::Boolean(flag)) => Ok(Value::Flag(*flag)),
            (Kind::Flag, _) => refuse("neither true nor false", "write true or false, without quotes"),
            (kind, toml::Value::Array(items)) if kind.is_list() => {
                let items: Option<Vec<_>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
                match items {
                    Some(items) => self.check(Value::List(items)),
                    None => refuse("not a list of strings", r#"write it like ["a", "b"]"#),
                }
            }
            (kind, _) if kind.is_list() => refuse("not a list", r#"write it like ["a", "b"]"#),
            (_, toml::Value::String(text)) => self.check(Value::Text(text.trim().to_owned())),
            _ => refuse("not a string", "put it in quotes"),
        }
    }

    fn check(self, value: Value) -> Result<Value, Refusal> {
        match (self, &value) {
            (_, Value::Text(text)) if text.is_empty() => refuse("empty", "give a value, or remove the key"),
            (Kind::Name, Value::Text(text)) if !is_name(text) => {
                refuse("not a name", "use 1 to 64 letters, digits, `.`, `_`, `-`")
            }
            (Kind::Address, Value::Text(text)) if text.parse::<SocketAddr>().is_err() => {
                refuse("not an address with a port", "write it like 127.0.0.1:8080 or [::]:8080")
            }
            (Kind::Number(min, max), Value::Number(number)) if !(min..=max).contains(number) => {
                refuse(format!("not between {min} and {max}"), format!("give a number between {min} and {max}"))
            }
            (Kind::Choice(known), Value::Text(text)) if !known.contains(&text.as_str()) => {
                refuse("no such choice", format!("use {}", known.join(" or ")))
            }
            (Kind::Keyspace, Value::Text(text)) if !cql::is_keyspace_name(text) => {
                refuse("not a keyspace", "use a small letter, then small letters, digits and `_`, 48 at most")
            }
            (Kind::Replication, Value::Text(text)) => match text.parse::<Replication>() {
                Ok(_) => Ok(value),
                Err(error) => refuse(error.to_string(), "give the number of copies, for every datacenter or each"),
            },
            (Kind::Nodes, Value::List(items)) => match items.iter().find(|item| !is_server(item)) {
                Some(item) => {
                    refuse(format!("`{item}` is no server"), "write it like 10.0.0.7:9042 or db.example:9042")
                }
                None => Ok(value),
            },
            (Kind::Server, Value::Text(text)) if !is_server(text) => {
                refuse("not a host with a port", "write it like 10.0.0.7:7946 or n1.example:7946")
            }
            (Kind::Seeds, Value::List(items)) => match items.iter().find(|item| Seed::parse(item).is_none()) {
                Some(item) => {
                    refuse(format!("`{item}` is no seed"), "write it like n1.example:7946 or dns:nodes.example:7946")
                }
                None => Ok(value),
            },
            (Kind::Networks, Value::List(items)) => match items.iter().find(|item| Network::parse(item).is_none()) {
                Some(item) => refuse(format!("`{item}` is no address or network"), "write it like 10.0.0.0/8 or ::1"),
                None => Ok(value),
            },
            (Kind::Origins, Value::List(items)) => match items.iter().find(|item| !is_origin(item)) {
                Some(item) => refuse(format!("`{item}` is no origin"), "write it like https://chat.example, no path"),
                None => Ok(value),
            },
            _ => Ok(value),
        }
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// A host, by name or address, and a port.
pub(crate) fn is_server(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_v6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    let is_name =
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    (is_v6 || is_name) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Scheme, host and perhaps a port, as browsers write it: no path, no slash at the end, no capitals.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b'*' | b'?' | b'#' | b'@'))
    }) && !text.bytes().any(|b| b.is_ascii_uppercase())
}

/// An address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    pub(crate) fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address.parse::<IpAddr>().ok()?, Some(bits.parse::<u32>().ok()?)),
            None => (text.parse::<IpAddr>().ok()?, None),
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Network { address, bits })
    }

    /// IPv4 addresses that arrive on an IPv6 socket count as IPv4.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= self.bits,
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= self.bits,
            _ => false,
        }
    }
}

/// From a checked value to a field of `Config`. A mismatch is a mistake in the table of keys.
pub(super) trait FromValue {
    fn from_value(value: Value) -> Self;
}

macro_rules! from_number {
    ($($type:ty)*) => {$(
        impl FromValue for $type {
            fn from_value(value: Value) -> Self {
                match value {
                    Value::Number(number) => number.try_into().expect("the key's bound fits its type"),
                    other => panic!("a number is expected, not {other:?}"),
                }
            }
        }
    )*};
}
from_number!(u32 u64 usize);

impl FromValue for Option<u64> {
    fn from_value(value: Value) -> Self {
        (value != Value::Unset).then(|| u64::from_value(value))
    }
}

impl FromValue for bool {
    fn from_value(value: Value) -> Self {
        value == Value::Flag(true)
    }
}

impl FromValue for Option<String> {
    fn from_value(value: Value) -> Self {
        match value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> Self {
        Option::from_value(value).expect("a text with a default is always set")
    }
}

impl FromValue for Replication {
    fn from_value(value: Value) -> Self {
        String::from_value(value).parse().expect("replications are checked")
    }
}

impl FromValue for SocketAddr {
    fn from_value(value: Value) -> Self {
        String::from_value(value).parse().expect("addresses are checked")
    }
}

impl FromValue for Vec<String> {
    fn from_value(value: Value) -> Self {
        match value {
            Value::List(items) => items,
            other => panic!("a list is expected, not {other:?}"),
        }
    }
}

impl FromValue for Vec<Network> {
    fn from_value(value: Value) -> Self {
        Vec::<String>::from_value(value).iter().filter_map(|item| Network::parse(item)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_network(network: &str, address: &str) -> bool {
        Network::parse(network).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn networks_hold_what_they_should() {
        assert!(in_network("10.0.0.0/8", "10.1.2.3"));
        assert!(!in_network("10.0.0.0/8", "11.1.2.3"));
        assert!(in_network("0.0.0.0/0", "8.8.8.8"));
        assert!(in_network("127.0.0.1", "::ffff:127.0.0.1"));
        assert!(in_network("fd00::/8", "fd12::1"));
        assert!(!in_network("fd00::/8", "10.0.0.1"));
        assert_eq!(Network::parse("10.0.0.0/33"), None);
        assert_eq!(Network::parse("localhost"), None);
    }

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for good in ["10.0.0.7:9042", "db-1.example:9042", "[::1]:9042"] {
            assert!(is_server(good), "{good}");
        }
        for bad in ["10.0.0.7", "db:0", ":9042", "::1:9042", "http://db:9042", "db:port", "a b:1"] {
            assert!(!is_server(bad), "{bad}");
        }
    }

    #[test]
    fn origins_are_exact() {
        assert!(is_origin("https://chat.example") && is_origin("http://localhost:3000"));
        for bad in ["*", "https://*.example", "https://a.example/", "chat.example", "https://", "HTTPS://a.example"] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
