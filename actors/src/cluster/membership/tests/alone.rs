//! One node whose every input is chosen: answers that are late, doubled, unknown or lies.

use std::time::Duration;

use protocol::{
    Incarnation,
    cluster::{Member, MemberState, View},
    peer::{Beat, Greeting},
};
use storage::{Error, cluster::Changed};
use tokio::time::Instant;

use super::world::{address, ms, name};
use crate::cluster::{
    link::PeerAddress,
    membership::{Action, BEAT, Input, Me, Note, RELEASE, State, TICK},
    view::{Edit, edited},
};

/// The node under test; others are 2, 3, …
const ME: usize = 1;

struct Desk {
    state: State,
    now: Instant,
    /// What a read answers.
    row: View,
    /// Peers that send beats.
    speaking: Vec<usize>,
}

fn id(node: usize) -> Incarnation {
    Incarnation([node as u8; 16])
}

fn greeting(node: usize) -> Greeting {
    let alike = vec![(RELEASE.to_owned(), "2.0.0".to_owned())];
    Greeting { versions: (1, 1), node: name(node), incarnation: id(node), equal: Vec::new(), alike }
}

fn view(members: &[(usize, MemberState)]) -> View {
    let members = members.iter().map(|(node, state)| Member {
        node: name(*node),
        incarnation: id(*node),
        address: address(*node),
        weight: 1,
        state: *state,
        reported: Vec::new(),
    });
    View { version: 10, revision: 20, members: members.collect() }
}

fn beat() -> Beat {
    Beat { view: 0, hears_you: true, store_ok: true, sent_us: 0, echo: None }
}

fn unknown<T>() -> Result<T, Error> {
    Err(Error::Unknown("late".into()))
}

fn changes(actions: &[Action]) -> Vec<&View> {
    actions.iter().filter_map(|a| if let Action::ChangeView(next) = a { Some(next) } else { None }).collect()
}

fn dials(actions: &[Action]) -> Vec<&str> {
    actions.iter().filter_map(|a| if let Action::Dial(to) = a { Some(to.at.as_str()) } else { None }).collect()
}

fn count(actions: &[Action], which: impl Fn(&Action) -> bool) -> usize {
    actions.iter().filter(|action| which(action)).count()
}

impl Desk {
    /// A node that begins, with what the row holds.
    fn fresh(row: View, has_seeds: bool) -> Desk {
        let (node, incarnation, dead) = (name(ME), id(ME), ms(3_000));
        let me = Me { node, incarnation, address: address(ME), weight: 1, has_seeds, dead, random: 1 };
        let now = Instant::now();
        Desk { state: State::new(me, now), now, row, speaking: Vec::new() }
    }

    /// Members 1 to `n`, all up, links and beats between all of them.
    fn up(n: usize) -> Desk {
        let all: Vec<_> = (1..=n).map(|node| (node, MemberState::Up)).collect();
        let mut desk = Desk::fresh(view(&all), false);
        desk.speaking = (2..=n).collect();
        desk.pass(TICK);
        (2..=n).for_each(|node| drop(desk.on(Input::LinkUp(greeting(node)))));
        desk.pass(ms(1_000));
        assert_eq!(desk.state.snapshot(desk.now).unready, [""; 0]);
        desk
    }

    /// Its store knows at once that it lives.
    fn on(&mut self, input: Input) -> Vec<Action> {
        let mut all = self.state.on(input, self.now);
        let slots: Vec<_> =
            all.iter().filter_map(|a| if let Action::BeatStore(slot) = a { Some(*slot) } else { None }).collect();
        for slot in slots {
            all.extend(self.state.on(Input::BeatStored(slot, Ok(())), self.now));
        }
        all
    }

    /// A read is answered by what the row holds.
    fn read(&mut self, decided: bool) -> Vec<Action> {
        let result = Ok(self.row.clone());
        self.on(Input::ViewRead { decided, result })
    }

