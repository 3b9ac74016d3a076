//! The log, as the rules in `fence` want it: carries out their statements one by one and says what was answered. Decides
//! nothing about epochs and heads, and repeats nothing.

use std::time::Duration;

use async_trait::async_trait;
use protocol::{ClientId, ConversationId, Epoch, Event, Incarnation, Seq, UserId};
use scylla::value::CqlTimestamp;
use tokio::time::{Instant, timeout};

use super::{
    Cql,
    events::Sealed,
    statements::statements,
    values::{bigint, millis, number, uuid},
};
use crate::{
    Error,
    fence::{self, Bucket, Steps},
    log::{Appended, Claimed, Created, Known, Log, Range, Standing},
};

/// What writing down a new last bucket may cost the call that opened it. Nothing depends on it: who comes later walks on.
const HINT_MAX: Duration = Duration::from_millis(100);

statements! {
    Read known = "SELECT seq, post_no, at, request_hash FROM ks.event_by_client_id
        WHERE conversation_id = ? AND sender_id = ? AND client_id = ?";
    Write hint = "UPDATE ks.conversations USING TIMESTAMP ? SET bucket = ? WHERE conversation_id = ?";
}

#[async_trait]
impl Log for Cql {
    async fn create(&self, c: ConversationId, owner: Incarnation, events: &[Event]) -> Result<Created, Error> {
        let sealed = seal(events);
        let steps = self.meters.count(fence::Create::new(owner, events, bytes(&sealed)))?;
        self.writing(self.take_steps(c, steps, &sealed)).await
    }

    async fn claim(&self, c: ConversationId, owner: Incarnation, tail_from: Option<Seq>) -> Result<Claimed, Error> {
        self.writing(async {
            let steps = fence::Claim::new(owner, self.hint(c).await?, tail_from);
            self.take_steps(c, steps, &[]).await
        })
        .await
    }

    async fn append(
        &self, c: ConversationId, epoch: Epoch, head: Seq, settled: Seq, events: &[Event],
    ) -> Result<Appended, Error> {
        let sealed = seal(events);
        let steps = self.meters.count(fence::Append::new(epoch, head, settled, events, bytes(&sealed)))?;
        let begun = Instant::now();
        let appended = self.writing(self.take_steps(c, steps, &sealed)).await?;
        if let Appended::Applied { .. } = appended {
            self.meters.appended(events.len(), begun.elapsed());
        }
        Ok(appended)
    }

    async fn follow(&self, c: ConversationId, events: &[Event]) -> Result<(), Error> {
        self.writing(self.write_what_follows(c, events)).await
    }

    async fn standing(&self, c: ConversationId) -> Result<Option<Standing>, Error> {
        self.reading(async { self.stand(c, self.hint(c).await?).await }).await
    }

    async fn find(&self, c: ConversationId, by: UserId, cid: &ClientId) -> Result<Option<Known>, Error> {
        let key = (uuid(c.0), uuid(by.0), cid.as_str());
        self.reading(async {
            let row = self.row::<(i64, i64, CqlTimestamp, Vec<u8>)>(&self.log.known, key).await?;
            row.map(|(seq, post_no, at, hash)| known(seq, post_no, at, hash)).transpose()
        })
        .await
    }

    async fn read(&self, c: ConversationId, range: Range) -> Result<Vec<Event>, Error> {
        self.reading(self.read_range(c, range)).await
    }
}

fn seal(events: &[Event]) -> Vec<Sealed> {
    events.iter().map(Sealed::of).collect()
}

fn bytes(events: &[Sealed]) -> usize {
    events.iter().map(|event| event.body.len()).sum()
}

fn known(seq: i64, post_no: i64, at: CqlTimestamp, hash: Vec<u8>) -> Result<Known, Error> {
    let request_hash = hash.try_into().map_err(|_| Error::Corrupt("a request's hash is not 16 bytes".into()))?;
    Ok(Known {
        seq: Seq(number("seq", seq)?),
        post_no: number("post_no", post_no)?,
        at: millis("at", at)?,
        request_hash,
    })
}

impl Cql {
    /// Carries out a call to its end. `events`: of a create or an append.
    async fn take_steps<S: Steps>(
        &self, c: ConversationId, mut steps: S, events: &[Sealed],
    ) -> Result<S::Outcome, Error> {
        let mut opened = None;
        let outcome = loop {
            let ask = steps.ask();
            let (answer, bucket) = self.perform(c, &ask, events).await;
            if bucket.is_some_and(|bucket| self.places.reached(c, bucket)) {
                opened = bucket;
            }
            if let Some(outcome) = steps.answer(answer) {
                break outcome;
            }
        };
        if let Some(bucket) = opened {
            // lost: the next to begin from it finds its bucket full and walks on
            let _ = timeout(HINT_MAX, self.write_hint(c, bucket)).await;
        }
        outcome
    }

    /// Where the log stands, from a bucket that it has reached.
    pub(super) async fn stand(&self, c: ConversationId, hint: Bucket) -> Result<Option<Standing>, Error> {
        self.take_steps(c, fence::Standing::new(hint), &[]).await
    }

    /// A bucket that the log has reached: what is remembered here, else what was written down when it was opened.
    pub(super) async fn hint(&self, c: ConversationId) -> Result<Bucket, Error> {
        if let Some(bucket) = self.places.bucket(c) {
            return Ok(bucket);
        }
        // reading the row notes the bucket that it names
        self.conversation_row(c).await?;
        Ok(self.places.bucket(c).unwrap_or_default())
    }

    async fn write_hint(&self, c: ConversationId, bucket: Bucket) -> Result<(), Error> {
        // buckets follow one another, so a bucket's own number is stamp enough: the last one stays
        self.write(&self.log.hint, (bigint(bucket.0), column(bucket)?, uuid(c.0))).await
    }
}

/// A bucket's number as it stands in its column.
pub(super) fn column(Bucket(bucket): Bucket) -> Result<i32, Error> {
    i32::try_from(bucket).map_err(|_| Error::Refused(format!("a log has no bucket {bucket}")))
}
