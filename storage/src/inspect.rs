//! What can be said of a store's servers before anything relies on them. Changes nothing that lasts.

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub name: &'static str,
    /// How it is; or what is wrong with it, and what to do.
    pub outcome: Result<String, String>,
}
