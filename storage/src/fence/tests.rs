//! Each call against partitions in memory: which statements it makes of them, and what it says when others come first,
//! when a reading is torn, and when the store does not say.

use std::collections::BTreeMap;

use protocol::{Body, EventId, Kind, Post, UserId, event};

use super::*;
use crate::log::{Appended, Claimed, Created, Tenancy};

const LAST: u64 = BUCKET_EVENTS - 1;
const ME: Incarnation = Incarnation([1; 16]);
const OTHER: Incarnation = Incarnation([2; 16]);

#[derive(Clone, Default)]
struct Partitions(BTreeMap<Bucket, (Statics, Vec<Event>)>);

impl Partitions {
    /// A log of posts up to `head`, owned by somebody else under epoch 1, settled up to `settled`.
    fn log(head: u64, settled: u64) -> Partitions {
        let mut partitions = Partitions::default();
        let all: Vec<Event> = (1..=head).map(event).collect();
        for bucket in (0..=head / BUCKET_EVENTS).map(Bucket) {
            let events: Vec<Event> = all.iter().filter(|e| Bucket::of(e.seq) == bucket).cloned().collect();
            let end = Seq(head.min(bucket.last().0));
            let head = Head { seq: end, post_no: end.0 - 1, at: Millis(end.0), settled: Seq(settled.min(end.0)) };
            let statics = Statics { epoch: Epoch(1), owner: OTHER, head, post_bucket: bucket.before() };
            partitions.0.insert(bucket, (statics, events));
        }
        partitions
    }

    fn owned(mut self, epoch: u64, owner: Incarnation) -> Partitions {
        let last = self.last();
        (last.epoch, last.owner) = (Epoch(epoch), owner);
        self
    }

    fn last(&mut self) -> &mut Statics {
        &mut self.0.values_mut().next_back().unwrap().0
    }

    fn perform(&mut self, ask: Ask, events: &[Event]) -> Answer {
        match ask {
            Ask::Look { bucket } => Answer::Statics(self.0.get(&bucket).map(|(statics, _)| *statics)),
            Ask::Tail { bucket, after } => {
                let Some((statics, events)) = self.0.get(&bucket) else { return Answer::Tail(None, Vec::new()) };
                Answer::Tail(Some(*statics), events.iter().filter(|event| event.seq > after).cloned().collect())
            }
            Ask::Take { bucket, expect, owner } => match self.0.get_mut(&bucket) {
                Some((statics, _)) if statics.epoch == expect => {
                    (statics.epoch, statics.owner) = (Epoch(expect.0 + 1), owner);
                    Answer::Applied
                }
                other => Answer::NotApplied(other.map(|(statics, _)| *statics)),
            },
            Ask::Open { bucket, statics } => match self.0.get(&bucket) {
                Some((statics, _)) => Answer::NotApplied(Some(*statics)),
                None => {
                    self.0.insert(bucket, (statics, events.to_vec()));
                    Answer::Applied
                }
            },
            Ask::Append { bucket, epoch, head, post_no, after } => match self.0.get_mut(&bucket) {
                Some((s, held)) if (s.epoch, s.head.seq, s.head.post_no) == (epoch, head, post_no) => {
                    s.head = after;
                    held.extend_from_slice(events);
                    Answer::Applied
                }
                other => Answer::NotApplied(other.map(|(statics, _)| *statics)),
            },
        }
    }

    /// Goes on to the end. `meddle` comes before each statement and may answer in the store's place.
    fn run<S: Steps>(
        &mut self, mut steps: S, events: &[Event], mut meddle: impl FnMut(&str, &mut Partitions) -> Option<Answer>,
    ) -> (String, Result<S::Outcome, Error>) {
        let mut asked: Vec<String> = Vec::new();
        loop {
            let ask = steps.ask();
            asked.push(short(&ask));
            let answer = meddle(&short(&ask), self).unwrap_or_else(|| self.perform(ask, events));
            if let Some(end) = steps.answer(answer) {
                return (asked.join("; "), end);
            }
            assert!(asked.len() < 100, "{asked:?}");
        }
    }

    fn claim(&mut self, hint: u64, from: Option<u64>) -> (String, Tenancy) {
        match self.run(Claim::new(ME, Bucket(hint), from.map(Seq)), &[], undisturbed) {
            (asked, Ok(Claimed::Claimed(tenancy))) => (asked, tenancy),
            (asked, other) => panic!("{asked}: {other:?}"),
        }
    }

