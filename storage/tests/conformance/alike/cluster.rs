//! Random calls about a cluster: changes of the view, slots and notes.

use super::{Caller, answers_like_memory};
use crate::common::{VIEW, conversation, incarnation, node, stores, views};
use proptest::prelude::*;
use protocol::cluster::View;
use storage::{Store, cluster::Changed};

#[derive(Clone, Debug)]
enum Step {
    /// Follows the view that stands, or one that is so many revisions before it, or after.
    Change {
        from: i64,
        member: u8,
    },
    /// The last change that was tried.
    ChangeAgain,
    Beat {
        node: u8,
        run: u8,
        slot: u64,
    },
    Note {
        run: u8,
        slot: u64,
        conversations: Vec<u8>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let run = || 1..4_u8;
    let from = prop_oneof![3 => Just(0_i64), 1 => -2..=2_i64];
    prop_oneof![
        3 => (from, 1..4_u8).prop_map(|(from, member)| Step::Change { from, member }),
        1 => Just(Step::ChangeAgain),
        2 => (1..3_u8, run(), 0..20_u64).prop_map(|(node, run, slot)| Step::Beat { node, run, slot }),
        2 => (run(), 0..3_u64, proptest::collection::vec(1..6_u8, 0..4))
            .prop_map(|(run, slot, conversations)| Step::Note { run, slot, conversations }),
    ]
}

/// A store, and the view that this case began with: others came before it.
struct Node {
    store: Store,
    first: Option<View>,
    last: Option<View>,
}

impl Caller for Node {
    type Step = Step;

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        proptest::collection::vec(step(), 1..40)
    }

    fn new(store: Store) -> Node {
        Node { store, first: None, last: None }
    }

    async fn take(&mut self, step: &Step) -> String {
        let cluster = self.store.cluster.clone().unwrap();
        if self.first.is_none() {
            self.first = Some(views::emptied(&*cluster).await);
        }
        let first = self.first.as_ref().map(|view| (view.version, view.revision)).unwrap();
        let since = |view: View| View { version: view.version - first.0, revision: view.revision - first.1, ..view };
        let mut said = match step {
            Step::Change { from, member } => {
                let mut before = cluster.view().await.unwrap();
                // not what came before this case
                before.revision = before.revision.saturating_add_signed(*from).max(first.1);
                self.last = Some(views::after(&before, &[*member]));
                String::new()
            }
            Step::ChangeAgain => String::new(),
            Step::Beat { node: n, run, slot } => {
                cluster.beat(&node(*n), incarnation(*run), *slot).await.unwrap();
                let mut slots = cluster.slots(&node(*n)).await.unwrap();
                slots.sort_unstable();
                format!("{slots:?}")
            }
            Step::Note { run, slot, conversations } => {
                let conversations: Vec<_> = conversations.iter().copied().map(conversation).collect();
                cluster.note(incarnation(*run), *slot, &conversations).await.unwrap();
                let mut noted = cluster.noted(incarnation(*run), *slot).await.unwrap();
                noted.sort_unstable();
                format!("{noted:?}")
            }
        };
        if let (Step::Change { .. } | Step::ChangeAgain, Some(next)) = (step, &self.last) {
            said = match cluster.change(next).await.unwrap() {
                Changed::Applied => "applied".into(),
                Changed::Stale(view) => format!("{:?}", since(view)),
            };
        }
        format!("{said} {:?}", since(cluster.view().await.unwrap()))
    }
}

#[test]
fn random_calls_about_a_cluster_are_answered_alike_by_cql() {
    let _view = VIEW.blocking_lock();
    answers_like_memory::<Node>(stores::Kind::Cql, 20);
}
