//! What becomes of a wish when the store's answer is lost, late or somebody else's, or when who asked is gone: the rows of
//! `CONVERSATION.md` that no test beside this one shows.

use super::*;
use crate::conversation::state::{
    admission::{BEHIND, WAITING_MAX},
    clock::{PATIENCE, STORE_DEADLINE, WATCH_PATIENCE},
};

fn text(text: &str) -> Change {
    Change::Post(Body::Post(Post { text: Some(text.into()), ..Post::default() }).encode().into())
}

impl Desk {
    /// Hands an input over; the store's part of what follows is left to the test.
    fn put(&mut self, input: Input) -> Vec<Job> {
        let mut jobs = Vec::new();
        for action in self.state.on(input, self.now) {
            match action {
                Action::Store(job) => jobs.push(job),
                Action::Tell(Telling::Node(_, mail)) => self.hear(mail),
                Action::Tell(Telling::Channel(_, slice, mail)) => drop(self.presence(slice, mail)),
                _ => {}
            }
        }
        jobs
    }

    /// Lets the store do a job, but keeps its answer.
    async fn done(&self, job: Job) -> Answer {
        ask(C, job, NODE, &self.store).await
    }

    fn unknown() -> storage::Error {
        storage::Error::Unknown("lost on the way".into())
    }
}

#[tokio::test]
async fn g1_an_answer_that_comes_twice_or_unasked_changes_nothing() {
    let mut desk = Desk::group().await;
    let input = desk.submission(2, "a", text("hello"));
    let append = desk.put(input).remove(0);
    let Answer::Appended(Ok(applied)) = desk.done(append).await else { panic!() };
    desk.run(Input::Store(Answer::Appended(Ok(applied)))).await;
    assert_eq!(desk.take(), ["event 2 to 1,2,3 for 2"]);
    for again in [
        Answer::Appended(Ok(applied)),
        Answer::Appended(Err(Desk::unknown())),
        Answer::Followed(Ok(())),
        Answer::Verified(Ok(None)),
        Answer::Created(Err(Desk::unknown())),
        Answer::Claimed(Err(Desk::unknown())),
        Answer::Loaded(Epoch(0), Ok(None)),
        Answer::Found(user(2), "a".to_owned().try_into().unwrap(), Epoch(1), Ok(None)),
        Answer::Peeked(user(2), Ok(false)),
        Answer::Marked(Ok(Vec::new())),
    ] {
        desk.run(Input::Store(again)).await;
    }
    assert_eq!((desk.take(), desk.jobs.len()), (Vec::new(), 0));
    desk.post(2, "b", "goes on").await;
    assert_eq!(desk.take(), ["event 3 to 1,2,3 for 2"]);
}

#[tokio::test]
async fn g6_an_unknown_append_that_is_tried_late_is_fenced_by_the_claim() {
    let mut desk = Desk::group().await;
    let input = desk.submission(2, "a", text("hello"));
    let late = desk.put(input).remove(0);
    desk.run(Input::Store(Answer::Appended(Err(Desk::unknown())))).await;
    assert_eq!(desk.take(), ["event 2 to 1,2,3 for 2"], "judged again under the next epoch");
    assert!(matches!(desk.done(late).await, Answer::Appended(Ok(Appended::Fenced { .. }))));
    assert_eq!(desk.log().await.len(), 2);
}

#[tokio::test]
async fn g6_a_fence_with_ones_own_epoch_is_no_refusal() {
    let mut desk = Desk::group().await;
    let input = desk.submission(2, "a", text("hello"));
    let append = desk.put(input).remove(0);
    let Job::Append { epoch, .. } = append else { panic!() };
    // the write is applied, but what comes back reads as a conflict with it
    desk.done(append).await;
    let fenced = Appended::Fenced { epoch, owner: NODE, head: Seq(2) };
    desk.run(Input::Store(Answer::Appended(Ok(fenced)))).await;
    assert_eq!(desk.take(), ["event 2 to 1,2,3 for 2"]);
    assert_eq!(desk.log().await.len(), 2);
}

