//! The rows of an append, written without a condition: in partitions of their own, which nothing else ever writes.

use protocol::{ConversationId, Event, limits::BUCKET_EVENTS};
use scylla::{
    client::{PoolSize, session::Session, session_builder::SessionBuilder},
    statement::{
        Consistency,
        batch::{Batch, BatchType},
        prepared::PreparedStatement,
    },
    value::{CqlTimestamp, CqlValue},
};
use storage::{History, Settings};
use uuid::Uuid;

const HEAD: &str = "UPDATE conversation_log SET head_seq = ?, head_post = ?, head_at = ?, settled_seq = ? \
                    WHERE conversation_id = ? AND bucket = ?";
const EVENT: &str = "INSERT INTO conversation_log (conversation_id, bucket, lane, seq, event_id, sender_id, client_id, \
                     request_hash, kind, at, post_no, body) VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

pub(crate) struct Plain {
    session: Session,
    head: PreparedStatement,
    event: PreparedStatement,
}

impl Plain {
    pub(crate) async fn connect(settings: &Settings, keyspace: &str) -> Plain {
        let History::Cql(settings) = &settings.history else { panic!("the history is on CQL") };
        let mut builder = SessionBuilder::new()
            .known_nodes(&settings.nodes)
            .use_keyspace(keyspace, false)
            .tcp_nodelay(true)
            .pool_size(PoolSize::PerShard(2.try_into().unwrap()));
        if let (Some(username), Some(password)) = (&settings.username, &settings.password) {
            builder = builder.user(username, password);
        }
        let session = builder.build().await.unwrap();
        let (head, event) = (session.prepare(HEAD).await.unwrap(), session.prepare(EVENT).await.unwrap());
        Plain { session, head, event }
    }

    pub(crate) async fn append(&self, c: ConversationId, events: &[Event]) {
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_consistency(Consistency::Quorum);
        let last = events.last().unwrap();
        let c = CqlValue::Uuid(Uuid::from_bytes(c.0));
        let bucket = CqlValue::Int(i32::try_from(last.seq.0 / BUCKET_EVENTS).unwrap());
        batch.append_statement(self.head.clone());
        let head = [number(last.seq.0), number(last.post_no), at(last), number(last.seq.0), c.clone(), bucket.clone()];
        let mut values = vec![head.to_vec()];
        for event in events {
            batch.append_statement(self.event.clone());
            let id = |id| CqlValue::Uuid(Uuid::from_bytes(id));
            values.push(vec![
                c.clone(),
                bucket.clone(),
                number(event.seq.0),
                id(event.id.0),
                id(event.by.0),
                CqlValue::Text(event.cid.as_ref().map(|cid| cid.as_str().to_owned()).unwrap_or_default()),
                CqlValue::Blob(event.request_hash.to_vec()),
                CqlValue::TinyInt(0),
                at(event),
                number(event.post_no),
                CqlValue::Blob(event.body.encode().to_vec()),
            ]);
        }
        self.session.batch(&batch, values).await.unwrap();
    }
}

fn number(n: u64) -> CqlValue {
    CqlValue::BigInt(i64::try_from(n).unwrap())
}

fn at(event: &Event) -> CqlValue {
    CqlValue::Timestamp(CqlTimestamp(i64::try_from(event.at.0).unwrap()))
}
