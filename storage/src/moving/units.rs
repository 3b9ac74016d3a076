//! A file as the things that are moved as a whole, many at a time. Checks that they stand in order; knows no store.

use std::path::Path;

use protocol::{
    ConversationId, Event, Seq,
    limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, BUCKET_EVENTS},
};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Counts, MoveError,
    file::{Line, Reader},
};
use crate::{
    accounts::{Session, SignIn, SigningKey, User},
    directory::Member,
    tokens::Family,
};

/// Things worked on at once. Of a conversation at most three pieces are in memory.
const AT_ONCE: usize = 32;

/// What is moved as a whole.
pub(super) enum Unit {
    SigningKey(SigningKey),
    User { handle: String, row: User, sign_ins: Vec<SignIn> },
    Session { row: Session, family: Option<Family> },
    Conversation { c: ConversationId, pieces: mpsc::Receiver<Piece> },
}

/// Part of a conversation, in order. All events come before all members.
pub(super) enum Piece {
    /// What one append takes.
    Events(Vec<Event>),
    Members(Vec<Member>),
}

/// Hands every thing in the file to `work`. Answers what there was when all of it is done.
pub(super) async fn each<F>(path: &Path, work: impl Fn(Unit) -> F) -> Result<Counts, MoveError>
where
    F: Future<Output = Result<(), MoveError>> + Send + 'static,
{
    let mut reader = Reader::open(path)?;
    let mut working = JoinSet::new();
    let mut open = None;
    while let Some(line) = reader.next()? {
        let unit = match line {
            Line::Event { c, row } => {
                let open = open.as_mut().filter(|open: &&mut Open| open.c == c && open.follows(&row));
                let Some(open) = open else { return Err(reader.wrong("an event out of order")) };
                open.event(row, reader.line_bytes).await;
                continue;
            }
            Line::Member { c, row } => {
                let open = open.as_mut().filter(|open: &&mut Open| open.c == c);
                let Some(open) = open else { return Err(reader.wrong("a member of another conversation")) };
                open.member(row).await;
                continue;
            }
            Line::SigningKey(key) => Unit::SigningKey(key),
            Line::User { handle, row, sign_ins } => {
                let sign_ins = sign_ins.into_iter().map(|sign_in| sign_in.of(row.id)).collect();
                Unit::User { handle, row, sign_ins }
            }
            Line::Session { row, family } => Unit::Session { row, family: family.map(Into::into) },
            Line::Conversation { c } => {
                close(open.take()).await;
                let (pieces, receiver) = mpsc::channel(1);
                open = Some(Open::new(c, pieces));
                Unit::Conversation { c, pieces: receiver }
            }
            Line::Starling { .. } | Line::End { .. } => return Err(reader.wrong("a first or last line in between")),
        };
        while working.len() >= AT_ONCE {
            done(working.join_next().await)?;
        }
        working.spawn(work(unit));
    }
    close(open).await;
    while !working.is_empty() {
        done(working.join_next().await)?;
    }
    Ok(reader.counts)
}

fn done(ended: Option<Result<Result<(), MoveError>, tokio::task::JoinError>>) -> Result<(), MoveError> {
    match ended {
        Some(Ok(outcome)) => outcome,
        Some(Err(crash)) => std::panic::resume_unwind(crash.into_panic()),
        None => Ok(()),
    }
}

/// A conversation whose lines are being read.
struct Open {
    c: ConversationId,
    pieces: mpsc::Sender<Piece>,
    last: Seq,
    events: Vec<Event>,
    bytes: usize,
    members: Vec<Member>,
}

impl Open {
    fn new(c: ConversationId, pieces: mpsc::Sender<Piece>) -> Open {
        Open { c, pieces, last: Seq(0), events: Vec::new(), bytes: 0, members: Vec::new() }
    }

    fn follows(&self, event: &Event) -> bool {
        event.seq == self.last.next() && self.members.is_empty()
    }

    async fn event(&mut self, event: Event, bytes: usize) {
        let full = self.events.len() == BATCH_EVENTS_MAX || self.bytes + bytes > BATCH_BYTES_MAX;
        if full || event.seq.0.is_multiple_of(BUCKET_EVENTS) {
            self.send_events().await;
        }
        self.last = event.seq;
        self.bytes += bytes;
        self.events.push(event);
    }

    async fn member(&mut self, member: Member) {
        self.send_events().await;
        self.members.push(member);
        if self.members.len() == BATCH_EVENTS_MAX {
            self.send_members().await;
        }
    }

    async fn send_events(&mut self) {
        self.bytes = 0;
        if !self.events.is_empty() {
            // nobody there: it has failed, and says so when it is joined
            let _ = self.pieces.send(Piece::Events(std::mem::take(&mut self.events))).await;
        }
    }

    async fn send_members(&mut self) {
        if !self.members.is_empty() {
            let _ = self.pieces.send(Piece::Members(std::mem::take(&mut self.members))).await;
        }
    }
}

async fn close(open: Option<Open>) {
    if let Some(mut open) = open {
        open.send_events().await;
        open.send_members().await;
    }
}