#[tokio::test]
async fn a_direct_conversation_without_rows_is_repaired_when_it_is_opened_again() {
    let mut desk = Desk::empty();
    let open = || Change::Create { kind: Kind::Direct, title: None, members: vec![user(1), user(2)] };
    let begin = desk.submission(1, "a", open());
    let create = desk.put(begin).remove(0);
    desk.done(create).await; // its owner crashes before it writes what follows
    desk.reborn(NODE, false);
    desk.wish(2, "b", open()).await;
    assert_eq!(desk.take().last().unwrap(), "2: unchanged");
    desk.reborn(NODE, false);
    desk.post(1, "c", "hello").await;
    assert_eq!(desk.take().last().unwrap(), "event 2 to 1,2 for 1");
    // with rows, opening it again is answered from them
    desk.reborn(NODE, false);
    desk.wish(2, "d", open()).await;
    assert_eq!(desk.jobs, ["create", "peek"]);
    assert_eq!(desk.take(), ["2: unchanged"]);
}

#[tokio::test]
async fn who_reads_that_it_was_deposed_hears_of_the_append_under_way_first() {
    let mut desk = Desk::group().await;
    desk.wish(1, "r", Change::Remove(user(3))).await;
    desk.take();
    let refusable = desk.submission(3, "a", text("perhaps I am back"));
    let verify = desk.put(refusable).remove(0);
    let post = desk.submission(2, "b", text("hello"));
    assert!(matches!(desk.put(post)[..], [Job::Append { .. }]));
    desk.store.log.claim(C, Incarnation([2; 16]), None).await.unwrap();
    let deposed = desk.done(verify).await;
    desk.run(Input::Store(deposed)).await;
    assert_eq!(desk.take(), Vec::<String>::new());
    desk.run(Input::Store(Answer::Appended(Err(Desk::unknown())))).await;
    assert_eq!(
        desk.take_sorted(),
        ["3: not_found", "event 3 to 1,2 for 2"],
        "claimed again, judged again, and goes on"
    );
}

#[tokio::test]
async fn a_refusal_that_was_being_verified_when_its_owner_was_deposed_is_judged_again() {
    let mut desk = Desk::group().await;
    desk.wish(1, "r", Change::Remove(user(3))).await;
    desk.take();
    desk.reborn(NODE, false);
    let refusable = desk.submission(3, "a", text("perhaps I am back"));
    let peek = desk.put(refusable).remove(0);
    let peeked = desk.done(peek).await;
    // another's wish brings the claim; the verification and the append that follow are left under way
    let post = desk.submission(2, "b", text("hello"));
    let mut jobs = desk.put(post);
    let (mut verify, mut append) = (None, None);
    while let Some(job) = jobs.pop() {
        match job {
            Job::Verify => verify = Some(desk.done(job).await),
            Job::Append { .. } => append = Some(job),
            job => {
                let answer = desk.done(job).await;
                jobs.extend(desk.put(Input::Store(answer)));
            }
        }
    }
    // the answer to the peek finds nobody that waits for it
    desk.put(Input::Store(peeked));
    desk.store.log.claim(C, Incarnation([2; 16]), None).await.unwrap();
    let fenced = desk.done(append.unwrap()).await;
    desk.put(Input::Store(fenced));
    assert_eq!(desk.take(), ["2: moved"]);
    desk.now.mono += Duration::from_secs(1);
    desk.put(Input::Tick);
    desk.run(Input::Store(verify.unwrap())).await;
    assert_eq!(desk.take().last().unwrap(), "3: not_found", "claimed, and judged: {:?}", desk.jobs);
}

#[tokio::test]
async fn g6_a_sender_who_was_removed_meanwhile_is_judged_anew() {
    let mut desk = Desk::group().await;
    let input = desk.submission(3, "a", text("still in?"));
    let append = desk.put(input).remove(0);
    drop(append); // never reaches the store
    let other = Incarnation([2; 16]);
    let mut elsewhere = Desk::group().await;
    elsewhere.store = desk.store.clone();
    elsewhere.reborn(other, false);
    elsewhere.wish(1, "r", Change::Remove(user(3))).await;
    desk.run(Input::Store(Answer::Appended(Err(Desk::unknown())))).await;
    assert_eq!(desk.take().last().unwrap(), "3: not_found");
    assert_eq!(desk.log().await.len(), 2);
}

#[tokio::test]
async fn g6_who_no_longer_waits_is_not_stored_a_second_time() {
    let mut desk = Desk::group().await;
    let input = desk.submission(2, "a", text("hello"));
    let append = desk.put(input).remove(0);
    drop(append);
    desk.fail(Operation::Claim, Fault::Refuse);
    desk.run(Input::Store(Answer::Appended(Err(Desk::unknown())))).await;
    desk.wait(STORE_DEADLINE.as_millis() as u64).await;
    assert_eq!(desk.take(), ["2: timeout"]);
    assert_eq!(desk.log().await.len(), 1, "nobody waits for it, so it is not begun anew");
    desk.post(2, "a", "hello").await;
    assert_eq!(desk.take(), ["event 2 to 1,2,3 for 2"]);
}

