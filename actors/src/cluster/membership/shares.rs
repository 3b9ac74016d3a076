//! This node's share of what gone members left untold: which of them it has told, as of the view in force.

use std::{collections::BTreeMap, time::Duration};

use protocol::{
    Incarnation,
    cluster::{MemberState, View},
};
use tokio::time::Instant;

use crate::cluster::view::Edit;

/// Members report one after another: each report changes the row.
const STAGGER: Duration = Duration::from_millis(30);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Shares {
    version: u64,
    told: BTreeMap<Incarnation, Instant>,
}

impl Shares {
    /// Another version is in force: everything is shared out anew.
    pub(super) fn anew(&mut self, version: u64) {
        self.version = version;
        self.told.clear();
    }

    pub(super) fn told(&mut self, gone: Incarnation, version: u64, now: Instant) {
        if version == self.version {
            self.told.entry(gone).or_insert(now);
        }
    }

    /// What is told and not reported yet.
    pub(super) fn reports(&self, view: &View, me: Incarnation, rank: u32, now: Instant) -> Vec<Edit> {
        let gone = view.members.iter().filter(|m| m.state == MemberState::Gone && !m.reported.contains(&me));
        let due = gone.filter(|m| self.told.get(&m.incarnation).is_some_and(|at| now >= *at + STAGGER * rank));
        due.map(|member| Edit::Report { gone: member.incarnation, by: me }).collect()
    }
}
