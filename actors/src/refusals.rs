//! What is said where something is refused or fails, in one place, so that the same thing is always said the same way.

use bytes::Bytes;
use protocol::{Code, ConnId, Error, push};

/// What everybody who is not a member hears, whether the conversation exists or not.
pub(crate) fn no_such_conversation() -> Error {
    Error::new(Code::NotFound, "there is no such conversation")
}

/// What is said when a conversation would have more members than allowed.
pub(crate) fn too_many_members(members_max: usize) -> Error {
    Error::new(Code::Conflict, format!("a conversation has at most {members_max} members"))
}

/// What a failing store is called outside.
pub(crate) fn store_failed(error: &storage::Error) -> Error {
    match error {
        storage::Error::Refused(_) => Error::new(Code::Unavailable, "the store is away; try again").after_ms(500),
        storage::Error::Unknown(_) => Error::new(Code::Timeout, "the store did not say in time").after_ms(500),
        storage::Error::Duplicate => Error::new(Code::Conflict, "stored already under this client id"),
        storage::Error::Corrupt(what) => {
            tracing::error!(what, "the store holds something unreadable");
            Error::new(Code::Internal, "the store holds something unreadable; the operator has been told")
        }
    }
}

/// An `err` frame; its `request` names socket and request in the logs.
pub(crate) fn refused(id: impl Into<Option<u32>>, error: &Error, conn: ConnId) -> Bytes {
    let id = id.into();
    metrics::counter!("starling_request_errors_total", "type" => "frame", "code" => error.code.as_str()).increment(1);
    push::err(id, error, &format!("{:x}-{}", conn.0, id.unwrap_or(0)))
}
