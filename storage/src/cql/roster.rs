//! Which members' rows an event changes, decided against the rows as they stand. Pure; it reads and writes nothing.
//!
//! Deciding again, on rows that hold a part of the changes or all of them, gives the same changes: what an event did stays
//! visible in the row (`joined_seq`, `left_seq`) until a later one, and a later one changes only what is whole.

use std::collections::{HashMap, HashSet};

use protocol::{Seq, UserId};

use crate::{derive::Change, directory::Member};

/// Of the changes of one event those that take effect, and by how many members that makes more.
pub(super) fn effective(changes: &[Change], rows: &HashMap<UserId, Member>) -> (Vec<Change>, i64) {
    let mut named = HashSet::new();
    let mut more = 0;
    let takes_effect = |change: &&Change| match **change {
        Change::Enter { user, seq, .. } => {
            let enters = named.insert(user)
                && rows.get(&user).is_none_or(|row| {
                    // the second: it is this event that made them one
                    row.left_seq.is_some_and(|left| left < seq) || row.joined_seq == seq
                });
            more += i64::from(enters);
            enters
        }
        Change::Exit { user, seq } => {
            // the second: it is this event that ended it
            let exits = rows.get(&user).is_some_and(|row| is_member(row, seq) || row.left_seq == Some(seq));
            more -= i64::from(exits);
            exits
        }
        Change::Role { user, seq, .. } => rows.get(&user).is_some_and(|row| is_member(row, seq)),
        Change::Read { .. } | Change::Begin { .. } | Change::Title(..) => false,
    };
    let effective = changes.iter().filter(takes_effect).cloned().collect();
    (effective, more)
}

/// True for who is a member, and was one before this event already.
fn is_member(row: &Member, seq: Seq) -> bool {
    row.left_seq.is_none() && row.joined_seq < seq
}

#[cfg(test)]
mod tests {
    use protocol::{Role, push::Marks};

    use super::*;

    const USER: UserId = UserId([1; 16]);

    fn row(joined: u64, left: impl Into<Option<u64>>) -> Option<Member> {
        let (joined_seq, left_seq) = (Seq(joined), left.into().map(Seq));
        Some(Member { user: USER, role: Role::Member, joined_seq, left_seq, marks: Marks::default(), read_post: 0 })
    }

    fn enter(seq: u64) -> Change {
        Change::Enter { user: USER, role: Role::Member, seq: Seq(seq), post_no: 0 }
    }

    fn exit(seq: u64) -> Change {
        Change::Exit { user: USER, seq: Seq(seq) }
    }

    fn role(seq: u64) -> Change {
        Change::Role { user: USER, role: Role::Admin, seq: Seq(seq) }
    }

    fn more(change: Change, row: Option<Member>) -> Option<i64> {
        let (effective, more) = effective(&[change], &row.map(|row| (USER, row)).into_iter().collect());
        (!effective.is_empty()).then_some(more)
    }

    #[test]
    fn who_is_no_member_enters_and_who_is_one_does_not() {
        assert_eq!(more(enter(5), None), Some(1));
        assert_eq!(more(enter(5), row(2, 4)), Some(1));
        assert_eq!(more(enter(5), row(2, None)), None);
    }

    #[test]
    fn who_is_a_member_exits_and_changes_role() {
        assert_eq!(more(exit(5), row(2, None)), Some(-1));
        assert_eq!(more(role(5), row(2, None)), Some(0));
        for change in [exit(5), role(5)] {
            assert_eq!(more(change.clone(), None), None);
            assert_eq!(more(change, row(2, 4)), None);
        }
    }

    #[test]
    fn the_same_event_again_does_the_same_again() {
        assert_eq!(more(enter(5), row(5, None)), Some(1));
        assert_eq!(more(exit(5), row(2, 5)), Some(-1));
    }

    #[test]
    fn an_event_that_did_nothing_does_nothing_after_later_ones_either() {
        assert_eq!(more(enter(5), row(2, 8)), None);
        assert_eq!(more(enter(5), row(9, None)), None);
        assert_eq!(more(exit(5), row(9, None)), None);
        assert_eq!(more(role(5), row(9, None)), None);
    }

    #[test]
    fn who_is_named_twice_enters_once() {
        assert_eq!(effective(&[enter(5), enter(5)], &HashMap::new()), (vec![enter(5)], 1));
    }
}
