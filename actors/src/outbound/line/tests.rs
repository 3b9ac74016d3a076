//! Requests that are sent again.

use protocol::{Incarnation, peer::MarkRequest};

use super::*;

const C: ConversationId = ConversationId([7; 16]);

fn node(n: u8) -> Incarnation {
    Incarnation([n; 16])
}

fn line(owner: Option<Incarnation>) -> Line {
    let mut line = Line::new(Bounds { soft_bytes: 1 << 20, hard_bytes: 1 << 20, inflight: 8 });
    for id in [2, 1] {
        line.begin(id, "read", Instant::now(), Instant::now()).unwrap();
        let mark = MarkRequest { requester: None, by: UserId([1; 16]), read: true, seq: Seq(u64::from(id)) };
        line.keep(id, owner, C, &ToConversation::Mark(mark));
    }
    line
}

/// The requests that go, by their seq, and where to.
fn again(line: &mut Line, lost: Option<Incarnation>, owner: Option<Incarnation>) -> Vec<(u64, u8)> {
    let sent = line.ask_again(lost, |_| owner).into_iter();
    sent.map(|(to, _, mail)| match mail {
        ToConversation::Mark(mark) => (mark.seq.0, to.0[0]),
        other => panic!("{other:?}"),
    })
    .collect()
}

fn forbidden() -> Error {
    Error::new(Code::Forbidden, "no")
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
    assert_eq!(line.refusal_of(1, forbidden()).code, Code::Forbidden, "nobody else had it");
}

#[test]
fn g6_a_refusal_of_what_an_earlier_owner_may_have_taken_is_not_definite() {
    let mut line = line(Some(node(1)));
    assert!(line.moved(1), "not taken, definitely");
    assert_eq!(again(&mut line, None, Some(node(1))), [(1, 1)]);
    assert_eq!(line.refusal_of(1, forbidden()).code, Code::Forbidden);
    again(&mut line, None, Some(node(2)));
    assert_eq!(line.refusal_of(1, forbidden()).code, Code::Timeout);
    assert!(!line.moved(9), "nobody waits for it");
}
