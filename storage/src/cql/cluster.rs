//! What the nodes know of each other. The view is written by conditional statements only, slots and notes so that writing
//! them again, or late, changes nothing.

use async_trait::async_trait;
use protocol::{ConversationId, Incarnation, NodeId, cluster::View};
use scylla::response::PagingState;
use uuid::Uuid;

use super::{
    Cql,
    call::half_done,
    members::{ROWS_PER_BATCH, conversation_id},
    statements::{Read, statements},
    values::{bigint, number, uuid},
};
use crate::{
    Error,
    cluster::{Changed, Cluster, revision_before},
};

/// A keyspace is one cluster.
const NAME: &str = "cluster";

const VIEW: &str = "SELECT revision, content FROM ks.cluster_view WHERE name = ?";

statements! {
    Read view = VIEW;
    Serial view_for_good = VIEW;
    Conditional first = "INSERT INTO ks.cluster_view (name, revision, content) VALUES (?, ?, ?) IF NOT EXISTS";
    Conditional change = "UPDATE ks.cluster_view SET revision = ?, content = ? WHERE name = ? IF revision = ?";
    // A slot is its own stamp, so the last one stays.
    Write beat = "UPDATE ks.nodes USING TIMESTAMP ? SET slot = ? WHERE node = ? AND incarnation = ?";
    Read slots = "SELECT incarnation, slot FROM ks.nodes WHERE node = ?";
    Write note = "INSERT INTO ks.activity (incarnation, slot, conversation_id) VALUES (?, ?, ?)";
    Read noted = "SELECT conversation_id FROM ks.activity WHERE incarnation = ? AND slot = ?";
}

#[async_trait]
impl Cluster for Cql {
    async fn view(&self) -> Result<View, Error> {
        self.reading(self.read_view(&self.cluster.view)).await
    }

    async fn decided_view(&self) -> Result<View, Error> {
        self.reading(self.read_view(&self.cluster.view_for_good.0)).await
    }

    async fn change(&self, next: &View) -> Result<Changed, Error> {
        self.writing(self.change_view(next)).await
    }

    async fn beat(&self, node: &NodeId, me: Incarnation, slot: u64) -> Result<(), Error> {
        let row = (bigint(slot), bigint(slot), node.as_str(), uuid(me.0));
        self.writing(self.write(&self.cluster.beat, row)).await
    }

    async fn slots(&self, node: &NodeId) -> Result<Vec<(Incarnation, u64)>, Error> {
        self.reading(async {
            let rows = self.rows::<(Uuid, i64)>(&self.cluster.slots, (node.as_str(),)).await?;
            let run = |(run, slot): (Uuid, i64)| Ok((Incarnation(run.into_bytes()), number("nodes.slot", slot)?));
            rows.into_iter().map(run).collect()
        })
        .await
    }

    async fn note(&self, me: Incarnation, slot: u64, conversations: &[ConversationId]) -> Result<(), Error> {
        let (me, slot) = (uuid(me.0), bigint(slot));
        let row = |c: &ConversationId| (me, slot, uuid(c.0));
        let write = async |run: &[ConversationId]| match run {
            [one] => self.write(&self.cluster.note, row(one)).await,
            run => {
                let rows: Vec<_> = run.iter().map(row).collect();
                self.write_batch(run.iter().map(|_| &self.cluster.note), rows).await
            }
        };
        self.writing(async {
            let mut noted = false;
            for run in conversations.chunks(ROWS_PER_BATCH) {
                write(run).await.map_err(|error| if noted { half_done(error) } else { error })?;
                noted = true;
            }
            Ok(())
        })
        .await
    }

    /// Each page within the deadline: however many there are, they are read to the end.
    async fn noted(&self, incarnation: Incarnation, slot: u64) -> Result<Vec<ConversationId>, Error> {
        let key = (uuid(incarnation.0), bigint(slot));
        let mut noted = Vec::new();
        let mut next = Some(PagingState::start());
        while let Some(from) = next.take() {
            let (page, after) = self.reading(self.rows_from::<(Uuid,)>(&self.cluster.noted, &key, from)).await?;
            noted.extend(page.into_iter().map(|(id,)| conversation_id(id)));
            next = after;
        }
        Ok(noted)
    }
}

impl Cql {
    async fn read_view(&self, by: &Read) -> Result<View, Error> {
        let row = self.row::<(i64, String)>(by, (NAME,)).await?;
        row.map_or_else(|| Ok(View::default()), parse)
    }

    async fn change_view(&self, next: &View) -> Result<Changed, Error> {
        let before = revision_before(next)?;
        let content = serde_json::to_string(next).map_err(|error| Error::Refused(error.to_string()))?;
        let revision = bigint(next.revision);
        let verdict = match before {
            0 => self.conditional(&self.cluster.first, (NAME, revision, content)).await?,
            before => self.conditional(&self.cluster.change, (revision, content, NAME, bigint(before))).await?,
        };
        if verdict.applied {
            return Ok(Changed::Applied);
        }
        // Perhaps by one's own write, which a server completed before it looked: what stands there decides.
        let standing = self.read_view(&self.cluster.view_for_good.0).await.map_err(half_done)?;
        Ok(if standing == *next { Changed::Applied } else { Changed::Stale(standing) })
    }
}

fn parse((revision, content): (i64, String)) -> Result<View, Error> {
    let view: View =
        serde_json::from_str(&content).map_err(|error| Error::Corrupt(format!("cluster_view.content: {error}")))?;
    if bigint(view.revision) != revision {
        return Err(Error::Corrupt(format!("cluster_view has revision {revision} and holds {}", view.revision)));
    }
    Ok(view)
}
