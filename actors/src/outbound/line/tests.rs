//! Requests that are asked again.

use protocol::{
    Code, Incarnation,
    peer::{Change, MarkRequest, Submission},
};

use super::*;

const C: ConversationId = ConversationId([7; 16]);
const OTHER: ConversationId = ConversationId([8; 16]);

fn node(n: u8) -> Incarnation {
    Incarnation([n; 16])
}

fn fresh() -> Line {
    Line::new(Bounds { soft_bytes: 1 << 20, hard_bytes: 1 << 20, inflight: 8 })
}

fn line(owner: Option<Incarnation>) -> Line {
    let mut line = fresh();
    for id in [2, 1] {
        line.begin(id, "read", Instant::now(), Instant::now()).unwrap();
        let mark = MarkRequest { requester: None, by: UserId([1; 16]), read: true, seq: Seq(u64::from(id)) };
        line.keep(id, owner, C, &ToConversation::Mark(mark));
    }
    line
}

/// Says a post; true if it goes at once.
fn says(line: &mut Line, id: u32, owner: u8, c: ConversationId) -> bool {
    line.begin(id, "send", Instant::now(), Instant::now()).unwrap();
    let (change, request_hash) = (Change::Post(Bytes::new()), [0; 16]);
    let post = Submission {
        requester: None,
        by: UserId([1; 16]),
        cid: None,
        base: Some(Seq(u64::from(id))),
        request_hash,
        change,
    };
    line.keep(id, Some(node(owner)), c, &ToConversation::Submit(post))
}

/// The requests that go, by their number, and where to.
fn again(line: &mut Line, lost: Option<Incarnation>, owner: Option<Incarnation>) -> Vec<(u64, u8)> {
    short(line.ask_again(lost, |_| owner).asks)
}

fn short(asks: Vec<(Incarnation, ConversationId, ToConversation)>) -> Vec<(u64, u8)> {
    let number = |mail| match mail {
        ToConversation::Mark(mark) => mark.seq.0,
        ToConversation::Submit(Submission { base: Some(number), .. }) => number.0,
        other => panic!("{other:?}"),
    };
    asks.into_iter().map(|(to, _, mail)| (number(mail), to.0[0])).collect()
}

/// What is said to a refusal; none: it is asked again.
fn said(line: &mut Line, id: u32, code: Code) -> Option<Code> {
    line.refused(id, Error::new(code, "no")).map(|error| error.code)
}

fn sent(seq: u64) -> Sent {
    Sent { seq: Seq(seq), post_no: seq, at: protocol::Millis(1), dup: false }
}

#[test]
fn what_is_unanswered_goes_to_the_new_owner_once_and_in_the_order_it_was_said() {
    let mut line = line(Some(node(1)));
    assert_eq!(again(&mut line, None, Some(node(1))), []);
    assert_eq!(again(&mut line, None, Some(node(2))), [(2, 2), (1, 2)]);
    assert_eq!(again(&mut line, None, Some(node(2))), []);
    line.answer(2, Bytes::new(), Instant::now());
    assert_eq!(again(&mut line, None, Some(node(3))), [(1, 3)]);
}

#[test]
fn a_lost_link_makes_only_what_went_there_go_again() {
    let mut line = line(Some(node(1)));
    assert_eq!(again(&mut line, Some(node(2)), Some(node(1))), []);
    assert_eq!(again(&mut line, Some(node(1)), Some(node(1))), [(2, 1), (1, 1)]);
}

#[test]
fn without_an_owner_a_request_waits_for_one() {
    let mut line = line(None);
    assert_eq!(again(&mut line, None, None), []);
    assert_eq!(again(&mut line, None, Some(node(2))), [(2, 2), (1, 2)]);
    assert_eq!(said(&mut line, 1, Code::Forbidden), Some(Code::Forbidden), "nobody else had it");
}

