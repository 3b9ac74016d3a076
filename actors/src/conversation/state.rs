//! The owner of one log: orders wishes, has them stored, then tells everyone. Pure: an input goes in, actions come out.
//!
//! What it relies on and what it never does is in `CONVERSATION.md` beside this crate's README: nothing is acknowledged
//! before the store has said `Applied`; an unknown append is followed by a claim and a look at the tail; a refusal for
//! good is given only after reading that the log is still ours.

mod append;
mod beside;
#[cfg(test)]
pub(crate) mod digest;
mod outcomes;
pub(crate) mod planted;
mod tenure;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use protocol::{
    ClientId, ConversationId, Epoch, Event, EventId, Incarnation, Seq, UserId,
    limits::{BATCH_EVENTS_MAX, STORE_DEADLINE_MS},
    peer::{Change, Outcome, Requester, Submission, ToConnections, ToConversation},
    push::Marks,
};
use storage::{
    directory::MarkUpdate,
    log::{Appended, Claimed, Created, Head, Known, Standing},
};
use tokio::time::Instant;

use self::outcomes::overloaded;
use super::{
    audience::{Audience, Telling},
    marks::MarkBoard,
    recent::Recent,
    roster::Roster,
};
use crate::{entities::Now, meters::Owned};

/// How long a conversation without traffic stays.
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// The pause after the store failed; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// Who lost a log does not claim it back for this long.
const NO_DUEL: Duration = Duration::from_secs(1);
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How long telling waits for presence channels that do not answer.
const WATCH_PATIENCE: Duration = Duration::from_secs(1);
/// Wishes, marks and signs of typing, each, that wait while the store is slow. What waits must be served within the
/// store's deadline, or it was admitted for nothing: 512 events a second do it, of one conversation.
const WAITING_MAX: usize = 1024;
/// Wishes about which the index is asked before their turn: those of the batch after the one under way, and as many again.
const ASKED_AHEAD: usize = 2 * BATCH_EVENTS_MAX;
/// While a line of wishes is being served, and who is next has waited this long, no more are let in: who is served must be
/// served well before the store's deadline, or the work was for nothing.
const BEHIND: Duration = Duration::from_millis(500);
/// Events from which one call writes what follows: a backlog is worked off in runs that a slow store ends in time.
const FOLLOW_EVENTS_MAX: usize = 4 * BATCH_EVENTS_MAX;
const STORE_DEADLINE: Duration = Duration::from_millis(STORE_DEADLINE_MS);
/// Who has waited this long is answered, whatever the store does: nobody waits longer than the store's deadline, although
/// it is looked only now and then.
const PATIENCE: Duration = STORE_DEADLINE.saturating_sub(TICK);

/// What it is told.
#[derive(Debug)]
pub(crate) enum Input {
    Mail(ToConversation),
    Store(Answer),
    Tick,
}

/// What the store said.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) enum Answer {
    Peeked(UserId, Result<bool, storage::Error>),
    Created(Result<Created, storage::Error>),
    Claimed(Result<Claimed, storage::Error>),
    Loaded(Epoch, Result<Option<(Roster, Head)>, storage::Error>),
    Found(UserId, ClientId, Epoch, Result<Option<Known>, storage::Error>),
    Appended(Result<Appended, storage::Error>),
    Followed(Result<(), storage::Error>),
    Verified(Result<Option<Standing>, storage::Error>),
    Marked(Result<Vec<Marks>, storage::Error>),
}

/// What it wants of the store. At most one of each is under way, finds and peeks aside.
#[derive(Debug, PartialEq)]
pub(crate) enum Job {
    Peek(UserId),
    Create(Vec<Event>),
    Claim {
        tail_from: Option<Seq>,
    },
    /// Read the members; carries the epoch under which it was asked, 0 for none.
    Load(Epoch),
    Find(UserId, ClientId, Epoch),
    Append {
        epoch: Epoch,
        head: Seq,
        settled: Seq,
        events: Vec<Event>,
    },
    Follow(Vec<Event>),
    Verify,
    Mark(Vec<MarkUpdate>),
}

