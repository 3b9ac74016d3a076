//! The one catalogue of errors, for the socket and for REST.

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $retry:literal;)*) => {
        /// What went wrong, as clients read it. Each code has one HTTP status and says whether trying again may help.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, wincode::SchemaRead, wincode::SchemaWrite,
        )]
        #[cfg_attr(test, derive(bincode::Encode))]
        pub enum Code { $($(#[$doc])* #[serde(rename = $text)] $name,)* }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Code] = &[$(Code::$name),*];

            /// The word on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }

            /// True if the same request may succeed later.
            pub fn retry(self) -> bool {
                match self { $(Code::$name => $retry,)* }
            }
        }
    };
}

codes! {
    /// Not a frame of this protocol.
    BadFrame = "bad_frame", 400, false;
    /// A field is missing, of the wrong type or out of bounds; `field` names it.
    BadField = "bad_field", 400, false;
    /// No such verb.
    UnknownType = "unknown_type", 400, false;
    /// No valid sign-in.
    Unauthenticated = "unauthenticated", 401, false;
    /// The access token ended; refresh it.
    TokenExpired = "token_expired", 401, false;
    /// Not allowed in a conversation one can see.
    Forbidden = "forbidden", 403, false;
    /// Blocked by the other side.
    Blocked = "blocked", 403, false;
    /// Does not exist, or may not be seen.
    NotFound = "not_found", 404, false;
    /// Another request was made under the same client id, or the state does not allow it.
    Conflict = "conflict", 409, false;
    /// The name is taken.
    AlreadyExists = "already_exists", 409, false;
    /// Larger than the limit.
    TooLarge = "too_large", 413, false;
    /// Too often.
    RateLimited = "rate_limited", 429, true;
    /// Too many requests unanswered at once.
    TooManyInflight = "too_many_inflight", 429, true;
    /// Another node owns it now.
    Moved = "moved", 503, true;
    /// A store or a part of the node is away; nothing was stored.
    Unavailable = "unavailable", 503, true;
    /// A queue is full; nothing was stored.
    Overloaded = "overloaded", 503, true;
    /// The node is being stopped; nothing was stored.
    Draining = "draining", 503, true;
    /// The outcome is unknown; the same client id is safe to send again.
    Timeout = "timeout", 504, true;
    /// A bug; the outcome is unknown.
    Internal = "internal", 500, true;
}

/// A refusal or failure as it leaves the node. [`Code`] decides status and retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What went wrong.
    pub code: Code,
    /// For people: names the thing and the reason.
    pub message: String,
    /// The field that is wrong, dotted.
    pub field: Option<String>,
    /// Wait at least this long, milliseconds.
    pub after_ms: Option<u64>,
}

impl Error {
    /// An error with nothing but a code and a message.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), field: None, after_ms: None }
    }

    /// [`Code::BadField`] that names the field.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Error {
        Error { field: Some(field.into()), ..Error::new(Code::BadField, message) }
    }

    /// The same error, to be tried again after `ms` milliseconds.
    #[must_use]
    pub fn after_ms(self, ms: u64) -> Error {
        Error { after_ms: Some(ms), ..self }
    }

    /// `err.d` of the socket. `request` is the id of the request in the logs.
    pub fn frame_body<'a>(&'a self, request: &'a str) -> impl Serialize + 'a {
        ErrorFrame {
            code: self.code,
            status: self.code.status(),
            retry: self.code.retry(),
            after_ms: self.after_ms,
            message: &self.message,
            field: self.field.as_deref(),
            request,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Error {}

#[derive(Serialize)]
struct ErrorFrame<'a> {
    code: Code,
    status: u16,
    retry: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_ms: Option<u64>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    request: &'a str,
}
