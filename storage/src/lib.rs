//! What is remembered: the faces of the stores and their back ends. Answers questions, never decides.

pub mod accounts;
pub mod directory;
pub mod error;
pub mod log;
pub mod tokens;

pub use error::Error;

/// Every face of one store; all of them speak to the same data.
#[derive(Clone)]
pub struct Store {
    /// The logs of the conversations.
    pub log: std::sync::Arc<dyn log::Log>,
    /// Who is in which conversation, and how far.
    pub directory: std::sync::Arc<dyn directory::Directory>,
    /// Users, their credentials and the signing keys.
    pub accounts: std::sync::Arc<dyn accounts::Accounts>,
    /// Who is signed in.
    pub sessions: std::sync::Arc<dyn accounts::Sessions>,
    /// Tokens and limits.
    pub tokens: std::sync::Arc<dyn tokens::Tokens>,
}
