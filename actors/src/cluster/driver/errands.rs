//! What takes time: questions to the store and to the resolver, each in a task of its own, answered as an event.

use std::{future::Future, sync::Arc, time::Duration};

use protocol::{Incarnation, NodeId, cluster::View};
use storage::{cluster::Cluster, health::Health};
use tokio::sync::mpsc::UnboundedSender;

use super::{Happens, Parts};
use crate::cluster::{membership::Input, transport::Dialer};

/// How often the store is asked for a sign of life.
const PING: Duration = Duration::from_millis(500);
pub(super) struct Errands {
    node: NodeId,
    run: Incarnation,
    store: Arc<dyn Cluster>,
    dialer: Arc<dyn Dialer>,
    happens: UnboundedSender<Happens>,
}

impl Errands {
    pub(super) fn new(
        parts: &Parts, store: Arc<dyn Cluster>, health: Arc<dyn Health>, happens: UnboundedSender<Happens>,
    ) -> Errands {
        tokio::spawn(watch_store(health, happens.clone()));
        let (node, run, dialer) = (parts.me.node.clone(), parts.me.incarnation, parts.dialer.clone());
        Errands { node, run, store, dialer, happens }
    }

    pub(super) fn read_view(&self, decided: bool) {
        self.run(move |store| async move {
            let result = if decided { store.decided_view().await } else { store.view().await };
            Input::ViewRead { decided, result }
        });
    }

    pub(super) fn change_view(&self, next: View) {
        self.run(|store| async move { Input::ViewChanged(store.change(&next).await) });
    }

    pub(super) fn beat(&self, slot: u64) {
        let (node, run) = (self.node.clone(), self.run);
        self.run(move |store| async move { Input::BeatStored(slot, store.beat(&node, run, slot).await) });
    }

    pub(super) fn read_slots(&self, node: NodeId) {
        self.run(|store| async move {
            let slots = store.slots(&node).await;
            Input::SlotsRead(node, slots)
        });
    }

    pub(super) fn resolve_seeds(&self) {
        let dialer = self.dialer.clone();
        self.run(move |_| async move {
            Input::SeedsResolved(dialer.seeds().await.into_iter().map(|address| address.at).collect())
        });
    }

    pub(super) fn look_after(&self, gone: Incarnation, version: u64) {
        self.run(move |_| async move { Input::Told { gone, version } });
    }

    fn run<F: Future<Output = Input> + Send>(&self, errand: impl FnOnce(Arc<dyn Cluster>) -> F + Send + 'static) {
        let (store, happens) = (self.store.clone(), self.happens.clone());
        tokio::spawn(async move {
            let _ = happens.send(Happens::Hear(errand(store).await));
        });
    }
}

/// Says whenever the store begins or ceases to answer, until nobody wants to know.
async fn watch_store(health: Arc<dyn Health>, happens: UnboundedSender<Happens>) {
    let mut every = tokio::time::interval(PING);
    loop {
        every.tick().await;
        let ok = health.ping().await.is_ok();
        if happens.send(Happens::Hear(Input::StoreOk(ok))).is_err() {
            return;
        }
    }
}
