//! The owner of a log against the real model store, with one fault at a time.

mod answers;
mod departed;
mod placed;
mod untold;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use protocol::{
    Body, ConnId, Kind, Post, Role,
    limits::{BATCH_EVENTS_MAX, BUCKET_EVENTS},
    peer::{Address, Change, Done, Fanout, MarkRequest, Slice, ToPresence, WatchId},
};
use storage::{
    Store,
    memory::{
        Memory,
        faults::{Fault, Operation},
    },
};

use super::{clock::IDLE, *};
use crate::conversation::ask;

const C: ConversationId = ConversationId([7; 16]);
const NODE: Incarnation = Incarnation([1; 16]);

fn user(n: u8) -> UserId {
    UserId([n; 16])
}

fn device(n: u8) -> Address {
    Address { node: NODE, conn: ConnId(u64::from(n)) }
}

/// A node alone, whose conversation lives for the first time.
fn ground(me: Incarnation) -> Ground {
    Ground { me, names: 0, members_max: 100, noting: false, places: Places::alone(me) }
}

/// One fault for the next call of an operation.
type Plan = Arc<Mutex<Vec<(Operation, Fault)>>>;

/// A conversation, the store it speaks to, and everything it said.
struct Desk {
    state: State,
    store: Store,
    plan: Plan,
    now: Now,
    tags: u32,
    connected: HashMap<UserId, Address>,
    /// The last watch that each channel was asked for.
    watches: HashMap<Slice, WatchId>,
    /// This channel takes what it is told and answers nothing.
    silent: Option<Slice>,
    said: Vec<String>,
    jobs: Vec<&'static str>,
}

impl Desk {
    /// A conversation that nobody has begun.
    fn empty() -> Desk {
        let plan: Plan = Arc::default();
        let faults = plan.clone();
        let store = Memory::with_faults(move |operation| {
            let mut plan = faults.lock().unwrap();
            let at = plan.iter().position(|(planned, _)| *planned == operation)?;
            Some(plan.remove(at).1)
        });
        let now = Now { mono: Instant::now(), wall: protocol::Millis(1_000) };
        Desk {
            state: State::new(C, ground(NODE), false),
            store,
            plan,
            now,
            tags: 0,
            connected: (1..=4).map(|n| (user(n), device(n))).collect(),
            watches: HashMap::new(),
            silent: None,
            said: Vec::new(),
            jobs: Vec::new(),
        }
    }

    /// A group of users 1 (owner), 2 and 3, one device each.
    async fn group() -> Desk {
        let mut desk = Desk::empty();
        let members = vec![user(1), user(2), user(3)];
        desk.wish(1, "make", Change::Create { kind: Kind::Group, title: Some("g".into()), members }).await;
        desk.take();
        desk
    }

    fn fail(&self, operation: Operation, fault: Fault) {
        self.plan.lock().unwrap().push((operation, fault));
    }

    /// Begins again with nothing but the store, as after an idle stop or on another node.
    fn reborn(&mut self, node: Incarnation, restarted: bool) {
        self.state = State::new(C, ground(node), restarted);
    }

    async fn post(&mut self, by: u8, cid: &str, text: &str) {
        let body = Body::Post(Post { text: Some(text.into()), ..Post::default() });
        self.wish(by, cid, Change::Post(body.encode().into())).await;
    }

    async fn wish(&mut self, by: u8, cid: &str, change: Change) {
        let input = self.submission(by, cid, change);
        self.run(input).await;
    }

    fn submission(&mut self, by: u8, cid: &str, change: Change) -> Input {
        self.tags += 1;
        let mut request_hash = [0u8; 16];
        for (i, byte) in format!("{change:?}").bytes().enumerate() {
            request_hash[i % 16] = request_hash[i % 16].wrapping_mul(31) ^ byte;
        }
        Input::Mail(ToConversation::Submit(Submission {
            requester: Some(Requester { at: device(by), tag: self.tags }),
            by: user(by),
            cid: Some(cid.to_owned().try_into().unwrap()),
            base: None,
            request_hash,
            change,
        }))
    }

