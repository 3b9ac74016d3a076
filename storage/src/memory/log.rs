//! Logs and what follows from them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use protocol::{ClientId, ConversationId, Epoch, Event, Incarnation, Kind, Millis, Role, Seq, UserId, push::Marks};
use tokio::time::Instant;

use super::{Memory, faults::Operation};
use crate::{
    Error,
    derive::{Change, changes},
    directory::Member,
    log::{Appended, Claimed, Created, Head, Known, Lane, Log, Range, Standing, Tenancy, check, check_post_no},
};

#[derive(Default)]
pub(super) struct Logs {
    pub(super) of: HashMap<ConversationId, Conversation>,
    /// Who is a member of what now.
    pub(super) places: HashMap<UserId, BTreeSet<ConversationId>>,
}

pub(super) struct Conversation {
    epoch: Epoch,
    owner: Incarnation,
    pub(super) head: Head,
    events: Vec<Event>,
    index: HashMap<(UserId, ClientId), Known>,
    /// Not there until the first events were followed.
    pub(super) row: Option<Row>,
    pub(super) members: BTreeMap<UserId, Standee>,
    pub(super) members_now: u64,
}

pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) title: Option<String>,
    title_seq: Seq,
    pub(super) pair: Option<(UserId, UserId)>,
    pub(super) created_at: Millis,
}

/// A member's row with the event that last gave them a role: an older one must not.
pub(super) struct Standee {
    pub(super) member: Member,
    role_seq: Seq,
}

fn bytes(events: &[Event]) -> usize {
    events.iter().map(|event| event.body.encode().len()).sum()
}

#[async_trait]
impl Log for Memory {
    async fn create(&self, c: ConversationId, owner: Incarnation, events: &[Event]) -> Result<Created, Error> {
        self.meters.count(check(Seq(0), events, bytes(events)))?;
        let events = events.to_vec();
        self.call(Operation::Create, move |model| {
            if !matches!(changes(&events).first(), Some(Change::Begin { .. })) {
                return Err(Error::Refused("a log begins with an event that creates the conversation".into()));
            }
            if model.logs.of.contains_key(&c) {
                return Ok(Created::Exists);
            }
            let mut log = Conversation {
                epoch: Epoch(1),
                owner,
                head: Head::default(),
                events: Vec::new(),
                index: HashMap::new(),
                row: None,
                members: BTreeMap::new(),
                members_now: 0,
            };
            log.extend(events)?;
            let head = log.head;
            model.logs.of.insert(c, log);
            Ok(Created::Created { head })
        })
        .await
    }

    async fn claim(&self, c: ConversationId, owner: Incarnation, tail_from: Option<Seq>) -> Result<Claimed, Error> {
        self.call(Operation::Claim, move |model| {
            let Some(log) = model.logs.of.get_mut(&c) else { return Ok(Claimed::NotFound) };
            log.epoch = Epoch(log.epoch.0 + 1);
            log.owner = owner;
            let after = tail_from.map_or(log.head.settled, |from| from.min(log.head.settled));
            Ok(Claimed::Claimed(Tenancy { epoch: log.epoch, head: log.head, tail: log.above(after).to_vec() }))
        })
        .await
    }

    async fn append(
        &self, c: ConversationId, epoch: Epoch, head: Seq, settled: Seq, events: &[Event],
    ) -> Result<Appended, Error> {
        self.meters.count(check(head, events, bytes(events)))?;
        let (n_events, begun) = (events.len(), Instant::now());
        let events = events.to_vec();
        let append = move |model: &mut super::Model| {
            let Some(log) = model.logs.of.get_mut(&c) else {
                return Err(Error::Refused(format!("there is no log of {c}")));
            };
            if (log.epoch, log.head.seq) != (epoch, head) {
                return Ok(Appended::Fenced { epoch: log.epoch, owner: log.owner, head: log.head.seq });
            }
            log.extend(events)?;
            log.head.settled = log.head.settled.max(settled.min(head));
            Ok(Appended::Applied { settled: log.head.settled })
        };
        let appended = self.call(Operation::Append, append).await?;
        if let Appended::Applied { .. } = appended {
            self.meters.appended(n_events, begun.elapsed());
        }
        Ok(appended)
    }

    async fn follow(&self, c: ConversationId, events: &[Event]) -> Result<(), Error> {
        let events = events.to_vec();
        self.call(Operation::Follow, move |model| {
            model.logs.follow(c, &events);
            Ok(())
        })
        .await
    }

    async fn standing(&self, c: ConversationId) -> Result<Option<Standing>, Error> {
        self.call(Operation::ReadLog, move |model| {
            let log = model.logs.of.get(&c);
            Ok(log.map(|log| Standing { epoch: log.epoch, owner: log.owner, head: log.head }))
        })
        .await
    }

    async fn find(&self, c: ConversationId, by: UserId, cid: &ClientId) -> Result<Option<Known>, Error> {
        let key = (by, cid.clone());
        self.call(Operation::ReadLog, move |model| {
            Ok(model.logs.of.get(&c).and_then(|log| log.index.get(&key).copied()))
        })
        .await
    }

