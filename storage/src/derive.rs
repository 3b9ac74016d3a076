//! What follows from events for the rows beside the log: one place, whatever the store. Pure; it never reads a row.

use protocol::{Body, Event, Kind, Millis, Role, Seq, UserId};

/// One change of a row beside the log. Applying it again, or after later ones, changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// The conversation's own row.
    Begin { kind: Kind, title: Option<String>, pair: Option<(UserId, UserId)>, created_at: Millis },
    /// A new title.
    Title(Seq, String),
    /// A member from here on; everything before counts as read. Does nothing to who is one already.
    Enter { user: UserId, role: Role, seq: Seq, post_no: u64 },
    /// No longer a member.
    Exit { user: UserId, seq: Seq },
    /// Another role.
    Role { user: UserId, role: Role, seq: Seq },
    /// Who posts has read up to their own post.
    Read { user: UserId, seq: Seq, post_no: u64 },
}

/// The changes that follow from `events`, in order.
pub(crate) fn changes(events: &[Event]) -> Vec<Change> {
    let mut changes = Vec::with_capacity(1);
    for event in events {
        let (seq, post_no) = (event.seq, event.post_no);
        let enter = |user, role| Change::Enter { user, role, seq, post_no };
        match &event.body {
            Body::Post(_) => read(&mut changes, event.by, seq, post_no),
            Body::Create(create) => {
                let direct = create.conversation_kind == Kind::Direct;
                let pair = create.members.first().copied().zip(create.members.last().copied());
                changes.push(Change::Begin {
                    kind: create.conversation_kind,
                    title: create.title.clone(),
                    pair: pair.filter(|_| direct),
                    created_at: event.at,
                });
                for (i, &user) in create.members.iter().enumerate() {
                    changes.push(enter(user, if i == 0 && !direct { Role::Owner } else { Role::Member }));
                }
            }
            Body::Join(join) => changes.extend(join.users.iter().map(|&user| enter(user, Role::Member))),
            Body::Leave(leave) => {
                changes.push(Change::Exit { user: event.by, seq });
                changes.extend(leave.heir.map(|user| Change::Role { user, role: Role::Owner, seq }));
            }
            Body::Remove(remove) => changes.push(Change::Exit { user: remove.user, seq }),
            Body::Role(change) => changes.push(Change::Role { user: change.user, role: change.role, seq }),
            Body::Settings(settings) => changes.push(Change::Title(seq, settings.title.clone())),
            Body::Other { .. } => {}
        }
    }
    changes
}

/// A sender's posts raise one mark once, but for those before and after a change of members: they may be one only then.
fn read(changes: &mut Vec<Change>, by: UserId, at: Seq, number: u64) {
    for change in changes.iter_mut().rev() {
        match change {
            Change::Read { user, seq, post_no } if *user == by => {
                (*seq, *post_no) = (at, number);
                return;
            }
            Change::Read { .. } => {}
            _ => break,
        }
    }
    changes.push(Change::Read { user: by, seq: at, post_no: number });
}

#[cfg(test)]
mod tests {
    use protocol::{EventId, Post, event};

    use super::*;

    fn event(seq: u64, post_no: u64, by: u8, body: Body) -> Event {
        let (id, at) = (EventId([seq as u8; 16]), Millis(seq));
        Event { seq: Seq(seq), id, by: user(by), cid: None, request_hash: [0; 16], at, post_no, body }
    }

    fn user(n: u8) -> UserId {
        UserId([n; 16])
    }

    fn create(kind: Kind) -> Event {
        let members = vec![user(1), user(2)];
        event(1, 0, 1, Body::Create(event::Create { conversation_kind: kind, title: None, members }))
    }

    #[test]
    fn the_first_of_a_group_owns_it_and_nobody_owns_a_direct_conversation() {
        let roles = |kind| -> Vec<Role> {
            let changes = changes(&[create(kind)]);
            changes.iter().filter_map(|c| if let Change::Enter { role, .. } = c { Some(*role) } else { None }).collect()
        };
        assert_eq!(roles(Kind::Group), [Role::Owner, Role::Member]);
        assert_eq!(roles(Kind::Channel), [Role::Owner, Role::Member]);
        assert_eq!(roles(Kind::Direct), [Role::Member, Role::Member]);
    }

    #[test]
    fn only_a_direct_conversation_has_a_pair() {
        let pair = |kind| match changes(&[create(kind)]).remove(0) {
            Change::Begin { pair, .. } => pair,
            other => panic!("{other:?}"),
        };
        assert_eq!(pair(Kind::Direct), Some((user(1), user(2))));
        assert_eq!(pair(Kind::Group), None);
    }

    #[test]
    fn posts_of_one_sender_raise_one_mark_once() {
        let post = |seq, post_no, by| event(seq, post_no, by, Body::Post(Post::default()));
        let read = |by, seq, post_no| Change::Read { user: user(by), seq: Seq(seq), post_no };
        assert_eq!(changes(&[post(5, 1, 1), post(6, 2, 2), post(7, 3, 1)]), [read(1, 7, 3), read(2, 6, 2)]);
    }

    #[test]
    fn who_joins_between_two_posts_has_read_the_second() {
        let post = |seq, post_no| event(seq, post_no, 3, Body::Post(Post::default()));
        let join = event(6, 1, 1, Body::Join(event::Join { users: vec![user(3)] }));
        let read = |seq, post_no| Change::Read { user: user(3), seq: Seq(seq), post_no };
        let enter = Change::Enter { user: user(3), role: Role::Member, seq: Seq(6), post_no: 1 };
        assert_eq!(changes(&[post(5, 1), join, post(7, 2)]), [read(5, 1), enter, read(7, 2)]);
    }

    #[test]
    fn an_owner_who_leaves_makes_the_heir_owner() {
        let leave = event(9, 0, 1, Body::Leave(event::Leave { heir: Some(user(2)) }));
        let (user_1, user_2, seq) = (user(1), user(2), Seq(9));
        let expected = [Change::Exit { user: user_1, seq }, Change::Role { user: user_2, role: Role::Owner, seq }];
        assert_eq!(changes(&[leave]), expected);
    }
}
