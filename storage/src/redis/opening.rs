//! Why a Redis cannot be used, for operators: away for now, or wrong for good; and what to do.

use std::{error::Error, io, sync::Arc};

use ::redis::{ErrorKind, RedisError, ServerErrorKind};

use super::Settings;
use crate::OpenError;

/// Why there is no connection that can be written to.
pub(super) fn of(settings: &Settings, error: &RedisError) -> OpenError {
    let said = error.to_string();
    match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => {
            settings.unusable("it does not take this user and password", "check the user and the password in its URL")
        }
        _ if error.code() == Some("NOAUTH") || said.contains("Authentication required") => {
            settings.unusable("it asks for a password", "put a user and a password into its URL")
        }
        (ErrorKind::Server(ServerErrorKind::NoPerm), _) => {
            let rights = format!("~{}* +@read +@write +@scripting +@connection", settings.prefix);
            settings.unusable(&said, &format!("give this user the rights {rights}"))
        }
        (ErrorKind::Server(ServerErrorKind::Moved), _) => {
            settings.unusable("it is part of a Redis Cluster", "name a server that is not, or a proxy in front of it")
        }
        (ErrorKind::Parse, _) => {
            let remedy = "check the address and the port; a port for TLS needs rediss://";
            settings.unusable("what answers there is not Redis", remedy)
        }
        (ErrorKind::Io, _) => of_the_wire(settings, error),
        (ErrorKind::Server(ServerErrorKind::ResponseError), _) if said.contains("switch database") => {
            let reason = format!("it has no such database ({})", error.detail().unwrap_or_default());
            settings.unusable(&reason, "end its URL with the number of one it has, or with none")
        }
        (ErrorKind::Server(ServerErrorKind::ResponseError), _) if said.contains("max number of clients") => {
            settings.unreachable(&said)
        }
        (ErrorKind::Server(ServerErrorKind::ResponseError), _) | (_, Some("DENIED")) => {
            settings.unusable(&said, "it must be a Redis 6.2 or later, or a Valkey")
        }
        // loading, a replica for now, out of memory, cannot write its snapshot: somebody is at work there
        _ => settings.unreachable(&said),
    }
}

fn of_the_wire(settings: &Settings, error: &RedisError) -> OpenError {
    // the driver shares its causes, so they are inside an `Arc`
    let cause = error.source().and_then(|source| source.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    let io = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    match io.and_then(io::Error::get_ref).and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => {
            settings.unusable("it does not speak TLS", "check the port, or write redis:// without TLS")
        }
        Some(tls) => {
            let remedy = "the authority must have issued its certificate, and that must name the host of its URL";
            settings.unusable(&tls.to_string(), remedy)
        }
        // a server that expects no TLS waits for more of what it takes for a command
        None if settings.url.starts_with("rediss:") && io.is_some_and(|io| io.kind() == io::ErrorKind::TimedOut) => {
            settings.unreachable(&format!("{error} (does that port speak TLS?)"))
        }
        None => settings.unreachable(&error.to_string()),
    }
}
