//! A session whose presence channel and owners are on other nodes.

use protocol::{ConnId, SessionId};

use super::*;
use crate::cluster::places::views::{node, places};

const SLICE: Slice = Slice(257);

struct Desk {
    state: State,
    now: Now,
}

impl Desk {
    /// On node 1; everything is placed on 2.
    fn new() -> Desk {
        let caller = Caller { user: UserId([1; 16]), session: SessionId([1; 16]), expires_at: Millis(1 << 40) };
        let at = Address { node: node(1), conn: ConnId(1) };
        let limits = Limits {
            frame_bytes: 0,
            text_chars: 100,
            inflight: 8,
            queue_soft_bytes: 0,
            queue_hard_bytes: 0,
            ping_ms: 0,
            send_per_s: 0,
            send_burst: 0,
            rest_per_min: 0,
            login_per_min: 0,
            register_per_min: 0,
            members: 0,
        };
        let state = State::new(caller, at, limits, places(1, &[2], &[1, 3]));
        Desk { state, now: Now { mono: Instant::now(), wall: Millis(1) } }
    }

    /// In short.
    fn on(&mut self, input: Input) -> Vec<String> {
        let short = |action| match action {
            Action::Send(to, Mail::Presence(SLICE, ToPresence::Register(..))) => {
                Some(format!("register at {}", to.0[0]))
            }
            Action::Ask(owner, ..) => Some(format!("ask {:?}", owner.map(|owner| owner.0[0]))),
            Action::AskAgain(lost, _) => Some(format!("ask again, lost {:?}", lost.map(|lost| lost.0[0]))),
            Action::Job(job) => Some(format!("{job:?}").split('(').next().unwrap().to_owned()),
            _ => None,
        };
        self.state.decide(input, self.now).into_iter().filter_map(short).collect()
    }
}

#[test]
fn a_registration_is_made_again_until_its_place_has_confirmed_it() {
    let mut desk = Desk::new();
    assert_eq!(desk.on(Input::Tick), ["register at 2"]);
    assert_eq!(desk.on(Input::Request(Some(1), Verb::Sync(Sync::default()))), [""; 0], "reads nothing before that");
    desk.now.mono += REGISTER_AGAIN;
    assert_eq!(desk.on(Input::Tick), ["register at 2"]);
    assert_eq!(desk.on(Input::Registered(node(3))), [""; 0], "not its place");
    assert_eq!(desk.on(Input::Registered(node(2))), ["Sync"]);
    desk.now.mono += REGISTER_AGAIN;
    assert_eq!(desk.on(Input::Tick), [""; 0]);
}

#[test]
fn a_moved_or_forgotten_registration_is_made_again_and_a_sync_waits_for_it() {
    let mut desk = Desk::new();
    desk.on(Input::Tick);
    desk.on(Input::Registered(node(2)));
    assert_eq!(desk.on(Input::Placed(places(2, &[2], &[1, 3]))), ["ask again, lost None"], "its channel stays");
    assert_eq!(desk.on(Input::Placed(places(3, &[3], &[1, 2]))), ["register at 3", "ask again, lost None"]);
    assert_eq!(desk.on(Input::Registered(node(2))), [""; 0], "the earlier place's word, late");
    assert_eq!(desk.on(Input::Request(Some(1), Verb::Sync(Sync::default()))), [""; 0]);
    assert_eq!(desk.on(Input::Registered(node(3))), ["Sync"]);
    assert_eq!(desk.on(Input::Forgotten(node(2), None)), [""; 0]);
    assert_eq!(desk.on(Input::Forgotten(node(3), Some(Slice(1)))), [""; 0]);
    assert_eq!(desk.on(Input::Forgotten(node(3), Some(SLICE))), ["register at 3"]);
}

#[test]
fn what_was_not_taken_or_may_be_lost_is_asked_again() {
    let mut desk = Desk::new();
    desk.on(Input::Tick);
    desk.on(Input::Registered(node(2)));
    assert_eq!(desk.on(Input::Lost(node(2))), ["ask again, lost Some(2)"]);
    assert_eq!(desk.on(Input::NotTaken), [""; 0], "not at once: views need a moment to agree");
    desk.now.mono += ASK_AGAIN;
    assert_eq!(desk.on(Input::Tick), ["ask again, lost None"]);
    assert_eq!(desk.on(Input::Tick), [""; 0]);
}