    /// Lets time pass and the conversation look at its clock.
    async fn wait(&mut self, ms: u64) {
        self.now.mono += Duration::from_millis(ms);
        self.now.wall.0 += ms;
        self.run(Input::Tick).await;
    }

    /// Hands an input over, and everything that follows from it, until nothing is left to do.
    async fn run(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for action in self.state.on(input, self.now) {
                match action {
                    Action::Store(job) => {
                        self.jobs.push(name(&job));
                        inputs.push_back(Input::Store(ask(C, job, self.state.me, &self.store).await));
                    }
                    Action::Tell(Telling::Channel(_, slice, mail)) => inputs.extend(self.presence(slice, mail)),
                    Action::Tell(Telling::Node(_, mail)) => self.hear(mail),
                    Action::StopIfIdle => self.said.push("stop".into()),
                    Action::Forward(_, mail) => self.said.push(format!("forward {mail:?}")),
                    Action::AskComplete(at) => inputs.push_back(Input::Complete(at)),
                    Action::AskArrived => inputs.push_back(Input::Arrived(true)),
                    Action::LookedAfter => self.said.push("looked after".into()),
                    Action::ReadView | Action::Flush | Action::FlushSoon | Action::WakeAt(_) => {}
                }
            }
        }
    }

    /// Hands over many inputs before the store answers anything, then lets it answer in order. Counts the appends.
    async fn flood(&mut self, inputs: Vec<Input>) -> usize {
        let mut held = VecDeque::new();
        let mut appends = 0;
        let jobs = |actions: Vec<Action>| {
            actions.into_iter().filter_map(|action| if let Action::Store(job) = action { Some(job) } else { None })
        };
        for input in inputs {
            held.extend(jobs(self.state.on(input, self.now)));
        }
        while let Some(job) = held.pop_front() {
            if let Job::Append { events, .. } = &job {
                appends += 1;
                assert!(events.len() <= BATCH_EVENTS_MAX);
                let bucket = |seq: Seq| seq.0 / BUCKET_EVENTS;
                assert_eq!(bucket(events[0].seq), bucket(events[events.len() - 1].seq), "crosses a bucket");
            }
            let answer = ask(C, job, NODE, &self.store).await;
            held.extend(jobs(self.state.on(Input::Store(answer), self.now)));
        }
        appends
    }

    fn presence(&mut self, slice: Slice, mail: ToPresence) -> Option<Input> {
        Some(Input::Mail(match mail {
            ToPresence::WatchMembers { watch, users, .. } => {
                self.watches.insert(slice, watch);
                if self.silent == Some(slice) {
                    return None;
                }
                let devices = users.iter().filter_map(|u| self.connected.get(u).map(|d| (*u, *d))).collect();
                ToConversation::Watched { slice, watch, devices, complete: true }
            }
            ToPresence::Unwatch(_, watch) => ToConversation::Unwatched { slice, watch },
            _ => return None,
        }))
    }

    /// What the channel of this user says of the watch it has.
    fn watched(&self, n: u8, what: impl Fn(WatchId, UserId, Address) -> ToConversation) -> Input {
        Input::Mail(what(self.watches[&Slice::of(user(n))], user(n), device(n)))
    }

    fn hear(&mut self, mail: ToConnections) {
        let line = match mail {
            ToConnections::Event(Fanout { seq, mut to, requester, .. }) => {
                to.sort();
                let to: Vec<_> = to.iter().map(|conn| conn.0.to_string()).collect();
                format!("event {seq} to {} for {}", to.join(","), requester.map_or("-".into(), |r| r.0.to_string()))
            }
            ToConnections::Answer(conn, _, Outcome::Done(Done::Stored { seq, dup, .. })) => {
                format!("{conn}: stored {seq}{}", if dup { " dup" } else { "" })
            }
            ToConnections::Answer(conn, _, Outcome::Done(_)) => format!("{conn}: unchanged"),
            ToConnections::Answer(conn, _, Outcome::Refused(r)) => format!("{conn}: {}", r.code.as_str()),
            ToConnections::Head { seq, to, .. } => format!("head {seq} to {}", to[0]),
            ToConnections::List { joined, to, .. } => format!("list {} to {}", if joined { "+" } else { "-" }, to[0]),
            ToConnections::Receipts { marks, .. } => format!("receipts of {} users", marks.len()),
            ToConnections::OwnRead { seq, .. } => format!("own read {seq}"),
            ToConnections::Typing { .. } => "typing".into(),
            ToConnections::Parted { .. } => return,
            other => panic!("a conversation never says {other:?}"),
        };
        self.said.push(line);
    }

    fn take(&mut self) -> Vec<String> {
        self.jobs.clear();
        std::mem::take(&mut self.said)
    }

    /// Where the order is free.
    fn take_sorted(&mut self) -> Vec<String> {
        let mut said = self.take();
        said.sort();
        said
    }

    async fn log(&self) -> Vec<(u64, Option<String>)> {
        let all = storage::log::Range {
            after: Seq(0),
            before: None,
            lane: storage::log::Lane::Both,
            limit: 10_000,
            newest: false,
        };
        let events = self.store.log.read(C, all).await.unwrap();
        events.into_iter().map(|e| (e.seq.0, e.cid.map(String::from))).collect()
    }
}

