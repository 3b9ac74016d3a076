//! What the driver's errors mean: definitely not done, or nobody knows. Never guesses in favour of "not done".

use scylla::errors::{
    BadQuery, BrokenConnectionError, BrokenConnectionErrorKind, ConnectionError, ConnectionPoolError,
    ConnectionSetupRequestErrorKind, DbError, ExecutionError, MetadataError, MetadataFetchErrorKind, NewSessionError,
    PrepareError, RequestAttemptError,
};

use super::Settings;
use crate::{Error, OpenError};

/// A read that failed: nothing has happened.
pub(super) fn of_a_read(error: &ExecutionError) -> Error {
    Error::Refused(line(error))
}

/// A single attempt at a write that failed. `Refused` only if it was never sent, or was turned away before it began. All
/// else may have happened, or may still: even `Unavailable`, which a coordinator may meet in the middle of a contended
/// conditional write, after a proposal was accepted somewhere.
pub(super) fn of_a_write(error: &ExecutionError) -> Error {
    if never_began(error) { Error::Refused(line(error)) } else { Error::Unknown(line(error)) }
}

fn never_began(error: &ExecutionError) -> bool {
    match error {
        ExecutionError::EmptyPlan
        | ExecutionError::ConnectionPoolError(_)
        | ExecutionError::PrepareError(_)
        | ExecutionError::BadQuery(
            BadQuery::SerializationError(_)
            | BadQuery::PartitionKeyExtraction
            | BadQuery::ValuesTooLongForKey(..)
            | BadQuery::TooManyQueriesInBatchStatement(_),
        ) => true,
        ExecutionError::LastAttemptError(attempt) => matches!(
            attempt,
            RequestAttemptError::SerializationError(_)
                | RequestAttemptError::CqlRequestSerialization(_)
                | RequestAttemptError::UnableToAllocStreamId
                | RequestAttemptError::RepreparedIdChanged { .. }
                | RequestAttemptError::RepreparedIdMissingInBatch
                | RequestAttemptError::DbError(
                    DbError::SyntaxError | DbError::Invalid | DbError::Unauthorized | DbError::Unprepared { .. },
                    _
                )
        ),
        _ => false,
    }
}

/// Whether the same plain write may do better at once, with another coordinator.
pub(super) fn is_worth_another_try(error: &ExecutionError) -> bool {
    matches!(
        error,
        ExecutionError::LastAttemptError(
            RequestAttemptError::BrokenConnectionError(_)
                | RequestAttemptError::UnableToAllocStreamId
                | RequestAttemptError::DbError(
                    DbError::Unavailable { .. } | DbError::Overloaded | DbError::IsBootstrapping | DbError::ServerError,
                    _
                )
        )
    )
}

/// Why there is no session.
pub(super) fn of_opening(settings: &Settings, error: &NewSessionError) -> OpenError {
    match error {
        NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
            last_connection_error,
        })) => of_a_connection(settings, last_connection_error),
        NewSessionError::MetadataError(MetadataError::FetchError(fetch)) => match &fetch.error {
            MetadataFetchErrorKind::PrepareError(RequestAttemptError::DbError(DbError::Unauthorized, why)) => {
                unusable(settings, why, "let this user read the tables of system and system_schema")
            }
            _ => unreachable(settings, &error.to_string()),
        },
        NewSessionError::EmptyKnownNodesList => unusable(settings, "no server is named", "set storage.cql.nodes"),
        NewSessionError::FailedToResolveAnyHostname(_) => unreachable(settings, "none of these names has an address"),
        _ => unreachable(settings, &error.to_string()),
    }
}

/// Why there is no connection to a server.
pub(super) fn of_a_connection(settings: &Settings, error: &ConnectionError) -> OpenError {
    const OTHER_PROTOCOL: &str = "a server there does not speak CQL (version 4)";
    const LOOK_AT_ADDRESSES: &str = "check the addresses and ports";
    match error {
        ConnectionError::ConnectionSetupRequestError(setup) => match &setup.error {
            ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, why) => {
                unusable(settings, why, "check storage.cql.username and its password")
            }
            ConnectionSetupRequestErrorKind::MissingAuthentication => {
                unusable(settings, "the servers ask for a password", "set storage.cql.username and its password_file")
            }
            ConnectionSetupRequestErrorKind::BrokenConnection(broken) if is_gibberish(broken) => {
                unusable(settings, OTHER_PROTOCOL, LOOK_AT_ADDRESSES)
            }
            ConnectionSetupRequestErrorKind::DbError(DbError::ProtocolError, why) => {
                unusable(settings, &format!("{OTHER_PROTOCOL}: {why}"), LOOK_AT_ADDRESSES)
            }
            ConnectionSetupRequestErrorKind::DbError(..) => unreachable(settings, &error.to_string()),
            ConnectionSetupRequestErrorKind::BrokenConnection(_)
            | ConnectionSetupRequestErrorKind::UnableToAllocStreamId => unreachable(settings, &error.to_string()),
            _ => unusable(settings, OTHER_PROTOCOL, LOOK_AT_ADDRESSES),
        },
        ConnectionError::BrokenConnection(broken) if is_gibberish(broken) => {
            unusable(settings, OTHER_PROTOCOL, LOOK_AT_ADDRESSES)
        }
        ConnectionError::IoError(io) => match io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidMessage(_)) => {
                unusable(settings, "a server there does not speak TLS", "check the port, or unset storage.cql.tls_ca")
            }
            Some(tls) => {
                let remedy =
                    "storage.cql.tls_ca must have issued the certificates, and they must name the servers' addresses";
                unusable(settings, &tls.to_string(), remedy)
            }
            None => unreachable(settings, &io.to_string()),
        },
        ConnectionError::ConnectTimeout => unreachable(settings, "no answer in time"),
        _ => unreachable(settings, &error.to_string()),
    }
}