    fn dial_fails(&mut self, node: usize, seed: bool, refused: bool, misfit: bool) -> Vec<Action> {
        let address = PeerAddress { at: address(node), node: (!seed).then(|| name(node)) };
        self.on(Input::NotReached { address, refused, misfit, why: "so".to_owned() })
    }

    /// Lets time pass: beats come, reads are answered, everything else is left to the test.
    fn pass(&mut self, how_long: Duration) -> Vec<Action> {
        let (mut all, until) = (Vec::new(), self.now + how_long);
        while self.now < until {
            self.now += TICK;
            for node in self.speaking.clone() {
                all.extend(self.on(Input::Beat(id(node), beat())));
            }
            all.extend(self.on(Input::Tick));
            for decided in [false, true] {
                if all.contains(&Action::ReadView { decided }) {
                    all.extend(self.read(decided));
                }
            }
        }
        all
    }

    /// The row after edits of somebody else, in force here.
    fn changed(&mut self, edits: &[Edit]) -> Vec<Action> {
        self.row = edited(&self.row, edits).unwrap();
        let mut all = self.on(Input::Saw(self.row.version));
        all.extend(self.pass(ms(100)));
        assert_eq!(*self.state.view(), self.row);
        all
    }
}

#[test]
fn the_first_node_of_a_cluster_is_up_at_once() {
    let mut desk = Desk::fresh(View::default(), false);
    assert!(desk.on(Input::Tick).contains(&Action::ReadView { decided: false }));
    let joins = desk.read(false);
    assert_eq!(changes(&joins)[0].members[0].state, MemberState::Joining);
    let rises = desk.on(Input::ViewChanged(Ok(Changed::Applied)));
    assert_eq!(changes(&rises)[0].members[0].state, MemberState::Up);
    let up = desk.on(Input::ViewChanged(Ok(Changed::Applied)));
    assert_eq!(count(&up, |a| matches!(a, Action::Install(view) if view.version == 2)), 1);
    assert_eq!(desk.state.snapshot(desk.now).unready, [""; 0]);
}

#[test]
fn a_node_is_up_once_the_store_knows_that_it_lives() {
    let mut desk = Desk::fresh(View::default(), false);
    desk.on(Input::Tick);
    desk.read(false);
    let mut on = |input| desk.state.on(input, desk.now);
    let joined = on(Input::ViewChanged(Ok(Changed::Applied)));
    assert!(joined.contains(&Action::BeatStore(1)) && changes(&joined).is_empty(), "{joined:?}");
    assert!(changes(&on(Input::BeatStored(1, Err(Error::Refused("not now".into()))))).is_empty());
    assert_eq!(changes(&on(Input::BeatStored(1, Ok(()))))[0].members[0].state, MemberState::Up);
}

#[test]
fn who_has_seeds_joins_when_one_answers_or_all_refuse_or_none_says_anything() {
    let begin = || {
        let mut desk = Desk::fresh(View::default(), true);
        assert_eq!(count(&desk.pass(ms(100)), |a| *a == Action::ResolveSeeds), 1);
        let dialled = desk.on(Input::SeedsResolved(vec![address(ME), address(2), address(3)]));
        assert_eq!(dials(&dialled), [address(2), address(3)], "not itself");
        desk
    };
    let mut answered = begin();
    assert_eq!(changes(&answered.on(Input::LinkUp(greeting(2)))).len(), 1);

    let mut refused = begin();
    assert!(changes(&refused.dial_fails(2, true, true, false)).is_empty());
    assert_eq!(changes(&refused.dial_fails(3, true, true, false)).len(), 1);

    let mut silent = begin();
    assert!(changes(&silent.pass(ms(2_800))).is_empty());
    assert_eq!(changes(&silent.pass(ms(500))).len(), 1);
}