fn name(job: &Job) -> &'static str {
    match job {
        Job::Peek(_) => "peek",
        Job::Create(_) => "create",
        Job::Claim { .. } => "claim",
        Job::Load(..) => "load",
        Job::Find(..) => "find",
        Job::Append { .. } => "append",
        Job::Follow(_) => "follow",
        Job::Verify => "verify",
        Job::Mark(_) => "mark",
        Job::Note => "note",
    }
}

#[tokio::test]
async fn a_post_goes_to_everybody_and_answers_its_sender_in_place() {
    let mut desk = Desk::group().await;
    desk.post(2, "a", "hello").await;
    assert_eq!(desk.take(), ["event 2 to 1,2,3 for 2"]);
}

#[tokio::test]
async fn g1_nothing_is_told_before_the_store_said_applied() {
    let mut desk = Desk::group().await;
    let input = desk.submission(
        2,
        "a",
        Change::Post(Body::Post(Post { text: Some("x".into()), ..Post::default() }).encode().into()),
    );
    let actions = desk.state.on(input, desk.now);
    let told = actions.iter().any(|action| matches!(action, Action::Tell(_)));
    assert!(!told, "told before it was stored: {actions:?}");
}

#[tokio::test]
async fn g5_the_same_client_id_gets_the_same_seq_also_from_a_cold_owner() {
    let mut desk = Desk::group().await;
    desk.post(2, "a", "hello").await;
    desk.take();
    desk.post(2, "a", "hello").await;
    assert_eq!(desk.take(), ["2: stored 2 dup"]);
    desk.reborn(NODE, false);
    desk.post(2, "a", "hello").await;
    assert!(desk.take().contains(&"2: stored 2 dup".into()));
    desk.post(2, "a", "goodbye").await;
    assert_eq!(desk.take(), ["2: conflict"]);
    desk.post(3, "a", "another's id").await;
    assert_eq!(desk.take(), ["event 3 to 1,2,3 for 3"]);
}

#[tokio::test]
async fn g6_an_unknown_append_that_was_applied_is_answered_once() {
    let mut desk = Desk::group().await;
    desk.fail(Operation::Append, Fault::UnknownApplied);
    desk.post(2, "a", "hello").await;
    assert!(desk.jobs.contains(&"claim"), "claims again: {:?}", desk.jobs);
    assert_eq!(desk.take(), ["event 2 to 1,2,3 for 2"]);
    assert_eq!(desk.log().await.len(), 2);
}

#[tokio::test]
async fn g6_an_unknown_append_that_was_not_applied_is_judged_again() {
    let mut desk = Desk::group().await;
    desk.fail(Operation::Append, Fault::UnknownNotApplied);
    desk.post(2, "a", "hello").await;
    assert_eq!(desk.take(), ["event 2 to 1,2,3 for 2"]);
    assert_eq!(desk.log().await, [(1, Some("make".into())), (2, Some("a".into()))]);
}