#[tokio::test]
async fn g6_nobody_waits_for_an_append_longer_than_the_store_may_take() {
    let mut desk = Desk::group().await;
    let input = desk.submission(2, "a", text("hello"));
    let append = desk.put(input).remove(0);
    desk.wait(PATIENCE.as_millis() as u64).await;
    assert_eq!(desk.take(), ["2: timeout"]);
    let answer = desk.done(append).await;
    desk.run(Input::Store(answer)).await;
    assert_eq!(desk.take(), ["event 2 to 1,2,3 for -"], "answered once, told to all");
    desk.post(2, "a", "hello").await;
    assert_eq!(desk.take(), ["2: stored 2 dup"]);
}

#[tokio::test]
async fn g6_nobody_waits_for_member_rows_longer_than_the_store_may_take() {
    let mut desk = Desk::group().await;
    let input = desk.submission(1, "j", Change::Join(vec![user(4)]));
    let append = desk.put(input).remove(0);
    let answer = desk.done(append).await;
    let follow = desk.put(Input::Store(answer)).remove(0);
    desk.wait(PATIENCE.as_millis() as u64).await;
    assert_eq!(desk.take(), ["1: timeout"], "it is stored, and cannot be told yet");
    let answer = desk.done(follow).await;
    desk.run(Input::Store(answer)).await;
    assert_eq!(desk.take(), ["event 2 to 1,2,3,4 for -", "list + to 4"]);
}

#[tokio::test]
async fn g6_nobody_waits_for_a_refusal_longer_than_the_store_may_take() {
    let mut desk = Desk::group().await;
    let input = desk.submission(2, "r", Change::Remove(user(3)));
    let verify = desk.put(input).remove(0);
    desk.wait(PATIENCE.as_millis() as u64).await;
    assert_eq!(desk.take(), ["2: timeout"]);
    let answer = desk.done(verify).await;
    desk.run(Input::Store(answer)).await;
    assert_eq!(desk.take(), [""; 0], "answered once");
    assert_eq!(desk.log().await.len(), 1);
}

#[tokio::test]
async fn a_wish_that_nobody_waits_for_is_stored_like_any_other() {
    let mut desk = Desk::group().await;
    let mut input = desk.submission(2, "a", text("no reply wanted"));
    if let Input::Mail(ToConversation::Submit(submission)) = &mut input {
        submission.requester = None;
    }
    desk.run(input).await;
    assert_eq!(desk.take(), ["event 2 to 1,2,3 for -"]);
}

#[tokio::test]
async fn g1_a_crash_between_append_and_answer_loses_nothing() {
    for reaches_the_store in [true, false] {
        let mut desk = Desk::group().await;
        let input = desk.submission(2, "a", text("hello"));
        let append = desk.put(input).remove(0);
        if reaches_the_store {
            desk.done(append).await;
        }
        desk.reborn(NODE, true);
        desk.run(Input::Tick).await;
        desk.take();
        desk.post(2, "a", "hello").await;
        let said = if reaches_the_store { "2: stored 2 dup" } else { "event 2 to 1,2,3 for 2" };
        assert_eq!(desk.take(), [said]);
        assert_eq!(desk.log().await.len(), 2);
    }
}

#[tokio::test]
async fn g9_a_crash_between_append_and_member_rows_is_repaired_before_anything_else() {
    let mut desk = Desk::group().await;
    let input = desk.submission(1, "j", Change::Join(vec![user(4)]));
    let append = desk.put(input).remove(0);
    desk.done(append).await;
    desk.reborn(NODE, true);
    desk.run(Input::Tick).await;
    assert_eq!(desk.jobs, ["claim", "follow", "load"]);
    desk.take();
    desk.post(4, "a", "thanks").await;
    assert_eq!(desk.take(), ["event 3 to 1,2,3,4 for 4"]);
}