    fn append(&mut self, epoch: u64, head: u64, events: &[Event]) -> (String, Result<Appended, Error>) {
        self.run(append(epoch, head, events).unwrap(), events, undisturbed)
    }
}

fn undisturbed(_: &str, _: &mut Partitions) -> Option<Answer> {
    None
}

fn unknown() -> Answer {
    Answer::Failed(Error::Unknown("by plan".into()))
}

fn append(epoch: u64, head: u64, events: &[Event]) -> Result<Append, Error> {
    Append::new(Epoch(epoch), Seq(head), Seq(head), events, 0)
}

fn short(ask: &Ask) -> String {
    match ask {
        Ask::Look { bucket } => format!("look {}", bucket.0),
        Ask::Take { bucket, expect, .. } => format!("take {} if {expect}", bucket.0),
        Ask::Tail { bucket, after } => format!("tail {} above {after}", bucket.0),
        Ask::Open { bucket, statics } => format!("open {} under {}", bucket.0, statics.epoch),
        Ask::Append { bucket, epoch, head, .. } => format!("append {} if {epoch} and {head}", bucket.0),
    }
}

/// The event at a place: the creation, and posts after it.
fn event(seq: u64) -> Event {
    let members = vec![UserId([1; 16])];
    let create = || Body::Create(event::Create { conversation_kind: Kind::Group, title: None, members });
    Event {
        seq: Seq(seq),
        id: EventId([seq as u8; 16]),
        by: UserId([1; 16]),
        cid: None,
        request_hash: [0; 16],
        at: Millis(seq),
        post_no: seq - 1,
        body: if seq == 1 { create() } else { Body::Post(Post::default()) },
    }
}

fn events(from: u64, to: u64) -> Vec<Event> {
    (from..=to).map(event).collect()
}

fn seqs(tenancy: &Tenancy) -> (u64, u64) {
    let tail = &tenancy.tail;
    assert!(tail.is_sorted_by(|a, b| a.seq.next() == b.seq), "{tail:?}");
    (tail.first().map_or(0, |event| event.seq.0), tail.len() as u64)
}

#[test]
fn a_log_is_begun_once() {
    let (mut partitions, first) = (Partitions::default(), events(1, 1));
    let create = || Create::new(ME, &first, 0).unwrap();
    let (asked, created) = partitions.run(create(), &first, undisturbed);
    assert_eq!(asked, "open 0 under 1");
    assert!(matches!(created, Ok(Created::Created { head }) if head.seq == Seq(1) && head.settled == Seq(0)));
    assert!(matches!(partitions.run(create(), &first, undisturbed).1, Ok(Created::Exists)));
    assert!(matches!(Create::new(ME, &events(2, 2), 0), Err(Error::Refused(_))));
    assert!(matches!(Create::new(ME, &[], 0), Err(Error::Refused(_))));
    let posted_first = Event { seq: Seq(1), post_no: 1, ..event(2) };
    assert!(matches!(Create::new(ME, &[posted_first], 0), Err(Error::Refused(_))));
}

#[test]
fn a_claim_asks_in_this_order() {
    let table = [
        // head, settled, hint, tail from: what it asks, and the first event and length of the tail
        (7, 7, 0, None, "look 0; take 0 if 1; tail 0 above 7", (0, 0)),
        (7, 4, 0, None, "look 0; take 0 if 1; tail 0 above 4", (5, 3)),
        (7, 4, 0, Some(2), "look 0; take 0 if 1; tail 0 above 2", (3, 5)),
        (7, 4, 0, Some(6), "look 0; take 0 if 1; tail 0 above 4", (5, 3)),
        (7, 4, 3, None, "look 3; look 0; take 0 if 1; tail 0 above 4", (5, 3)),
        (LAST, LAST, 0, None, "look 0; look 1; take 0 if 1; tail 0 above 4095; open 1 under 2", (0, 0)),
        (LAST, LAST - 2, 0, None, "look 0; look 1; take 0 if 1; tail 0 above 4093; open 1 under 2", (LAST - 1, 2)),
        (
            BUCKET_EVENTS + 1,
            LAST - 1,
            0,
            None,
            "look 0; look 1; take 1 if 1; tail 1 above 4095; tail 0 above 4094",
            (LAST, 3),
        ),
        (
            BUCKET_EVENTS,
            LAST,
            1,
            Some(LAST - 1),
            "look 1; take 1 if 1; tail 1 above 4095; tail 0 above 4094",
            (LAST, 2),
        ),
        (
            2 * BUCKET_EVENTS + LAST,
            2 * BUCKET_EVENTS + LAST,
            2,
            None,
            "look 2; look 3; take 2 if 1; tail 2 above 12287; look 1; open 3 under 2",
            (0, 0),
        ),
    ];
    for (head, settled, hint, from, asks, tail) in table {
        let mut partitions = Partitions::log(head, settled);
        let (asked, tenancy) = partitions.claim(hint, from);
        assert_eq!((asked.as_str(), seqs(&tenancy)), (asks, tail), "head {head}, settled {settled}, hint {hint}");
        assert_eq!((tenancy.epoch, tenancy.head.seq), (Epoch(2), Seq(head)));
        let last = *partitions.last();
        assert_eq!((last.epoch, last.owner, last.head), (Epoch(2), ME, tenancy.head));
    }
}