#[tokio::test]
async fn g6_who_waits_on_an_unknown_append_hears_timeout_never_unavailable() {
    let mut desk = Desk::group().await;
    desk.fail(Operation::Append, Fault::UnknownNotApplied);
    for _ in 0..64 {
        desk.fail(Operation::Claim, Fault::Refuse);
    }
    desk.post(2, "a", "hello").await;
    desk.post(3, "b", "later").await;
    for _ in 0..12 {
        desk.wait(250).await;
    }
    let said = desk.take();
    assert!(said.contains(&"2: timeout".into()), "{said:?}");
    assert!(said.contains(&"3: unavailable".into()), "{said:?}");
    assert!(!said.contains(&"2: unavailable".into()), "{said:?}");
}

#[tokio::test]
async fn a_refused_append_is_answered_unavailable_and_the_next_one_works() {
    let mut desk = Desk::group().await;
    desk.fail(Operation::Append, Fault::Refuse);
    desk.post(2, "a", "hello").await;
    assert_eq!(desk.take(), ["2: unavailable"]);
    desk.wait(250).await;
    desk.post(2, "a", "hello").await;
    assert_eq!(desk.take(), ["event 2 to 1,2,3 for 2"]);
}

#[tokio::test]
async fn g9_the_removed_are_told_of_it_and_of_nothing_after() {
    let mut desk = Desk::group().await;
    desk.wish(1, "r", Change::Remove(user(3))).await;
    assert_eq!(desk.take(), ["event 2 to 1,2,3 for 1", "list - to 3"]);
    desk.post(3, "a", "still here?").await;
    assert!(desk.jobs.contains(&"verify"), "a refusal for good is verified: {:?}", desk.jobs);
    assert_eq!(desk.take(), ["3: not_found"]);
    desk.post(2, "b", "gone").await;
    assert_eq!(desk.take(), ["event 3 to 1,2 for 2"]);
}

#[tokio::test]
async fn g9_member_rows_are_written_before_a_membership_event_is_told() {
    let mut desk = Desk::group().await;
    desk.fail(Operation::Follow, Fault::Refuse);
    desk.wish(1, "j", Change::Join(vec![user(4)])).await;
    assert_eq!(desk.take(), [""; 0], "told before its rows");
    desk.post(2, "a", "too early").await;
    assert_eq!(desk.log().await.len(), 2, "an append before the member rows");
    desk.wait(250).await;
    let said = desk.take();
    assert_eq!(said, ["event 2 to 1,2,3,4 for 1", "list + to 4", "event 3 to 1,2,3,4 for 2"]);
}

#[tokio::test]
async fn who_reads_a_title_after_its_change_was_answered_reads_that_one() {
    let mut desk = Desk::group().await;
    desk.fail(Operation::Follow, Fault::Refuse);
    desk.wish(1, "t", Change::Title("New".into())).await;
    assert_eq!(desk.take(), [""; 0], "answered before its row");
    desk.wait(250).await;
    assert_eq!(desk.take(), ["event 2 to 1,2,3 for 1"]);
}

#[tokio::test]
async fn a_backlog_of_rows_is_written_in_runs_before_anything_is_appended() {
    let mut desk = Desk::group().await;
    for batch in 0..5 {
        let post = |i| Event {
            seq: Seq(2 + i),
            id: EventId([i as u8; 16]),
            by: user(2),
            cid: None,
            request_hash: [0; 16],
            at: protocol::Millis(2_000),
            post_no: 1 + i,
            body: Body::Post(Post { text: Some("x".into()), ..Post::default() }),
        };
        let posts: Vec<Event> = (batch * 64..(batch + 1) * 64).map(post).collect();
        desk.store.log.append(C, Epoch(1), Seq(1 + batch * 64), Seq(1), &posts).await.unwrap();
    }
    desk.reborn(NODE, false);
    desk.post(2, "a", "after them").await;
    assert_eq!(desk.jobs, ["peek", "claim", "find", "follow", "follow", "load", "append", "follow"]);
    assert_eq!(desk.log().await.len(), 322);
}

