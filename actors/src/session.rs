//! One session: a connected device. The shell: does what `session::state` decided, and runs what takes time beside it.

pub(crate) mod state;

use std::sync::Arc;

use protocol::{
    Code, ConnId, Error, Incarnation, UserId,
    peer::{Address, Mail, Slice, ToConversation, ToPresence},
    push::{self, Bye, PresenceState, PresenceStates},
    request::Presence,
};
use storage::Store;

use self::state::{Action, Input, Job, State};
use crate::{
    Accounts, Caller,
    cluster::places::Places,
    connections::Connections,
    entities::{Entity, Me, Now, Performed},
    history,
    maps::HashMap,
    outbound::{Outbound, line::Volatile},
    presence_query,
    refusals::refused,
    router::Router,
    settings::Limits,
    sync, tasks,
    turns::{Turn, Turns},
    world::Clock,
};

/// What a session needs of its node.
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) me: Incarnation,
    pub(crate) limits: Limits,
    pub(crate) router: Arc<Router>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) turns: Arc<Turns>,
}

impl Context {
    fn outbound(&self, conn: ConnId) -> Option<Arc<Outbound>> {
        self.connections.socket(conn)
    }

    /// Replaces whom a socket watches; each channel gets its part.
    pub(crate) fn watch_users(&self, outbound: &Outbound, users: Vec<UserId>) {
        let before = outbound.watched.lock().map(|mut watched| std::mem::replace(&mut *watched, users.clone()));
        let mut parts: HashMap<Slice, Vec<UserId>> = HashMap::default();
        for user in before.unwrap_or_default() {
            parts.entry(Slice::of(user)).or_default();
        }
        for user in users {
            parts.entry(Slice::of(user)).or_default().push(user);
        }
        self.watch_at(outbound, parts, &self.router.places());
    }

    /// What becomes of a socket that has ended, on every path, once; its session is told beside.
    pub(crate) fn farewell(self: &Arc<Self>, outbound: &Outbound) {
        self.watch_users(outbound, Vec::new());
        let caller = outbound.caller;
        // out of the table first: a registration that is just being made again finds that nobody is there any more
        self.connections.remove(outbound.conn);
        self.router.unregister(caller.user, outbound.conn);
    }

    fn watch_at(&self, outbound: &Outbound, parts: HashMap<Slice, Vec<UserId>>, places: &Places) {
        let at = Address { node: self.me, conn: outbound.conn };
        for (slice, users) in parts {
            if let Some(to) = places.channel(slice) {
                self.router.post(to, Mail::Presence(slice, ToPresence::WatchUsers { at, users }));
            }
        }
    }

    /// Says again whom a socket watches, where their channels are now.
    fn watch_there(&self, outbound: &Outbound, places: &Places) {
        let mut parts: HashMap<Slice, Vec<UserId>> = HashMap::default();
        for user in outbound.watched.lock().map(|watched| watched.clone()).unwrap_or_default() {
            parts.entry(Slice::of(user)).or_default().push(user);
        }
        self.watch_at(outbound, parts, places);
    }
}

impl Entity for State {
    const KIND: &'static str = "session";
    const MAILBOX_MAX: usize = 512;
    type Key = ConnId;
    type Event = Input;
    type Action = Action;
    type Context = Context;

    fn fresh(conn: ConnId, context: &Arc<Context>, _restarted: bool) -> State {
        // a session is started by its first event, when its socket is in the table
        let (caller, limits) = (context.outbound(conn).map(|o| o.caller), context.limits);
        let nobody =
            Caller { user: UserId([0; 16]), session: protocol::SessionId([0; 16]), expires_at: protocol::Millis(0) };
        State::new(caller.unwrap_or(nobody), Address { node: context.me, conn }, limits, context.router.places())
    }

    fn tick() -> Input {
        Input::Tick
    }

    fn on(&mut self, input: Input, now: Now) -> Vec<Action> {
        self.decide(input, now)
    }

