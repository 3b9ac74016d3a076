//! Several nodes around one row.

use protocol::cluster::MemberState;

use super::world::{World, ms, name};
use crate::cluster::membership::{Input, Note};

#[test]
fn nodes_started_at_once_all_come_up() {
    for (n_nodes, seed) in [(2, 1), (3, 2), (5, 3), (9, 4)] {
        let mut world = World::new(n_nodes, seed);
        (0..n_nodes).for_each(|node| world.start(node));
        let took = world.until(ms(10_000), World::settled);
        assert!(took < ms(3_000), "{n_nodes} nodes took {took:?}");
        assert_eq!(world.runs.len(), n_nodes, "none of them had to begin again");
    }
}

#[test]
fn nodes_started_one_after_another_in_any_order_all_come_up() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let mut world = World::new(3, 1);
        for node in order {
            world.start(node);
            world.run(ms(4_000));
            assert_eq!(world.state(node), Some(MemberState::Up));
        }
        assert!(world.settled());
    }
}

#[test]
fn a_member_serves_only_once_beats_go_both_ways_with_all_that_are_up() {
    let mut world = World::new(3, 5);
    world.start(0);
    world.start(1);
    world.run(ms(5_000));
    world.cut(2, 1, ms(2_500));
    world.start(2);
    world.run(ms(2_400));
    assert_eq!(world.state(2), Some(MemberState::Joining), "it met one of two");
    world.until(ms(10_000), World::settled);
}

#[test]
fn a_killed_node_is_taken_out_within_a_second() {
    for seed in 0..10 {
        let mut world = World::up(3);
        world.run(ms(seed * 57));
        let id = world.id(1);
        world.kill(1);
        let took = world.until(ms(5_000), |w| w.row.live().all(|m| m.incarnation != id));
        assert!(took < ms(1_000), "{took:?}");
        world.until(ms(5_000), World::settled);
    }
}

#[test]
fn a_paused_node_is_taken_out_and_comes_back_as_another_run() {
    let mut world = World::up(3);
    let id = world.id(1);
    world.pause(1, ms(30_000));
    let took = world.until(ms(10_000), |w| w.row.live().all(|m| m.incarnation != id));
    assert!((ms(2_500)..ms(4_000)).contains(&took), "{took:?}");
    world.run(ms(40_000));
    assert!(world.settled());
    assert_ne!(world.id(1), id);
    let woken = world.runs.iter().find(|run| run.id == id).unwrap();
    assert!(woken.dead && !woken.notes.iter().any(|note| matches!(note, Note::Removes(_))), "it accused nobody");
}

#[test]
fn a_short_pause_harms_nobody() {
    let mut world = World::up(3);
    let version = world.row.version;
    world.pause(1, ms(2_500));
    world.run(ms(10_000));
    assert_eq!(world.row.version, version);
}

#[test]
fn a_node_that_nobody_hears_is_taken_out_by_the_others_and_not_the_other_way_round() {
    let mut world = World::up(3);
    let (id, others) = (world.id(1), [world.id(0), world.id(2)]);
    [0, 2].iter().for_each(|to| world.cut(1, *to, ms(20_000)));
    world.until(ms(5_000), |w| w.row.live().all(|m| m.incarnation != id));
    assert!(others.iter().all(|other| world.row.member(*other).is_some_and(|m| m.state == MemberState::Up)));
    world.run(ms(30_000));
    assert!(world.settled());
}

#[test]
fn a_node_that_hears_nobody_is_taken_out_by_the_others_and_not_the_other_way_round() {
    let mut world = World::up(3);
    let (id, others) = (world.id(1), [world.id(0), world.id(2)]);
    [0, 2].iter().for_each(|from| world.cut(*from, 1, ms(20_000)));
    world.until(ms(5_000), |w| w.row.live().all(|m| m.incarnation != id));
    assert!(others.iter().all(|other| world.row.member(*other).is_some_and(|m| m.state == MemberState::Up)));
    world.run(ms(30_000));
    assert!(world.settled());
}