#[tokio::test]
async fn g5_a_client_that_lies_about_its_base_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::group().await;
    desk.store = Store::open_sqlite(dir.path()).unwrap();
    desk.reborn(NODE, false);
    let members = vec![user(1), user(2), user(3)];
    desk.wish(1, "make", Change::Create { kind: Kind::Group, title: Some("g".into()), members }).await;
    desk.post(2, "a", "hello").await;
    desk.reborn(NODE, false);
    desk.post(3, "makes it", "ready").await;
    desk.take();
    let text =
        |text: &str| Change::Post(Body::Post(Post { text: Some(text.into()), ..Post::default() }).encode().into());
    let mut lie = desk.submission(2, "a", text("hello"));
    if let Input::Mail(ToConversation::Submit(submission)) = &mut lie {
        submission.base = Some(Seq(1_000));
    }
    let honest = desk.submission(3, "b", text("mine"));
    let mut actions = desk.state.on(lie, desk.now);
    actions.extend(desk.state.on(honest, desk.now));
    for action in actions {
        if let Action::Store(job) = action {
            let answer = ask(C, job, NODE, &desk.store).await;
            desk.run(Input::Store(answer)).await;
        }
    }
    let said = desk.take();
    assert!(said.contains(&"2: stored 2 dup".into()), "{said:?}");
    assert!(said.contains(&"event 4 to 1,2,3 for 3".into()), "{said:?}");
}

#[tokio::test]
async fn g5_an_old_miss_of_the_index_proves_nothing_once_the_tail_was_trimmed() {
    let mut desk = Desk::group().await;
    desk.reborn(NODE, false);
    desk.post(2, "first", "makes it ready").await;
    let post = |n: &str| Change::Post(Body::Post(Post { text: Some(n.into()), ..Post::default() }).encode().into());
    // the same id twice, far apart, all waiting before the store answers anything
    let mut inputs = vec![desk.submission(2, "twin", post("twin"))];
    inputs.extend((0..2_000).map(|n| desk.submission(3, &format!("m{n}"), post("x"))));
    inputs.push(desk.submission(2, "twin", post("twin")));
    desk.flood(inputs).await;
    let twins = desk.log().await.iter().filter(|(_, cid)| cid.as_deref() == Some("twin")).count();
    assert_eq!(twins, 1);
}

#[tokio::test]
async fn dedupe_comes_before_refusal() {
    let mut desk = Desk::group().await;
    desk.post(3, "a", "hello").await;
    desk.wish(1, "r", Change::Remove(user(3))).await;
    desk.take();
    desk.reborn(NODE, false);
    desk.post(3, "a", "hello").await;
    assert!(desk.take().contains(&"3: stored 2 dup".into()));
}

#[tokio::test]
async fn who_never_was_a_member_is_refused_without_a_claim() {
    let mut desk = Desk::group().await;
    desk.reborn(NODE, false);
    desk.post(9, "a", "hello").await;
    assert_eq!(desk.jobs, ["peek"]);
    assert_eq!(desk.take(), ["9: not_found"]);
}

#[tokio::test]
async fn a_deposed_owner_commits_nothing_and_sends_its_callers_on() {
    let mut desk = Desk::group().await;
    let other = Incarnation([2; 16]);
    desk.store.log.claim(C, other, None).await.unwrap();
    desk.post(2, "a", "hello").await;
    assert_eq!(desk.take(), ["2: moved"]);
    assert_eq!(desk.log().await.len(), 1);
}

