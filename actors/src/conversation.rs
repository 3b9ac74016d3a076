//! One conversation, on the node that owns it: orders events, remembers them, then tells everyone. The shell: asks the
//! store on behalf of `conversation::state` and carries its mail; decides nothing.

pub(crate) mod audience;
pub(crate) mod marks;
pub(crate) mod recent;
pub(crate) mod roster;
pub(crate) mod state;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::future::try_join;
use protocol::{ConversationId, Incarnation, peer::Mail};
use storage::{Store, log::Range};

use self::{
    audience::Telling,
    roster::{Roster, Standing},
    state::{Action, Answer, Ground, Input, Job, Loaded, State},
};
use crate::{
    cluster::notes::Notes,
    entities::{Entity, Me, Now, Performed},
    maps::HashMap,
    router::Router,
    tasks,
};

/// Members are read in pages of this many.
const MEMBERS_PAGE: usize = 1000;

/// What a conversation needs of its node.
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) me: Incarnation,
    pub(crate) members_max: usize,
    pub(crate) router: Arc<Router>,
    /// Where several nodes share the store.
    pub(crate) notes: Option<Arc<Notes>>,
    /// How many were born here.
    pub(crate) lives: AtomicU64,
}

impl Entity for State {
    const KIND: &'static str = "conversation";
    const MAILBOX_MAX: usize = 4096;
    type Key = ConversationId;
    type Event = Input;
    type Action = Action;
    type Context = Context;

    fn fresh(id: ConversationId, context: &Arc<Context>, restarted: bool) -> State {
        let names = context.lives.fetch_add(1, Ordering::Relaxed) << 32;
        let (noting, places) = (context.notes.is_some(), context.router.places());
        let ground = Ground { me: context.me, names, members_max: context.members_max, noting, places };
        State::new(id, ground, restarted)
    }

    fn tick() -> Input {
        Input::Tick
    }

    fn on(&mut self, input: Input, now: Now) -> Vec<Action> {
        State::on(self, input, now)
    }

    fn perform(action: Action, me: &Me<State>, context: &Arc<Context>) -> Performed {
        match action {
            Action::Store(job) => {
                let (me, context) = (me.clone(), context.clone());
                tasks::spawn(async move {
                    let answer = match (job, &context.notes) {
                        (Job::Note, Some(notes)) => Answer::Noted(notes.note(me.key()).await),
                        (job, _) => ask(me.key(), job, context.me, &context.store).await,
                    };
                    me.tell(Input::Store(answer));
                });
                Performed::Done
            }
            Action::Tell(Telling::Channel(node, slice, mail)) => {
                context.router.post(node, Mail::Presence(slice, mail));
                Performed::Done
            }
            Action::Tell(Telling::Node(node, mail)) => {
                context.router.post(node, Mail::Connections(mail));
                Performed::Done
            }
            Action::Forward(node, mail) => {
                context.router.forward(node, Mail::Conversation(me.key(), mail));
                Performed::Done
            }
            Action::AskComplete(at) => {
                context.router.ask_complete(at, me.key());
                Performed::Done
            }
            Action::AskArrived => {
                me.tell(Input::Arrived(!context.router.is_telling(me.key())));
                Performed::Done
            }
            Action::LookedAfter => {
                context.router.looked_after(me.key());
                Performed::Done
            }
            Action::ReadView => {
                context.router.read_view();
                Performed::Done
            }
            Action::Flush => {
                context.router.flush();
                Performed::Done
            }
            Action::FlushSoon => {
                context.router.flush_soon();
                Performed::Done
            }
            Action::WakeAt(at) => Performed::WakeAt(at),
            Action::StopIfIdle => Performed::StopIfIdle,
        }
    }
}

async fn ask(c: ConversationId, job: Job, me: Incarnation, store: &Store) -> Answer {
    let (log, directory) = (&store.log, &store.directory);
    match job {
        Job::Peek(user) => Answer::Peeked(user, directory.member(c, user).await.map(|row| row.is_some())),
        Job::Create(events) => Answer::Created(log.create(c, me, &events).await),
        Job::Claim { tail_from } => Answer::Claimed(log.claim(c, me, tail_from).await),
        Job::Load(epoch, recalled) => Answer::Loaded(epoch, load(c, recalled, store).await),
        Job::Find(by, cid, epoch) => {
            let found = log.find(c, by, &cid).await;
            Answer::Found(by, cid, epoch, found)
        }
        Job::Append { epoch, head, settled, events } => {
            Answer::Appended(log.append(c, epoch, head, settled, &events).await)
        }
        Job::Follow(events) => Answer::Followed(log.follow(c, &events).await),
        Job::Verify => Answer::Verified(log.standing(c).await),
        Job::Mark(updates) => Answer::Marked(directory.mark(c, &updates).await),
        // nobody else shares this store
        Job::Note => Answer::Noted(Ok(true)),
    }
}

async fn load(c: ConversationId, recalled: Option<Range>, store: &Store) -> Result<Option<Loaded>, storage::Error> {
    let page = |after| store.directory.members(c, after, MEMBERS_PAGE);
    let (row, mut next) = try_join(store.directory.conversation(c), page(None)).await?;
    let Some(row) = row else { return Ok(None) };
    let mut members = HashMap::default();
    loop {
        let after = next.last().map(|member| member.user).filter(|_| next.len() >= MEMBERS_PAGE);
        members.extend(next.into_iter().map(|m| (m.user, Standing { role: m.role, joined: m.joined_seq })));
        if after.is_none() {
            break;
        }
        next = page(after).await?;
    }
    let recalled = match recalled {
        Some(range) => store.log.read(c, range).await?,
        None => Vec::new(),
    };
    let roster = Roster { kind: row.kind, title: row.title, members };
    Ok(Some(Loaded { roster, head: row.head, recalled }))
}
