//! REST for clients: one file per feature, each of thin functions that read the request, ask `actors` and write the
//! answer. Knows no path: the list of routes is in `routes.rs`.

pub(crate) mod auth;
pub(crate) mod conversations;
pub(crate) mod edge;
pub(crate) mod extract;
pub(crate) mod messages;
pub(crate) mod openapi;
pub(crate) mod origin;
pub(crate) mod presence;
pub(crate) mod refusal;
pub(crate) mod users;