#[tokio::test]
async fn who_lost_a_log_claims_it_back_after_a_moment_and_after_ever_longer_ones() {
    let mut desk = Desk::group().await;
    let other = Incarnation([2; 16]);
    for (nth, pause_ms) in [100, 200, 400, 800, 1_600, 2_000, 2_000].into_iter().enumerate() {
        desk.store.log.claim(C, other, None).await.unwrap();
        desk.post(2, &format!("lost {nth}"), "hello").await;
        desk.wait(pause_ms - 1).await;
        desk.fail(Operation::Append, Fault::Refuse);
        desk.post(2, &format!("refused {nth}"), "hello").await;
        assert_eq!(desk.store.log.standing(C).await.unwrap().unwrap().owner, other, "before {pause_ms} ms");
        desk.wait(1).await;
        assert_ne!(desk.store.log.standing(C).await.unwrap().unwrap().owner, other, "after {pause_ms} ms");
        desk.wait(1_000).await;
    }
    desk.post(2, "stored", "hello").await;
    desk.store.log.claim(C, other, None).await.unwrap();
    desk.post(2, "lost", "hello").await;
    desk.wait(100).await;
    desk.post(2, "stored again", "hello").await;
    assert_eq!(desk.log().await.len(), 3, "what it stored makes it begin with the shortest pause again");
}

#[tokio::test]
async fn a_refusal_by_a_deposed_owner_is_not_given() {
    let mut desk = Desk::group().await;
    desk.wish(1, "r", Change::Remove(user(3))).await;
    desk.take();
    desk.store.log.claim(C, Incarnation([2; 16]), None).await.unwrap();
    desk.post(3, "a", "perhaps I am back").await;
    assert_eq!(desk.take(), ["3: moved"]);
}

#[tokio::test]
async fn g7_the_answer_to_a_socket_not_yet_known_comes_after_the_head_of_what_it_missed() {
    let mut desk = Desk::group().await;
    desk.post(2, "a", "hello").await;
    let gone = desk.watched(3, |watch, user, at| ToConversation::Detached { watch, user, at });
    desk.run(gone).await;
    desk.take();
    desk.post(2, "b", "are you there?").await;
    desk.post(3, "c", "just back").await;
    assert_eq!(desk.take(), ["event 3 to 1,2 for 2", "head 3 to 3", "event 4 to 1,2,3 for 3"]);
}

#[tokio::test]
async fn a_crashed_owner_claims_and_every_device_learns_the_head() {
    let mut desk = Desk::group().await;
    desk.post(2, "a", "hello").await;
    desk.take();
    desk.reborn(NODE, true);
    desk.run(Input::Tick).await;
    assert_eq!(desk.take_sorted(), ["head 2 to 1", "head 2 to 2", "head 2 to 3"]);
}

#[tokio::test]
async fn a_crashed_owner_tells_although_the_members_could_not_be_read_at_first() {
    let mut desk = Desk::group().await;
    desk.post(2, "a", "hello").await;
    desk.take();
    desk.reborn(NODE, true);
    desk.fail(Operation::ReadDirectory, Fault::Refuse);
    desk.run(Input::Tick).await;
    assert_eq!(desk.take(), [""; 0]);
    desk.wait(1_000).await;
    assert_eq!(desk.take_sorted(), ["head 2 to 1", "head 2 to 2", "head 2 to 3"]);
}

#[tokio::test]
async fn a_repeated_create_makes_one_conversation() {
    let mut desk = Desk::group().await;
    let members = vec![user(1), user(2), user(3)];
    let again = Change::Create { kind: Kind::Group, title: Some("g".into()), members };
    desk.reborn(NODE, false);
    desk.wish(1, "make", again.clone()).await;
    assert!(desk.take().contains(&"1: stored 1 dup".into()));
    desk.reborn(NODE, false);
    desk.wish(1, "make", Change::Create { kind: Kind::Channel, title: None, members: vec![user(1)] }).await;
    assert!(desk.take().contains(&"1: conflict".into()));
}

#[tokio::test]
async fn an_unknown_create_is_repeated_as_it_is() {
    let mut desk = Desk::group().await;
    desk.store = Memory::with_faults({
        let mut first = true;
        move |operation| (operation == Operation::Create && std::mem::take(&mut first)).then_some(Fault::UnknownApplied)
    });
    desk.reborn(NODE, false);
    let members = vec![user(1), user(2)];
    desk.wish(1, "make", Change::Create { kind: Kind::Group, title: Some("g".into()), members }).await;
    desk.wait(250).await;
    desk.wait(250).await;
    assert_eq!(desk.log().await.len(), 1);
    assert!(desk.take().contains(&"1: stored 1 dup".into()));
}