/// What it wants done.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    Store(Job),
    Tell(Telling),
    /// Let the sockets write the events they were told.
    Flush,
    /// The same, a moment later: more events are on their way, and one write for all of them costs far less.
    FlushSoon,
    WakeAt(Instant),
    StopIfIdle,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
enum Stage {
    /// Not ours. Nothing of the log is known, or only what anybody may read.
    Cold,
    /// Beginning the log; the wish that asks for it.
    Creating(Box<(Wish, Event)>),
    Claiming,
    /// Ours; what follows from the tail is being written.
    Repairing,
    /// Ours; members are being read.
    Loading,
    Ready,
}

/// What is known of a wish's client id, besides the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
enum Index {
    NotAsked,
    /// Asked when the log ended here.
    Asked(Seq),
    /// Asked under this epoch, when the log ended here: not in it up to there.
    Absent(Epoch, Seq),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
enum Peek {
    NotAsked,
    Asked,
    /// The sender is or was a member: worth a claim.
    Known,
}

/// A submission that is neither stored nor refused yet.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Wish {
    what: Submission,
    since: Instant,
    index: Index,
    peek: Peek,
    /// It asks to begin a conversation that is there already.
    exists: bool,
    /// An append that carried it ended unknown.
    unknown: bool,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Flight {
    events: Vec<Event>,
    wishes: Vec<Wish>,
}

/// An event that is in the log, and whose wish it was.
#[derive(Clone, Debug)]
struct Stored {
    event: Event,
    requester: Option<Requester>,
    since: Instant,
}

/// See the module.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct State {
    id: ConversationId,
    me: Incarnation,
    members_max: usize,
    stage: Stage,
    epoch: Epoch,
    /// Counts events made under this epoch, for their ids.
    made: u64,
    head: Head,
    roster: Option<Roster>,
    /// True if roster and audience hold for `head` although the log must be claimed again.
    continues: bool,
    loading: bool,
    recent: Recent,
    owned: Option<Owned>,
    waiting: VecDeque<Wish>,
    /// How many at the end of `waiting` the index may have to be asked about.
    unasked: usize,
    flight: Option<Flight>,
    /// Carried by an append of unknown outcome.
    limbo: Vec<(Wish, EventId)>,
    /// The head that append carried.
    limbo_from: Option<Seq>,
    refusing: Vec<(Wish, Outcome)>,
    verifying: Vec<(Wish, Outcome)>,
    unsettled: VecDeque<Event>,
    /// Up to where a follow is under way.
    following: Option<Seq>,
    /// Stored; told once what follows from them is written.
    held: VecDeque<Stored>,
    audience: Audience,
    marks: MarkBoard,
    typing: Vec<(UserId, bool)>,
    failures: u32,
    /// When the store last took a batch.
    applied_at: Option<Instant>,
    retry_at: Option<Instant>,
    restarted: bool,
    last_mail: Option<Instant>,
    untold_since: Option<Instant>,
    /// Since when marks and typing wait for channels to say who is connected.
    unheard_since: Option<Instant>,
    wake: Option<Instant>,
    parting: bool,
    #[cfg(test)]
    planted: Option<planted::Mistake>,
}

impl State {
    pub(crate) fn new(id: ConversationId, me: Incarnation, members_max: usize, restarted: bool) -> State {
        State {
            id,
            me,
            members_max,
            stage: Stage::Cold,
            epoch: Epoch(0),
            made: 0,
            head: Head::default(),
            roster: None,
            continues: false,
            loading: false,
            recent: Recent::default(),
            owned: None,
            waiting: VecDeque::new(),
            unasked: 0,
            flight: None,
            limbo: Vec::new(),
            limbo_from: None,
            refusing: Vec::new(),
            verifying: Vec::new(),
            unsettled: VecDeque::new(),
            following: None,
            held: VecDeque::new(),
            audience: Audience::new(id, Seq(0)),
            marks: MarkBoard::default(),
            typing: Vec::new(),
            failures: 0,
            applied_at: None,
            retry_at: None,
            restarted,
            last_mail: None,
            untold_since: None,
            unheard_since: None,
            wake: None,
            parting: false,
            #[cfg(test)]
            planted: None,
        }
    }