#[test]
fn what_is_not_there_cannot_be_claimed() {
    for (hint, asks) in [(0, "look 0"), (5, "look 5; look 0")] {
        let (asked, claimed) = Partitions::default().run(Claim::new(ME, Bucket(hint), None), &[], undisturbed);
        assert_eq!(asked, asks);
        assert!(matches!(claimed, Ok(Claimed::NotFound)));
        let (asked, standing) = Partitions::default().run(Standing::new(Bucket(hint)), &[], undisturbed);
        assert_eq!(asked, asks);
        assert!(matches!(standing, Ok(None)));
    }
}

#[test]
fn who_was_overtaken_claims_again() {
    // before which statement somebody else claims, and what is asked then
    let table = [
        ("take 0 if 1", 5, "look 0; take 0 if 1; take 0 if 2; tail 0 above 5"),
        ("tail 0 above 5", 5, "look 0; take 0 if 1; tail 0 above 5; take 0 if 3; tail 0 above 5"),
        (
            "open 1 under 2",
            LAST,
            "look 0; look 1; take 0 if 1; tail 0 above 4095; open 1 under 2; take 1 if 1; tail 1 above 4095",
        ),
    ];
    for (before, head, asks) in table {
        let mut partitions = Partitions::log(head, head);
        let mut once = true;
        let (asked, claimed) = partitions.run(Claim::new(ME, Bucket(0), None), &[], |ask, partitions| {
            if ask == before && std::mem::take(&mut once) {
                let last = *partitions.last();
                if ask.starts_with("open") {
                    // an append of the owner before, which was late
                    partitions.0.insert(Bucket(1), (Statics { epoch: Epoch(1), ..last }, Vec::new()));
                } else {
                    (partitions.last().epoch, partitions.last().owner) =
                        (last.epoch.0.checked_add(1).map(Epoch).unwrap(), OTHER);
                }
            }
            None
        });
        assert_eq!(asked, asks);
        let last = *partitions.last();
        assert!(matches!(claimed, Ok(Claimed::Claimed(t)) if (t.epoch, ME) == (last.epoch, last.owner)), "{before}");
    }
}

#[test]
fn a_claim_answered_as_its_own_failure_takes_the_epoch_again() {
    let mut partitions = Partitions::log(5, 5);
    let mut once = true;
    let (asked, claimed) = partitions.run(Claim::new(ME, Bucket(0), None), &[], |ask, partitions| {
        if ask == "take 0 if 1" && std::mem::take(&mut once) {
            *partitions = partitions.clone().owned(2, ME);
            return Some(Answer::NotApplied(Some(*partitions.last())));
        }
        None
    });
    assert_eq!(asked, "look 0; take 0 if 1; take 0 if 2; tail 0 above 5");
    assert!(matches!(claimed, Ok(Claimed::Claimed(t)) if t.epoch == Epoch(3)));
}

#[test]
fn a_duel_ends() {
    let mut partitions = Partitions::log(5, 5);
    let (_, claimed) = partitions.run(Claim::new(ME, Bucket(0), None), &[], |ask, partitions| {
        if ask.starts_with("take") {
            partitions.last().epoch.0 += 1;
        }
        None
    });
    assert!(matches!(claimed, Err(Error::Refused(_))), "{claimed:?}");
}