#[tokio::test]
async fn g3_posts_that_wait_form_batches_that_cross_no_bucket() {
    let mut desk = Desk::group().await;
    let mut appends = 0;
    for flood in (0..4_500).step_by(900) {
        let mut inputs = Vec::new();
        for n in flood..flood + 900 {
            let body = Body::Post(Post { text: Some(n.to_string()), ..Post::default() });
            inputs.push(desk.submission(2, &format!("m{n}"), Change::Post(body.encode().into())));
        }
        appends += desk.flood(inputs).await;
    }
    let log = desk.log().await;
    assert_eq!(log.len(), 4_501);
    assert!(log.iter().enumerate().all(|(i, (seq, _))| *seq == i as u64 + 1), "gapless");
    // the first and the last of a flood are short, and the one before the bucket's end
    assert!(appends <= 4_501 / 64 + 2 * 5 + 1, "group commit: {appends} appends");
}

#[tokio::test]
async fn g11_marks_are_stored_before_they_are_told_and_never_exceed_the_head() {
    let mut desk = Desk::group().await;
    desk.post(1, "a", "hello").await;
    desk.take();
    let mark = |seq, tag| {
        let requester = Some(Requester { at: device(2), tag });
        Input::Mail(ToConversation::Mark(MarkRequest { requester, by: user(2), read: true, seq: Seq(seq) }))
    };
    desk.run(mark(2, 100)).await;
    assert_eq!(desk.take(), ["2: unchanged", "receipts of 1 users"]);
    desk.run(mark(1, 101)).await;
    assert_eq!(desk.take(), ["2: unchanged"], "lower than now: nothing changes");
    desk.run(mark(3, 102)).await;
    assert_eq!(desk.take(), ["2: bad_field"]);
    desk.fail(Operation::Mark, Fault::Refuse);
    desk.post(1, "b", "more").await;
    desk.take();
    desk.run(mark(3, 103)).await;
    assert_eq!(desk.take(), ["2: unavailable"]);
}

#[tokio::test]
async fn typing_and_marks_never_claim() {
    let mut desk = Desk::group().await;
    desk.reborn(NODE, false);
    desk.run(Input::Mail(ToConversation::Typing { by: user(1), on: true })).await;
    desk.run(Input::Mail(ToConversation::Typing { by: user(1), on: false })).await;
    assert!(!desk.jobs.contains(&"claim"), "{:?}", desk.jobs);
    assert!(desk.take().contains(&"typing".into()));
}

#[tokio::test]
async fn the_last_owner_who_leaves_hands_over() {
    let mut desk = Desk::group().await;
    desk.wish(1, "x", Change::Role(user(3), Role::Admin)).await;
    desk.wish(1, "l", Change::Leave).await;
    desk.take();
    desk.wish(3, "t", Change::Title("mine now".into())).await;
    desk.wish(3, "o", Change::Role(user(2), Role::Admin)).await;
    assert_eq!(desk.take(), ["event 4 to 2,3 for 3", "event 5 to 2,3 for 3"]);
}

#[tokio::test]
async fn it_stops_when_idle_and_begins_again_if_mail_came_meanwhile() {
    let mut desk = Desk::group().await;
    desk.wait(u64::try_from(IDLE.as_millis()).unwrap()).await;
    assert_eq!(desk.take(), ["stop"]);
    desk.post(2, "a", "wait").await;
    assert_eq!(desk.take().last().unwrap(), "event 2 to 1,2,3 for 2");
}

#[tokio::test]
async fn time_never_goes_back_within_a_log() {
    let mut desk = Desk::group().await;
    desk.post(2, "a", "now").await;
    desk.now.wall.0 -= 900;
    desk.post(2, "b", "earlier?").await;
    let all =
        storage::log::Range { after: Seq(0), before: None, lane: storage::log::Lane::Both, limit: 10, newest: false };
    let events = desk.store.log.read(C, all).await.unwrap();
    assert!(events.is_sorted_by_key(|event| event.at));
}