    /// Decides.
    pub(crate) fn on(&mut self, input: Input, now: Now) -> Vec<Action> {
        if self.parting {
            // mail came while stopping: begin again, the watches are gone
            *self = State::new(self.id, self.me, self.members_max, false);
        }
        let mut out = Vec::new();
        self.last_mail.get_or_insert(now.mono);
        match input {
            Input::Mail(mail) => self.mail(mail, now, &mut out),
            Input::Store(answer) => self.answer(answer, now, &mut out),
            Input::Tick => self.tick(now, &mut out),
        }
        self.advance(now, &mut out);
        self.schedule(now, &mut out);
        if out.iter().any(|action| matches!(action, Action::Tell(Telling::Node(_, ToConnections::Event(_))))) {
            let soon = self.flight.is_some() && self.audience.is_large();
            out.push(if soon { Action::FlushSoon } else { Action::Flush });
        }
        out
    }

    fn mail(&mut self, mail: ToConversation, now: Now, out: &mut Vec<Action>) {
        let mut telling = Vec::new();
        match mail {
            ToConversation::Submit(what) if self.waiting.len() >= WAITING_MAX || self.is_behind(now) => {
                overloaded(what.requester, out);
            }
            ToConversation::Mark(request) if self.marks.len() >= WAITING_MAX => overloaded(request.requester, out),
            ToConversation::Typing { .. } if self.typing.len() >= WAITING_MAX => overloaded(None, out),
            ToConversation::Submit(what) => {
                self.last_mail = Some(now.mono);
                let (index, peek) = (Index::NotAsked, Peek::NotAsked);
                self.waiting.push_back(Wish { what, since: now.mono, index, peek, exists: false, unknown: false });
                self.unasked += 1;
            }
            ToConversation::Mark(request) => {
                self.last_mail = Some(now.mono);
                self.marks.add(request);
            }
            ToConversation::Typing { by, on } => {
                self.last_mail = Some(now.mono);
                self.typing.push((by, on));
            }
            ToConversation::Watched { slice, devices } => self.audience.answered(slice, devices, &mut telling),
            ToConversation::Attached(user, device) => self.audience.attached(user, device, &mut telling),
            ToConversation::Detached(user, device) => self.audience.detached(user, device),
            ToConversation::WatchAgain(slice) => self.audience.watch_again(slice, &mut telling),
        }
        out.extend(telling.into_iter().map(Action::Tell));
    }

    /// True if there is a line, it moves, and it moves too slowly.
    fn is_behind(&self, now: Now) -> bool {
        let since = |at: Instant| now.mono.duration_since(at);
        self.waiting.len() >= BATCH_EVENTS_MAX
            && self.waiting.front().is_some_and(|wish| since(wish.since) >= BEHIND)
            && self.applied_at.is_some_and(|at| since(at) < STORE_DEADLINE)
    }

    fn answer(&mut self, answer: Answer, now: Now, out: &mut Vec<Action>) {
        match answer {
            Answer::Peeked(user, result) => self.peeked(user, result, out),
            Answer::Created(result) => self.created(result, now, out),
            Answer::Claimed(result) => self.claimed(result, now, out),
            Answer::Loaded(epoch, result) => self.loaded(epoch, result, now, out),
            Answer::Found(by, cid, epoch, result) => self.found(by, &cid, epoch, result, out),
            Answer::Appended(result) => self.appended(result, now, out),
            Answer::Followed(result) => self.followed(result, now, out),
            Answer::Verified(result) => self.verified(result, now, out),
            Answer::Marked(result) => self.marked(result, out),
        }
    }

    /// Does whatever can be done now.
    fn advance(&mut self, now: Now, out: &mut Vec<Action>) {
        let paused = self.retry_at.is_some_and(|at| at > now.mono);
        if !paused {
            match self.stage {
                Stage::Cold => self.advance_cold(now, out),
                Stage::Ready => self.advance_ready(now, out),
                _ => {}
            }
            self.follow(out);
        }
        self.serve_roster(now, out);
    }