#[test]
fn a_member_that_it_does_not_fit_with_keeps_a_node_out_until_it_does() {
    let mut desk = Desk::fresh(view(&[(2, MemberState::Up), (3, MemberState::Up)]), false);
    desk.pass(ms(100));
    desk.dial_fails(2, false, false, true);
    assert!(changes(&desk.on(Input::LinkUp(greeting(3)))).is_empty() && changes(&desk.pass(ms(10_000))).is_empty());
    assert_eq!(desk.state.snapshot(desk.now).unready[0], "kept out by n2:7946: so");
    assert_eq!(changes(&desk.on(Input::LinkUp(greeting(2)))).len(), 1);
}

#[test]
fn where_no_cluster_is_yet_a_seed_that_it_does_not_fit_with_keeps_a_node_out_unless_another_fits() {
    let mut desk = Desk::fresh(View::default(), true);
    desk.pass(ms(100));
    desk.on(Input::SeedsResolved(vec![address(2), address(3)]));
    let refused = [desk.dial_fails(2, true, false, true), desk.dial_fails(3, true, true, false), desk.pass(ms(20_000))];
    assert!(changes(&refused.concat()).is_empty(), "it begins no cluster of its own");
    assert_eq!(changes(&desk.on(Input::LinkUp(greeting(3)))).len(), 1);

    let mut desk = Desk::fresh(view(&[(3, MemberState::Up)]), true);
    desk.pass(ms(100));
    desk.dial_fails(2, true, false, true);
    assert_eq!(changes(&desk.on(Input::LinkUp(greeting(3)))).len(), 1, "a stranger keeps nobody out of one that is");
}

#[test]
fn a_change_that_came_too_late_is_thought_over_on_what_is_there_now() {
    let mut desk = Desk::fresh(view(&[(ME, MemberState::Joining)]), false);
    assert_eq!(changes(&desk.pass(ms(100))).len(), 1, "up");
    let gone = edited(&desk.row, &[Edit::Join { node: name(2), incarnation: id(2), address: address(2), weight: 1 }]);
    desk.row = edited(&gone.unwrap(), &[Edit::Up(id(2))]).unwrap();
    let stale = Input::ViewChanged(Ok(Changed::Stale(desk.row.clone())));
    assert!(changes(&desk.on(stale)).is_empty());
    assert!(changes(&desk.pass(ms(1_000))).is_empty(), "now there is somebody to meet first");
    desk.on(Input::LinkUp(greeting(2)));
    desk.speaking = vec![2];
    let next = desk.pass(ms(200));
    assert_eq!(changes(&next)[0].revision, desk.row.revision + 1);
}

#[test]
fn after_an_unknown_change_it_looks_before_it_changes_anything() {
    for applied in [true, false] {
        let mut desk = Desk::fresh(view(&[(ME, MemberState::Joining)]), false);
        let asked = desk.pass(ms(100));
        let next = changes(&asked)[0].clone();
        let after = desk.on(Input::ViewChanged(unknown()));
        assert!(changes(&after).is_empty());
        if applied {
            desk.row = next;
        }
        desk.now += TICK;
        let after = desk.on(Input::Tick);
        assert!(after.contains(&Action::ReadView { decided: true }) && changes(&after).is_empty());
        let failed = desk.on(Input::ViewRead { decided: true, result: unknown() });
        assert!(changes(&failed).is_empty(), "a read that fails shows nothing");
        let after = desk.pass(ms(1_000));
        assert_eq!(changes(&after).len(), usize::from(!applied), "applied: {applied}");
    }
}

