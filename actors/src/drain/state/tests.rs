//! A drain, looked at every 20 ms.

use super::*;

const LOOK: Duration = Duration::from_millis(20);

fn terms() -> Terms {
    Terms { why: CloseCode::Drain, notice: Some(Duration::ZERO), rate: 100, deadline: Duration::from_secs(30) }
}

/// Somewhere to go, nothing placed, nothing at work.
fn sight(sockets: std::ops::Range<u64>) -> Sight {
    Sight { placed: false, elsewhere: true, sockets: sockets.map(ConnId).collect(), at_work: false }
}

struct Desk {
    state: State,
    now: Instant,
}

impl Desk {
    fn draining(terms: Terms) -> Desk {
        let now = Instant::now();
        let mut desk = Desk { state: State::new(terms, 7, now), now };
        assert_eq!(desk.state.on(Input::Begin, now), [Action::Withdraw]);
        desk
    }

    fn look(&mut self, sight: &Sight) -> Vec<Action> {
        self.now += LOOK;
        self.state.on(Input::Look(sight.clone()), self.now)
    }

    /// Everything it does within this time, each with when it does it.
    fn watch(&mut self, sight: &Sight, within: Duration) -> Vec<(Duration, Action)> {
        let began = self.now;
        let mut all = Vec::new();
        while self.now < began + within && self.state.phase != Phase::Leaving {
            let done = self.look(sight);
            all.extend(done.into_iter().map(|action| (self.now - began, action)));
        }
        all
    }

    fn phase(&self) -> Phase {
        self.state.phase
    }
}

fn bye(after_ms: Option<u64>) -> Bye {
    Bye { after_ms, ..Bye::of(CloseCode::Drain) }
}

#[test]
fn sockets_are_told_at_an_even_pace_each_once() {
    let mut desk = Desk::draining(terms());
    let told = desk.watch(&sight(0..100), Duration::from_secs(2));
    let announced = told.iter().filter(|(_, action)| *action == Action::Announce(conn_of(action), bye(Some(0))));
    assert_eq!(announced.count(), 100);
    let mut conns: Vec<_> = told.iter().map(|(_, action)| conn_of(action)).collect();
    conns.sort_unstable();
    conns.dedup();
    assert_eq!(conns.len(), 100);
    for (at, half) in [(Duration::from_millis(500), 50), (Duration::from_secs(1), 100)] {
        let n = told.iter().filter(|(when, _)| *when <= at).count();
        assert!((half - 4..=half).contains(&n), "{n} after {at:?}");
    }
}