#[test]
fn a_torn_reading_is_asked_again_and_a_gap_is_reported() {
    let torn = |times: usize| {
        let mut left = times;
        Partitions::log(7, 4).run(Claim::new(ME, Bucket(0), None), &[], move |ask, partitions| {
            if !ask.starts_with("tail") || left == 0 {
                return None;
            }
            left -= 1;
            Some(Answer::Tail(Some(*partitions.last()), vec![event(5), event(7)]))
        })
    };
    let (asked, claimed) = torn(1);
    assert_eq!(asked, "look 0; take 0 if 1; tail 0 above 4; tail 0 above 4");
    assert!(matches!(claimed, Ok(Claimed::Claimed(t)) if seqs(&t) == (5, 3)));
    let (_, claimed) = torn(usize::MAX);
    assert!(matches!(claimed, Err(Error::Corrupt(_))), "{claimed:?}");
}

#[test]
fn events_newer_than_the_head_that_was_read_are_not_in_the_tail() {
    let (_, claimed) = Partitions::log(7, 4).run(Claim::new(ME, Bucket(0), None), &[], |ask, partitions| {
        ask.starts_with("tail").then(|| Answer::Tail(Some(*partitions.last()), events(5, 9)))
    });
    assert!(matches!(claimed, Ok(Claimed::Claimed(t)) if seqs(&t) == (5, 3) && t.head.seq == Seq(7)));
}

#[test]
fn what_the_store_does_not_say_ends_the_call_at_every_step() {
    let claim = "look 2; look 3; take 2 if 1; tail 2 above 12287; look 1; open 3 under 2";
    for step in claim.split("; ") {
        let head = 2 * BUCKET_EVENTS + LAST;
        let (asked, claimed) =
            Partitions::log(head, head).run(Claim::new(ME, Bucket(2), None), &[], |ask, _| (ask == step).then(unknown));
        assert!(asked.ends_with(step) && claim.starts_with(&asked), "{asked}");
        assert!(matches!(claimed, Err(Error::Unknown(_))), "{claimed:?}");
    }
    let more = events(LAST + 1, LAST + 1);
    for step in ["look 1", "look 0", "open 1 under 1"] {
        let mut partitions = Partitions::log(LAST, LAST);
        let steps = append(1, LAST, &more).unwrap();
        let (asked, appended) = partitions.run(steps, &more, |ask, _| (ask == step).then(unknown));
        assert!(asked.ends_with(step), "{asked}");
        assert!(matches!(appended, Err(Error::Unknown(_))), "{appended:?}");
    }
    let misplaced = Partitions::log(5, 5).run(Claim::new(ME, Bucket(0), None), &[], |_, _| Some(Answer::Applied));
    assert!(matches!(misplaced.1, Err(Error::Unknown(_))), "{misplaced:?}");
}

#[test]
fn an_append_is_one_statement() {
    let mut partitions = Partitions::log(5, 5).owned(3, ME);
    let (asked, appended) = partitions.append(3, 5, &events(6, 8));
    assert_eq!(asked, "append 0 if 3 and 5");
    assert!(matches!(appended, Ok(Appended::Applied { settled: Seq(5) })));
    let head = Head { seq: Seq(8), post_no: 7, at: Millis(8), settled: Seq(5) };
    assert_eq!(partitions.last().head, head);
}

#[test]
fn an_append_that_does_not_fit_says_what_stands() {
    let fenced = |epoch, owner, head| Appended::Fenced { epoch: Epoch(epoch), owner, head: Seq(head) };
    let mut partitions = Partitions::log(5, 5).owned(3, ME);
    assert_eq!(partitions.append(2, 5, &events(6, 6)).1.unwrap(), fenced(3, ME, 5));
    assert_eq!(partitions.append(3, 4, &events(5, 5)).1.unwrap(), fenced(3, ME, 5));
    // at the end of a bucket: by whom it is owned is read before the next is opened
    for (epoch, owner) in [(4, OTHER), (4, ME)] {
        let mut partitions = Partitions::log(LAST, LAST).owned(epoch, owner);
        let (asked, appended) = partitions.append(3, LAST, &events(LAST + 1, LAST + 1));
        assert_eq!((asked.as_str(), appended.unwrap()), ("look 1; look 0", fenced(epoch, owner, LAST)));
    }
    // and who opened it in between keeps it
    let (mut partitions, more) = (Partitions::log(LAST, LAST).owned(3, ME), events(LAST + 1, LAST + 1));
    let steps = append(3, LAST, &more).unwrap();
    let (_, appended) = partitions.run(steps, &more, |ask, partitions| {
        if ask.starts_with("open") {
            let statics = Statics { epoch: Epoch(4), owner: OTHER, ..*partitions.last() };
            partitions.0.insert(Bucket(1), (statics, Vec::new()));
        }
        None
    });
    assert_eq!(appended.unwrap(), fenced(4, OTHER, LAST));
}

