//! The owner of one log: orders wishes, has them stored, then tells everyone. Pure: an input goes in, actions come out.
//!
//! What it relies on and what it never does is in `CONVERSATION.md` beside this crate's README: nothing is acknowledged
//! before the store has said `Applied`; an unknown append is followed by a claim and a look at the tail; a refusal for
//! good is given only after reading that the log is still ours.

mod admission;
mod append;
mod beside;
mod clock;
#[cfg(test)]
pub(crate) mod digest;
mod outcomes;
mod placed;
pub(crate) mod planted;
mod tenure;
#[cfg(test)]
mod tests;
mod untold;

use std::{collections::VecDeque, sync::Arc};

use protocol::{
    ClientId, ConversationId, Epoch, Event, EventId, Incarnation, Seq, UserId,
    peer::{Outcome, Requester, Slice, Submission, ToConnections, ToConversation},
    push::Marks,
};
use storage::{
    directory::MarkUpdate,
    log::{Appended, Claimed, Created, Head, Known, Range, Standing},
};
use tokio::time::Instant;

use super::{
    audience::{Audience, Telling},
    marks::MarkBoard,
    recent::Recent,
    roster::Roster,
};
use crate::{cluster::places::Places, entities::Now, meters::Owned};

/// What it is told.
#[derive(Debug)]
pub(crate) enum Input {
    Mail(ToConversation),
    /// Mail that another node, which was not the owner, has sent on.
    Forwarded(ToConversation),
    Store(Answer),
    /// A new view.
    Placed(Arc<Places>),
    /// A node has forgotten what was watched there, all or one slice of it.
    Forgotten(Incarnation, Option<Slice>),
    /// None of any node's sockets waits to be registered at this one again.
    Complete(Incarnation),
    /// All that it told other nodes so far has arrived, or not yet.
    Arrived(bool),
    /// A dead node may have left something of it untold.
    LookAfter,
    Tick,
}

/// What it is born with.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    /// This run of this node.
    pub(crate) me: Incarnation,
    /// Its watches are named from here on: no other life of it on this node uses these names.
    pub(crate) names: u64,
    /// Members it may have.
    pub(crate) members_max: usize,
    /// True if other nodes look after what this one leaves untold when it dies.
    pub(crate) noting: bool,
    /// Where it and the channels it watches are placed.
    pub(crate) places: Arc<Places>,
}

/// What the store said.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) enum Answer {
    Peeked(UserId, Result<bool, storage::Error>),
    Created(Result<Created, storage::Error>),
    Claimed(Result<Claimed, storage::Error>),
    Loaded(Epoch, Result<Option<Loaded>, storage::Error>),
    Found(UserId, ClientId, Epoch, Result<Option<Known>, storage::Error>),
    Appended(Result<Appended, storage::Error>),
    Followed(Result<(), storage::Error>),
    Verified(Result<Option<Standing>, storage::Error>),
    Marked(Result<Vec<Marks>, storage::Error>),
    /// False: this node is no member any more.
    Noted(Result<bool, storage::Error>),
}

/// A conversation as its rows have it.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Loaded {
    pub(crate) roster: Roster,
    pub(crate) head: Head,
    /// The events that were asked for.
    pub(crate) recalled: Vec<Event>,
}

/// What it wants of the store. At most one of each is under way, finds and peeks aside.
#[derive(Debug, PartialEq)]
pub(crate) enum Job {
    Peek(UserId),
    Create(Vec<Event>),
    Claim {
        tail_from: Option<Seq>,
    },
    /// Read the members, and these events; carries the epoch under which it was asked, 0 for none.
    Load(Epoch, Option<Range>),
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
    /// Say that what is appended from now on may be left untold, then whether this node is still a member.
    Note,
}

