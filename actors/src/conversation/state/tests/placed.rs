//! What an owner does when views change and watches are lost, late or dropped: rows of `CLUSTER.md`, "Who is told".

use super::*;
use crate::{
    cluster::places::views::{node, places},
    conversation::state::{clock::WATCH_PATIENCE, placed::ENDING_PATIENCE},
};

fn text(text: &str) -> Change {
    Change::Post(Body::Post(Post { text: Some(text.into()), ..Post::default() }).encode().into())
}

/// Of the same slice as user 1.
fn neighbour() -> UserId {
    UserId([5, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9])
}

impl Desk {
    /// A group on node 1 of a cluster with node 2; all channels answer.
    async fn placed() -> Desk {
        let mut desk = Desk::group().await;
        desk.run(Input::Placed(places(1, &[1], &[2]))).await;
        desk.take();
        desk
    }

    /// Hands an input over; channels stay silent. What it asks of the store, and of channels.
    fn silent(&mut self, input: Input) -> (Vec<Job>, Vec<(Incarnation, Slice, ToPresence)>) {
        let (mut jobs, mut asked) = (Vec::new(), Vec::new());
        for action in self.state.on(input, self.now) {
            match action {
                Action::Store(job) => jobs.push(job),
                Action::Tell(Telling::Channel(at, slice, mail)) => asked.push((at, slice, mail)),
                Action::Tell(Telling::Node(_, mail)) => self.hear(mail),
                Action::Forward(to, ToConversation::Submit(what)) => {
                    self.said.push(format!("forward {} to {}", what.cid.unwrap().as_str(), to.0[0]));
                }
                Action::StopIfIdle => self.said.push("stop".into()),
                Action::AskComplete(at) => self.said.push(format!("is {} complete?", at.0[0])),
                _ => {}
            }
        }
        (jobs, asked)
    }

    fn idle(&mut self) -> (Vec<Job>, Vec<(Incarnation, Slice, ToPresence)>) {
        self.now.mono += IDLE;
        self.silent(Input::Tick)
    }
}

fn watch_of(mail: &ToPresence) -> WatchId {
    match mail {
        ToPresence::WatchMembers { watch, .. } | ToPresence::Unwatch(_, watch) => *watch,
        other => panic!("{other:?}"),
    }
}

fn unwatched((_, slice, mail): &(Incarnation, Slice, ToPresence)) -> Input {
    Input::Mail(ToConversation::Unwatched { slice: *slice, watch: watch_of(mail) })
}

#[tokio::test]
async fn an_answer_to_an_earlier_watch_says_nothing_of_who_was_added_since() {
    let mut desk = Desk::group().await;
    let slice = Slice::of(user(1));
    assert_eq!(slice, Slice::of(neighbour()));
    let earlier = desk.watches[&slice];
    let join = desk.submission(1, "j", Change::Join(vec![neighbour()]));
    let mut jobs = VecDeque::from(desk.silent(join).0);
    let mut asked = Vec::new();
    while let Some(job) = jobs.pop_front() {
        let answer = ask(C, job, NODE, &desk.store).await;
        let (more, watches) = desk.silent(Input::Store(answer));
        jobs.extend(more);
        asked.extend(watches);
    }
    let [(_, _, watch)] = &asked[..] else { panic!("{asked:?}") };
    let answered = |watch, devices| ToConversation::Watched { slice, watch, devices, complete: true };
    desk.silent(Input::Mail(answered(earlier, vec![(user(1), device(1))])));
    assert_eq!(desk.take(), [""; 0], "it is not known where the new member is");
    let devices = vec![(user(1), device(1)), (neighbour(), device(8))];
    desk.silent(Input::Mail(answered(watch_of(watch), devices)));
    assert_eq!(desk.take(), ["event 2 to 1,2,3,8 for 1", "list + to 8"]);
    let late = ToConversation::Detached { watch: earlier, user: user(1), at: device(1) };
    desk.silent(Input::Mail(late));
    desk.post(2, "a", "still there").await;
    assert_eq!(desk.take(), ["event 3 to 1,2,3,8 for 2"], "nor does what comes late end anything");
}

#[tokio::test]
async fn what_is_kept_elsewhere_now_is_watched_there_and_known_devices_go_on_being_told() {
    let mut desk = Desk::placed().await;
    let (_, asked) = desk.silent(Input::Placed(places(2, &[2], &[1])));
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|(at, _, mail)| *at == node(2) && matches!(mail, ToPresence::WatchMembers { .. })));
    desk.silent(Input::Placed(places(3, &[1], &[2])));
    let post = desk.submission(2, "a", text("in between"));
    let job = desk.silent(post).0.remove(0);
    let answer = ask(C, job, NODE, &desk.store).await;
    desk.silent(Input::Store(answer));
    assert_eq!(desk.take(), ["event 2 to 1,2,3 for 2"], "whoever came meanwhile gets the head when it is answered");
}

#[tokio::test]
async fn a_watch_that_nobody_answers_is_asked_for_again_under_the_same_name() {
    let mut desk = Desk::placed().await;
    let (_, asked) = desk.silent(Input::Forgotten(NODE, Some(Slice::of(user(2)))));
    desk.now.mono += WATCH_PATIENCE;
    let (_, again) = desk.silent(Input::Tick);
    assert_eq!((asked.len(), &asked), (1, &again));
}