#[test]
fn no_store_takes_a_batch_that_is_wrong_in_itself_or_to_no_log() {
    for (head, batch) in
        [(5, vec![]), (5, events(7, 7)), (LAST - 1, events(LAST, LAST + 1)), (5, vec![event(6), event(8)])]
    {
        assert!(matches!(append(3, head, &batch), Err(Error::Refused(_))), "{head}");
    }
    let miscounted = |seq| vec![Event { post_no: 99, ..event(seq) }];
    for head in [5, LAST] {
        let mut partitions = Partitions::log(head, head).owned(3, ME);
        let appended = partitions.append(3, head, &miscounted(head + 1)).1;
        assert!(matches!(appended, Err(Error::Refused(_))), "{appended:?}");
    }
    for head in [5, LAST] {
        let appended = Partitions::default().append(3, head, &events(head + 1, head + 1)).1;
        assert!(matches!(appended, Err(Error::Refused(_))), "{appended:?}");
    }
}

#[test]
fn an_append_at_a_full_bucket_opens_the_next_with_its_events() {
    let mut partitions = Partitions::log(LAST, LAST - 3).owned(3, ME);
    let (asked, appended) = partitions.append(3, LAST, &events(LAST + 1, LAST + 2));
    assert_eq!(asked, "look 1; look 0; open 1 under 3");
    assert!(matches!(appended, Ok(Appended::Applied { settled }) if settled == Seq(LAST)));
    let head = Head { seq: Seq(LAST + 2), post_no: LAST + 1, at: Millis(LAST + 2), settled: Seq(LAST) };
    let opened = Statics { epoch: Epoch(3), owner: ME, head, post_bucket: Some(Bucket(0)) };
    assert_eq!((*partitions.last(), partitions.0[&Bucket(1)].1.len()), (opened, 2));
}

#[test]
fn an_append_goes_into_the_bucket_that_its_claim_opened() {
    let mut partitions = Partitions::log(LAST, LAST);
    let (_, tenancy) = partitions.claim(0, None);
    let (asked, appended) = partitions.append(tenancy.epoch.0, LAST, &events(LAST + 1, LAST + 1));
    assert_eq!(asked, "look 1; append 1 if 2 and 4095");
    assert!(matches!(appended, Ok(Appended::Applied { .. })));
}

#[test]
fn a_bucket_names_the_nearest_earlier_one_that_holds_a_post() {
    let end = 3 * BUCKET_EVENTS - 1;
    // posts up to the end of bucket 1, and of bucket 2
    for (before, posts, named) in [(0, 0, None), (9, 9, Some(Bucket(0))), (9, 10, Some(Bucket(2)))] {
        let mut partitions = Partitions::log(end, end).owned(3, ME);
        let last = partitions.last();
        (last.head.post_no, last.post_bucket) = (posts, (before > 0).then_some(Bucket(0)));
        partitions.0.get_mut(&Bucket(1)).unwrap().0.head.post_no = before;
        let mut claimed = partitions.clone();
        claimed.claim(2, None);
        assert_eq!(claimed.last().post_bucket, named);
        let more = [Event { post_no: posts + 1, ..event(end + 1) }];
        assert!(matches!(partitions.append(3, end, &more).1, Ok(Appended::Applied { .. })));
        assert_eq!(partitions.last().post_bucket, named);
    }
}

#[test]
fn a_log_stands_where_its_last_bucket_says() {
    let table = [
        (5, 0, "look 0"),
        (LAST, 0, "look 0; look 1"),
        (LAST + 1, 0, "look 0; look 1"),
        (LAST + 1, 1, "look 1"),
        (5, 4, "look 4; look 0"),
    ];
    for (head, hint, asks) in table {
        let mut partitions = Partitions::log(head, head).owned(6, ME);
        let (asked, standing) = partitions.run(Standing::new(Bucket(hint)), &[], undisturbed);
        let standing = standing.unwrap().unwrap();
        assert_eq!(asked, asks);
        assert_eq!((standing.epoch, standing.owner, standing.head.seq), (Epoch(6), ME, Seq(head)));
    }
}
