//! Who has left, and hears of it whatever dies: rows of `CLUSTER.md`, "Who is told".

use super::*;
use crate::{
    cluster::places::views::node,
    conversation::state::{clock::TICK, untold::DEPARTED_EVENTS_MAX},
};

impl Desk {
    /// Wishes something that nobody waits for; store and channels answer, and nothing that is told arrives. The ends of what
    /// was settled, by append.
    async fn untold(&mut self, by: u8, cid: &str, change: Change) -> Vec<u64> {
        let mut input = self.submission(by, cid, change);
        if let Input::Mail(ToConversation::Submit(submission)) = &mut input {
            submission.requester = None;
        }
        let (mut jobs, mut settled) = (VecDeque::from(self.put_all(input)), Vec::new());
        while let Some(job) = jobs.pop_front() {
            if let Job::Append { settled: end, .. } = &job {
                settled.push(end.0);
            }
            let answer = ask(C, job, self.state.me, &self.store).await;
            jobs.extend(self.put_all(Input::Store(answer)));
        }
        settled
    }

    async fn untold_post(&mut self, cid: &str) -> Vec<u64> {
        self.untold(2, cid, text(cid)).await
    }

    /// User 1 removes user 3, by the second event.
    async fn remove(&mut self) {
        self.untold(1, "r", Change::Remove(user(3))).await;
    }

    /// What it told so far arrives.
    fn arrives(&mut self) {
        self.put_all(Input::Arrived(true));
        self.now.mono += TICK;
        self.put_all(Input::Tick);
        self.put_all(Input::Arrived(true));
    }

    fn attach(&mut self, n: u8) -> Vec<String> {
        self.take();
        let at = self.connected[&user(n)];
        let input = self.watched(n, |watch, user, _| ToConversation::Attached { watch, user, at });
        self.put_all(input);
        self.take()
    }

    fn detach(&mut self, n: u8) {
        let at = self.connected[&user(n)];
        let input = self.watched(n, |watch, user, _| ToConversation::Detached { watch, user, at });
        self.put_all(input);
    }
}

fn text(text: &str) -> Change {
    Change::Post(Body::Post(Post { text: Some(text.into()), ..Post::default() }).encode().into())
}

const TOLD: [&str; 2] = ["head 2 to 3", "list - to 3"];

#[tokio::test]
async fn who_left_before_their_channel_answered_is_told_when_it_does() {
    let mut desk = Desk::group().await;
    desk.reborn(NODE, false);
    desk.silent = Some(Slice::of(user(3)));
    desk.wish(1, "r", Change::Remove(user(3))).await;
    desk.wait(1_000).await;
    desk.post(2, "a", "they are gone").await;
    desk.wait(1_000).await;
    let (slice, devices) = (Slice::of(user(3)), vec![(user(3), device(3))]);
    assert!(!desk.take().iter().any(|line| line.ends_with("to 3")));
    let answer = ToConversation::Watched { slice, watch: desk.watches[&slice], devices, complete: true };
    desk.run(Input::Mail(answer)).await;
    assert_eq!(desk.take(), TOLD, "and nothing of what came after");
    assert!(!desk.state.audience.has_departed());
}

#[tokio::test]
async fn a_socket_of_who_left_that_registers_again_is_told_until_all_is_known() {
    let mut desk = Desk::noting(false).await;
    desk.remove().await;
    assert_eq!(&desk.take()[3..], ["event 2 to 1,2,3 for -", "list - to 3"]);
    desk.detach(3);
    assert_eq!(desk.attach(3), TOLD);
    desk.untold_post("a").await;
    desk.detach(3);
    assert_eq!(desk.attach(3), TOLD, "not of what came after");
    desk.detach(3);
    desk.arrives();
    assert_eq!(desk.attach(3), TOLD, "it may have waited to be registered again");
    desk.put_all(Input::Complete(NODE));
    assert!(desk.state.audience.has_departed(), "what it was told may not have arrived");
    desk.arrives();
    assert!(!desk.state.audience.has_departed());
}

#[tokio::test]
async fn what_is_settled_ends_before_a_leaving_that_somebody_may_not_know() {
    let mut desk = Desk::noting(false).await;
    desk.remove().await;
    assert_eq!((desk.untold_post("a").await, desk.untold_post("b").await), (vec![1], vec![1]));
    desk.arrives();
    assert_eq!(desk.untold_post("c").await, [4]);
}

