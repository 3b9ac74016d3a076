//! WebSocket close codes: 4000–4499 reconnect, 4500–4999 stop.

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal $reason:literal,)*) => {
        /// Why the server closes a socket. The number decides whether a client reconnects, see [`CloseCode::reconnect`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(into = "u16")]
        #[serde(try_from = "u16")]
        #[repr(u16)]
        pub enum CloseCode { $($(#[$doc])* $name = $number,)* }

        impl CloseCode {
            /// Every code there is.
            pub const ALL: &'static [CloseCode] = &[$(CloseCode::$name),*];

            /// The word that `bye` and the close frame carry.
            pub fn reason(self) -> &'static str {
                match self { $(CloseCode::$name => $reason,)* }
            }
        }
    };
}

codes! {
    /// A bug or an unexpected failure; another try may work.
    ServerError = 4000 "server error",
    /// The node is being stopped.
    Drain = 4001 "drain",
    /// This socket belongs on another node.
    Moved = 4002 "moved",
    /// The client reads too slowly.
    Slow = 4003 "slow",
    /// No answer to a ping.
    PingTimeout = 4004 "ping timeout",
    /// The node has no room.
    Overloaded = 4005 "overloaded",
    /// The access token ended and no new one came.
    TokenExpired = 4006 "token expired",
    /// No `hello` in time.
    HelloTimeout = 4008 "hello timeout",
    /// The client kept sending past its limits.
    TooManyRequests = 4029 "too many requests",
    /// The client does not speak the protocol.
    ProtocolError = 4500 "protocol error",
    /// The token or ticket is not valid.
    BadToken = 4501 "bad token",
    /// The session was signed out.
    SessionRevoked = 4502 "session revoked",
    /// The account is banned.
    Banned = 4503 "banned",
    /// The same device opened another socket or signed in again.
    Replaced = 4505 "replaced by the same device",
    /// No common version of the protocol.
    Version = 4506 "version",
    /// A frame was larger than the limit.
    TooLarge = 4509 "too large",
    /// The account no longer exists.
    AccountGone = 4510 "account gone",
}

impl CloseCode {
    /// True if a client should come back by itself.
    pub fn reconnect(self) -> bool {
        (self as u16) < 4500
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> u16 {
        code as u16
    }
}

impl TryFrom<u16> for CloseCode {
    type Error = String;
    fn try_from(number: u16) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|c| *c as u16 == number);
        found.ok_or_else(|| format!("{number} is not a known close code"))
    }
}
