//! What only servers can show: opening, migrating, refusing. Every test has a keyspace of its own.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;
mod inspect;
mod keyspace;
mod migrations;
mod outage;
mod refusals;
mod secure;
mod unknown;
