//! The owner of one log: orders wishes, has them stored, then tells everyone. Pure: an input goes in, actions come out.
//!
//! What it relies on and what it never does is in `CONVERSATION.md` beside this crate's README: nothing is acknowledged
//! before the store has said `Applied`; an unknown append is followed by a claim and a look at the tail; a refusal for
//! good is given only after reading that the log is still ours.

use std::{collections::VecDeque, time::Duration};

use protocol::{
    ClientId, Code, ConversationId, Epoch, Error, Event, EventId, Incarnation, Kind, Seq, UserId,
    limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, BUCKET_EVENTS, STORE_DEADLINE_MS},
    peer::{Change, Done, MarkRequest, Outcome, Requester, Submission, ToConnections, ToConversation},
    push::Marks,
};
use storage::{
    directory::MarkUpdate,
    log::{Appended, Claimed, Created, Head, Known, Standing, Tenancy},
};
use tokio::time::Instant;

use super::{
    audience::{Audience, Telling},
    marks::MarkBoard,
    recent::Recent,
    roster::{Roster, Verdict, no_such_conversation},
};
use crate::entities::Now;

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
const STORE_DEADLINE: Duration = Duration::from_millis(STORE_DEADLINE_MS);

/// What it is told.
#[derive(Debug)]
pub(crate) enum Input {
    Mail(ToConversation),
    Store(Answer),
    Tick,
}

/// What the store said.
#[derive(Debug)]
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
    WakeAt(Instant),
    StopIfIdle,
}

