//! What is placed where, and that it stays so.

use std::collections::HashMap;

use protocol::cluster::{Member, MemberState};

use super::*;

fn view(nodes: &[(&str, u32)]) -> View {
    let members = nodes.iter().enumerate().map(|(i, (name, weight))| Member {
        node: NodeId::try_from((*name).to_owned()).unwrap(),
        incarnation: run(i as u8 + 1),
        address: format!("{name}:7946"),
        weight: *weight,
        state: MemberState::Up,
        reported: Vec::new(),
    });
    View { version: 1, revision: 1, members: members.collect() }
}

fn run(n: u8) -> Incarnation {
    Incarnation([n; 16])
}

fn conversations(n: u64) -> impl Iterator<Item = ConversationId> {
    (0..n).map(|i| ConversationId((u128::from(mix(i)) << 64 | u128::from(mix(!i))).to_be_bytes()))
}

fn owners(view: &View, n: u64) -> Vec<Incarnation> {
    let placement = Placement::of(view);
    conversations(n).map(|c| placement.conversation(c).unwrap()).collect()
}

fn shares(owners: &[Incarnation]) -> HashMap<Incarnation, f64> {
    let mut shares = HashMap::new();
    for owner in owners {
        *shares.entry(*owner).or_default() += 1.0 / owners.len() as f64;
    }
    shares
}

/// The first 48 conversations `[i; 16]` and slices, as digits of the nodes that own them.
fn digits(view: &View) -> (String, String) {
    let placement = Placement::of(view);
    let digit = |owner: Option<Incarnation>| char::from(b'0' + owner.unwrap().0[0]);
    let conversations = (0..48).map(|i| digit(placement.conversation(ConversationId([i; 16]))));
    (conversations.collect(), (0..48).map(|i| digit(placement.slice(Slice(i)))).collect())
}

/// Another release beside this one must agree. The values are those of a second program, which uses real logarithms.
#[test]
fn every_release_places_the_same() {
    let (conversations, slices) = digits(&view(&[("n1", 1), ("n2", 1), ("n3", 1)]));
    assert_eq!(conversations, "333112333123112312312133232132211231132333233222");
    assert_eq!(slices, "211212112212312313111132112323331221232323312212");
    let (conversations, slices) = digits(&view(&[("n1", 1), ("n2", 2), ("n3", 5)]));
    assert_eq!(conversations, "333312333323232322333333232332331333333333233222");
    assert_eq!(slices, "333313133213332323333132113323331221332333333232");
}

#[test]
fn equal_nodes_get_equal_shares() {
    let names: Vec<_> = (0..10).map(|n| format!("starling-{n}")).collect();
    let nodes: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    for share in shares(&owners(&view(&nodes), 50_000)).values() {
        assert!((share - 0.1).abs() < 0.005, "{share}");
    }
}

#[test]
fn shares_follow_weights() {
    let shares = shares(&owners(&view(&[("a", 1), ("b", 2), ("c", 1), ("d", 96)]), 50_000));
    for (n, expected) in [(1, 0.01), (2, 0.02), (3, 0.01), (4, 0.96)] {
        assert!((shares[&run(n)] - expected).abs() < 0.003, "{n}: {} is not {expected}", shares[&run(n)]);
    }
}

#[test]
fn a_node_that_goes_moves_only_what_it_had() {
    let all = view(&[("a", 1), ("b", 3), ("c", 1), ("d", 2)]);
    let mut without = all.clone();
    without.members[1].state = MemberState::Draining;
    for (before, after) in owners(&all, 20_000).into_iter().zip(owners(&without, 20_000)) {
        assert!(before == after || before == run(2));
    }
    let before = Placement::of(&all);
    let after = Placement::of(&without);
    for slice in (0..PRESENCE_SLICES).map(Slice) {
        assert!(before.slice(slice) == after.slice(slice) || before.slice(slice) == Some(run(2)));
    }
}

#[test]
fn a_node_that_comes_back_gets_its_own_again() {
    let before = view(&[("a", 1), ("b", 1), ("c", 1)]);
    let mut after = before.clone();
    let mut returned = after.members.remove(0);
    returned.incarnation = run(9);
    after.members.push(returned);
    for (before, after) in owners(&before, 1_000).into_iter().zip(owners(&after, 1_000)) {
        assert!(before == after || (before, after) == (run(1), run(9)));
    }
}

#[test]
fn only_members_that_are_up_own_anything() {
    for state in [MemberState::Joining, MemberState::NoStore, MemberState::Draining, MemberState::Gone] {
        let mut view = view(&[("a", 1), ("b", 1)]);
        view.members[0].state = state;
        assert!(owners(&view, 100).iter().all(|owner| *owner == run(2)));
        view.members[1].state = state;
        let nobody = Placement::of(&view);
        assert_eq!(nobody.conversation(ConversationId([1; 16])), None);
        assert_eq!(nobody.slice(Slice(1)), None);
    }
}

#[test]
fn a_weight_out_of_bounds_counts_as_the_nearest_one() {
    assert_eq!(owners(&view(&[("a", 0), ("b", 1)]), 100), owners(&view(&[("a", 1), ("b", 1)]), 100));
    assert_eq!(owners(&view(&[("a", u32::MAX), ("b", 1)]), 100), owners(&view(&[("a", 100), ("b", 1)]), 100));
}

#[test]
fn the_logarithm_falls_with_its_argument_and_is_off_by_less_than_a_millionth_of_a_share() {
    let hashes = (0..64).flat_map(|zeros| (0..256).map(move |n| (u64::MAX - mix(n) / 2) >> zeros));
    let mut hashes: Vec<_> = hashes.filter(|hash| *hash > 0).collect();
    hashes.sort_unstable();
    assert!(hashes.windows(2).all(|pair| cost(pair[0]) >= cost(pair[1])));
    for hash in hashes {
        let exact = 64.0 - ((hash | 1) as f64).log2();
        assert!((cost(hash) as f64 / (1u64 << 32) as f64 - exact).abs() < 3e-6, "{hash}");
    }
}
