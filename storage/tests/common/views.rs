//! Views as a test writes them, one after the other.

use std::collections::BTreeSet;

use protocol::{
    Incarnation,
    cluster::{Member, MemberState, View},
};
use storage::{
    Error,
    cluster::{Changed, Cluster},
};

use super::{incarnation, node};

pub fn member(n: u8) -> Member {
    Member {
        node: node(n),
        incarnation: incarnation(n),
        address: format!("10.0.0.{n}:7000"),
        weight: 1,
        state: MemberState::Up,
        reported: Vec::new(),
    }
}

/// The view that follows, with these members.
pub fn after(before: &View, members: &[u8]) -> View {
    let members = members.iter().copied().map(member).collect();
    View { version: before.version + 1, revision: before.revision + 1, members }
}

/// Puts a view without members there, whatever was there before.
pub async fn emptied(cluster: &dyn Cluster) -> View {
    let empty = after(&cluster.view().await.unwrap(), &[]);
    assert_eq!(cluster.change(&empty).await.unwrap(), Changed::Applied);
    empty
}

/// Enters members one after the other, as a node must: what is unknown is looked for before anything is written again.
/// A store that refuses is asked again.
pub async fn enter(cluster: &dyn Cluster, members: impl IntoIterator<Item = u8>) {
    for member in members {
        let mut view = look(cluster).await;
        while view.member(incarnation(member)).is_none() {
            let mut next = after(&view, &[member]);
            next.members = view.members.iter().cloned().chain(next.members).collect();
            view = match cluster.change(&next).await {
                Ok(Changed::Applied) => next,
                Ok(Changed::Stale(view)) => view,
                Err(Error::Refused(_) | Error::Unknown(_)) => look(cluster).await,
                Err(error) => panic!("{error}"),
            };
        }
    }
}

async fn look(cluster: &dyn Cluster) -> View {
    loop {
        match cluster.decided_view().await {
            Err(Error::Refused(why)) => println!("once more: {why}"),
            view => return view.unwrap(),
        }
    }
}

/// Asserts that each of these has entered, once, and that there were no other changes since the view was `emptied`.
pub async fn assert_entered(cluster: &dyn Cluster, emptied: &View, members: impl IntoIterator<Item = u8>) {
    let view = look(cluster).await;
    let found: BTreeSet<Incarnation> = view.members.iter().map(|member| member.incarnation).collect();
    assert_eq!(found, members.into_iter().map(incarnation).collect());
    assert_eq!(view.members.len(), found.len(), "twice: {view:?}");
    assert_eq!(view.revision, emptied.revision + found.len() as u64);
}
