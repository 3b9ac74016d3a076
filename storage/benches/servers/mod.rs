//! The servers as they are without the store: what its figures are compared with.

pub(crate) mod plain;
pub(crate) mod tokens;
