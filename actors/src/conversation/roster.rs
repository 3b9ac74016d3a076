//! Who is in a conversation and what each may do. Judges wishes; pure.

use protocol::{
    Body, Code, Error, Event, Kind, Role, Seq, UserId,
    event::{Join, Leave, Remove, RoleChange, Settings},
    peer::Change,
};

use crate::{
    maps::HashMap,
    refusals::{no_such_conversation, too_many_members},
};

/// A conversation's members and settings at one place of its log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Roster {
    pub(crate) kind: Kind,
    pub(crate) title: Option<String>,
    pub(crate) members: HashMap<UserId, Standing>,
}

/// One member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Standing {
    pub(crate) role: Role,
    pub(crate) joined: Seq,
}

/// What a wish comes to.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// This event.
    Event(Body),
    /// It is so already.
    Unchanged,
    /// No, for good.
    Refused(Error),
}

fn forbidden(why: &str) -> Verdict {
    Verdict::Refused(Error::new(Code::Forbidden, why))
}

impl Roster {
    /// What the log begins with.
    pub(crate) fn created(kind: Kind, title: Option<String>, members: &[UserId]) -> Roster {
        let role = |nth| if nth == 0 && kind != Kind::Direct { Role::Owner } else { Role::Member };
        let members = members
            .iter()
            .enumerate()
            .map(|(nth, user)| (*user, Standing { role: role(nth), joined: Seq(1) }))
            .collect();
        Roster { kind, title, members }
    }

    /// Judges a wish of `by` at this place of the log.
    pub(crate) fn judge(&self, by: UserId, change: &Change, members_max: usize) -> Verdict {
        let Some(role) = self.members.get(&by).map(|m| m.role) else {
            return Verdict::Refused(no_such_conversation());
        };
        match change {
            Change::Create { .. } => Verdict::Unchanged,
            Change::Post(envelope) => match (self.kind, role) {
                (Kind::Channel, Role::Member) => forbidden("only the owner and admins post in a channel"),
                _ => match Body::decode(0, envelope) {
                    Ok(body) => Verdict::Event(body),
                    Err(e) => Verdict::Refused(Error::new(Code::BadFrame, e.to_string())),
                },
            },
            _ if self.kind == Kind::Direct => forbidden("a direct conversation has no settings, and its two stay"),
            Change::Leave => Verdict::Event(Body::Leave(Leave { heir: self.heir_of(by) })),
            _ if role == Role::Member => forbidden("only the owner and admins change a conversation"),
            Change::Join(users) => self.judge_join(users, members_max),
            Change::Remove(user) => match self.members.get(user).map(|m| m.role) {
                None => Verdict::Refused(Error::new(Code::NotFound, "that user is not a member")),
                Some(theirs) if theirs >= role => forbidden("a role as high as one's own cannot be removed"),
                Some(_) => Verdict::Event(Body::Remove(Remove { user: *user })),
            },
            Change::Role(user, wanted) => self.judge_role(role, *user, *wanted),
            Change::Title(title) if self.title.as_ref() == Some(title) => Verdict::Unchanged,
            Change::Title(title) => Verdict::Event(Body::Settings(Settings { title: title.clone() })),
        }
    }

    fn judge_join(&self, users: &[UserId], members_max: usize) -> Verdict {
        let mut fresh: Vec<UserId> = Vec::new();
        for user in users {
            if !self.members.contains_key(user) && !fresh.contains(user) {
                fresh.push(*user);
            }
        }
        if fresh.is_empty() {
            return Verdict::Unchanged;
        }
        if self.members.len() + fresh.len() > members_max {
            return Verdict::Refused(too_many_members(members_max));
        }
        Verdict::Event(Body::Join(Join { users: fresh }))
    }

    fn judge_role(&self, own: Role, user: UserId, wanted: Role) -> Verdict {
        if own != Role::Owner {
            return forbidden("only an owner gives and takes roles");
        }
        match self.members.get(&user).map(|m| m.role) {
            None => Verdict::Refused(Error::new(Code::NotFound, "that user is not a member")),
            Some(theirs) if theirs == wanted => Verdict::Unchanged,
            Some(Role::Owner) if self.owners() == 1 => {
                Verdict::Refused(Error::new(Code::Conflict, "the last owner stays owner; name another first"))
            }
            Some(_) => Verdict::Event(Body::Role(RoleChange { user, role: wanted })),
        }
    }

    fn owners(&self) -> usize {
        self.members.values().filter(|m| m.role == Role::Owner).count()
    }

    /// Who becomes owner when `leaver` goes: if they are the last, the longest-standing admin, else member.
    fn heir_of(&self, leaver: UserId) -> Option<UserId> {
        if self.members.get(&leaver)?.role != Role::Owner || self.owners() > 1 {
            return None;
        }
        let others = self.members.iter().filter(|(user, _)| **user != leaver);
        others.min_by_key(|(user, m)| (std::cmp::Reverse(m.role), m.joined, **user)).map(|(user, _)| *user)
    }

    /// Moves on by one event.
    pub(crate) fn apply(&mut self, event: &Event) {
        match &event.body {
            Body::Create(create) => {
                *self = Roster::created(create.conversation_kind, create.title.clone(), &create.members)
            }
            Body::Join(join) => {
                for user in &join.users {
                    self.members.insert(*user, Standing { role: Role::Member, joined: event.seq });
                }
            }
            Body::Leave(leave) => {
                self.members.remove(&event.by);
                if let Some(heir) = leave.heir.and_then(|heir| self.members.get_mut(&heir)) {
                    heir.role = Role::Owner;
                }
            }
            Body::Remove(remove) => {
                self.members.remove(&remove.user);
            }
            Body::Role(change) => {
                if let Some(member) = self.members.get_mut(&change.user) {
                    member.role = change.role;
                }
            }
            Body::Settings(settings) => self.title = Some(settings.title.clone()),
            Body::Post(_) | Body::Other { .. } => {}
        }
    }
}
