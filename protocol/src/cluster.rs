//! The nodes of a cluster as all of them see it: one view, changed one version at a time, kept in the store as JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Incarnation, NodeId};

/// How often a node says in the store that it lives, and the grain in which it notes what it has not told yet.
pub const SLOT: Duration = Duration::from_secs(10);

/// What a member of the view is doing. The view spells it with [`MemberState::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String")]
#[serde(try_from = "String")]
pub enum MemberState {
    /// It meets the others; nothing is placed on it.
    Joining,
    /// Conversations and presence channels are placed on it.
    Up,
    /// It cannot reach the store; nothing is placed on it.
    NoStore,
    /// It is about to go; nothing is placed on it.
    Draining,
    /// It is no member any more, but what it may have left untold is not all looked after yet.
    Gone,
    /// Something that a later release says of a member: nothing is placed on it, and it is not gone. Who changes the view
    /// writes it back as it is.
    Later(StateName),
}

impl MemberState {
    /// Those of this release.
    pub const KNOWN: [MemberState; 5] =
        [MemberState::Joining, MemberState::Up, MemberState::NoStore, MemberState::Draining, MemberState::Gone];

    /// As the view spells it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            MemberState::Joining => "joining",
            MemberState::Up => "up",
            MemberState::NoStore => "no_store",
            MemberState::Draining => "draining",
            MemberState::Gone => "gone",
            MemberState::Later(name) => name.as_str(),
        }
    }
}

impl From<MemberState> for String {
    fn from(state: MemberState) -> String {
        state.name().to_owned()
    }
}

impl TryFrom<String> for MemberState {
    type Error = String;
    fn try_from(name: String) -> Result<MemberState, String> {
        match MemberState::KNOWN.into_iter().find(|state| state.name() == name) {
            Some(known) => Ok(known),
            None => StateName::new(&name).map(MemberState::Later),
        }
    }
}

/// The name of a state that this release does not know.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateName {
    bytes: [u8; STATE_BYTES_MAX],
    length: usize,
}

/// Longer than any name of a state will be.
const STATE_BYTES_MAX: usize = 32;

impl StateName {
    fn new(name: &str) -> Result<StateName, String> {
        let mut bytes = [0; STATE_BYTES_MAX];
        let room = bytes.get_mut(..name.len()).ok_or_else(|| format!("{name:?} is no state of a member"))?;
        room.copy_from_slice(name.as_bytes());
        Ok(StateName { bytes, length: name.len() })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // made of a whole `str`
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl std::fmt::Debug for StateName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One run of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Which node.
    pub node: NodeId,
    /// Which run of it: the only key. A node that comes back is another member.
    pub incarnation: Incarnation,
    /// Where its peers reach it, `host:port`.
    pub address: String,
    /// Its share of what is placed, relative to others; 1 to 100.
    pub weight: u32,
    /// See [`MemberState`].
    pub state: MemberState,
    /// Of a member that is gone: who has reported that its share of what was left untold is told. Cleared by every
    /// change of the version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reported: Vec<Incarnation>,
}

/// Who is there. Only the stored one decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Grows by one with every change of who is what; 0: there is none.
    pub version: u64,
    /// Grows by one with every write, reports included: what a change is conditional on.
    pub revision: u64,
    /// In the order in which they joined.
    pub members: Vec<Member>,
}

impl View {
    /// The member of this run.
    #[must_use]
    pub fn member(&self, incarnation: Incarnation) -> Option<&Member> {
        self.members.iter().find(|member| member.incarnation == incarnation)
    }

    /// Members that are not gone.
    pub fn live(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.state != MemberState::Gone)
    }

    /// Members on which something may be placed.
    pub fn up(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.state == MemberState::Up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_a_later_release_is_neither_up_nor_gone_and_is_written_back_as_it_is() {
        let member = |n: u8, state: &str| {
            let (node, run) = (format!("n{n}"), Incarnation([n; 16]));
            format!(r#"{{"node":"{node}","incarnation":"{run}","address":"h:1","weight":1,"state":"{state}"}}"#)
        };
        let view = |state: &str| {
            let members = [member(1, "no_store"), member(2, state)].join(",");
            format!(r#"{{"version":3,"revision":4,"members":[{members}]}}"#)
        };
        let stored = view("warming_up");
        let read: View = serde_json::from_str(&stored).unwrap();
        assert_eq!((read.live().count(), read.up().count()), (2, 0));
        assert_eq!(read.members[1].state.name(), "warming_up");
        assert_eq!(serde_json::to_string(&read).unwrap(), stored);
        assert!(serde_json::from_str::<View>(&view(&"x".repeat(STATE_BYTES_MAX + 1))).is_err(), "that is no name");
        for known in MemberState::KNOWN {
            assert_eq!(MemberState::try_from(known.name().to_owned()), Ok(known));
        }
    }
}
