//! Names, numbers, and the few words that both sides say. Two different things never share a type; ids travel as opaque
//! strings with a kind prefix.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// Why a string is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `{prefix}` and 32 lowercase hexadecimal digits")]
pub struct InvalidId {
    prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, SchemaRead, SchemaWrite)]
        #[cfg_attr(test, derive(bincode::Encode))]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// What every id of this kind starts with.
            pub const PREFIX: &'static str = $prefix;
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, uuid::Uuid::from_bytes(self.0).simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_hex(text, $prefix).map(Self).ok_or(InvalidId { prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(/// A person with an account.
    UserId, "u_");
id!(/// One conversation, one log.
    ConversationId, "c_");
id!(/// One signed-in device; it may hold several sockets.
    SessionId, "s_");
id!(/// One event of a log, made by the owner before it is stored: how an append of unknown outcome is recognised.
    EventId, "e_");
id!(/// One run of one node's process. Never used again after it ended.
    Incarnation, "i_");

/// Only the one spelling that `Display` writes is an id: two strings never name the same thing.
fn parse_hex(text: &str, prefix: &str) -> Option<[u8; 16]> {
    let hex = text.strip_prefix(prefix)?.as_bytes();
    if hex.len() != 32 {
        return None;
    }
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, SchemaRead, SchemaWrite,
        )]
        #[cfg_attr(test, derive(bincode::Encode))]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let number = u64::deserialize(d)?;
                if number > crate::limits::INTEGER_MAX {
                    return Err(serde::de::Error::custom("integers stay below 2^53"));
                }
                Ok($name(number))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(/// Place of an event in its conversation's log, from 1. 0 means "before everything".
    Seq);
number!(/// Term of an owner of a log; grows by one with every claim.
    Epoch);
number!(/// Unix time in milliseconds.
    Millis);
number!(/// One socket (or one REST call waiting for an answer) on one node: a slot of its connection table.
    ConnId);

impl Seq {
    /// The seq after this one.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $bytes_max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, SchemaRead, SchemaWrite)]
        #[cfg_attr(test, derive(bincode::Encode))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text as the client gave it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;
            fn try_from(text: String) -> Result<Self, &'static str> {
                if text.is_empty() || text.len() > $bytes_max || text.chars().any(char::is_control) {
                    return Err($what);
                }
                Ok($name(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

name!(/// A client's own name for one request that must happen once: 1 to 64 bytes, no control characters.
    ClientId, "a client id (cid) has 1 to 64 bytes and no control characters", crate::limits::CLIENT_ID_BYTES_MAX);
name!(/// A client's own name for a device: 1 to 64 bytes, no control characters.
    DeviceId, "a device has 1 to 64 bytes and no control characters", crate::limits::DEVICE_BYTES_MAX);

name!(/// A node's name, stable over restarts and equal to the name in its certificate: 1 to 63 bytes.
    NodeId, "a node's name has 1 to 63 bytes and no control characters", crate::limits::NODE_BYTES_MAX);

/// What a conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Two people; nobody joins or leaves.
    Direct,
    /// Everybody posts.
    Group,
    /// Only the owner and admins post.
    Channel,
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads, and posts outside channels.
    Member,
    /// Also posts in channels, adds and removes members, changes settings.
    Admin,
    /// Also gives and takes roles.
    Owner,
}

/// How a user appears to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
#[cfg_attr(test, derive(bincode::Encode))]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// A device is there and in use.
    Online,
    /// Devices are there, none in use.
    Away,
    /// No device.
    Offline,
}