#[derive(Debug)]
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
enum Index {
    NotAsked,
    Asked,
    /// Asked after the claim of this epoch.
    Absent(Epoch),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peek {
    NotAsked,
    Asked,
    /// The sender is or was a member: worth a claim.
    Known,
}

/// A submission that is neither stored nor refused yet.
#[derive(Debug)]
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
struct Flight {
    events: Vec<Event>,
    wishes: Vec<Wish>,
}

/// See the module.
#[derive(Debug)]
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
    held: VecDeque<(Event, Option<Requester>)>,
    audience: Audience,
    marks: MarkBoard,
    typing: Vec<(UserId, bool)>,
    failures: u32,
    retry_at: Option<Instant>,
    restarted: bool,
    last_mail: Option<Instant>,
    untold_since: Option<Instant>,
    wake: Option<Instant>,
    parting: bool,
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
            retry_at: None,
            restarted,
            last_mail: None,
            untold_since: None,
            wake: None,
            parting: false,
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
        out
    }

    fn mail(&mut self, mail: ToConversation, now: Now, out: &mut Vec<Action>) {
        let mut telling = Vec::new();
        match mail {
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
        self.serve_roster(out);
    }

    fn advance_cold(&mut self, now: Now, out: &mut Vec<Action>) {
        if let Some(at) = self.waiting.iter().position(|w| matches!(w.what.change, Change::Create { .. }) && !w.exists)
            && let Some(wish) = self.waiting.remove(at)
        {
            return self.create(wish, now, out);
        }
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

    // --- beginning a log ---------------------------------------------------------------------------------------------

    fn create(&mut self, wish: Wish, now: Now, out: &mut Vec<Action>) {
        let Change::Create { kind, title, members } = wish.what.change.clone() else { return };
        (self.epoch, self.made) = (Epoch(1), 0);
        self.loading = false;
        let body = protocol::Body::Create(protocol::event::Create { conversation_kind: kind, title, members });
        let event = self.event(&wish.what, body, Seq(1), 0, now.wall);
        out.push(Action::Store(Job::Create(vec![event.clone()])));
        self.stage = Stage::Creating(Box::new((wish, event)));
    }

    fn created(&mut self, result: Result<Created, storage::Error>, now: Now, out: &mut Vec<Action>) {
        let Stage::Creating(creating) = std::mem::replace(&mut self.stage, Stage::Cold) else { return };
        let (mut wish, event) = *creating;
        match result {
            Ok(Created::Created { head }) => {
                self.failures = 0;
                self.head = head;
                self.recent = Recent::from_tail(Seq(0), std::slice::from_ref(&event));
                self.audience = Audience::new(self.id, Seq(0));
                if let Change::Create { kind, title, members } = &wish.what.change {
                    self.roster = Some(Roster::created(*kind, title.clone(), members));
                }
                self.stage = Stage::Ready;
                self.stored(vec![(event, wish.what.requester)], now, out);
            }
            Ok(Created::Exists) if matches!(wish.what.change, Change::Create { kind: Kind::Direct, .. }) => {
                answer(wish.what.requester, Outcome::Done(Done::Unchanged), out);
            }
            // made by an earlier attempt, or by somebody else under the same id: the log's dedupe knows
            Ok(Created::Exists) => {
                (wish.exists, wish.peek, wish.index) = (true, Peek::Known, Index::NotAsked);
                self.put_back(wish);
            }
            Err(storage::Error::Unknown(_)) if now.mono.duration_since(wish.since) < STORE_DEADLINE => {
                wish.unknown = true;
                self.put_back(wish);
                self.pause(now);
            }
            Err(error) => {
                wish.unknown |= matches!(error, storage::Error::Unknown(_));
                give_up(&wish, out);
                self.pause(now);
            }
        }
    }

    // --- claiming it -------------------------------------------------------------------------------------------------

    fn peeked(&mut self, user: UserId, result: Result<bool, storage::Error>, out: &mut Vec<Action>) {
        let peeking = |w: &Wish| w.what.by == user && w.peek == Peek::Asked;
        match result {
            Ok(true) => self.waiting.iter_mut().filter(|w| peeking(w)).for_each(|w| w.peek = Peek::Known),
            Ok(false) => {
                // never was a member: the member row alone is enough to say so
                for wish in extract(&mut self.waiting, peeking) {
                    answer(wish.what.requester, Outcome::Refused(no_such_conversation().into()), out);
                }
            }
            Err(_) => extract(&mut self.waiting, peeking).iter().for_each(|wish| give_up(wish, out)),
        }
    }

    fn claimed(&mut self, result: Result<Claimed, storage::Error>, now: Now, out: &mut Vec<Action>) {
        if !matches!(self.stage, Stage::Claiming) {
            return;
        }
        self.stage = Stage::Cold;
        let label = match &result {
            Ok(Claimed::Claimed(_)) => "claimed",
            Ok(Claimed::NotFound) => "not_found",
            Err(error) => error.kind(),
        };
        metrics::counter!("starling_claims_total", "result" => label).increment(1);
        match result {
            Ok(Claimed::Claimed(tenancy)) => self.begin_tenancy(tenancy, now, out),
            Ok(Claimed::NotFound) => {
                for wish in self.waiting.drain(..).chain(self.limbo.drain(..).map(|(wish, _)| wish)) {
                    answer(wish.what.requester, Outcome::Refused(no_such_conversation().into()), out);
                }
                self.limbo_from = None;
            }
            Err(error) => {
                if !matches!(error, storage::Error::Unknown(_)) {
                    self.waiting.drain(..).for_each(|wish| give_up(&wish, out));
                }
                self.pause(now);
            }
        }
    }

    fn begin_tenancy(&mut self, tenancy: Tenancy, now: Now, out: &mut Vec<Action>) {
        let Tenancy { epoch, head, tail } = tenancy;
        self.failures = 0;
        (self.epoch, self.made, self.loading) = (epoch, 0, false);
        let before = std::mem::replace(&mut self.head, head);
        let reach = tail.first().map_or(head.seq, |first| Seq(first.seq.0 - 1));
        self.recent = Recent::from_tail(reach, &tail);
        self.unsettled = tail.iter().filter(|e| e.seq > head.settled).cloned().collect();

        let mut requesters = Vec::new();
        for (mut wish, id) in self.limbo.drain(..).rev() {
            if let Some(event) = tail.iter().find(|event| event.id == id) {
                metrics::counter!("starling_append_unknown_total", "resolved" => "applied").increment(1);
                requesters.push((event.seq, wish.what.requester));
                continue;
            }
            metrics::counter!("starling_append_unknown_total", "resolved" => "not_applied").increment(1);
            // never will be by that append: like a new one, if anybody still waits
            wish.index = Index::NotAsked;
            if wish.what.requester.is_some() {
                self.waiting.push_front(wish);
            }
        }
        self.limbo_from = None;
        self.unasked = self.waiting.len();
        let requester_of = |seq| requesters.iter().find(|(s, _)| *s == seq).and_then(|(_, r)| *r);

        if self.continues {
            for event in tail.into_iter().filter(|event| event.seq > before.seq) {
                if let Some(roster) = &mut self.roster {
                    roster.apply(&event);
                }
                self.held.push_back((event.clone(), requester_of(event.seq)));
            }
        } else {
            self.roster = None;
            for (seq, requester) in requesters {
                if let Some(event) = tail.iter().find(|event| event.seq == seq) {
                    answer(requester, stored(event.seq, event.post_no, event.at, false), out);
                }
            }
        }
        self.stage = Stage::Repairing;
        self.repaired(now, out);
    }

    /// Goes on once nothing of the tail is unsettled.
    fn repaired(&mut self, now: Now, out: &mut Vec<Action>) {
        if !self.unsettled.is_empty() {
            return;
        }
        if self.continues {
            self.continues = false;
            self.stage = Stage::Ready;
            self.release(now, out);
        } else {
            self.stage = Stage::Loading;
            self.loading = true;
            out.push(Action::Store(Job::Load(self.epoch)));
        }
    }

    fn loaded(
        &mut self, epoch: Epoch, result: Result<Option<(Roster, Head)>, storage::Error>, now: Now,
        out: &mut Vec<Action>,
    ) {
        if epoch != self.epoch {
            return; // asked before the log was claimed (again)
        }
        self.loading = false;
        match result {
            Ok(Some((roster, head))) => {
                match self.stage {
                    Stage::Loading => self.stage = Stage::Ready,
                    Stage::Cold => self.head = head,
                    _ => return,
                }
                let mut telling = Vec::new();
                let mut audience = Audience::new(self.id, self.head.seq);
                std::mem::swap(&mut self.audience, &mut audience);
                self.audience.load(roster.members.keys().copied(), &mut telling);
                out.extend(telling.into_iter().map(Action::Tell));
                self.roster = Some(roster);
            }
            Ok(None) => {
                self.stage = Stage::Cold;
                self.typing.clear();
                let gone = || Outcome::Refused(no_such_conversation().into());
                self.waiting.drain(..).for_each(|wish| answer(wish.what.requester, gone(), out));
                self.marks.take_waiting().iter().for_each(|request| answer(request.requester, gone(), out));
                out.push(Action::StopIfIdle);
                self.parting = true;
            }
            Err(_) => {
                if matches!(self.stage, Stage::Loading) {
                    self.stage = Stage::Cold;
                    self.waiting.drain(..).for_each(|wish| give_up(&wish, out));
                }
                self.typing.clear();
                for request in self.marks.take_waiting() {
                    answer(request.requester, unavailable(), out);
                }
                self.pause(now);
            }
        }
    }

    // --- appending ---------------------------------------------------------------------------------------------------

    fn advance_ready(&mut self, now: Now, out: &mut Vec<Action>) {
        self.ask_index(out);
        // an append waits for the one before it, and for the member rows of a membership event
        if self.flight.is_some() || !self.held.is_empty() {
            return;
        }
        let mut batch = Flight { events: Vec::new(), wishes: Vec::new() };
        let mut bytes = 0;
        let (mut seq, mut post_no) = (self.head.seq, self.head.post_no);
        let at = now.wall.max(self.head.at);
        while let Some(wish) = self.waiting.front() {
            match self.settle_without_event(wish, &batch) {
                Settled::Wait => break,
                Settled::Answer(outcome) => {
                    if let Some(wish) = self.waiting.pop_front() {
                        answer(wish.what.requester, outcome, out);
                    }
                }
                Settled::Final(outcome) => {
                    if let Some(wish) = self.waiting.pop_front() {
                        self.refusing.push((wish, outcome));
                    }
                }
                Settled::Event(body) => {
                    let size = wish_bytes(&wish.what);
                    let crosses = !batch.events.is_empty() && (seq.0 + 1) % BUCKET_EVENTS == 0;
                    if batch.events.len() >= BATCH_EVENTS_MAX || bytes + size > BATCH_BYTES_MAX || crosses {
                        break;
                    }
                    let Some(wish) = self.waiting.pop_front() else { break };
                    (seq, bytes) = (seq.next(), bytes + size);
                    post_no += u64::from(body.is_post());
                    let ends = body.is_membership();
                    batch.events.push(self.event(&wish.what, body, seq, post_no, at));
                    batch.wishes.push(wish);
                    if ends {
                        break;
                    }
                }
            }
        }
        if !batch.events.is_empty() {
            let (epoch, head, settled) = (self.epoch, self.head.seq, self.head.settled);
            out.push(Action::Store(Job::Append { epoch, head, settled, events: batch.events.clone() }));
            self.flight = Some(batch);
        }
        self.verify(out);
    }

    /// Asks the index for every client id that the tail cannot speak for.
    fn ask_index(&mut self, out: &mut Vec<Action>) {
        let examined = self.waiting.len().saturating_sub(std::mem::take(&mut self.unasked));
        for wish in self.waiting.iter_mut().skip(examined) {
            let Some(cid) = &wish.what.cid else { continue };
            let stale = match wish.index {
                Index::NotAsked => true,
                Index::Asked => false,
                Index::Absent(epoch) => epoch != self.epoch,
            };
            if stale && !self.recent.is_exact_from(wish.what.base) && self.recent.find(wish.what.by, cid).is_none() {
                wish.index = Index::Asked;
                out.push(Action::Store(Job::Find(wish.what.by, cid.clone(), self.epoch)));
            }
        }
    }

    /// What becomes of the first wish that waits. Dedupe comes before every refusal.
    fn settle_without_event(&self, wish: &Wish, batch: &Flight) -> Settled {
        if let Some(cid) = &wish.what.cid {
            if let Some(known) = self.recent.find(wish.what.by, cid) {
                return known_already(&wish.what, &known);
            }
            if batch.wishes.iter().any(|w| w.what.by == wish.what.by && w.what.cid.as_ref() == Some(cid)) {
                return Settled::Wait;
            }
            if !self.recent.is_exact_from(wish.what.base) && wish.index != Index::Absent(self.epoch) {
                return Settled::Wait;
            }
        }
        let Some(roster) = &self.roster else { return Settled::Wait };
        match roster.judge(wish.what.by, &wish.what.change, self.members_max) {
            Verdict::Event(body) => Settled::Event(body),
            Verdict::Unchanged => Settled::Final(Outcome::Done(Done::Unchanged)),
            Verdict::Refused(error) => Settled::Final(Outcome::Refused(error.into())),
        }
    }

    fn found(
        &mut self, by: UserId, cid: &ClientId, epoch: Epoch, result: Result<Option<Known>, storage::Error>,
        out: &mut Vec<Action>,
    ) {
        let asked = |w: &Wish| w.index == Index::Asked && w.what.by == by && w.what.cid.as_ref() == Some(cid);
        match result {
            Ok(None) => {
                self.waiting.iter_mut().filter(|w| asked(w)).for_each(|w| w.index = Index::Absent(epoch));
            }
            Ok(Some(known)) => {
                for wish in extract(&mut self.waiting, asked) {
                    match known_already(&wish.what, &known) {
                        Settled::Final(outcome) => self.refusing.push((wish, outcome)),
                        Settled::Answer(outcome) => answer(wish.what.requester, outcome, out),
                        Settled::Wait | Settled::Event(_) => {}
                    }
                }
            }
            Err(_) => extract(&mut self.waiting, asked).iter().for_each(|wish| give_up(wish, out)),
        }
    }

    fn appended(&mut self, result: Result<Appended, storage::Error>, now: Now, out: &mut Vec<Action>) {
        let Some(flight) = self.flight.take() else { return };
        match result {
            Ok(Appended::Applied { settled }) => {
                self.failures = 0;
                if let Some(last) = flight.events.last() {
                    self.head = Head { seq: last.seq, post_no: last.post_no, at: last.at, settled };
                }
                for (event, wish) in flight.events.iter().zip(&flight.wishes) {
                    self.recent.add(event);
                    metrics::histogram!("starling_send_commit_seconds")
                        .record(now.mono.duration_since(wish.since).as_secs_f64());
                }
                self.recent.trim(self.head.settled);
                let requesters = flight.wishes.into_iter().map(|wish| wish.what.requester);
                self.stored(flight.events.into_iter().zip(requesters).collect(), now, out);
            }
            Ok(Appended::Fenced { owner, .. }) if owner != self.me => {
                metrics::counter!("starling_fenced_total").increment(1);
                flight.wishes.into_iter().for_each(|wish| self.waiting.push_back(wish));
                self.deposed(now, out);
            }
            Err(storage::Error::Refused(_) | storage::Error::Corrupt(_)) => {
                flight.wishes.iter().for_each(|wish| give_up(wish, out));
                self.pause(now);
            }
            // also a refusal that shows one's own epoch: it can be wrong about one's own write
            Ok(Appended::Fenced { .. }) | Err(storage::Error::Unknown(_)) => {
                self.limbo_from = Some(self.head.seq);
                let ids = flight.events.iter().map(|event| event.id);
                self.limbo = flight.wishes.into_iter().map(|w| Wish { unknown: true, ..w }).zip(ids).collect();
                assert!(self.held.is_empty(), "an append waits for the member rows of the one before");
                self.lose(true, out);
            }
        }
    }

    /// Events are in the log: the roster moves on, and everybody is told, membership once its rows are written.
    fn stored(&mut self, events: Vec<(Event, Option<Requester>)>, now: Now, out: &mut Vec<Action>) {
        for (event, requester) in events {
            if let Some(roster) = &mut self.roster {
                roster.apply(&event);
            }
            if event.seq > self.head.settled {
                self.unsettled.push_back(event.clone());
            }
            if event.body.is_membership() && event.seq > self.head.settled {
                self.held.push_back((event, requester));
            } else {
                self.tell(event, requester, now, out);
            }
        }
    }

    fn tell(&mut self, event: Event, requester: Option<Requester>, now: Now, out: &mut Vec<Action>) {
        let mut telling = Vec::new();
        self.audience.tell(event, requester, &mut telling);
        self.untold_since = if self.audience.is_told() { None } else { self.untold_since.or(Some(now.mono)) };
        out.extend(telling.into_iter().map(Action::Tell));
    }

    // --- what follows from the log -----------------------------------------------------------------------------------

    fn follow(&mut self, out: &mut Vec<Action>) {
        if self.following.is_none()
            && !self.unsettled.is_empty()
            && matches!(self.stage, Stage::Ready | Stage::Repairing)
        {
            self.following = self.unsettled.back().map(|last| last.seq);
            out.push(Action::Store(Job::Follow(self.unsettled.iter().cloned().collect())));
        }
    }

    fn followed(&mut self, result: Result<(), storage::Error>, now: Now, out: &mut Vec<Action>) {
        let Some(written) = self.following.take() else { return };
        let owned = matches!(self.stage, Stage::Ready | Stage::Repairing);
        match result {
            Ok(()) if owned => {
                self.failures = 0;
                self.head.settled = self.head.settled.max(written);
                self.unsettled.retain(|event| event.seq > written);
                if matches!(self.stage, Stage::Repairing) {
                    self.repaired(now, out);
                } else {
                    self.release(now, out);
                }
            }
            Ok(()) => {}
            Err(_) => {
                if matches!(self.stage, Stage::Repairing) {
                    self.waiting.drain(..).for_each(|wish| give_up(&wish, out));
                }
                self.pause(now);
            }
        }
    }

    /// Tells what was held and is settled now.
    fn release(&mut self, now: Now, out: &mut Vec<Action>) {
        while self.held.front().is_some_and(|(event, _)| event.seq <= self.head.settled) {
            if let Some((event, requester)) = self.held.pop_front() {
                self.tell(event, requester, now, out);
            }
        }
    }

    // --- refusing for good -------------------------------------------------------------------------------------------

    fn verify(&mut self, out: &mut Vec<Action>) {
        if self.verifying.is_empty() && !self.refusing.is_empty() {
            self.verifying = std::mem::take(&mut self.refusing);
            out.push(Action::Store(Job::Verify));
        }
    }

    fn verified(&mut self, result: Result<Option<Standing>, storage::Error>, now: Now, out: &mut Vec<Action>) {
        let verifying = std::mem::take(&mut self.verifying);
        let owned = matches!(self.stage, Stage::Ready);
        match result {
            Ok(Some(standing)) if owned && (standing.epoch, standing.owner) == (self.epoch, self.me) => {
                verifying.into_iter().for_each(|(wish, outcome)| answer(wish.what.requester, outcome, out));
            }
            Ok(standing) => {
                // not ours any more: judge again under the next claim
                verifying.into_iter().rev().for_each(|(wish, _)| self.waiting.push_front(wish));
                if owned && standing.is_some_and(|s| s.owner != self.me) {
                    self.deposed(now, out);
                } else if owned {
                    self.lose(false, out);
                }
            }
            Err(_) => verifying.iter().for_each(|(wish, _)| give_up(wish, out)),
        }
    }

    // --- losing it ---------------------------------------------------------------------------------------------------

    /// The log must be claimed again. `continues`: nobody else was seen to own it, so what is known of it still holds.
    fn lose(&mut self, continues: bool, out: &mut Vec<Action>) {
        (self.stage, self.continues, self.loading) = (Stage::Cold, continues, false);
        self.unsettled.clear();
        for (wish, _) in std::mem::take(&mut self.refusing).into_iter().rev() {
            self.waiting.push_front(wish);
        }
        for wish in &mut self.waiting {
            wish.peek = Peek::Known;
        }
        self.unasked = self.waiting.len();
        if !continues {
            self.roster = None;
            // stored, but who comes next writes the member rows and tells; the same request again is answered with it
            for (_, requester) in std::mem::take(&mut self.held) {
                answer(requester, timeout(), out);
            }
        }
    }

    fn put_back(&mut self, wish: Wish) {
        self.waiting.push_front(wish);
        self.unasked = self.waiting.len();
    }

    /// Another node owns the log: its owner is to be asked, and not be claimed from at once.
    fn deposed(&mut self, now: Now, out: &mut Vec<Action>) {
        self.lose(false, out);
        let moved: Outcome =
            Outcome::Refused(Error::new(Code::Moved, "another node owns this conversation now").into());
        for wish in self.waiting.drain(..) {
            answer(wish.what.requester, if wish.unknown { timeout() } else { moved.clone() }, out);
        }
        self.retry_at = Some(now.mono + NO_DUEL);
    }

    fn pause(&mut self, now: Now) {
        let pause = RETRY_MIN.saturating_mul(1 << self.failures.min(10)).min(RETRY_MAX);
        self.failures += 1;
        self.retry_at = Some(now.mono + pause);
    }

    // --- marks and typing --------------------------------------------------------------------------------------------

    /// Marks and typing need to know the members, not to own the log.
    fn serve_roster(&mut self, out: &mut Vec<Action>) {
        let Some(roster) = &self.roster else { return };
        let head = self.head.seq;
        let mut telling = Vec::new();
        for (by, on) in std::mem::take(&mut self.typing) {
            if roster.members.contains_key(&by) {
                let conversation = self.id;
                self.audience.everybody(&mut telling, |to| ToConnections::Typing { conversation, user: by, on, to });
            }
        }
        out.extend(telling.into_iter().map(Action::Tell));
        let accept = |request: &MarkRequest| {
            let refusal = if !roster.members.contains_key(&request.by) {
                no_such_conversation()
            } else if request.seq > head {
                Error::field("seq", format!("the conversation ends at {head}"))
            } else {
                return true;
            };
            answer(request.requester, Outcome::Refused(refusal.into()), out);
            false
        };
        if let Some(updates) = self.marks.begin(accept) {
            out.push(Action::Store(Job::Mark(updates)));
        }
    }

    fn marked(&mut self, result: Result<Vec<Marks>, storage::Error>, out: &mut Vec<Action>) {
        let Ok(now) = result else {
            for request in self.marks.failed() {
                answer(request.requester, unavailable(), out);
            }
            return;
        };
        let (requests, moved) = self.marks.stored(&now);
        for request in &requests {
            answer(request.requester, Outcome::Done(Done::Unchanged), out);
        }
        let (conversation, mut telling) = (self.id, Vec::new());
        if !moved.is_empty() {
            let marks: Vec<_> = moved.iter().map(|m| (m.user, m.marks)).collect();
            self.audience.everybody(&mut telling, |to| ToConnections::Receipts {
                conversation,
                marks: marks.clone(),
                to,
            });
        }
        for m in moved.iter().filter(|m| m.read) {
            let asked = requests.iter().rev().find(|r| r.by == m.user && r.read).and_then(|r| r.requester);
            let seq = m.marks.read;
            self.audience.devices_of(m.user, asked.map(|r| r.at), &mut telling, |to| ToConnections::OwnRead {
                conversation,
                seq,
                to,
            });
        }
        out.extend(telling.into_iter().map(Action::Tell));
    }

    // --- time --------------------------------------------------------------------------------------------------------

    fn tick(&mut self, now: Now, out: &mut Vec<Action>) {
        self.wake = None;
        if self.retry_at.is_some_and(|at| at <= now.mono) {
            self.retry_at = None;
        }
        let late = |wish: &Wish| now.mono.duration_since(wish.since) >= STORE_DEADLINE;
        for wish in extract(&mut self.waiting, late) {
            give_up(&wish, out);
        }
        for (wish, _) in self.limbo.iter_mut().filter(|(wish, _)| late(wish)) {
            give_up(wish, out);
            wish.what.requester = None;
        }
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

enum Settled {
    /// Something must be known first.
    Wait,
    /// Answered from the log; stays true.
    Answer(Outcome),
    /// To be said once it is certain that the log is still ours.
    Final(Outcome),
    /// To be appended.
    Event(protocol::Body),
}

fn known_already(what: &Submission, known: &Known) -> Settled {
    if known.request_hash == what.request_hash {
        return Settled::Answer(stored(known.seq, known.post_no, known.at, true));
    }
    let message = "another request was made under this client id; make a new id for a new request";
    Settled::Final(Outcome::Refused(Error::new(Code::Conflict, message).into()))
}

fn stored(seq: Seq, post_no: u64, at: protocol::Millis, dup: bool) -> Outcome {
    Outcome::Done(Done::Stored { seq, post_no, at, dup })
}

fn unavailable() -> Outcome {
    let error = Error::new(Code::Unavailable, "the store is away; nothing was stored").after_ms(500);
    Outcome::Refused(error.into())
}

fn timeout() -> Outcome {
    Outcome::Refused(
        Error::new(Code::Timeout, "the store did not say in time; the same cid is safe").after_ms(500).into(),
    )
}

/// Not stored for certain, unless an earlier append that carried it ended unknown.
fn give_up(wish: &Wish, out: &mut Vec<Action>) {
    answer(wish.what.requester, if wish.unknown { timeout() } else { unavailable() }, out);
}

fn answer(requester: Option<Requester>, outcome: Outcome, out: &mut Vec<Action>) {
    if let Some(Requester { at, tag }) = requester {
        out.push(Action::Tell(Telling::Node(at.node, ToConnections::Answer(at.conn, tag, outcome))));
    }
}

fn extract(waiting: &mut VecDeque<Wish>, wanted: impl Fn(&Wish) -> bool) -> Vec<Wish> {
    let (taken, kept): (Vec<_>, Vec<_>) = std::mem::take(waiting).into_iter().partition(wanted);
    *waiting = kept.into();
    taken
}

fn wish_bytes(what: &Submission) -> usize {
    match &what.change {
        Change::Post(envelope) => envelope.len(),
        Change::Create { members, .. } => members.len() * 36,
        Change::Join(users) => users.len() * 36,
        Change::Title(title) => title.len(),
        Change::Leave | Change::Remove(_) | Change::Role(..) => 36,
    }
}
