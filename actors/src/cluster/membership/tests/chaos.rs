//! Many nodes under random faults. Every run can be repeated from its seed.

use std::collections::BTreeSet;

use super::world::{World, ms};

/// Runs, each of about two minutes.
const SEEDS: u64 = 40;

#[test]
fn whatever_happens_the_row_changes_one_by_one_and_when_the_faults_stop_everybody_is_up() {
    for seed in 1_000..1_000 + SEEDS {
        let mut world = live_through(seed);
        everybody_is_up_and_stays_so(&mut world, seed);
        each_revision_is_written_once_and_gone_by_in_order(&world, seed);
        who_was_gone_never_comes_back(&world, seed);
    }
}

fn live_through(seed: u64) -> World {
    let mut world = World::new(3 + (seed % 3) as usize, seed);
    world.beats_lost = world.random.below(10);
    world.store_slow = world.random.below(20);
    world.changes_unknown = world.random.below(40);
    world.seeds = world.random.below(2) == 0;
    (0..world.n_nodes).for_each(|node| world.start(node));
    for _ in 0..12 {
        let pause = ms(world.random.below(8_000));
        world.run(pause);
        strike(&mut world);
    }
    // the last faults end by themselves
    world.run(ms(16_000));
    (world.beats_lost, world.store_slow, world.changes_unknown) = (0, 0, 0);
    (0..world.n_nodes).for_each(|node| world.start(node));
    world
}

fn strike(world: &mut World) {
    let n_nodes = world.n_nodes as u64;
    let node = world.random.below(n_nodes) as usize;
    let other = (node + 1 + world.random.below(n_nodes - 1) as usize) % world.n_nodes;
    let how_long = ms(500 + world.random.below(15_000));
    match world.random.below(9) {
        0 => world.kill(node),
        1 => {
            world.kill(node);
            world.start(node);
        }
        2 => world.pause(node, how_long),
        3 => world.cut(node, other, how_long),
        4 => {
            world.cut(node, other, how_long);
            world.cut(other, node, how_long);
        }
        5 => {
            for other in (0..world.n_nodes).filter(|other| *other != node) {
                world.cut(node, other, how_long);
                world.cut(other, node, how_long);
            }
        }
        6 => world.reset(node, other),
        7 => world.take_store(node, how_long),
        _ => (0..world.n_nodes).for_each(|node| world.take_store(node, how_long)),
    }
}

fn everybody_is_up_and_stays_so(world: &mut World, seed: u64) {
    let from = world.now;
    let all = |world: &World| world.settled() && world.row.members.len() == world.n_nodes;
    while !all(world) {
        world.run(ms(500));
        let calm = world.now - from;
        assert!(calm < ms(60_000), "seed {seed}: not settled {calm:?} after the last fault:\n{}", world.story(0));
    }
    let n_changes = world.written.len();
    world.run(ms(15_000));
    assert_eq!(world.written.len(), n_changes, "seed {seed}: changed in peace:\n{}", world.story(n_changes));
}

fn each_revision_is_written_once_and_gone_by_in_order(world: &World, seed: u64) {
    let revisions = world.written.iter().map(|(_, view)| view.revision);
    assert!(revisions.eq(1..=world.written.len() as u64), "seed {seed}");
    for run in &world.runs {
        assert!(run.installed.is_sorted_by(|a, b| a.version < b.version), "seed {seed}");
        for view in &run.installed {
            assert_eq!(view, &world.written[view.revision as usize - 1].1, "seed {seed}: nobody wrote that");
        }
    }
}

fn who_was_gone_never_comes_back(world: &World, seed: u64) {
    let (mut before, mut out) = (BTreeSet::new(), BTreeSet::new());
    for (_, view) in &world.written {
        let live: BTreeSet<_> = view.live().map(|member| member.incarnation).collect();
        out.extend(before.difference(&live).copied());
        assert!(live.is_disjoint(&out), "seed {seed}:\n{}", world.story(0));
        before = live;
    }
}