/// What it wants done.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    Store(Job),
    Tell(Telling),
    /// Somebody else's to answer: to the owner.
    Forward(Incarnation, ToConversation),
    /// Say so once none of any node's sockets waits to be registered at this one again.
    AskComplete(Incarnation),
    /// Say whether all that was told to other nodes has arrived.
    AskArrived,
    /// Nothing of it is untold.
    LookedAfter,
    /// Whose the log is differs from what the view says.
    ReadView,
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
    /// Another node has sent it on already.
    forwarded: bool,
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
    places: Arc<Places>,
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
    untold: untold::Untold,
    marks: MarkBoard,
    typing: Vec<(UserId, bool)>,
    failures: u32,
    /// How often another one has claimed the log since it last stored something here.
    losses: u32,
    /// When the store last took a batch.
    applied_at: Option<Instant>,
    retry_at: Option<Instant>,
    /// It was placed elsewhere since it claimed, and is here again: whoever had it meanwhile has claimed too.
    returned: bool,
    restarted: bool,
    /// Who has left lately may not have heard of it, and is not in the tail of the log where nobody keeps it there.
    recalls: bool,
    last_mail: Option<Instant>,
    untold_since: Option<Instant>,
    /// Since when marks and typing wait for channels to say who is connected.
    unheard_since: Option<Instant>,
    wake: Option<Instant>,
    /// When watches that no channel has answered are asked for again.
    ask_again_at: Option<Instant>,
    /// Since when its watches are being ended, before it stops.
    ending_since: Option<Instant>,
    parting: bool,
    #[cfg(test)]
    planted: Option<planted::Mistake>,
}

impl State {
    pub(crate) fn new(id: ConversationId, ground: Ground, restarted: bool) -> State {
        let Ground { me, names, members_max, noting, places } = ground;
        State {
            id,
            me,
            members_max,
            places: places.clone(),
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
            audience: Audience::new(id, names, places),
            untold: untold::Untold::new(noting, restarted),
            marks: MarkBoard::default(),
            typing: Vec::new(),
            failures: 0,
            losses: 0,
            applied_at: None,
            retry_at: None,
            returned: false,
            restarted,
            recalls: restarted && !noting,
            last_mail: None,
            untold_since: None,
            unheard_since: None,
            wake: None,
            ask_again_at: None,
            ending_since: None,
            parting: false,
            #[cfg(test)]
            planted: None,
        }
    }

    /// Decides.
    pub(crate) fn on(&mut self, input: Input, now: Now) -> Vec<Action> {
        if self.parting {
            // mail came while stopping: begin again, all watches have ended
            let (names, places) = (self.audience.watches.names(), self.places.clone());
            let noting = self.untold.noting;
            let ground = Ground { me: self.me, names, members_max: self.members_max, noting, places };
            *self = State::new(self.id, ground, false);
        }
        let mut out = Vec::new();
        self.last_mail.get_or_insert(now.mono);
        match input {
            Input::Mail(mail) => self.mail(mail, false, now, &mut out),
            Input::Forwarded(mail) => self.mail(mail, true, now, &mut out),
            Input::Store(answer) => self.answer(answer, now, &mut out),
            Input::Placed(places) => self.placed(places, &mut out),
            Input::Forgotten(by, which) => self.forgotten(by, which, &mut out),
            Input::Complete(at) => self.audience.watches.completed(at),
            Input::Arrived(all) => self.arrived(all),
            Input::LookAfter => self.look_after(),
            Input::Tick => self.tick(now, &mut out),
        }
        self.hand_over(&mut out);
        self.advance(now, &mut out);
        self.watch_transit(&out);
        self.let_go(now, &mut out);
        self.settle_debts(now, &mut out);
        self.stop_if_done(now, &mut out);
        self.schedule(now, &mut out);
        if out.iter().any(|action| matches!(action, Action::Tell(Telling::Node(_, ToConnections::Event(_))))) {
            let soon = self.flight.is_some() && self.audience.is_large();
            out.push(if soon { Action::FlushSoon } else { Action::Flush });
        }
        out
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
            Answer::Noted(result) => self.noted(result, now, out),
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
            self.follow(now, out);
        }
        self.serve_roster(now, out);
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