#[test]
fn of_two_that_accuse_each_other_at_once_one_stays() {
    let mut world = World::up(2);
    let version = world.row.version;
    world.cut(0, 1, ms(15_000));
    world.cut(1, 0, ms(15_000));
    world.run(ms(10_000));
    assert_eq!(world.row.up().count(), 1);
    assert!(world.row.version <= version + 3, "gone, forgotten, and back as joining: {:?}", world.row);
    world.run(ms(20_000));
    assert!(world.settled());
}

#[test]
fn of_a_cluster_cut_in_two_the_larger_part_works_on() {
    let mut world = World::up(5);
    for (a, b) in [0, 1].into_iter().flat_map(|a| [2, 3, 4].map(|b| (a, b))) {
        world.cut(a, b, ms(20_000));
        world.cut(b, a, ms(20_000));
    }
    world.run(ms(8_000));
    let up: Vec<_> = (0..5).filter(|node| world.state(*node) == Some(MemberState::Up)).collect();
    assert_eq!(up, [2, 3, 4]);
    world.run(ms(30_000));
    assert!(world.settled());
}

#[test]
fn two_that_lost_only_the_link_between_them_go_on_with_one_of_them_waiting() {
    let mut world = World::up(3);
    world.cut(0, 1, ms(20_000));
    world.cut(1, 0, ms(20_000));
    world.run(ms(10_000));
    assert_eq!(world.row.up().count(), 2, "{:?}", world.row);
    world.run(ms(30_000));
    assert!(world.settled());
}

#[test]
fn a_reset_link_is_made_again_and_nobody_is_accused() {
    let mut world = World::up(3);
    let version = world.row.version;
    for _ in 0..10 {
        world.reset(0, 1);
        world.run(ms(700));
    }
    world.run(ms(2_000));
    assert_eq!(world.row.version, version);
    assert!(world.settled());
}

#[test]
fn a_node_that_restarts_at_once_makes_its_earlier_run_gone_in_the_write_in_which_it_joins() {
    let mut world = World::up(3);
    world.kill(1);
    world.start(1);
    world.until(ms(10_000), World::settled);
    let joined = world.written.iter().find(|(_, view)| view.members.iter().any(|m| m.incarnation == world.id(1)));
    assert_eq!(joined.unwrap().1.live().filter(|m| m.node == name(1)).count(), 1);
}

#[test]
fn with_the_store_away_for_everybody_the_view_stays_as_it_is() {
    let mut world = World::up(3);
    let row = world.row.clone();
    (0..3).for_each(|node| world.take_store(node, ms(60_000)));
    world.run(ms(5_000));
    world.kill(1);
    world.run(ms(50_000));
    assert_eq!(world.row, row);
    world.run(ms(20_000));
    assert!(world.settled() && world.row.members.len() == 2, "and then the dead one is taken out: {:?}", world.row);
    assert_eq!(world.runs.len(), 3, "and nobody else");
}

#[test]
fn a_store_that_comes_back_a_moment_earlier_for_some_unplaces_nobody() {
    let mut world = World::up(3);
    let version = world.row.version;
    (0..3).for_each(|node| world.take_store(node, ms(20_000 + 700 * node as u64)));
    world.run(ms(40_000));
    assert_eq!(world.row.version, version);
}

#[test]
fn a_node_without_the_store_is_unplaced_after_two_seconds_and_placed_again_when_it_is_back() {
    let mut world = World::up(3);
    let id = world.id(1);
    world.take_store(1, ms(10_000));
    let took = world.until(ms(5_000), |w| w.row.member(id).unwrap().state == MemberState::NoStore);
    assert!((ms(2_000)..ms(3_500)).contains(&took), "{took:?}");
    world.until(ms(15_000), World::settled);
    assert_eq!(world.id(1), id, "it was a member all the time");
}

#[test]
fn a_drained_node_is_placed_again_when_it_is_undrained() {
    let mut world = World::up(3);
    let id = world.id(1);
    world.tell(1, Input::Drain);
    let took = world.until(ms(1_000), |w| w.row.member(id).unwrap().state == MemberState::Draining);
    assert!(took < ms(200), "{took:?}");
    world.run(ms(10_000));
    assert_eq!(world.state(1), Some(MemberState::Draining), "and stays so");
    world.tell(1, Input::Undrain);
    world.until(ms(1_000), World::settled);
}