#[test]
fn who_may_have_joined_and_been_forgotten_begins_as_another_run() {
    let mut desk = Desk::fresh(View::default(), false);
    let asked = desk.pass(ms(100));
    assert_eq!(changes(&asked)[0].members[0].incarnation, id(ME));
    desk.on(Input::ViewChanged(unknown()));
    desk.row = view(&[(2, MemberState::Up)]);
    let all = desk.pass(ms(1_000));
    assert!(all.ends_with(&[Action::Removed { replaced: false }]), "{all:?}");

    let mut desk = Desk::fresh(View::default(), false);
    desk.pass(ms(100));
    desk.row = view(&[(2, MemberState::Up)]);
    // it did not run for so long that the answer is given up before it is looked at
    desk.now += ms(15_000);
    desk.on(Input::Tick);
    desk.on(Input::ViewChanged(Ok(Changed::Applied)));
    assert!(changes(&desk.read(false)).is_empty(), "a plain read decides nothing");
    let all = desk.pass(ms(200));
    assert!(all.ends_with(&[Action::Removed { replaced: false }]), "{all:?}");
}

#[test]
fn a_read_from_before_an_unknown_change_does_not_settle_it() {
    let mut desk = Desk::up(1);
    desk.now += ms(400);
    desk.on(Input::Tick);
    desk.now += ms(400);
    desk.on(Input::Tick);
    desk.now += ms(400);
    assert!(desk.on(Input::Tick).contains(&Action::ReadView { decided: false }));
    assert_eq!(changes(&desk.on(Input::Drain)).len(), 1);
    desk.on(Input::ViewChanged(unknown()));
    desk.now += ms(500);
    assert!(changes(&desk.on(Input::Tick)).is_empty());
    let again = desk.read(false);
    assert!(again.contains(&Action::ReadView { decided: true }) && changes(&again).is_empty());
    assert_eq!(changes(&desk.read(true)).len(), 1);
}

#[test]
fn an_answer_that_comes_twice_or_unasked_changes_nothing() {
    let mut desk = Desk::up(1);
    let row = desk.row.clone();
    for input in [
        Input::ViewChanged(Ok(Changed::Applied)),
        Input::ViewChanged(Ok(Changed::Stale(View::default()))),
        Input::ViewRead { decided: false, result: Ok(View::default()) },
        Input::ViewRead { decided: true, result: Ok(View::default()) },
        Input::LinkDown(id(7)),
        Input::Beat(id(7), beat()),
        Input::Told { gone: id(7), version: row.version },
        Input::SlotsRead(name(7), Ok(vec![(id(7), 1)])),
        Input::NotReached {
            address: PeerAddress { at: address(7), node: Some(name(7)) },
            refused: true,
            misfit: true,
            why: "so".to_owned(),
        },
    ] {
        let said = format!("{input:?}");
        assert_eq!(desk.on(input), [], "{said}");
    }
    assert_eq!(*desk.state.view(), row);
}

#[test]
fn an_older_view_never_replaces_a_newer_one() {
    let mut desk = Desk::up(1);
    let older = desk.row.clone();
    desk.now += ms(1_000);
    assert!(desk.on(Input::Drain).iter().any(|a| matches!(a, Action::ChangeView(_))));
    desk.on(Input::Tick);
    desk.on(Input::ViewChanged(Ok(Changed::Applied)));
    let late = desk.on(Input::ViewRead { decided: false, result: Ok(older) });
    assert_eq!(count(&late, |a| matches!(a, Action::Install(_))), 0);
    assert_eq!(desk.state.snapshot(desk.now).state, Some(MemberState::Draining));
}

#[test]
fn the_row_is_read_every_second_and_at_once_when_a_peer_goes_by_a_higher_version() {
    let mut desk = Desk::up(2);
    let reads = |actions: &[Action]| count(actions, |a| matches!(a, Action::ReadView { .. }));
    assert_eq!(reads(&desk.pass(ms(10_000))), 10);
    let higher = Beat { view: desk.row.version + 1, ..beat() };
    desk.row = edited(&desk.row, &[Edit::Draining(id(2))]).unwrap();
    desk.now += ms(50);
    assert_eq!(reads(&desk.on(Input::Beat(id(2), higher))), 1);
    desk.read(false);
    assert_eq!(desk.state.view().version, desk.row.version);
}

