//! What a change of the view may do, and no more. Pure: who wants one, and when, is decided in `membership`; that nobody
//! overwrites another's is the store's affair.

use protocol::{
    Incarnation, NodeId,
    cluster::{Member, MemberState, View},
};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A run of a node becomes a member; every earlier run of the same node is gone.
    Join {
        /// Which node.
        node: NodeId,
        /// Which run of it.
        incarnation: Incarnation,
        /// Where its peers reach it.
        address: String,
        /// Its share.
        weight: u32,
    },
    /// It serves: it has met the others, or its store is back, or it is not to go after all.
    Up(Incarnation),
    /// It was up and cannot reach the store.
    NoStore(Incarnation),
    /// It is about to go.
    Draining(Incarnation),
    /// It is no member any more. There is no way back: it joins as another run.
    Gone(Incarnation),
    /// A member that is up has told its share of what a gone one left. When all of them have, it is forgotten.
    Report {
        /// Whose share is told.
        gone: Incarnation,
        /// Who told it.
        by: Incarnation,
    },
}

/// The view after `edits`, in their order, to be written in one go; `None` if they change nothing.
///
/// `revision` grows by one; `version` only if who is what changed, and then nobody has reported anything any more: each
/// share is another one now.
#[must_use]
pub fn edited(view: &View, edits: &[Edit]) -> Option<View> {
    let mut next = view.clone();
    for edit in edits {
        apply(&mut next.members, edit);
    }
    if next.members == view.members {
        return None;
    }
    next.revision += 1;
    if !who_is_what(&next).eq(who_is_what(view)) {
        next.version += 1;
        next.members.iter_mut().for_each(|member| member.reported.clear());
    }
    Some(next)
}

fn who_is_what(view: &View) -> impl Iterator<Item = (Incarnation, MemberState)> {
    view.members.iter().map(|member| (member.incarnation, member.state))
}

fn apply(members: &mut Vec<Member>, edit: &Edit) {
    use MemberState::{Draining, Gone, Joining, NoStore, Up};
    match edit {
        Edit::Join { node, incarnation, address, weight } => join(members, node, *incarnation, address, *weight),
        Edit::Up(who) => turn(members, *who, |from| matches!(from, Joining | NoStore | Draining), Up),
        Edit::NoStore(who) => turn(members, *who, |from| from == Up, NoStore),
        Edit::Draining(who) => turn(members, *who, |from| matches!(from, Joining | Up | NoStore), Draining),
        // whatever a later release had it do: a run that is no more does it no more
        Edit::Gone(who) => turn(members, *who, |from| from != Gone, Gone),
        Edit::Report { gone, by } => report(members, *gone, *by),
    }
}

fn join(members: &mut Vec<Member>, node: &NodeId, incarnation: Incarnation, address: &str, weight: u32) {
    if members.iter().any(|member| member.incarnation == incarnation) {
        return;
    }
    for earlier in members.iter_mut().filter(|member| member.node == *node) {
        earlier.state = MemberState::Gone;
    }
    members.push(Member {
        node: node.clone(),
        incarnation,
        address: address.to_owned(),
        weight,
        state: MemberState::Joining,
        reported: Vec::new(),
    });
}

fn turn(members: &mut [Member], who: Incarnation, from: impl Fn(MemberState) -> bool, to: MemberState) {
    if let Some(member) = members.iter_mut().find(|m| m.incarnation == who && from(m.state)) {
        member.state = to;
    }
}