fn conn_of(action: &Action) -> ConnId {
    match action {
        Action::Announce(conn, _) | Action::Part(conn, _) | Action::Close(conn, _) => *conn,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nobody_is_told_before_the_view_places_nothing_here_or_two_seconds_have_passed() {
    let mut desk = Desk::draining(terms());
    let placed = Sight { placed: true, ..sight(0..1) };
    assert!(desk.watch(&placed, Duration::from_secs(1)).is_empty());
    assert_eq!(desk.look(&sight(0..1)).len(), 1, "as soon as it says so");
    let mut desk = Desk::draining(terms());
    let told = desk.watch(&placed, Duration::from_secs(3));
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, VIEW_PATIENCE, "its store is away");
}

#[test]
fn a_socket_works_on_until_its_client_has_moved() {
    let notice = Duration::from_millis(800);
    let mut desk = Desk::draining(Terms { notice: Some(notice), ..terms() });
    let done = desk.watch(&sight(0..1), Duration::from_secs(20));
    let [(told, Action::Announce(conn, first)), (parted, Action::Part(..)), (closed, Action::Close(..)), ..] =
        &done[..]
    else {
        panic!("{done:?}")
    };
    let after = Duration::from_millis(first.after_ms.unwrap());
    assert!(after < notice && first.code == CloseCode::Drain);
    let late = |at: Duration, wanted: Duration| (wanted..wanted + 2 * LOOK).contains(&at);
    assert!(late(*parted, *told + after + MOVE_PATIENCE), "{parted:?}");
    assert!(late(*closed, *parted + ANSWERS_PATIENCE), "what is in flight does not hold it for ever: {closed:?}");
    assert_eq!(done[1].1, Action::Part(*conn, bye(None)));
    // one that went by itself holds nobody up
    let mut desk = Desk::draining(terms());
    desk.look(&sight(0..1));
    desk.look(&sight(0..0));
    assert_eq!(desk.phase(), Phase::Leaving);
}

#[test]
fn with_nowhere_to_go_a_socket_is_closed_once_it_is_answered() {
    let mut desk = Desk::draining(terms());
    let alone = Sight { elsewhere: false, ..sight(0..1) };
    assert_eq!(desk.look(&alone), [Action::Part(ConnId(0), bye(Some(0)))]);
    // nor does a node keep them that is no member any more
    let mut desk = Desk::draining(Terms { why: CloseCode::Moved, ..terms() });
    assert!(matches!(desk.look(&sight(0..1))[..], [Action::Part(..)]));
}

#[test]
fn unless_it_is_told_how_they_are_spread_over_five_seconds_where_they_can_go_elsewhere_and_told_at_once_otherwise() {
    let own = Terms { notice: None, rate: 1_000, ..terms() };
    let spread = |terms: Terms, sight: Sight| {
        let told = Desk::draining(terms).watch(&sight, Duration::from_secs(1));
        let after = told.into_iter().filter_map(|(_, action)| match action {
            Action::Announce(_, bye) | Action::Part(_, bye) => bye.after_ms,
            Action::Withdraw | Action::Return | Action::Close(..) => None,
        });
        let after: Vec<u64> = after.collect();
        assert_eq!(after.len(), 200);
        (after.iter().min().copied().unwrap(), after.iter().max().copied().unwrap())
    };
    let (least, most) = spread(own, sight(0..200));
    assert!(least < 500 && (4_500..=5_000).contains(&most), "{least} to {most}");
    assert_eq!(spread(own, Sight { elsewhere: false, ..sight(0..200) }), (0, 0));
    assert_eq!(spread(Terms { why: CloseCode::Moved, ..own }, sight(0..200)), (0, 0), "it serves nobody any more");
}

#[test]
fn taken_back_it_serves_and_a_later_drain_tells_everybody_anew() {
    let mut desk = Desk::draining(terms());
    assert_eq!(desk.look(&sight(0..1)).len(), 1);
    assert_eq!(desk.state.on(Input::TakeBack, desk.now), [Action::Return]);
    assert_eq!(desk.phase(), Phase::Serving);
    assert_eq!(desk.state.on(Input::TakeBack, desk.now), [], "once");
    assert!(desk.watch(&sight(0..1), Duration::from_secs(9)).is_empty(), "who was told may stay");
    let mut again = Desk::draining(terms());
    assert!(matches!(again.look(&sight(0..1))[..], [Action::Announce(..)]));
}

#[test]
fn asked_twice_it_goes_on_and_its_deadline_stays() {
    let mut desk = Desk::draining(terms());
    desk.watch(&sight(0..1), Duration::from_secs(29));
    assert_eq!(desk.state.on(Input::Begin, desk.now), []);
    desk.watch(&sight(0..1), Duration::from_secs(2));
    assert_eq!(desk.phase(), Phase::Leaving);
}

#[test]
fn once_everybody_has_gone_it_leaves_and_cannot_be_taken_back() {
    let mut desk = Desk::draining(terms());
    desk.look(&sight(0..0));
    assert_eq!(desk.phase(), Phase::Leaving);
    assert_eq!(desk.state.on(Input::TakeBack, desk.now), []);
    assert_eq!(desk.phase(), Phase::Leaving);
}

#[test]
fn it_waits_for_conversations_to_end_here_but_not_for_ever() {
    let mut desk = Desk::draining(terms());
    let at_work = Sight { at_work: true, ..sight(0..0) };
    desk.look(&at_work);
    assert_eq!(desk.phase(), Phase::Settling);
    desk.watch(&at_work, Duration::from_secs(1));
    assert_eq!(desk.state.on(Input::TakeBack, desk.now), [Action::Return], "it can still be taken back");
    let mut desk = Desk::draining(terms());
    let began = desk.now;
    desk.watch(&at_work, Duration::from_secs(9));
    assert_eq!(desk.phase(), Phase::Leaving);
    assert_eq!(desk.now - began, SETTLE_PATIENCE + LOOK);
}

#[test]
fn who_slips_in_while_the_doors_close_is_told_too() {
    let mut desk = Desk::draining(terms());
    let at_work = Sight { at_work: true, ..sight(0..0) };
    desk.look(&at_work);
    assert!(matches!(desk.look(&sight(5..6))[..], [Action::Announce(ConnId(5), _)]));
    assert_eq!(desk.phase(), Phase::Telling);
}

#[test]
fn at_the_deadline_who_is_left_is_closed() {
    let mut desk = Desk::draining(Terms { deadline: Duration::from_secs(1), rate: 1, ..terms() });
    let done = desk.watch(&sight(0..3), Duration::from_secs(9));
    assert_eq!(done.iter().filter(|(_, action)| matches!(action, Action::Close(..))).count(), 3);
    assert_eq!(done.last().unwrap().0, Duration::from_secs(1));
    assert_eq!(desk.phase(), Phase::Leaving);
}

#[test]
fn every_test_that_the_document_names_exists() {
    let tests = concat!(
        include_str!("tests.rs"),
        include_str!("../../tests/going.rs"),
        include_str!("../../cluster/membership/tests/together.rs"),
        include_str!("../../../../node/tests/socket.rs"),
    );
    let document = include_str!("../../../CLUSTER.md");
    let chapter = document.split("\n## ").find(|chapter| chapter.starts_with("Going")).unwrap();
    let named: Vec<_> = chapter.split('`').filter(|word| word.matches('_').count() > 3).collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        assert!(tests.contains(&format!("fn {name}(")), "{name}");
    }
}