#[test]
fn g6_a_refusal_of_what_an_earlier_owner_may_have_taken_is_not_definite() {
    let mut line = line(Some(node(1)));
    assert_eq!(said(&mut line, 1, Code::Moved), None, "not taken, definitely");
    assert_eq!(again(&mut line, None, Some(node(1))), [(1, 1)]);
    assert_eq!(said(&mut line, 1, Code::Unavailable), Some(Code::Unavailable));
    again(&mut line, None, Some(node(2)));
    assert_eq!(said(&mut line, 1, Code::Forbidden), Some(Code::Timeout));
    assert_eq!(said(&mut line, 9, Code::Moved), Some(Code::Moved), "nobody waits for it");
}

#[test]
fn g6_what_may_have_been_taken_and_is_refused_for_now_is_asked_again_until_its_deadline() {
    let mut line = fresh();
    assert!(says(&mut line, 1, 1, C));
    assert_eq!(again(&mut line, None, Some(node(2))), [(1, 2)], "its owner has changed");
    for code in [Code::Unavailable, Code::Overloaded, Code::Moved] {
        assert_eq!(said(&mut line, 1, code), None);
        assert_eq!(again(&mut line, None, Some(node(2))), [(1, 2)]);
        assert_eq!(again(&mut line, None, Some(node(2))), [], "once");
    }
    assert_eq!(said(&mut line, 1, Code::Unavailable), None);
    assert_eq!(line.expire(Instant::now()), [(1, None)], "nobody knows whether it is stored");
}

#[test]
fn g6_what_nobody_has_at_its_deadline_is_definitely_not_stored() {
    let mut line = fresh();
    says(&mut line, 1, 1, C);
    assert_eq!(said(&mut line, 1, Code::Moved), None);
    let expired = line.expire(Instant::now());
    assert_eq!(expired[0].1.as_ref().unwrap().code, Code::Unavailable);
    assert_eq!(again(&mut line, None, Some(node(2))), [], "it is no longer waited for");
}

#[test]
fn a_post_waits_behind_one_that_waits_and_both_go_in_the_order_they_were_said() {
    let mut line = fresh();
    says(&mut line, 1, 1, C);
    assert_eq!(said(&mut line, 1, Code::Moved), None);
    assert!(!says(&mut line, 2, 1, C));
    assert!(says(&mut line, 3, 1, OTHER), "to another conversation");
    assert_eq!(again(&mut line, None, Some(node(1))), [(1, 1), (2, 1)]);
}

#[test]
fn a_post_that_waits_is_not_asked_again_while_one_that_was_said_after_it_is_open() {
    let mut line = fresh();
    (1..=3).for_each(|id| assert!(says(&mut line, id, 1, C)));
    assert_eq!(said(&mut line, 1, Code::Moved), None);
    let waits = line.ask_again(None, |_| Some(node(1)));
    assert!(waits.asks.is_empty() && waits.waits, "{waits:?}");
    assert_eq!(said(&mut line, 2, Code::Moved), None);
    assert_eq!(again(&mut line, None, Some(node(2))), [(3, 2)], "the last one was under way");
    assert_eq!(said(&mut line, 3, Code::Moved), None);
    assert_eq!(again(&mut line, None, Some(node(2))), [(1, 2), (2, 2), (3, 2)]);
}

#[test]
fn a_post_that_can_only_be_stored_after_one_that_was_said_later_is_refused() {
    let mut line = fresh();
    (1..=3).for_each(|id| assert!(says(&mut line, id, 1, C)));
    assert_eq!(said(&mut line, 1, Code::Moved), None);
    assert!(line.stored(2, sent(5), Instant::now()));
    let refused = line.ask_again(None, |_| Some(node(1))).refused;
    assert_eq!(refused.iter().map(|(id, error)| (*id, error.code)).collect::<Vec<_>>(), [(1, Code::Moved)]);
    assert_eq!(said(&mut line, 3, Code::Moved), None, "nothing that was said later is stored");
    assert_eq!(again(&mut line, None, Some(node(1))), [(3, 1)]);
}