    fn advance_cold(&mut self, now: Now, out: &mut Vec<Action>) {
        if let Some(at) = self.waiting.iter().position(|w| matches!(w.what.change, Change::Create { .. }) && !w.exists)
            && let Some(wish) = self.waiting.remove(at)
        {
            return self.create(wish, now, out);
        }
        #[cfg(test)]
        self.ask_early(out);
        for wish in self.waiting.iter_mut().filter(|w| w.peek == Peek::NotAsked) {
            wish.peek = Peek::Asked;
            out.push(Action::Store(Job::Peek(wish.what.by)));
        }
        if self.restarted || !self.limbo.is_empty() || self.waiting.iter().any(|w| w.peek == Peek::Known) {
            self.restarted = false;
            self.stage = Stage::Claiming;
            let tail_from =
                if self.continues { Some(self.limbo_from.unwrap_or(self.head.seq)) } else { self.limbo_from };
            out.push(Action::Store(Job::Claim { tail_from }));
        } else if self.roster.is_none() && !self.loading && !(self.marks.is_empty() && self.typing.is_empty()) {
            self.loading = true;
            out.push(Action::Store(Job::Load(self.epoch)));
        }
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Action>) {
        self.wake = None;
        if self.retry_at.is_some_and(|at| at <= now.mono) {
            self.retry_at = None;
        }
        self.answer_late(now, out);
        if self.untold_since.is_some_and(|since| now.mono.duration_since(since) >= WATCH_PATIENCE) {
            let mut telling = Vec::new();
            self.audience.flush(true, &mut telling);
            self.untold_since = None;
            out.extend(telling.into_iter().map(Action::Tell));
        }
        if self.is_idle() && self.last_mail.is_some_and(|at| now.mono.duration_since(at) >= IDLE) {
            let mut telling = Vec::new();
            self.audience.part(&mut telling);
            out.extend(telling.into_iter().map(Action::Tell));
            out.push(Action::StopIfIdle);
            self.parting = true;
        }
    }

    fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Cold | Stage::Ready)
            && self.waiting.is_empty()
            && self.flight.is_none()
            && self.limbo.is_empty()
            && self.refusing.is_empty()
            && self.verifying.is_empty()
            && self.unsettled.is_empty()
            && self.held.is_empty()
            && self.audience.is_told()
            && self.marks.is_empty()
            && self.typing.is_empty()
            && !self.loading
    }

    fn schedule(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.parting {
            return;
        }
        let idle = self.is_idle();
        let at = match (idle, self.retry_at, self.last_mail) {
            (false, Some(retry), _) if retry > now.mono => retry.min(now.mono + TICK),
            (false, ..) => now.mono + TICK,
            (true, _, Some(last)) => last + IDLE,
            (true, _, None) => now.mono + IDLE,
        };
        if self.wake.is_none_or(|wake| at < wake) {
            self.wake = Some(at);
            out.push(Action::WakeAt(at));
        }
    }

    fn event(
        &mut self, what: &Submission, body: protocol::Body, seq: Seq, post_no: u64, at: protocol::Millis,
    ) -> Event {
        self.made += 1;
        Event {
            seq,
            id: self.event_id(),
            by: what.by,
            cid: what.cid.clone(),
            request_hash: what.request_hash,
            at,
            post_no,
            body,
        }
    }

    /// Unique in this log: an epoch is ours only if its claim said so, and `made` counts within it.
    fn event_id(&self) -> EventId {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&self.me.0[..4]);
        id[4..10].copy_from_slice(&self.epoch.0.to_be_bytes()[2..]);
        id[10..].copy_from_slice(&self.made.to_be_bytes()[2..]);
        EventId(id)
    }
}

fn extract(waiting: &mut VecDeque<Wish>, wanted: impl Fn(&Wish) -> bool) -> Vec<Wish> {
    let (taken, kept): (Vec<_>, Vec<_>) = std::mem::take(waiting).into_iter().partition(wanted);
    *waiting = kept.into();
    taken
}