#[tokio::test]
async fn g11_marks_whose_write_is_unknown_are_not_told_and_not_denied() {
    let mut desk = Desk::group().await;
    desk.fail(Operation::Mark, Fault::UnknownApplied);
    let requester = Some(Requester { at: device(2), tag: 7 });
    desk.run(Input::Mail(ToConversation::Mark(MarkRequest { requester, by: user(2), read: true, seq: Seq(1) }))).await;
    assert_eq!(desk.take(), ["2: timeout"]);
}

#[tokio::test]
async fn a_channel_that_does_not_answer_delays_telling_by_a_second_and_no_more() {
    let mut desk = Desk::group().await;
    desk.reborn(NODE, false);
    // presence mail goes nowhere
    let input = desk.submission(2, "a", text("hello"));
    let mut jobs = VecDeque::from(desk.put(input));
    while let Some(job) = jobs.pop_front() {
        let answer = desk.done(job).await;
        jobs.extend(desk.put(Input::Store(answer)));
    }
    assert_eq!(desk.log().await.len(), 2);
    assert_eq!(desk.take(), [""; 0], "stored, but nobody knows yet where the members are");
    desk.now.mono += WATCH_PATIENCE;
    desk.put(Input::Tick);
    assert_eq!(desk.take(), ["head 1 to 2", "event 2 to 2 for 2"], "the sender at least");
    let slice = Slice::of(user(3));
    let watched = desk.watched(3, |watch, user, at| ToConversation::Watched {
        slice,
        watch,
        devices: vec![(user, at)],
        complete: true,
    });
    desk.put(watched);
    assert_eq!(desk.take(), ["head 2 to 3"], "who was not known learns of it");
}

#[tokio::test]
async fn a_channel_that_crashed_is_asked_again_and_its_devices_get_the_head_once() {
    let mut desk = Desk::group().await;
    desk.post(2, "a", "hello").await;
    desk.take();
    let refill = || Input::Forgotten(NODE, Some(Slice::of(user(3))));
    desk.run(refill()).await;
    assert_eq!(desk.take(), [""; 0], "a device that was known gets nothing anew");
    let gone = desk.watched(3, |watch, user, at| ToConversation::Detached { watch, user, at });
    desk.run(gone).await;
    desk.run(refill()).await;
    assert_eq!(desk.take(), ["head 2 to 3"]);
}

#[tokio::test]
async fn what_waits_has_a_bound_and_what_is_beyond_it_is_definitely_not_stored() {
    let mut desk = Desk::group().await;
    let first = desk.submission(2, "first", text("under way"));
    let append = desk.put(first).remove(0);
    for n in 0..=WAITING_MAX {
        let input = desk.submission(3, &format!("m{n}"), text("x"));
        assert!(desk.put(input).is_empty());
    }
    assert_eq!(desk.take(), ["3: overloaded"]);
    let mut jobs = VecDeque::from([append]);
    while let Some(job) = jobs.pop_front() {
        let answer = desk.done(job).await;
        jobs.extend(desk.put(Input::Store(answer)));
    }
    assert_eq!(desk.log().await.len(), 2 + WAITING_MAX);
}

#[test]
fn every_test_that_the_document_names_exists() {
    let tests = concat!(
        include_str!("../tests.rs"),
        include_str!("answers.rs"),
        include_str!("departed.rs"),
        include_str!("untold.rs")
    );
    let document = include_str!("../../../../CONVERSATION.md");
    let named: Vec<_> = document.split('`').filter(|word| word.matches('_').count() > 3).collect();
    assert!(named.len() > 30, "{named:?}");
    for name in named {
        assert!(tests.contains(&format!("fn {name}(")), "{name}");
    }
}

#[tokio::test]
async fn g15_nobody_is_let_in_behind_a_line_that_moves_too_slowly() {
    let mut desk = Desk::group().await;
    let input = desk.submission(2, "first", text("x"));
    let append = desk.put(input).remove(0);
    for n in 0..2 * BATCH_EVENTS_MAX {
        let input = desk.submission(2, &format!("waits-{n}"), text("x"));
        desk.put(input);
    }
    desk.now.mono += BEHIND;
    let answer = desk.done(append).await;
    desk.put(Input::Store(answer)); // half of them are on their way now
    desk.take();
    let input = desk.submission(3, "a", text("x"));
    desk.put(input);
    assert_eq!(desk.take(), ["3: overloaded"]);
    // a line that does not move at all is the store's doing: who comes waits for it
    desk.now.mono += STORE_DEADLINE;
    let input = desk.submission(3, "b", text("x"));
    desk.put(input);
    assert_eq!(desk.take(), [""; 0]);
}
