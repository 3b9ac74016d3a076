//! The one error of all stores.

/// Why a store did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Definitely not done: the store is away, full, or its queue is. Trying again is safe.
    #[error("the store refused: {0}")]
    Refused(String),
    /// It may have been done, or may still be. Look before doing it again.
    #[error("the store did not say what became of it: {0}")]
    Unknown(String),
    /// Definitely not done: a client id of the append is in the log already, though its client said it could not be.
    /// Only from stores that notice; ask the index.
    #[error("the store has an event of that client id already")]
    Duplicate,
    /// What is stored makes no sense; nobody can help by trying again.
    #[error("the store holds something unreadable: {0}")]
    Corrupt(String),
}

impl Error {
    /// The label of `store_errors_total`.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Refused(_) => "refused",
            Error::Unknown(_) => "unknown",
            Error::Duplicate => "duplicate",
            Error::Corrupt(_) => "corrupt",
        }
    }
}
