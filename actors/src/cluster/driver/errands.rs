//! What takes time: questions to the store and to the resolver, each in a task of its own, answered as an event.

use std::{future::Future, sync::Arc, time::Duration};

use protocol::{ConversationId, Incarnation, NodeId, cluster::View};
use storage::{cluster::Cluster, health::Health};
use tokio::sync::mpsc::UnboundedSender;

use super::{Happens, Parts};
use crate::{
    cluster::{membership::Input, transport::Dialer},
    maps::HashSet,
    router::Router,
    tasks,
};

/// How often the store is asked for a sign of life.
const PING: Duration = Duration::from_millis(500);
/// Before what could not be read is read again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a view stands before what gone runs left is looked after. Nodes go and come together: each would claim what the
/// next view places elsewhere, and take it from its owner in the seconds in which everybody wants to post.
const SETTLED: Duration = Duration::from_secs(1);
/// Of a gone run that may hold something untold, the last one included.
const SLOTS: u64 = 3;

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
        tasks::spawn(watch_store(health, happens.clone()));
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

    /// Reads what a gone run noted, and has what of it is placed here claimed, repaired and told, once the view has stood for a
    /// while. Nothing is said if it moves on meanwhile: it is asked anew then.
    pub(super) fn look_after(&self, node: NodeId, gone: Incarnation, version: u64, router: Arc<Router>) {
        let (store, happens) = (self.store.clone(), self.happens.clone());
        tasks::spawn(async move {
            tasks::sleep(SETTLED).await;
            let share = loop {
                if router.places().version() != version {
                    return;
                }
                match untold(&*store, &node, gone).await {
                    Ok(share) => break share,
                    Err(error) => tracing::warn!(node = node.as_str(), %error, "cannot read what a gone node noted"),
                }
                tasks::sleep(AGAIN).await;
                if happens.is_closed() {
                    return;
                }
            };
            tracing::info!(node = node.as_str(), noted = share.len(), "looking after what a gone node noted");
            let planted = crate::planted::is(crate::planted::Mistake::NotLookedAfter);
            if planted || router.look_after(version, share).await {
                let _ = happens.send(Happens::Hear(Input::Told { gone, version }));
            }
        });
    }

    fn run<F: Future<Output = Input> + Send>(&self, errand: impl FnOnce(Arc<dyn Cluster>) -> F + Send + 'static) {
        let (store, happens) = (self.store.clone(), self.happens.clone());
        tasks::spawn(async move {
            let _ = happens.send(Happens::Hear(errand(store).await));
        });
    }
}

/// What a run may have left untold: what it noted in its last slots. A run without a slot ended so long ago that its notes
/// are gone as well.
async fn untold(store: &dyn Cluster, node: &NodeId, gone: Incarnation) -> Result<Vec<ConversationId>, storage::Error> {
    let slots = store.slots(node).await?;
    let Some((_, last)) = slots.into_iter().find(|(run, _)| *run == gone) else { return Ok(Vec::new()) };
    let mut untold: HashSet<ConversationId> = HashSet::default();
    for slot in last.saturating_sub(SLOTS - 1)..=last {
        untold.extend(store.noted(gone, slot).await?);
    }
    Ok(untold.into_iter().collect())
}

/// Says whenever the store begins or ceases to answer, until nobody wants to know.
async fn watch_store(health: Arc<dyn Health>, happens: UnboundedSender<Happens>) {
    loop {
        let ok = health.ping().await.is_ok();
        if happens.send(Happens::Hear(Input::StoreOk(ok))).is_err() {
            return;
        }
        tasks::sleep(PING).await;
    }
}
