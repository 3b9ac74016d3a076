//! Whose the logs of some conversations are, read from their rows, which is where a commit is decided.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ConversationId;

use crate::cluster::Cluster;

/// The head of each log; all of them are still in their first bucket.
pub(crate) struct Owners(BTreeMap<String, Head>);

struct Head {
    run: Vec<u8>,
    epoch: u64,
    seq: u64,
}

impl Owners {
    pub(crate) fn read(cluster: &Cluster, groups: &[ConversationId]) -> Owners {
        let read = |c: &ConversationId| {
            let (id, table) = (uuid(c), format!("{}.conversation_log", cluster.keyspace));
            let rows = cluster.cql.run(&format!(
                "SELECT owner, epoch, head_seq FROM {table} WHERE conversation_id = {id} AND bucket = 0 LIMIT 1"
            ));
            let [run, epoch, seq] = <[Vec<u8>; 3]>::try_from(rows.unwrap().swap_remove(0)).unwrap();
            (id, Head { run, epoch: number(&epoch), seq: number(&seq) })
        };
        Owners(tokio::task::block_in_place(|| groups.iter().map(read).collect()))
    }

    /// The runs of nodes that own any of them.
    fn runs(&self) -> BTreeSet<&[u8]> {
        self.0.values().map(|head| head.run.as_slice()).collect()
    }

    /// How many of them were taken from runs that own none any more; each under an epoch of its own, with nothing lost.
    pub(crate) fn taken_since(&self, before: &Owners) -> usize {
        for (c, head) in &self.0 {
            let earlier = &before.0[c];
            assert!(head.seq >= earlier.seq, "G1: the log of {c} ended at {} and ends at {}", earlier.seq, head.seq);
            assert!(head.epoch >= earlier.epoch, "G3: epoch {} of {c} became {}", earlier.epoch, head.epoch);
            assert!(
                head.run == earlier.run || head.epoch > earlier.epoch,
                "G3: {c} has a new owner without a new epoch"
            );
        }
        let (now, earlier) = (self.runs(), before.runs());
        let gone: BTreeSet<_> = earlier.difference(&now).collect();
        before.0.values().filter(|head| gone.contains(&head.run.as_slice())).count()
    }

    /// None of them was given back to a run that had lost all before: who wakes has committed nothing.
    pub(crate) fn assert_none_returned(&self, during: &Owners, before: &Owners) {
        let (now, then, once) = (self.runs(), during.runs(), before.runs());
        let back: Vec<_> = once.difference(&then).filter(|run| now.contains(*run)).collect();
        assert!(back.is_empty(), "a run that was replaced owns again: {back:?}");
        self.taken_since(during);
    }
}

/// As CQL spells it.
fn uuid(c: &ConversationId) -> String {
    let said = c.to_string();
    let hex = &said[said.len() - 32..];
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}
