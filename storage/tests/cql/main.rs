//! What only servers can show: opening, migrating, refusing, each in a keyspace of its own; long logs, late owners and rows
//! written by halves, all in one.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod buckets;
mod clocks;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod costs;
mod inspect;
mod keyspace;
mod migrations;
mod outage;
mod refusals;
mod rig;
mod rows;
mod secure;
mod sessions;
mod unknown;
