//! The view, slots and notes. Notes are forgotten by the number of their slot: this model has no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use protocol::{
    ConversationId, Incarnation, NodeId,
    cluster::{SLOT, View},
};

use super::{Memory, faults::Operation};
use crate::{
    Error,
    cluster::{Changed, Cluster, NOTES_KEPT_S, revision_before},
};

const SLOTS_OF_NOTES: u64 = NOTES_KEPT_S as u64 / SLOT.as_secs();

#[derive(Default)]
pub(super) struct Nodes {
    view: View,
    slots: HashMap<NodeId, BTreeMap<Incarnation, u64>>,
    notes: HashMap<Incarnation, BTreeMap<u64, BTreeSet<ConversationId>>>,
}

#[async_trait]
impl Cluster for Memory {
    async fn view(&self) -> Result<View, Error> {
        self.call(Operation::ReadView, |model| Ok(model.nodes.view.clone())).await
    }

    /// Nothing is ever half decided here: what is applied later begins later.
    async fn decided_view(&self) -> Result<View, Error> {
        self.view().await
    }

    async fn change(&self, next: &View) -> Result<Changed, Error> {
        let next = next.clone();
        self.call(Operation::ChangeView, move |model| {
            let before = revision_before(&next)?;
            let standing = &mut model.nodes.view;
            if standing.revision == before {
                *standing = next;
                return Ok(Changed::Applied);
            }
            Ok(if *standing == next { Changed::Applied } else { Changed::Stale(standing.clone()) })
        })
        .await
    }

    async fn beat(&self, node: &NodeId, me: Incarnation, slot: u64) -> Result<(), Error> {
        let node = node.clone();
        self.call(Operation::Beat, move |model| {
            let last = model.nodes.slots.entry(node).or_default().entry(me).or_default();
            *last = slot.max(*last);
            Ok(())
        })
        .await
    }

    async fn slots(&self, node: &NodeId) -> Result<Vec<(Incarnation, u64)>, Error> {
        let node = node.clone();
        self.call(Operation::ReadNodes, move |model| {
            let slots = model.nodes.slots.get(&node).into_iter().flatten();
            Ok(slots.map(|(run, slot)| (*run, *slot)).collect())
        })
        .await
    }

    async fn note(&self, me: Incarnation, slot: u64, conversations: &[ConversationId]) -> Result<(), Error> {
        let conversations = conversations.to_vec();
        self.call(Operation::Note, move |model| {
            let notes = model.nodes.notes.entry(me).or_default();
            *notes = notes.split_off(&slot.saturating_sub(SLOTS_OF_NOTES));
            notes.entry(slot).or_default().extend(conversations);
            Ok(())
        })
        .await
    }

    async fn noted(&self, incarnation: Incarnation, slot: u64) -> Result<Vec<ConversationId>, Error> {
        self.call(Operation::ReadNodes, move |model| {
            let notes = model.nodes.notes.get(&incarnation).and_then(|notes| notes.get(&slot));
            Ok(notes.into_iter().flatten().copied().collect())
        })
        .await
    }
}
