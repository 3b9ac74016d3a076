//! Runs of a log, lane by lane and bucket by bucket. What is read while it is being written may show an event before the one
//! it follows: nothing above such a hole is answered. A hole in what is settled is damage.

use protocol::{ConversationId, Event, Seq};

use super::{
    Cql,
    events::{self, Stored},
    log::column,
    statements::{Read, statements},
    values::{bigint, number, uuid},
};
use crate::{
    Error,
    fence::Bucket,
    log::{Lane, Range},
};

statements! {
    Read newest = &format!("SELECT {} FROM ks.conversation_log
        WHERE conversation_id = ? AND bucket = ? AND lane = ? AND seq > ? AND seq < ? LIMIT ?", events::COLUMNS);
    Read oldest = &format!("SELECT {} FROM ks.conversation_log
        WHERE conversation_id = ? AND bucket = ? AND lane = ? AND seq > ? AND seq < ?
        ORDER BY lane DESC, seq ASC LIMIT ?", events::COLUMNS);
}

/// Events of one bucket, in the order they were asked for.
struct Page {
    events: Vec<Event>,
    /// What stood beside them; `None` if there are none.
    beside: Option<Beside>,
}

#[derive(Clone, Copy)]
struct Beside {
    head: Seq,
    post_bucket: Option<Bucket>,
}

/// What a walk comes to: ascending, without a hole.
#[derive(Default)]
struct Found {
    events: Vec<Event>,
    /// The event above the lowest hole that was met.
    hole: Option<Seq>,
}

/// What of a bucket is wanted; bounds are exclusive.
#[derive(Clone, Copy)]
struct Span {
    lane: Lane,
    after: Seq,
    below: Seq,
    limit: usize,
    newest: bool,
}

impl Cql {
    pub(super) async fn read_range(&self, c: ConversationId, range: Range) -> Result<Vec<Event>, Error> {
        let Range { after, before, lane, limit, newest } = range;
        let below = before.unwrap_or(Seq(i64::MAX as u64));
        let is_beyond_any_log = column(Bucket::of(after.next())).is_err();
        if limit == 0 || below <= after.next() || is_beyond_any_log {
            return Ok(Vec::new());
        }
        let span = Span { lane, after, below, limit, newest };
        let Found { events, hole } = self.read_span(c, span).await?;
        let Some(above) = hole else { return Ok(events) };
        // It will be filled soon, unless all that follows from it was written already: then whoever reads now sees it.
        let statics = self.statics(c, Bucket::of(above)).await?;
        let settled = statics.map_or(Seq(0), |statics| statics.head.settled);
        if above > settled {
            return Ok(events);
        }
        let Found { events, hole } = self.read_span(c, span).await?;
        match hole {
            Some(above) if above <= settled => {
                Err(Error::Corrupt(format!("the log of {c} lacks an event before {above}")))
            }
            _ => Ok(events),
        }
    }

    async fn read_span(&self, c: ConversationId, span: Span) -> Result<Found, Error> {
        if span.newest { self.read_down(c, span).await } else { self.read_up(c, span).await }
    }

    /// The newest of the span.
    async fn read_down(&self, c: ConversationId, span: Span) -> Result<Found, Error> {
        let top = Bucket::of(Seq(span.below.0 - 1));
        let mut bucket = self.hint(c).await?.min(top);
        let mut page = self.page(c, bucket, span).await?;
        let is_last = page.beside.is_some_and(|beside| beside.head < bucket.last());
        if bucket < top && !is_last {
            let Some(standing) = self.stand(c, bucket).await? else { return Ok(Found::default()) };
            let last = Bucket::of(standing.head.seq).min(top);
            if last != bucket {
                bucket = last;
                page = self.page(c, bucket, span).await?;
            }
        }
        let (mut found, mut hole): (Vec<Event>, _) = (Vec::new(), None);
        let mut left = span;
        loop {
            let exhausted = page.events.len() < left.limit;
            for event in page.events {
                if let Some(newer) = found.last().filter(|newer| misses(span.lane, &event, newer)) {
                    hole = Some(newer.seq);
                    found.clear();
                }
                left.below = event.seq;
                found.push(event);
            }
            left.limit = span.limit - found.len();
            if left.limit == 0 {
                break;
            }
            if exhausted {
                let Some(lower) = self.lower(c, bucket, span.lane, page.beside).await? else { break };
                if lower.last() <= span.after {
                    break;
                }
                bucket = lower;
            }
            page = self.page(c, bucket, left).await?;
        }
        found.reverse();
        Ok(Found { events: found, hole })
    }

    /// The oldest of the span.
    async fn read_up(&self, c: ConversationId, span: Span) -> Result<Found, Error> {
        let mut bucket = Bucket::of(span.after.next());
        let mut found: Vec<Event> = Vec::new();
        let mut left = span;
        loop {
            let is_last_wanted = span.below <= bucket.last().next();
            let mut page = self.page(c, bucket, left).await?;
            if page.beside.is_none() {
                if is_last_wanted || !self.is_full(c, bucket).await? {
                    return Ok(Found { events: found, hole: None });
                }
                // it may have been filled after it was read, and only what is read of a full one is all there will be
                page = self.page(c, bucket, left).await?;
            }
            for event in page.events {
                let hole = match found.last() {
                    Some(older) => misses(span.lane, older, &event),
                    None => span.lane == Lane::Both && event.seq != span.after.next(),
                };
                if hole {
                    return Ok(Found { events: found, hole: Some(event.seq) });
                }
                left.after = event.seq;
                found.push(event);
            }
            left.limit = span.limit - found.len();
            let goes_on = page.beside.is_none_or(|beside| beside.head >= bucket.last());
            if left.limit == 0 || is_last_wanted || !goes_on {
                return Ok(Found { events: found, hole: None });
            }
            bucket = bucket.next();
        }
    }

    async fn is_full(&self, c: ConversationId, bucket: Bucket) -> Result<bool, Error> {
        Ok(self.statics(c, bucket).await?.is_some_and(|statics| statics.head.seq >= bucket.last()))
    }

    /// The bucket to go on in, downwards. Posts pass over those that have none, however many.
    async fn lower(
        &self, c: ConversationId, bucket: Bucket, lane: Lane, beside: Option<Beside>,
    ) -> Result<Option<Bucket>, Error> {
        match (lane, beside) {
            (Lane::Posts, Some(beside)) => Ok(beside.post_bucket),
            (Lane::Posts, None) => Ok(self.statics(c, bucket).await?.and_then(|statics| statics.post_bucket)),
            (Lane::Events | Lane::Both, _) => Ok(bucket.0.checked_sub(1).map(Bucket)),
        }
    }

    async fn page(&self, c: ConversationId, bucket: Bucket, span: Span) -> Result<Page, Error> {
        match span.lane {
            Lane::Posts => self.lane(c, bucket, 0, span).await,
            Lane::Events => self.lane(c, bucket, 1, span).await,
            Lane::Both => {
                let (posts, others) = tokio::try_join!(self.lane(c, bucket, 0, span), self.lane(c, bucket, 1, span))?;
                Ok(merge(posts, others, span))
            }
        }
    }

    async fn lane(&self, c: ConversationId, bucket: Bucket, lane: i8, span: Span) -> Result<Page, Error> {
        let limit = i32::try_from(span.limit).unwrap_or(i32::MAX);
        let key = (uuid(c.0), column(bucket)?, lane, bigint(span.after.0), bigint(span.below.0), limit);
        let statement: &Read = if span.newest { &self.read.newest } else { &self.read.oldest };
        let rows = self.rows::<Stored>(statement, key).await?;
        let beside = rows.first().map(beside).transpose()?;
        Ok(Page { events: rows.into_iter().map(Stored::into_event).collect::<Result<_, _>>()?, beside })
    }
}

fn beside(row: &Stored) -> Result<Beside, Error> {
    let post_bucket = row.post_bucket.map(|bucket| number("post_bucket", bucket.into()).map(Bucket)).transpose()?;
    Ok(Beside { head: Seq(number("head_seq", row.head_seq)?), post_bucket })
}

/// Both lanes as one. Beyond the limit one of them may have been cut off, so nothing beyond it is kept.
fn merge(posts: Page, others: Page, span: Span) -> Page {
    let mut events = posts.events;
    events.extend(others.events);
    events.sort_unstable_by_key(|event| event.seq);
    if span.newest {
        events.reverse();
    }
    events.truncate(span.limit);
    Page { events, beside: posts.beside.or(others.beside) }
}

/// True if an event of the lane lies between two that were read one after the other. Posts are counted, so both lanes are
/// numbered without gaps.
fn misses(lane: Lane, older: &Event, newer: &Event) -> bool {
    let number = |event: &Event| match lane {
        Lane::Posts => event.post_no,
        Lane::Events => event.seq.0 - event.post_no.min(event.seq.0),
        Lane::Both => event.seq.0,
    };
    number(newer) > number(older) + 1
}
