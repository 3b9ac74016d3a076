//! What is noted before it is stored, and looked after when its owner has died.

use protocol::cluster::SLOT;

use super::*;
use crate::cluster::places::views::{node, places};

impl Desk {
    /// A group on node 1 of a cluster with node 2, where the devices are; others look after what it leaves untold.
    pub(super) async fn noting(restarted: bool) -> Desk {
        let mut desk = Desk::group().await;
        desk.connected.values_mut().for_each(|device| device.node = node(2));
        desk.begin_noting(restarted);
        desk
    }

    pub(super) fn begin_noting(&mut self, restarted: bool) {
        let ground = Ground { me: NODE, names: 1 << 32, members_max: 100, noting: true, places: places(1, &[1], &[2]) };
        self.state = State::new(C, ground, restarted);
    }

    fn jobs(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.jobs)
    }
}

#[tokio::test]
async fn what_is_appended_is_noted_first_and_once_in_a_slot() {
    let mut desk = Desk::noting(false).await;
    desk.post(2, "a", "one").await;
    let jobs = desk.jobs();
    let at = |what| jobs.iter().position(|job| *job == what);
    assert!(at("note").is_some() && at("note") < at("append"), "{jobs:?}");
    desk.post(2, "b", "two").await;
    assert_eq!(desk.jobs(), ["append", "follow"]);
    let slot = u64::try_from(SLOT.as_millis()).unwrap();
    desk.wait(slot - 250).await;
    desk.wait(250).await;
    assert_eq!(desk.jobs(), [""; 0], "everybody knows");
    desk.post(2, "c", "three").await;
    assert_eq!(desk.jobs(), ["note", "append", "follow"]);
}

#[tokio::test]
async fn what_is_begun_is_noted_before_anybody_can_see_it() {
    let mut desk = Desk::empty();
    desk.begin_noting(false);
    let create = Change::Create { kind: Kind::Group, title: Some("g".into()), members: vec![user(1), user(2)] };
    desk.wish(1, "make", create).await;
    assert_eq!(desk.jobs(), ["create", "note", "follow"]);
    desk.post(1, "a", "one").await;
    assert_eq!(desk.jobs(), ["append", "follow"], "under the same note");
}

#[tokio::test]
async fn what_is_begun_by_who_is_no_member_any_more_stays_unseen_until_it_is_asked_for_again() {
    let mut desk = Desk::empty();
    desk.begin_noting(false);
    let create = || Change::Create { kind: Kind::Group, title: Some("g".into()), members: vec![user(1), user(2)] };
    let input = desk.submission(1, "make", create());
    let mut jobs = VecDeque::from(desk.put_all(input));
    while let Some(job) = jobs.pop_front() {
        assert!(!matches!(job, Job::Follow(_)), "{job:?}");
        let answer = match job {
            Job::Note => Answer::Noted(Ok(false)),
            job => ask(C, job, NODE, &desk.store).await,
        };
        jobs.extend(desk.put_all(Input::Store(answer)));
    }
    desk.now.mono += Duration::from_secs(2);
    desk.put_all(Input::Tick);
    assert_eq!(desk.take(), ["1: timeout"]);
    assert_eq!(desk.log().await.len(), 1, "begun, for all that nobody says so");
    // the next owner
    desk.begin_noting(false);
    desk.wish(1, "make", create()).await;
    let jobs = desk.jobs();
    let shown = jobs.iter().skip_while(|job| **job != "claim").filter(|job| ["note", "follow"].contains(job));
    assert_eq!(shown.collect::<Vec<_>>(), [&"note", &"follow"], "{jobs:?}");
    assert_eq!(desk.take()[0], "1: stored 1 dup");
}

#[tokio::test]
async fn a_note_from_before_a_claim_says_nothing_of_what_is_appended_after_it() {
    let mut desk = Desk::noting(false).await;
    desk.post(2, "a", "one").await;
    desk.jobs();
    desk.fail(Operation::Append, Fault::UnknownNotApplied);
    desk.post(2, "b", "two").await;
    desk.wait(250).await;
    let jobs = desk.jobs();
    let after_claim = jobs.iter().skip_while(|job| **job != "claim").filter(|job| ["note", "append"].contains(job));
    assert_eq!(after_claim.collect::<Vec<_>>(), [&"note", &"append"], "{jobs:?}");
}

#[tokio::test]
async fn without_a_note_nothing_is_stored_and_who_waits_hears_so() {
    let mut desk = Desk::noting(false).await;
    let input = desk.submission(2, "a", Change::Post(Body::Post(Post::default()).encode().into()));
    let mut jobs = VecDeque::from(desk.put_all(input));
    while let Some(job) = jobs.pop_front() {
        let answer = match job {
            Job::Note => Answer::Noted(Err(storage::Error::Unknown("lost".into()))),
            job => ask(C, job, NODE, &desk.store).await,
        };
        jobs.extend(desk.put_all(Input::Store(answer)));
    }
    assert_eq!(desk.take().last().unwrap(), "2: unavailable");
    assert_eq!(desk.log().await.len(), 1);
}