    fn perform(action: Action, me: &Me<State>, context: &Arc<Context>) -> Performed {
        match action {
            Action::Send(to, mail) => {
                context.router.post(to, mail);
                return Performed::Done;
            }
            Action::WakeAt(at) => return Performed::WakeAt(at),
            Action::Stop => return Performed::Stop,
            _ => {}
        }
        let conn = me.key();
        let Some(outbound) = context.outbound(conn) else { return Performed::Stop };
        let now = context.clock.now();
        match action {
            Action::Answer(Some(id), Ok(())) => {
                outbound.with(|line| line.answer(id, push::ok(id, serde_json::json!({})), now));
            }
            Action::Answer(Some(id), Err(error)) => {
                outbound.with(|line| line.answer(id, refused(id, &error, conn), now));
            }
            Action::Ask(owner, c, mail) => {
                let tag = match &mail {
                    ToConversation::Submit(submission) => submission.requester.map(|requester| requester.tag),
                    ToConversation::Mark(mark) => mark.requester.map(|requester| requester.tag),
                    _ => None,
                };
                let goes = tag.is_none_or(|tag| outbound.with(|line| line.keep(tag, owner, c, &mail)));
                if let Some(owner) = owner.filter(|_| goes) {
                    context.router.post(owner, Mail::Conversation(c, mail));
                }
            }
            Action::AskAgain(lost, places) => {
                let again = outbound.with(|line| line.ask_again(lost, |c| places.conversation(c)));
                for (owner, c, mail) in again.asks {
                    context.router.post(owner, Mail::Conversation(c, mail));
                }
                for (id, error) in again.refused {
                    outbound.with(|line| line.answer(id, refused(id, &error, conn), now));
                }
                if again.waits {
                    me.tell(Input::NotTaken);
                }
            }
            Action::WatchThere(places) => context.watch_there(&outbound, &places),
            Action::Push(frame) => outbound.with(|line| line.push(frame)),
            Action::Show(id, c, on_screen) => outbound.with(|line| {
                let shown = line.show(c, on_screen);
                if let Some(id) = id {
                    let frame = match shown {
                        Ok(()) => push::ok(id, serde_json::json!({})),
                        Err(error) => refused(id, &error, conn),
                    };
                    line.answer(id, frame, now);
                }
            }),
            Action::Close(code) => outbound.close(Bye::of(code)),
            Action::Expire => outbound.with(|line| {
                for (id, error) in line.expire(now) {
                    let open = || Error::new(Code::Timeout, "no answer in time; the same cid is safe").after_ms(500);
                    line.push(refused(id, &error.unwrap_or_else(open), conn));
                }
            }),
            Action::WatchAgain => {
                let context = context.clone();
                tasks::spawn(async move { watch_again(&outbound, &context).await });
            }
            Action::Job(job) => match outbound.begin_job(context.limits.inflight) {
                Some(place) => {
                    let (me, context) = (me.clone(), context.clone());
                    tasks::spawn(async move {
                        work(job, &me, &outbound, &context).await;
                        drop(place);
                    });
                }
                None => {
                    metrics::counter!("starling_rate_limited_total", "scope" => "inflight").increment(1);
                    if let Some(id) = job.id() {
                        let error = Error::new(Code::TooManyInflight, "wait for answers before asking more");
                        outbound.with(|line| line.answer(id, refused(id, &error.after_ms(100), conn), now));
                    }
                }
            },
            Action::Answer(None, _) | Action::Send(..) | Action::WakeAt(_) | Action::Stop => {}
        }
        Performed::Done
    }
}

async fn work(job: Job, me: &Me<State>, outbound: &Outbound, context: &Context) {
    let (store, user) = (&context.store, outbound.caller.user);
    let (id, result) = match job {
        Job::Sync(id, request) => {
            let Some(_turn) = turn(id, outbound, context).await else { return };
            match sync::answer(store, user, request).await {
                Ok((answer, covered)) => {
                    let frame = push::ok(id.unwrap_or(0), answer);
                    let now = context.clock.now();
                    return outbound.with(|line| line.synced(id, frame, &covered, now));
                }
                Err(error) => (id, Err(error)),
            }
        }
        Job::Hist(id, hist) => {
            let Some(_turn) = turn(Some(id), outbound, context).await else { return };
            let page = history::page(store, user, hist.c, hist.page).await;
            (Some(id), page.map(|page| push::ok(id, page)))
        }
        Job::Watch(id, users) => {
            let states = watch(users, outbound, context).await;
            (id, states.map(|states| push::ok(id.unwrap_or(0), states)))
        }
        Job::Auth(id, token) => {
            (id, renew(&token, me, outbound, context).await.map(|()| push::ok(id.unwrap_or(0), serde_json::json!({}))))
        }
    };
    let Some(id) = id else { return };
    let frame = result.unwrap_or_else(|error| refused(id, &error, me.key()));
    outbound.with(|line| line.answer(id, frame, context.clock.now()));
}

/// A turn to read pages for a request; `None` if it wants no answer any more: who was told that it took too long asks again.
async fn turn<'t>(id: Option<u32>, outbound: &Outbound, context: &'t Context) -> Option<Turn<'t>> {
    let turn = context.turns.take(outbound.caller.session).await;
    outbound.wants(id).then_some(turn)
}

async fn watch(users: Vec<UserId>, outbound: &Outbound, context: &Context) -> Result<PresenceStates, Error> {
    let visible = presence_query::visible(&context.store, outbound.caller.user, &users).await?;
    // watch first, ask second: a change in between is told twice, not never
    outbound.take_presence();
    context.watch_users(outbound, visible.clone());
    let Context { store, router, connections, me, .. } = context;
    let mut states = presence_query::states(store, router, connections, *me, &users, &visible).await?;
    // what was pushed meanwhile is newer than what was answered, or was not answered in time
    states.presence.extend(outbound.take_presence());
    Ok(states)
}

/// Makes the watches again. Who may no longer be seen looks from now on as if they had never been there.
async fn watch_again(outbound: &Outbound, context: &Context) {
    let users = outbound.watched.lock().map(|watched| watched.clone()).unwrap_or_default();
    let visible = presence_query::visible(&context.store, outbound.caller.user, &users).await;
    let visible = visible.unwrap_or_else(|_| users.clone());
    let hidden = users.iter().filter(|user| !visible.contains(user));
    let never = PresenceState { state: Presence::Offline, last_seen_at: None };
    let hidden: std::collections::HashMap<UserId, PresenceState> = hidden.map(|user| (*user, never)).collect();
    context.watch_users(outbound, visible);
    if !hidden.is_empty() {
        let frame = push::push("pres", PresenceStates { presence: hidden });
        outbound.with(|line| line.volatile(Volatile::Presence, None, &frame));
    }
}

async fn renew(token: &str, me: &Me<State>, outbound: &Outbound, context: &Context) -> Result<(), Error> {
    let fresh = context.accounts.authenticate(token).await?;
    if fresh.session != outbound.caller.session {
        return Err(Error::field("token", "the token belongs to another session; open another socket for it"));
    }
    me.tell(Input::Renewed(fresh.expires_at));
    Ok(())
}
