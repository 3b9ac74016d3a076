//! One statement on one bucket of a log: what the rules in `fence` ask, and what the servers answer to it. Everything that
//! writes is conditional, of this partition alone, and sent once.

use protocol::{ConversationId, Epoch, Incarnation, Seq};
use scylla::{
    serialize::{
        SerializationError,
        row::{RowSerializationContext, SerializeRow},
        writers::RowWriter,
    },
    value::{CqlTimestamp, MaybeUnset},
};
use uuid::Uuid;

use super::{
    Cql,
    call::half_done,
    events::{self, Sealed, Stored},
    log::column,
    statements::{Conditional, Read, statements},
    values::{bigint, millis, number, time, uuid},
    verdict::Verdict,
};
use crate::{
    Error,
    fence::{Answer, Ask, Bucket, Statics},
    log::Head,
};

/// The row without a body is named, or a server would read the newest event as well to say what stands beside it.
const STATICS: &str = "SELECT lane, epoch, owner, head_seq, head_post, head_at, settled_seq, post_bucket
    FROM ks.conversation_log WHERE conversation_id = ? AND bucket = ? AND lane = -1 AND seq = 0";

statements! {
    Read statics = STATICS;
    Serial statics_for_good = STATICS;
    Read tail = &format!("SELECT {} FROM ks.conversation_log
        WHERE conversation_id = ? AND bucket = ? AND lane IN (0, 1) AND seq > ?", events::COLUMNS);
    Conditional take = "UPDATE ks.conversation_log SET epoch = ?, owner = ?
        WHERE conversation_id = ? AND bucket = ? IF epoch = ?";
    Conditional open = "UPDATE ks.conversation_log
        SET epoch = ?, owner = ?, head_seq = ?, head_post = ?, head_at = ?, settled_seq = ?, post_bucket = ?
        WHERE conversation_id = ? AND bucket = ? IF epoch = null";
    Conditional first_row = "INSERT INTO ks.conversation_log (conversation_id, bucket, lane, seq) VALUES (?, ?, -1, 0)";
    Conditional append = "UPDATE ks.conversation_log SET head_seq = ?, head_post = ?, head_at = ?, settled_seq = ?
        WHERE conversation_id = ? AND bucket = ? IF epoch = ? AND head_seq = ? AND head_post = ?";
    Conditional event = events::INSERT;
}

type StaticsRow = (i8, i64, Uuid, i64, i64, CqlTimestamp, i64, Option<i32>);

/// One statement of a batch.
enum Line<'a> {
    Open(i64, Uuid, i64, i64, CqlTimestamp, i64, MaybeUnset<i32>, Uuid, i32),
    FirstRow(Uuid, i32),
    Append(i64, i64, CqlTimestamp, i64, Uuid, i32, i64, i64, i64),
    Event(events::Values<'a>),
}

impl SerializeRow for Line<'_> {
    fn serialize(&self, ctx: &RowSerializationContext<'_>, out: &mut RowWriter<'_>) -> Result<(), SerializationError> {
        match self {
            Line::Open(a, b, c, d, e, f, g, h, i) => (a, b, c, d, e, f, g, h, i).serialize(ctx, out),
            Line::FirstRow(a, b) => (a, b).serialize(ctx, out),
            Line::Append(a, b, c, d, e, f, g, h, i) => (a, b, c, d, e, f, g, h, i).serialize(ctx, out),
            Line::Event(values) => values.serialize(ctx, out),
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

impl Cql {
    /// Asks, and says what was answered; and the bucket, if the answer shows that it is there.
    pub(super) async fn perform(&self, c: ConversationId, ask: &Ask, events: &[Sealed]) -> (Answer, Option<Bucket>) {
        let (bucket, answer) = match *ask {
            Ask::Look { bucket } => (bucket, self.statics(c, bucket).await.map(Answer::Statics)),
            Ask::Tail { bucket, after } => (bucket, self.tail(c, bucket, after).await),
            Ask::Take { bucket, expect, owner } => (bucket, self.take(c, bucket, expect, owner).await),
            Ask::Open { bucket, statics } => (bucket, self.open_bucket(c, bucket, &statics, events).await),
            Ask::Append { bucket, epoch, head, post_no, after } => {
                (bucket, self.append_at(c, bucket, (epoch, head, post_no), after, events).await)
            }
        };
        let answer = answer.unwrap_or_else(Answer::Failed);
        let is_there = match &answer {
            Answer::Statics(statics) | Answer::NotApplied(statics) | Answer::Tail(statics, _) => statics.is_some(),
            Answer::Applied => true,
            Answer::Failed(_) => false,
        };
        (answer, is_there.then_some(bucket))
    }

    pub(super) async fn statics(&self, c: ConversationId, bucket: Bucket) -> Result<Option<Statics>, Error> {
        self.read_statics(&self.partition.statics, c, bucket).await
    }

    async fn read_statics(&self, by: &Read, c: ConversationId, bucket: Bucket) -> Result<Option<Statics>, Error> {
        let row = self.row::<StaticsRow>(by, (uuid(c.0), column(bucket)?)).await?;
        row.map(statics).transpose()
    }

    /// Statics and events are asked for at the same time. The rules read a tail only where nobody but the reader could
    /// append since, and a tail that is not whole is read again.
    async fn tail(&self, c: ConversationId, bucket: Bucket, after: Seq) -> Result<Answer, Error> {
        let key = (uuid(c.0), column(bucket)?, bigint(after.0));
        let events = self.rows::<Stored>(&self.partition.tail, key);
        let (statics, events) = tokio::try_join!(self.statics(c, bucket), events)?;
        let mut events = events.into_iter().map(Stored::into_event).collect::<Result<Vec<_>, _>>()?;
        events.sort_unstable_by_key(|event| event.seq);
        Ok(Answer::Tail(statics, events))
    }

    async fn take(&self, c: ConversationId, bucket: Bucket, expect: Epoch, by: Incarnation) -> Result<Answer, Error> {
        let taken = bigint(expect.0 + 1);
        let values = (taken, uuid(by.0), uuid(c.0), column(bucket)?, bigint(expect.0));
        let verdict = self.conditional(&self.partition.take, values).await;
        self.verdict(c, bucket, verdict?).await
    }

    async fn open_bucket(
        &self, c: ConversationId, bucket: Bucket, statics: &Statics, events: &[Sealed],
    ) -> Result<Answer, Error> {
        let (id, place, head) = (uuid(c.0), column(bucket)?, &statics.head);
        let post_bucket = statics.post_bucket.map(column).transpose()?;
        let open = Line::Open(
            bigint(statics.epoch.0),
            uuid(statics.owner.0),
            bigint(head.seq.0),
            bigint(head.post_no),
            time(head.at),
            bigint(head.settled.0),
            MaybeUnset::from_option(post_bucket),
            id,
            place,
        );
        let lines = [(&self.partition.open, open), (&self.partition.first_row, Line::FirstRow(id, place))];
        self.write_lines(c, bucket, lines, events).await
    }

    async fn append_at(
        &self, c: ConversationId, bucket: Bucket, (epoch, head, post_no): (Epoch, Seq, u64), after: Head,
        events: &[Sealed],
    ) -> Result<Answer, Error> {
        let append = Line::Append(
            bigint(after.seq.0),
            bigint(after.post_no),
            time(after.at),
            bigint(after.settled.0),
            uuid(c.0),
            column(bucket)?,
            bigint(epoch.0),
            bigint(head.0),
            bigint(post_no),
        );
        self.write_lines(c, bucket, [(&self.partition.append, append)], events).await
    }

    async fn write_lines<'a>(
        &'a self, c: ConversationId, bucket: Bucket, lines: impl IntoIterator<Item = (&'a Conditional, Line<'a>)>,
        events: &'a [Sealed],
    ) -> Result<Answer, Error> {
        let (id, place) = (uuid(c.0), column(bucket)?);
        let events = events.iter().map(|event| (&self.partition.event, Line::Event(event.values(id, place))));
        let (statements, lines): (Vec<_>, Vec<_>) = lines.into_iter().chain(events).unzip();
        let verdict = self.conditional_batch(statements, lines).await;
        self.verdict(c, bucket, verdict?).await
    }

    /// The servers tell different columns when a condition does not hold, so what stands there is always read; serially,
    /// or it could be older than what the condition was held against.
    async fn verdict(&self, c: ConversationId, bucket: Bucket, verdict: Verdict) -> Result<Answer, Error> {
        if verdict.applied {
            return Ok(Answer::Applied);
        }
        let standing = self.read_statics(&self.partition.statics_for_good.0, c, bucket).await;
        // without it nobody knows whether it was another's write or one's own that stood in the way
        standing.map(Answer::NotApplied).map_err(half_done)
    }
}

fn statics(row: StaticsRow) -> Result<Statics, Error> {
    let (_, epoch, owner, seq, post_no, at, settled, post_bucket) = row;
    let head = Head {
        seq: Seq(number("head_seq", seq)?),
        post_no: number("head_post", post_no)?,
        at: millis("head_at", at)?,
        settled: Seq(number("settled_seq", settled)?),
    };
    let post_bucket = post_bucket.map(|bucket| number("post_bucket", bucket.into()).map(Bucket)).transpose()?;
    Ok(Statics { epoch: Epoch(number("epoch", epoch)?), owner: Incarnation(owner.into_bytes()), head, post_bucket })
}