fn is_gibberish(broken: &BrokenConnectionError) -> bool {
    matches!(
        broken.downcast_ref(),
        Some(BrokenConnectionErrorKind::FrameHeaderParseError(_) | BrokenConnectionErrorKind::UnexpectedStreamId(_))
    )
}

/// Why a statement of the opening failed.
pub(super) fn of_a_statement(settings: &Settings, doing: &str, error: &ExecutionError) -> OpenError {
    match error {
        ExecutionError::LastAttemptError(attempt)
        | ExecutionError::PrepareError(PrepareError::AllAttemptsFailed { first_attempt: attempt }) => match attempt {
            RequestAttemptError::DbError(DbError::Unauthorized, why) => {
                unusable(settings, &format!("{doing}: {why}"), "grant it, or let somebody do it who may")
            }
            RequestAttemptError::DbError(
                DbError::SyntaxError | DbError::Invalid | DbError::ConfigError | DbError::AlreadyExists { .. },
                why,
            ) => unusable(
                settings,
                &format!("{doing}: {why}"),
                "the servers must be ScyllaDB 6, Apache Cassandra 4 or later",
            ),
            _ => unreachable(settings, &format!("{doing}: {}", line(error))),
        },
        _ => unreachable(settings, &format!("{doing}: {}", line(error))),
    }
}

/// Whether the server knows of no such thing.
pub(super) fn is_invalid(error: &ExecutionError) -> bool {
    matches!(error, ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::Invalid, _)))
}

pub(super) fn unreachable(settings: &Settings, reason: &str) -> OpenError {
    OpenError::Unreachable { store: settings.to_string(), reason: one_line(reason) }
}

pub(super) fn unusable(settings: &Settings, reason: &str, remedy: &str) -> OpenError {
    OpenError::Unusable { store: settings.to_string(), reason: one_line(reason), remedy: remedy.to_owned() }
}

/// The driver's words, without its advice to programmers.
fn line(error: &ExecutionError) -> String {
    match error {
        ExecutionError::EmptyPlan => "no server is known to be there".into(),
        ExecutionError::ConnectionPoolError(_) => "no connection to a server".into(),
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(kind, why)) => {
            one_line(&format!("{kind}: {why}"))
        }
        _ => one_line(&error.to_string()),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use scylla::statement::Consistency;

    use super::*;

    fn db(error: DbError) -> ExecutionError {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, String::new()))
    }

    #[test]
    fn a_write_is_refused_only_if_it_certainly_never_began() {
        let broken = ConnectionPoolError::Broken { last_connection_error: ConnectionError::ConnectTimeout };
        let never = [
            ExecutionError::EmptyPlan,
            ExecutionError::ConnectionPoolError(broken),
            ExecutionError::LastAttemptError(RequestAttemptError::UnableToAllocStreamId),
            db(DbError::Unauthorized),
            db(DbError::Invalid),
        ];
        for error in never {
            assert!(matches!(of_a_write(&error), Error::Refused(_)), "{error}");
        }
    }

    #[test]
    fn everything_else_may_have_happened() {
        let consistency = Consistency::Quorum;
        let write_type = scylla::errors::WriteType::Cas;
        let perhaps = [
            ExecutionError::RequestTimeout(std::time::Duration::from_secs(2)),
            db(DbError::Unavailable { consistency, required: 2, alive: 1 }),
            db(DbError::WriteTimeout { consistency, received: 1, required: 2, write_type }),
            db(DbError::ReadTimeout { consistency, received: 1, required: 2, data_present: false }),
            db(DbError::Overloaded),
            db(DbError::ServerError),
            db(DbError::Other(0x1700)),
        ];
        for error in perhaps {
            assert!(matches!(of_a_write(&error), Error::Unknown(_)), "{error}");
            assert!(matches!(of_a_read(&error), Error::Refused(_)), "{error}");
        }
    }
}