#[tokio::test]
async fn what_is_untold_is_noted_again_in_each_slot_until_it_has_arrived() {
    let mut desk = Desk::noting(false).await;
    desk.post(2, "a", "one").await;
    desk.jobs();
    for _ in 0..2 {
        desk.now.mono += SLOT;
        let actions = desk.state.on(Input::Tick, desk.now);
        assert!(actions.contains(&Action::AskArrived) && actions.contains(&Action::Store(Job::Note)), "{actions:?}");
        desk.state.on(Input::Arrived(false), desk.now);
        desk.state.on(Input::Store(Answer::Noted(Ok(true))), desk.now);
    }
    desk.state.on(Input::Arrived(true), desk.now);
    desk.now.mono += SLOT;
    let actions = desk.state.on(Input::Tick, desk.now);
    assert!(!actions.contains(&Action::Store(Job::Note)), "{actions:?}");
}

#[tokio::test]
async fn that_all_had_arrived_says_nothing_of_what_was_told_since_it_was_asked() {
    let mut desk = Desk::noting(false).await;
    desk.post(2, "a", "one").await;
    desk.now.mono += SLOT;
    assert!(desk.state.on(Input::Tick, desk.now).contains(&Action::AskArrived));
    desk.state.on(Input::Store(Answer::Noted(Ok(true))), desk.now);
    desk.post(2, "b", "two").await;
    desk.state.on(Input::Arrived(true), desk.now);
    desk.now.mono += SLOT;
    assert!(desk.state.on(Input::Tick, desk.now).contains(&Action::AskArrived), "the second is on its way");
}

#[tokio::test]
async fn it_does_not_stop_before_what_it_told_has_arrived() {
    let mut desk = Desk::noting(false).await;
    desk.post(2, "a", "one").await;
    desk.state.on(Input::Arrived(false), desk.now);
    desk.now.mono += IDLE;
    let actions = desk.state.on(Input::Tick, desk.now);
    assert!(!actions.iter().any(|action| matches!(action, Action::Tell(_))), "{actions:?}");
    desk.take();
    desk.run(Input::Arrived(true)).await;
    assert_eq!(desk.take(), ["stop"]);
}

#[tokio::test]
async fn what_a_dead_node_noted_is_claimed_and_told_although_the_store_fails_at_first() {
    let mut desk = Desk::noting(false).await;
    desk.fail(Operation::Claim, Fault::Refuse);
    desk.run(Input::LookAfter).await;
    assert_eq!(desk.take(), [""; 0]);
    desk.wait(250).await;
    assert_eq!(desk.take_sorted(), ["head 1 to 1", "head 1 to 2", "head 1 to 3", "looked after"]);
    desk.jobs();
    desk.run(Input::LookAfter).await;
    assert_eq!((desk.jobs(), desk.take()), (vec!["verify"], vec!["looked after".to_owned()]), "its owner still");
}

#[tokio::test]
async fn who_believes_to_own_what_a_dead_node_has_owned_since_claims_it_and_tells() {
    let mut desk = Desk::noting(false).await;
    desk.post(2, "a", "one").await;
    desk.take();
    desk.store.log.claim(C, node(2), None).await.unwrap();
    desk.fail(Operation::ReadLog, Fault::Refuse);
    desk.run(Input::LookAfter).await;
    desk.wait(1_000).await;
    assert_eq!(desk.take(), [""; 0], "not before it has claimed");
    desk.wait(1_000).await;
    assert_eq!(desk.take_sorted(), ["head 2 to 1", "head 2 to 2", "head 2 to 3", "looked after"]);
}

#[tokio::test]
async fn a_conversation_that_is_never_idle_takes_the_debt_of_a_dead_node_over_under_its_own_note() {
    let mut desk = Desk::noting(false).await;
    desk.post(2, "a", "one").await;
    desk.now.mono += SLOT - Duration::from_secs(1);
    let asked = desk.put_all(Input::LookAfter);
    assert!(matches!(asked[..], [Job::Verify]), "{asked:?}");
    let input = desk.submission(2, "b", Change::Post(Body::Post(Post::default()).encode().into()));
    let busy = desk.put_all(input);
    assert!(matches!(busy[..], [Job::Append { .. }]), "{busy:?}");
    // not under a note that is over
    desk.now.mono += Duration::from_secs(1);
    let verified = ask(C, Job::Verify, NODE, &desk.store).await;
    let over = desk.state.on(Input::Store(verified), desk.now);
    assert!(over.contains(&Action::Store(Job::Note)) && !over.contains(&Action::LookedAfter), "{over:?}");
    let noted = desk.state.on(Input::Store(Answer::Noted(Ok(true))), desk.now);
    assert!(noted.contains(&Action::LookedAfter), "{noted:?}");
}

#[tokio::test]
async fn after_a_crash_what_may_be_untold_is_noted_although_nobody_posts() {
    let mut desk = Desk::noting(true).await;
    desk.fail(Operation::Claim, Fault::Refuse);
    desk.run(Input::Tick).await;
    assert!(desk.jobs().contains(&"note"));
}

impl Desk {
    /// Hands an input over; channels answer, the store's part is left to the test.
    pub(super) fn put_all(&mut self, input: Input) -> Vec<Job> {
        let (mut inputs, mut jobs) = (VecDeque::from([input]), Vec::new());
        while let Some(input) = inputs.pop_front() {
            for action in self.state.on(input, self.now) {
                match action {
                    Action::Store(job) => jobs.push(job),
                    Action::Tell(Telling::Channel(_, slice, mail)) => inputs.extend(self.presence(slice, mail)),
                    Action::Tell(Telling::Node(_, mail)) => self.hear(mail),
                    _ => {}
                }
            }
        }
        jobs
    }
}