#[test]
fn a_peer_that_lies_about_versions_does_not_overrun_the_store() {
    let mut desk = Desk::up(2);
    let mut reads = 0;
    for _ in 0..1_000 {
        desk.now += ms(1);
        reads += count(&desk.on(Input::Saw(u64::MAX)), |a| matches!(a, Action::ReadView { .. }));
        desk.read(false);
    }
    assert!(reads <= 20, "{reads}");
}

#[test]
fn a_row_that_went_back_makes_it_begin_again() {
    let mut desk = Desk::up(2);
    desk.row = view(&[(ME, MemberState::Up)]);
    desk.row.revision = 3;
    let all = desk.pass(ms(1_500));
    assert!(all.contains(&Action::ReadView { decided: true }), "a plain read may miss a change: it looks closer first");
    assert!(all.contains(&Action::Note(Note::RowWentBack)));
    assert!(all.contains(&Action::DropPeer(id(2))) && all.contains(&Action::Removed { replaced: false }));
}

#[test]
fn who_finds_itself_gone_or_forgotten_decides_nothing_more() {
    let mut gone = Desk::up(2);
    gone.row = edited(&gone.row, &[Edit::Gone(id(ME))]).unwrap();
    let all = gone.pass(ms(1_500));
    assert!(all.ends_with(&[Action::DropPeer(id(2)), Action::Removed { replaced: false }]), "{all:?}");
    assert_eq!(gone.pass(ms(10_000)), []);
    assert_eq!(gone.state.snapshot(gone.now).unready, ["not a member of the cluster any more"]);

    let mut forgotten = Desk::up(2);
    forgotten.row.members.remove(0);
    (forgotten.row.version, forgotten.row.revision) = (12, 23);
    assert!(forgotten.pass(ms(1_500)).contains(&Action::Removed { replaced: false }));
}

#[test]
fn of_two_processes_with_one_name_the_earlier_is_told_that_it_is_replaced() {
    let mut desk = Desk::up(2);
    let twin = Edit::Join { node: name(ME), incarnation: id(9), address: address(9), weight: 1 };
    desk.row = edited(&desk.row, &[twin]).unwrap();
    assert!(desk.pass(ms(1_500)).contains(&Action::Removed { replaced: true }));
}

#[test]
fn a_node_whose_own_loop_lagged_accuses_nobody_whatever_comes_first_when_it_wakes() {
    for first in [Input::Tick, Input::Beat(id(2), beat()), Input::LinkDown(id(2)), Input::Heard(id(2))] {
        let mut desk = Desk::up(4);
        desk.speaking.clear();
        desk.now += ms(30_000);
        let mut all = desk.on(first);
        all.extend(desk.pass(ms(2_900)));
        assert!(all.iter().any(|a| matches!(a, Action::Note(Note::Lagged(_)))));
        assert!(changes(&all).is_empty());
        assert!(all.contains(&Action::ReadView { decided: false }), "it looks whether it is still a member");
    }
}

#[test]
fn with_its_store_away_it_changes_nothing() {
    let mut desk = Desk::up(3);
    desk.on(Input::StoreOk(false));
    desk.speaking = vec![2];
    assert!(changes(&desk.pass(ms(20_000))).is_empty());
    assert_eq!(changes(&desk.on(Input::StoreOk(true))).len(), 1, "then 3 is taken out");
}

#[test]
fn a_member_that_says_its_store_is_away_is_unplaced_and_one_that_is_silent_is_not_asked_about_its_store() {
    let mut desk = Desk::up(3);
    desk.speaking = vec![3];
    let mut all = Vec::new();
    for _ in 0..21 {
        desk.on(Input::Beat(id(2), Beat { store_ok: false, ..beat() }));
        all.extend(desk.pass(ms(100)));
    }
    let changes = changes(&all);
    assert_eq!(changes[0].member(id(2)).unwrap().state, MemberState::NoStore);
}