#[tokio::test]
async fn who_left_and_was_not_told_is_told_by_whoever_claims_next() {
    let mut desk = Desk::noting(false).await;
    desk.silent = Some(Slice::of(user(3)));
    desk.remove().await;
    desk.untold_post("a").await;
    desk.silent = None;
    for cid in ["b", "c"] {
        desk.begin_noting(false);
        desk.take();
        desk.untold_post(cid).await;
        let said = desk.take();
        assert!(TOLD.iter().all(|line| said.iter().any(|said| said == line)), "{said:?}");
        assert!(!said.iter().any(|line| line.starts_with("event") && line.contains(",3")), "G9: {said:?}");
    }
    // known everywhere now, and the next append says so
    desk.arrives();
    desk.untold_post("d").await;
    desk.begin_noting(false);
    desk.take();
    desk.untold_post("e").await;
    let said = desk.take();
    assert!(!said.iter().any(|line| line.ends_with("to 3")), "{said:?}");
}

#[tokio::test]
async fn on_a_node_alone_who_left_before_a_crash_is_told_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::empty();
    desk.store = Store::open_sqlite(dir.path()).unwrap();
    let members = vec![user(1), user(2), user(3)];
    desk.wish(1, "make", Change::Create { kind: Kind::Group, title: Some("g".into()), members }).await;
    desk.silent = Some(Slice::of(user(3)));
    desk.reborn(NODE, false);
    desk.remove().await;
    desk.untold_post("a").await;
    desk.silent = None;
    desk.take();
    desk.reborn(NODE, true);
    desk.run(Input::Tick).await;
    let said = desk.take();
    let told = ["head 2 to 3", "list - to 3"];
    assert!(told.iter().all(|line| said.iter().any(|said| said == line)), "{said:?}");
    assert_eq!(said.iter().filter(|line| line.ends_with("to 3")).count(), told.len(), "G9: {said:?}");
    // who is placed here again, or begins anew without a crash, has nothing to tell of it
    desk.reborn(NODE, false);
    desk.untold_post("b").await;
    assert!(!desk.take().iter().any(|line| line.ends_with("to 3")));
}

#[tokio::test]
async fn who_left_elsewhere_is_told_although_they_were_watched_here_as_a_member() {
    let mut desk = Desk::noting(false).await;
    desk.run(Input::Mail(ToConversation::Typing { by: user(1), on: true })).await;
    let Ok(Claimed::Claimed(tenancy)) = desk.store.log.claim(C, node(2), None).await else { panic!() };
    let remove = Event {
        seq: Seq(2),
        id: EventId([2; 16]),
        by: user(1),
        cid: None,
        request_hash: [0; 16],
        at: tenancy.head.at,
        post_no: 0,
        body: Body::Remove(protocol::event::Remove { user: user(3) }),
    };
    desk.store.log.append(C, tenancy.epoch, Seq(1), Seq(1), &[remove]).await.unwrap();
    desk.take();
    desk.untold_post("a").await;
    let said = desk.take();
    assert!(TOLD.iter().all(|line| said.iter().any(|said| said == line)), "{said:?}");
}

#[tokio::test]
async fn who_comes_back_has_not_left() {
    let mut desk = Desk::noting(false).await;
    desk.remove().await;
    desk.take();
    desk.untold(1, "j", Change::Join(vec![user(3)])).await;
    assert_eq!(desk.take(), ["head 3 to 3", "event 3 to 1,2,3 for -", "list + to 3"], "there may be a hole before it");
    desk.arrives();
    desk.untold_post("a").await;
    assert_eq!(desk.take(), ["event 4 to 1,2,3 for -"]);
    desk.begin_noting(false);
    desk.untold_post("b").await;
    let said = desk.take();
    assert!(said.contains(&"head 4 to 3".into()) && !said.contains(&"list - to 3".into()), "{said:?}");
}

#[tokio::test]
async fn who_left_is_watched_for_so_many_events_at_most() {
    let mut desk = Desk::noting(false).await;
    desk.remove().await;
    for (n, watched) in [(DEPARTED_EVENTS_MAX - 1, true), (2, false)] {
        let posts = (0..n).map(|i| desk.submission(2, &format!("{n}-{i}"), text("as ever"))).collect();
        desk.flood(posts).await;
        assert_eq!(desk.state.audience.has_departed(), watched);
    }
    assert!(desk.untold_post("the next").await[0] > 2, "and no longer keeps the rest from being settled");
}