fn report(members: &mut Vec<Member>, gone: Incarnation, by: Incarnation) {
    let up: Vec<_> = members.iter().filter(|m| m.state == MemberState::Up).map(|m| m.incarnation).collect();
    let Some(at) = members.iter().position(|m| m.incarnation == gone && m.state == MemberState::Gone) else { return };
    if !up.contains(&by) || members[at].reported.contains(&by) {
        return;
    }
    members[at].reported.push(by);
    if up.iter().all(|member| members[at].reported.contains(member)) {
        members.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Incarnation = Incarnation([1; 16]);
    const B: Incarnation = Incarnation([2; 16]);
    const C: Incarnation = Incarnation([3; 16]);

    fn join(node: &str, incarnation: Incarnation) -> Edit {
        let node = NodeId::try_from(node.to_owned()).unwrap();
        Edit::Join { node, incarnation, address: "host:1".into(), weight: 1 }
    }

    /// Members that joined, each turned to a state.
    fn view(members: &[(&str, Incarnation, MemberState)]) -> View {
        let mut view = View::default();
        for (node, incarnation, state) in members {
            view = edited(&view, &[join(node, *incarnation)]).unwrap();
            view.members.last_mut().unwrap().state = *state;
        }
        view
    }

    fn states(view: &View) -> Vec<(Incarnation, MemberState)> {
        who_is_what(view).collect()
    }

    #[test]
    fn who_joins_makes_earlier_runs_of_its_node_gone_in_the_same_write() {
        let before = view(&[("a", A, MemberState::Up), ("b", B, MemberState::Up)]);
        let after = edited(&before, &[join("a", C)]).unwrap();
        let expected = [(A, MemberState::Gone), (B, MemberState::Up), (C, MemberState::Joining)];
        assert_eq!(states(&after), expected);
        assert_eq!((after.version, after.revision), (before.version + 1, before.revision + 1));
        assert_eq!(edited(&after, &[join("a", C)]), None, "it is one already");
    }

    #[test]
    fn a_member_turns_only_from_where_it_may() {
        use MemberState::{Draining, Gone, Joining, NoStore, Up};
        let later = MemberState::try_from("warming_up".to_owned()).unwrap();
        let all = [Joining, Up, NoStore, Draining, Gone, later];
        let table = [
            (Edit::Up(A), vec![Joining, NoStore, Draining], Up),
            (Edit::NoStore(A), vec![Up], NoStore),
            (Edit::Draining(A), vec![Joining, Up, NoStore], Draining),
            (Edit::Gone(A), vec![Joining, Up, NoStore, Draining, later], Gone),
        ];
        for (edit, from, to) in table {
            for state in all {
                let after = edited(&view(&[("a", A, state)]), std::slice::from_ref(&edit));
                let expected = from.contains(&state).then_some(to);
                assert_eq!(after.map(|v| v.members[0].state), expected, "{edit:?} from {state:?}");
            }
        }
        assert_eq!(edited(&View::default(), &[Edit::Up(A)]), None, "who is no member turns into nothing");
    }

    #[test]
    fn several_edits_are_one_write() {
        let before = view(&[("a", A, MemberState::Up), ("b", B, MemberState::Up), ("c", C, MemberState::Up)]);
        let after = edited(&before, &[Edit::Gone(B), Edit::Gone(C), Edit::Up(A)]).unwrap();
        assert_eq!((after.version, after.revision), (before.version + 1, before.revision + 1));
        assert_eq!(after.live().count(), 1);
    }

    #[test]
    fn a_gone_one_is_forgotten_when_every_member_that_is_up_has_reported() {
        use MemberState::{Gone, Joining, Up};
        let before = view(&[("a", A, Up), ("b", B, Up), ("c", C, Gone), ("d", Incarnation([4; 16]), Joining)]);
        let one = edited(&before, &[Edit::Report { gone: C, by: A }]).unwrap();
        assert_eq!((one.version, one.revision), (before.version, before.revision + 1), "a report changes nobody");
        assert_eq!(edited(&one, &[Edit::Report { gone: C, by: A }]), None, "once");
        assert_eq!(edited(&one, &[Edit::Report { gone: C, by: Incarnation([4; 16]) }]), None, "only who is up");
        assert_eq!(edited(&one, &[Edit::Report { gone: A, by: B }]), None, "only of who is gone");
        let both = edited(&one, &[Edit::Report { gone: C, by: B }]).unwrap();
        assert_eq!((both.version, both.revision), (one.version + 1, one.revision + 1));
        assert!(both.member(C).is_none());
    }

    #[test]
    fn whatever_changes_who_is_what_asks_for_every_report_anew() {
        use MemberState::{Gone, Up};
        let before = view(&[("a", A, Up), ("b", B, Up), ("c", C, Gone)]);
        let reported = edited(&before, &[Edit::Report { gone: C, by: A }]).unwrap();
        let after = edited(&reported, &[Edit::Gone(B)]).unwrap();
        assert!(after.member(C).unwrap().reported.is_empty(), "what B had not told yet is shared out again");
        let alone = edited(&after, &[Edit::Report { gone: B, by: A }, Edit::Report { gone: C, by: A }]).unwrap();
        assert_eq!(states(&alone), [(A, Up)]);
    }
}