#[test]
fn beats_go_out_twice_a_second_and_measure_the_way() {
    let mut desk = Desk::up(2);
    let sent = |all: &[Action]| {
        let beats = all.iter().filter_map(|a| if let Action::SendBeat(_, beat) = a { Some(*beat) } else { None });
        beats.collect::<Vec<_>>()
    };
    let all = desk.pass(ms(5_000));
    assert_eq!(sent(&all).len(), 10);
    let last = *sent(&all).last().unwrap();
    assert!(last.hears_you && last.store_ok && last.view == desk.row.version);
    desk.now += ms(30);
    // sent 30 ms after ours came, and 20 ms under way both ways together
    let mine = desk.now.duration_since(desk.state.began).as_micros() as u64 - 50_000;
    desk.on(Input::Beat(id(2), Beat { sent_us: 77, echo: Some((mine, 30_000)), ..beat() }));
    let known = desk.state.snapshot(desk.now).peers.remove(0);
    assert_eq!((known.round_trip, known.uptime), (Some(ms(20)), Some(Duration::from_micros(77))));
    assert_eq!(known.release.as_deref(), Some("2.0.0"), "as it said in its greeting");
    desk.speaking.clear();
    let all = desk.pass(BEAT);
    assert_eq!(sent(&all)[0].echo.map(|(sent_us, _)| sent_us), Some(77));
    let silent = sent(&desk.pass(ms(2_000)));
    assert!(!silent.last().unwrap().hears_you, "nothing came for 1.5 s");
    let lie = Beat { echo: Some((u64::MAX, u64::MAX)), ..beat() };
    desk.on(Input::Beat(id(2), lie));
    assert_eq!(desk.state.snapshot(desk.now).peers[0].round_trip, None);
}

#[test]
fn any_frame_is_a_sign_of_life() {
    let mut desk = Desk::up(3);
    desk.speaking = vec![2];
    let mut all = Vec::new();
    for _ in 0..100 {
        desk.on(Input::Heard(id(3)));
        all.extend(desk.pass(ms(100)));
    }
    assert!(changes(&all).is_empty());
}

#[test]
fn a_refused_dial_convicts_only_who_had_a_link() {
    let mut desk = Desk::up(4);
    desk.speaking = vec![2, 3];
    desk.on(Input::LinkDown(id(4)));
    assert!(changes(&desk.pass(ms(400))).is_empty(), "a link alone may go");
    let all = desk.dial_fails(4, false, true, false);
    assert_eq!(changes(&all)[0].member(id(4)).unwrap().state, MemberState::Gone);

    let mut desk = Desk::up(3);
    desk.changed(&[Edit::Join { node: name(4), incarnation: id(4), address: address(4), weight: 1 }]);
    desk.dial_fails(4, false, true, false);
    assert!(changes(&desk.pass(ms(2_000))).is_empty(), "it may be about to listen");
}

#[test]
fn a_node_that_comes_under_its_name_as_another_run_has_lost_the_earlier_one() {
    let mut desk = Desk::up(4);
    desk.speaking = vec![2, 3];
    desk.on(Input::LinkDown(id(4)));
    let all = desk.on(Input::LinkUp(Greeting { incarnation: id(9), ..greeting(4) }));
    assert_eq!(changes(&all)[0].member(id(4)).unwrap().state, MemberState::Gone);
}

#[test]
fn slots_that_could_not_be_read_in_between_prove_nothing() {
    let silent = |readable: bool| {
        let mut desk = Desk::fresh(view(&[(2, MemberState::Up), (ME, MemberState::Joining)]), false);
        let mut all = Vec::new();
        for second in 0..45 {
            let passed = desk.pass(ms(1_000));
            if passed.contains(&Action::ReadSlots(name(2))) {
                let gap = !readable && (20..23).contains(&second);
                let slots = if gap { unknown() } else { Ok(vec![(id(2), 5)]) };
                desk.on(Input::SlotsRead(name(2), slots));
            }
            all.extend(passed);
        }
        !changes(&all).is_empty()
    };
    assert!(silent(true) && !silent(false));
}

