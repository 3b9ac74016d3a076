//! What two nodes compare, and what follows.

use super::*;
use crate::cluster::places::views::{node, places};

const C: ConversationId = ConversationId([7; 16]);

fn user(n: u8) -> UserId {
    UserId([n; 16])
}

/// Node 1 of a cluster of two, everything placed on 2.
fn told() -> Told {
    let mut told = Told::new(Places::alone(node(1)));
    told.moved(places(1, &[2], &[1]));
    told
}

/// A peer's digest, compared with what one channel here has of it.
fn compare(told: &mut Told, from: u8, claim: Digest, have: Tally) -> Compared {
    let round = told.compare(node(from), told.places.version(), claim, 1);
    told.counted(node(from), round, have);
    told.compared(node(from))
}

fn agreed() -> Digest {
    Digest { registered: true, ..Digest::default() }
}

#[test]
fn a_digest_counts_what_was_sent_and_not_what_was_taken_back() {
    let mut told = told();
    let nothing = told.digest(node(2));
    told.registered(node(2), user(1), ConnId(1));
    told.registered(node(2), user(1), ConnId(1));
    told.watched(node(2), C, Slice(1), WatchId(1));
    assert_eq!(told.digest(node(2)).count, 2, "a registration made again is the same");
    let before = told.digest(node(2));
    told.watched(node(2), C, Slice(1), WatchId(2));
    assert_eq!(told.digest(node(2)).count, 2, "a watch takes the place of the one before");
    assert_ne!(told.digest(node(2)).sum, before.sum);
    told.unwatched(C, Slice(1), WatchId(1));
    assert_eq!(told.digest(node(2)).count, 2, "that one is gone already");
    told.unwatched(C, Slice(1), WatchId(2));
    assert_eq!(told.unregistered(ConnId(1)), Some(node(2)));
    assert_eq!(told.digest(node(2)), nothing);
}

#[test]
fn one_difference_may_be_under_way_and_the_second_makes_everything_again() {
    let mut told = told();
    let other = Tally { count: 1, sum: 5 };
    assert_eq!(compare(&mut told, 2, agreed(), other), Compared::Noted);
    assert_eq!(compare(&mut told, 2, agreed(), Tally::default()), Compared::Noted);
    assert_eq!(compare(&mut told, 2, agreed(), other), Compared::Noted);
    assert_eq!(compare(&mut told, 2, agreed(), other), Compared::Rebuild);
}

#[test]
fn a_comparison_waits_for_every_channel_and_is_of_one_view() {
    let mut told = told();
    let round = told.compare(node(2), 1, agreed(), 2);
    told.counted(node(2), round, Tally::default());
    assert_eq!(told.compared(node(2)), Compared::NotYet);
    told.counted(node(2), round + 1, Tally::default());
    assert_eq!(told.compared(node(2)), Compared::NotYet, "an answer to another question");
    told.moved(places(2, &[2], &[1]));
    told.counted(node(2), round, Tally::default());
    assert_eq!(told.compared(node(2)), Compared::NotYet, "of a view that is no more");
    compare(&mut told, 1, agreed(), Tally::default());
    assert!(!told.is_complete());
}

#[test]
fn a_node_is_complete_once_all_have_agreed_and_until_the_view_changes_or_one_is_lost() {
    let mut told = told();
    assert!(!told.is_complete());
    compare(&mut told, 1, agreed(), Tally::default());
    assert!(!told.is_complete(), "one of two");
    let waits = Digest { registered: false, ..agreed() };
    compare(&mut told, 2, waits, Tally::default());
    assert!(!told.is_complete(), "a socket there waits to be registered here again");
    compare(&mut told, 2, agreed(), Tally::default());
    assert!(told.is_complete());
    told.forget(node(2));
    assert!(!told.is_complete());
    compare(&mut told, 2, agreed(), Tally::default());
    told.crashed();
    assert!(!told.is_complete(), "a channel has forgotten");
    compare(&mut told, 1, agreed(), Tally::default());
    compare(&mut told, 2, agreed(), Tally::default());
    assert!(told.is_complete());
    told.moved(places(2, &[2], &[1]));
    assert!(!told.is_complete());
}

#[test]
fn a_socket_that_was_known_withholds_agreement_until_it_is_registered_where_it_belongs() {
    let mut told = told();
    told.registered(node(2), user(1), ConnId(1));
    assert!(told.digest(node(2)).registered, "who was never confirmed was never told anything");
    told.confirmed(node(2), ConnId(1));
    told.forgotten(node(2), None);
    assert_eq!(told.digest(node(2)), Digest::default());
    told.registered(node(2), user(1), ConnId(1));
    assert!(told.digest(node(2)).registered);
    told.moved(places(2, &[3], &[1, 2]));
    assert!(!told.digest(node(3)).registered && told.digest(node(2)).registered);
    assert_eq!(told.digest(node(2)).count, 0);
    told.unregistered(ConnId(1));
    assert!(told.digest(node(3)).registered, "who is gone waits for nothing");
}

#[test]
fn who_is_curious_hears_once_and_only_by_the_same_view() {
    let mut told = told();
    told.ask_complete(node(2), C);
    assert_eq!(told.completed(node(2), 7), []);
    assert_eq!(told.completed(node(2), 1), [C]);
    assert_eq!(told.completed(node(2), 1), []);
}
