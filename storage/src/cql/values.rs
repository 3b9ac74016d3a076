//! How ids, numbers and times travel to CQL and back. A number that makes no sense here is damage, not a default.

use protocol::Millis;
use scylla::value::CqlTimestamp;
use uuid::Uuid;

use crate::Error;

pub(super) fn uuid(id: [u8; 16]) -> Uuid {
    Uuid::from_bytes(id)
}

pub(super) fn time(at: Millis) -> CqlTimestamp {
    CqlTimestamp(bigint(at.0))
}

/// Numbers stay below 2^53 (`limits::INTEGER_MAX`), so nothing is cut off.
pub(super) fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn number(column: &str, number: i64) -> Result<u64, Error> {
    u64::try_from(number).map_err(|_| Error::Corrupt(format!("{column} is {number}")))
}

pub(super) fn millis(column: &str, at: CqlTimestamp) -> Result<Millis, Error> {
    number(column, at.0).map(Millis)
}