#[test]
fn a_share_is_looked_after_anew_with_every_version_and_reported_once_told() {
    let mut desk = Desk::up(3);
    let all = desk.changed(&[Edit::Gone(id(3))]);
    desk.speaking = vec![2];
    let first = desk.row.version;
    assert!(all.contains(&Action::LookAfter { node: name(3), gone: id(3), version: first }));
    let all = desk.changed(&[Edit::Join { node: name(5), incarnation: id(5), address: address(5), weight: 1 }]);
    assert!(all.contains(&Action::LookAfter { node: name(3), gone: id(3), version: first + 1 }));
    assert!(changes(&desk.on(Input::Told { gone: id(3), version: first })).is_empty(), "told by an earlier placement");
    let all = desk.on(Input::Told { gone: id(3), version: first + 1 });
    assert_eq!(changes(&all)[0].member(id(3)).unwrap().reported, [id(ME)]);
    assert!(changes(&desk.on(Input::Told { gone: id(3), version: first + 1 })).is_empty(), "it is under way");
}

#[test]
fn links_to_members_that_are_gone_are_ended_and_not_made_again() {
    let mut desk = Desk::up(3);
    assert!(desk.changed(&[Edit::Gone(id(3))]).contains(&Action::DropPeer(id(3))));
    desk.speaking = vec![2];
    assert_eq!(desk.on(Input::LinkUp(greeting(3))), [Action::DropPeer(id(3))]);
    assert!(dials(&desk.pass(ms(10_000))).is_empty());
}

#[test]
fn a_peer_that_cannot_be_reached_is_dialled_again_and_again_ever_more_slowly() {
    let mut desk = Desk::fresh(view(&[(2, MemberState::Up)]), false);
    let mut n_dials = [0; 6];
    for second in 0..60 {
        for _ in 0..10 {
            if !dials(&desk.pass(ms(100))).is_empty() {
                n_dials[second / 10] += 1;
                desk.dial_fails(2, false, false, false);
            }
        }
    }
    assert!((4..=10).contains(&n_dials[0]), "{n_dials:?}");
    assert!(n_dials[1..].iter().all(|n| (1..=5).contains(n)), "{n_dials:?}");
}

/// Who was taken out and does not know it yet dials everybody, and everybody drops it.
#[test]
fn a_link_that_is_dropped_at_once_is_dialled_again_ever_more_slowly() {
    let mut desk = Desk::fresh(view(&[(2, MemberState::Up)]), false);
    let mut n_dials = 0;
    for _ in 0..100 {
        if !dials(&desk.pass(ms(100))).is_empty() {
            n_dials += 1;
            desk.on(Input::LinkUp(greeting(2)));
            desk.pass(ms(10));
            assert!(dials(&desk.on(Input::LinkDown(id(2)))).is_empty());
        }
    }
    assert!((4..=10).contains(&n_dials), "{n_dials}");
    desk.on(Input::LinkUp(greeting(2)));
    desk.pass(ms(2_000));
    assert_eq!(dials(&desk.on(Input::LinkDown(id(2)))).len(), 1, "it stood: who is reset is dialled at once");
}

#[test]
fn a_node_that_never_joined_leaves_at_once() {
    let mut desk = Desk::fresh(view(&[(2, MemberState::Up)]), false);
    desk.pass(ms(100));
    desk.on(Input::Drain);
    assert!(changes(&desk.on(Input::LinkUp(greeting(2)))).is_empty(), "who is to be drained does not join");
    let left = desk.on(Input::Leave);
    assert_eq!(left, [Action::DropPeer(id(2)), Action::Left]);
}