    async fn read(&self, c: ConversationId, range: Range) -> Result<Vec<Event>, Error> {
        self.call(Operation::ReadLog, move |model| {
            Ok(model.logs.of.get(&c).map_or_else(Vec::new, |log| log.read(range)))
        })
        .await
    }
}

impl Conversation {
    /// The events above a seq: seq n stands at place n - 1.
    fn above(&self, after: Seq) -> &[Event] {
        let from = usize::try_from(after.0).unwrap_or(usize::MAX).min(self.events.len());
        &self.events[from..]
    }

    fn extend(&mut self, events: Vec<Event>) -> Result<(), Error> {
        check_post_no(self.head.post_no, events.iter().map(|event| (event.body.kind() == 0, event.post_no)))?;
        for event in events {
            assert_eq!(event.seq, self.head.seq.next(), "G3: a gap");
            let at = self.head.at.max(event.at);
            self.head = Head { seq: event.seq, post_no: event.post_no, at, settled: self.head.settled };
            self.events.push(event);
        }
        Ok(())
    }

    fn read(&self, range: Range) -> Vec<Event> {
        let events = self.above(range.after);
        let below = |event: &&Event| range.before.is_none_or(|before| event.seq < before);
        let wanted = events.iter().filter(below).filter(|event| match range.lane {
            Lane::Posts => event.body.kind() == 0,
            Lane::Events => event.body.kind() != 0,
            Lane::Both => true,
        });
        if range.newest {
            let mut events: Vec<Event> = wanted.rev().take(range.limit).cloned().collect();
            events.reverse();
            return events;
        }
        wanted.take(range.limit).cloned().collect()
    }

    /// The number of posts up to and including a seq.
    pub(super) fn post_no(&self, seq: Seq) -> u64 {
        seq.0.checked_sub(1).and_then(|place| self.events.get(place as usize)).map_or(0, |event| event.post_no)
    }
}

impl Logs {
    fn follow(&mut self, c: ConversationId, events: &[Event]) {
        let Some(log) = self.of.get_mut(&c) else { return };
        for event in events {
            if let Some(cid) = event.cid.clone() {
                let Event { seq, post_no, at, request_hash, .. } = *event;
                log.index.insert((event.by, cid), Known { seq, post_no, at, request_hash });
            }
        }
        for change in changes(events) {
            log.apply(c, change, &mut self.places);
        }
    }
}

impl Conversation {
    fn apply(&mut self, c: ConversationId, change: Change, places: &mut HashMap<UserId, BTreeSet<ConversationId>>) {
        match change {
            Change::Begin { kind, title, pair, created_at } => {
                self.row.get_or_insert(Row { kind, title, title_seq: Seq(1), pair, created_at });
            }
            Change::Title(seq, title) => {
                if let Some(row) = self.row.as_mut().filter(|row| row.title_seq < seq) {
                    row.title = Some(title);
                    row.title_seq = seq;
                }
            }
            Change::Enter { user, role, seq, post_no } => {
                if self.enter(user, role, seq, post_no) {
                    self.members_now += 1;
                    places.entry(user).or_default().insert(c);
                }
            }
            Change::Exit { user, seq } => {
                let member = self.members.get_mut(&user).map(|standee| &mut standee.member);
                if let Some(member) = member.filter(|m| m.left_seq.is_none() && m.joined_seq < seq) {
                    member.left_seq = Some(seq);
                    self.members_now -= 1;
                    places.entry(user).or_default().remove(&c);
                }
            }
            Change::Role { user, role, seq } => {
                let standee = self.members.get_mut(&user);
                if let Some(s) = standee.filter(|s| s.member.left_seq.is_none() && s.role_seq < seq) {
                    s.member.role = role;
                    s.role_seq = seq;
                }
            }
            Change::Read { user, seq, post_no } => {
                if let Some(standee) = self.members.get_mut(&user) {
                    standee.member.raise(Marks { read: seq, delivered: seq }, post_no);
                }
            }
        }
    }

    /// True if they were no member before.
    fn enter(&mut self, user: UserId, role: Role, seq: Seq, post_no: u64) -> bool {
        let marks = Marks { read: seq, delivered: seq };
        let fresh = Member { user, role, joined_seq: seq, left_seq: None, marks, read_post: post_no };
        let mut entered = false;
        let standee = self.members.entry(user).or_insert_with(|| {
            entered = true;
            Standee { member: fresh, role_seq: seq }
        });
        if standee.member.left_seq.is_some_and(|left| left < seq) {
            let before = standee.member;
            *standee = Standee { member: fresh, role_seq: seq };
            standee.member.raise(before.marks, before.read_post);
            entered = true;
        }
        entered
    }
}

impl Member {
    /// Marks only rise.
    pub(super) fn raise(&mut self, marks: Marks, read_post: u64) {
        self.marks.read = self.marks.read.max(marks.read);
        self.marks.delivered = self.marks.delivered.max(marks.delivered);
        self.read_post = self.read_post.max(read_post);
    }
}