#[test]
fn a_node_that_leaves_is_gone_before_it_ends() {
    let mut world = World::up(3);
    let id = world.id(1);
    world.tell(1, Input::Drain);
    world.run(ms(1_000));
    world.tell(1, Input::Leave);
    world.until(ms(1_000), |w| w.row.member(id).is_none_or(|m| m.state == MemberState::Gone));
    world.until(ms(5_000), World::settled);
    assert_eq!(world.running(1), None);
}

#[test]
fn after_all_were_killed_one_alone_serves_when_the_slots_of_the_others_stood_still() {
    let mut world = World::up(3);
    (0..3).for_each(|node| world.kill(node));
    world.start(0);
    world.run(ms(10_000));
    let unready = world.snapshot(0).unready;
    let says = |words: &str| assert!(unready[0].contains(words), "{unready:?}");
    says("joining the cluster: n1, n2 silent, and without a majority");
    says("stood still for 30 s, in about 2");
    let took = ms(10_000) + world.until(ms(60_000), World::settled);
    assert!((ms(30_000)..ms(40_000)).contains(&took), "{took:?}");
    assert_eq!(world.snapshot(0).unready, [""; 0]);
}

#[test]
fn who_is_left_alone_of_three_serves_and_says_what_waits_and_until_when() {
    let mut world = World::up(3);
    (1..3).for_each(|node| world.kill(node));
    world.run(ms(10_000));
    let snapshot = world.snapshot(0);
    assert_eq!(snapshot.unready, [""; 0]);
    let says = |words: &str| assert!(snapshot.degraded[0].contains(words), "{:?}", snapshot.degraded);
    says("what is placed on other nodes waits: n1, n2 silent");
    says("in about 2");
    world.until(ms(60_000), World::settled);
    assert_eq!(world.snapshot(0).degraded, [""; 0]);
}

#[test]
fn who_does_not_reach_the_others_says_whom() {
    let mut world = World::up(3);
    for node in [1, 2] {
        world.cut(0, node, ms(60_000));
        world.cut(node, 0, ms(60_000));
    }
    world.run(ms(2_500));
    let snapshot = world.snapshot(0);
    assert_eq!(snapshot.degraded, ["what is placed on other nodes waits: no beats both ways with n1, n2"]);
}

#[test]
fn after_all_were_killed_they_serve_as_soon_as_all_are_back() {
    let mut world = World::up(3);
    (0..3).for_each(|node| world.kill(node));
    (0..3).for_each(|node| world.start(node));
    let took = world.until(ms(60_000), World::settled);
    assert!(took < ms(10_000), "{took:?}");
}

#[test]
fn what_a_gone_member_left_is_remembered_until_everybody_has_told_it() {
    let mut world = World::up(3);
    world.untold = true;
    let id = world.id(1);
    world.kill(1);
    world.run(ms(20_000));
    assert_eq!(world.row.member(id).unwrap().state, MemberState::Gone);
    let version = world.row.version;
    world.tell(0, Input::Told { gone: id, version });
    world.run(ms(1_000));
    assert_eq!(world.row.member(id).unwrap().reported, [world.id(0)]);
    assert_eq!(world.row.version, version, "a report places nothing anew");
    world.tell(2, Input::Told { gone: id, version });
    world.run(ms(1_000));
    assert!(world.settled());
}

#[test]
fn a_node_of_another_cluster_does_not_join_and_says_why() {
    let mut world = World::up(2);
    world.n_nodes = 3;
    world.misfits.insert(2);
    let version = world.row.version;
    world.start(2);
    world.run(ms(60_000));
    assert_eq!(world.row.version, version);
    let run = &world.runs[world.running(2).unwrap()];
    let unready = run.state.snapshot(world.now).unready;
    assert!(unready[0].ends_with(": another cluster"), "{unready:?}");
    world.misfits.clear();
    world.until(ms(60_000), World::settled);
}
