//! How an event stands in its row of the log: one row each, the body as its own envelope. A kind or an envelope of a later
//! release is kept as it is.

use protocol::{Body, ClientId, Event, EventId, Seq, UserId};
use scylla::{
    DeserializeRow,
    value::{CqlTimestamp, MaybeUnset},
};
use uuid::Uuid;

use super::values::{bigint, millis, number, time, uuid};
use crate::{Error, codes};

/// An event about to be written: encoded once, however often it is tried.
pub(super) struct Sealed {
    pub(super) seq: Seq,
    lane: i8,
    id: Uuid,
    by: Uuid,
    client_id: Option<ClientId>,
    request_hash: [u8; 16],
    kind: i8,
    at: CqlTimestamp,
    post_no: i64,
    pub(super) body: Vec<u8>,
}

/// The columns of one row, as [`INSERT`] names them.
pub(super) type Values<'a> =
    (Uuid, i32, i8, i64, Uuid, Uuid, MaybeUnset<&'a str>, &'a [u8], i8, CqlTimestamp, i64, &'a [u8]);

pub(super) const INSERT: &str = "INSERT INTO ks.conversation_log
    (conversation_id, bucket, lane, seq, event_id, sender_id, client_id, request_hash, kind, at, post_no, body)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

impl Sealed {
    pub(super) fn of(event: &Event) -> Sealed {
        let kind = event.body.kind();
        Sealed {
            seq: event.seq,
            lane: codes::lane(kind).cast_signed(),
            id: uuid(event.id.0),
            by: uuid(event.by.0),
            client_id: event.cid.clone(),
            request_hash: event.request_hash,
            kind: kind.cast_signed(),
            at: time(event.at),
            post_no: bigint(event.post_no),
            body: event.body.encode(),
        }
    }

    pub(super) fn values(&self, conversation: Uuid, bucket: i32) -> Values<'_> {
        (
            conversation,
            bucket,
            self.lane,
            bigint(self.seq.0),
            self.id,
            self.by,
            MaybeUnset::from_option(self.client_id.as_ref().map(ClientId::as_str)),
            &self.request_hash,
            self.kind,
            self.at,
            self.post_no,
            &self.body,
        )
    }
}

/// What [`Stored`] is read from. The statics come with every row: who reads a page learns where the bucket ends.
pub(super) const COLUMNS: &str =
    "seq, event_id, sender_id, client_id, request_hash, kind, at, post_no, body, head_seq, post_bucket";

/// An event as it was read.
#[derive(DeserializeRow)]
pub(super) struct Stored {
    seq: i64,
    event_id: Uuid,
    sender_id: Uuid,
    client_id: Option<String>,
    request_hash: Vec<u8>,
    kind: i8,
    at: CqlTimestamp,
    post_no: i64,
    body: Vec<u8>,
    pub(super) head_seq: i64,
    pub(super) post_bucket: Option<i32>,
}

impl Stored {
    pub(super) fn into_event(self) -> Result<Event, Error> {
        let seq = Seq(number("seq", self.seq)?);
        let by = UserId(self.sender_id.into_bytes());
        let unreadable = |why: &dyn std::fmt::Display| Error::Corrupt(format!("event {seq} of {by}: {why}"));
        let cid = self.client_id.map(ClientId::try_from).transpose().map_err(|e| unreadable(&e))?;
        let request_hash =
            self.request_hash.try_into().map_err(|_| unreadable(&"its request's hash is not 16 bytes"))?;
        let body = Body::decode(self.kind.cast_unsigned(), &self.body).map_err(|e| unreadable(&e))?;
        Ok(Event {
            seq,
            id: EventId(self.event_id.into_bytes()),
            by,
            cid,
            request_hash,
            at: millis("at", self.at)?,
            post_no: number("post_no", self.post_no)?,
            body,
        })
    }
}