#[tokio::test]
async fn a_moved_conversation_sends_on_what_waits_and_tells_what_it_has_begun() {
    let mut desk = Desk::placed().await;
    let first = desk.submission(2, "under way", text("one"));
    let append = desk.silent(first).0.remove(0);
    let second = desk.submission(3, "waits", text("two"));
    desk.silent(second);
    desk.run(Input::Placed(places(2, &[2], &[1]))).await;
    let forwarded = desk.take();
    assert!(forwarded.len() == 1 && forwarded[0].contains("\"waits\""), "{forwarded:?}");
    let third = desk.submission(3, "comes", text("three"));
    desk.silent(third);
    assert_eq!(desk.take(), ["forward comes to 2"]);
    let answer = ask(C, append, NODE, &desk.store).await;
    desk.run(Input::Store(answer)).await;
    assert_eq!(desk.take(), ["event 2 to 1,2,3 for 2", "stop"], "told, settled, its watches ended");
}

#[tokio::test]
async fn g6_what_was_sent_on_once_is_refused_as_moved() {
    let mut desk = Desk::placed().await;
    desk.run(Input::Placed(places(2, &[2], &[1]))).await;
    desk.take();
    let Input::Mail(mail) = desk.submission(2, "a", text("who owns this?")) else { panic!() };
    desk.silent(Input::Forwarded(mail));
    assert_eq!(desk.take()[0], "2: moved");
    assert_eq!(desk.log().await.len(), 1);
}

#[tokio::test]
async fn g1_an_unknown_append_of_a_moved_conversation_is_found_out_before_it_goes() {
    let mut desk = Desk::placed().await;
    let input = desk.submission(2, "a", text("hello"));
    let append = desk.silent(input).0.remove(0);
    desk.run(Input::Placed(places(2, &[2], &[1]))).await;
    ask(C, append, NODE, &desk.store).await;
    let unknown = storage::Error::Unknown("lost on the way".into());
    desk.run(Input::Store(Answer::Appended(Err(unknown)))).await;
    assert!(desk.jobs.contains(&"claim"));
    assert_eq!(desk.take(), ["event 2 to 1,2,3 for 2", "stop"]);
}

#[tokio::test]
async fn it_does_not_stop_while_a_socket_may_wait_to_be_registered_again() {
    let mut desk = Desk::placed().await;
    let gone = desk.watched(3, |watch, user, at| ToConversation::Detached { watch, user, at });
    desk.silent(gone);
    let (_, asked) = desk.idle();
    assert_eq!((desk.take(), asked), (vec!["is 1 complete?".to_owned()], Vec::new()));
    let (_, asked) = desk.silent(Input::Complete(node(2)));
    assert_eq!(asked, [], "another node's word");
    desk.take();
    let (_, asked) = desk.silent(Input::Complete(node(1)));
    assert_eq!(asked.len(), 3, "its watches are being ended");
    assert_eq!(desk.take(), [""; 0]);
}

#[tokio::test]
async fn alone_it_stops_although_a_socket_has_gone() {
    let mut desk = Desk::group().await;
    let gone = desk.watched(3, |watch, user, at| ToConversation::Detached { watch, user, at });
    desk.silent(gone);
    let (_, asked) = desk.idle();
    assert_eq!((desk.take(), asked.len()), (Vec::<String>::new(), 3), "its watches are being ended");
}

#[tokio::test]
async fn it_stops_once_all_its_watches_have_ended_and_tells_who_comes_before() {
    let mut desk = Desk::placed().await;
    desk.post(2, "a", "hello").await;
    desk.take();
    let (_, asked) = desk.idle();
    assert_eq!((desk.take(), asked.len()), (Vec::<String>::new(), 3));
    let user3 = asked.iter().position(|(_, slice, _)| *slice == Slice::of(user(3))).unwrap();
    let attached = ToConversation::Attached { watch: watch_of(&asked[user3].2), user: user(3), at: device(9) };
    desk.silent(Input::Mail(attached));
    assert_eq!(desk.take(), ["head 2 to 9"]);
    for one in &asked {
        assert_eq!(desk.take(), [""; 0]);
        desk.silent(unwatched(one));
    }
    assert_eq!(desk.take(), ["stop"]);
}

#[tokio::test]
async fn a_watch_that_was_dropped_meanwhile_keeps_it_from_stopping() {
    let mut desk = Desk::placed().await;
    let (_, asked) = desk.idle();
    desk.silent(unwatched(&asked[0]));
    let (_, slice, mail) = &asked[1];
    let dropped = ToConversation::Dropped { slice: *slice, watch: watch_of(mail) };
    let (_, again) = desk.silent(Input::Mail(dropped));
    let watches = again.iter().filter(|(_, _, mail)| matches!(mail, ToPresence::WatchMembers { .. }));
    assert_eq!(watches.count(), 3, "all are made again: {again:?}");
    desk.silent(unwatched(&asked[2]));
    assert_eq!(desk.take(), [""; 0]);
}

#[tokio::test]
async fn an_end_that_is_not_answered_is_tried_again_from_the_beginning() {
    let mut desk = Desk::placed().await;
    let (_, asked) = desk.idle();
    desk.silent(unwatched(&asked[0]));
    desk.now.mono += ENDING_PATIENCE;
    let (_, again) = desk.silent(Input::Tick);
    assert_eq!(again.len(), 3);
    assert!(again.iter().all(|(_, _, mail)| matches!(mail, ToPresence::WatchMembers { .. })), "{again:?}");
    for (_, slice, mail) in again {
        let input = desk.presence(slice, mail).unwrap();
        desk.run(input).await;
    }
    desk.wait(250).await;
    assert_eq!(desk.take(), ["stop"]);
}

#[tokio::test]
async fn mail_that_comes_while_it_is_stopping_makes_it_watch_again() {
    let mut desk = Desk::placed().await;
    desk.idle();
    desk.post(2, "a", "wait").await;
    assert_eq!(desk.take(), ["event 2 to 1,2,3 for 2"]);
    desk.wait(250).await;
    assert_eq!(desk.take(), [""; 0]);
}
