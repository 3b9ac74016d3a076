//! One connected device: checks what it says and sends it on. Never touches a socket (see `line`) and never orders
//! events (see `conversation`). Pure.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use protocol::{
    Body, Code, ConversationId, Error, Incarnation, Millis, UserId,
    limits::REQUEST_DEADLINE_MS,
    peer::{Address, Change, Mail, MarkRequest, Requester, Slice, Submission, ToConversation, ToPresence},
    push::{self, TokenEnding},
    request::{Hist, Mark, Presence, Send, Sync, Verb},
};
use tokio::time::Instant;

use crate::{Caller, cluster::places::Places, entities::Now, settings::Limits};

/// How long before its end a client is told of its token.
const TOKEN_NOTICE: Duration = Duration::from_secs(60);
/// How often a registration that was not confirmed is made again.
const REGISTER_AGAIN: Duration = Duration::from_secs(1);
/// How long after it was not taken a request is sent again: long enough for views to agree.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How often requests in flight are looked at once the oldest is due.
const DEADLINE_TICK: Duration = Duration::from_secs(1);
const REQUEST_DEADLINE: Duration = Duration::from_millis(REQUEST_DEADLINE_MS);

/// What it is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// The client says something (anything but `hello`).
    Request(Option<u32>, Verb),
    /// The presence channel on that node knows this socket.
    Registered(Incarnation),
    /// A node has forgotten what was registered and watched there, all or one slice of it.
    Forgotten(Incarnation, Option<Slice>),
    /// What was sent to that node may not have arrived, nor what it answered.
    Lost(Incarnation),
    /// A request was not taken, and is to be asked again.
    NotTaken,
    /// A new view.
    Placed(Arc<Places>),
    /// Whom it may watch may have changed.
    LookAgain,
    /// A fresh token was accepted.
    Renewed(Millis),
    Tick,
    /// The socket is gone.
    Gone,
}

/// What takes time or needs the store.
#[derive(Debug, PartialEq)]
pub(crate) enum Job {
    Sync(Option<u32>, Sync),
    Hist(u32, Hist),
    Watch(Option<u32>, Vec<UserId>),
    Auth(Option<u32>, String),
}

impl Job {
    /// The request it answers.
    pub(crate) fn id(&self) -> Option<u32> {
        match self {
            Job::Sync(id, _) | Job::Watch(id, _) | Job::Auth(id, _) => *id,
            Job::Hist(id, _) => Some(*id),
        }
    }
}

/// What it wants done.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    Send(Incarnation, Mail),
    /// Ask a conversation, at its owner if it has one now. If it wants an answer, and is not answered, it is sent again
    /// when it may have been lost or its owner changes.
    Ask(Option<Incarnation>, ConversationId, ToConversation),
    /// Send what is unanswered to the owners as they are now; what was sent to the one that is lost, in any case.
    AskAgain(Option<Incarnation>, Arc<Places>),
    Answer(Option<u32>, Result<(), Error>),
    Push(Bytes),
    Job(Job),
    /// A conversation is on screen, or no longer; and answer that.
    Show(Option<u32>, ConversationId, bool),
    /// Answer `timeout` to what waited too long.
    Expire,
    /// Make the watches of users again, of those who may still be seen.
    WatchAgain,
    /// The same, where nothing changed but the place of channels.
    WatchThere(Arc<Places>),
    Close(protocol::close::CloseCode),
    WakeAt(Instant),
    Stop,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct State {
    caller: Caller,
    at: Address,
    limits: Limits,
    places: Arc<Places>,
    appearance: Presence,
    /// Where its registration stands, or is under way.
    channel: Option<Incarnation>,
    registered: bool,
    register_at: Option<Instant>,
    /// A `sync` reads only once everything that is told from now on reaches this socket.
    syncs: Vec<(Option<u32>, Sync)>,
    /// When the send bucket is full again (GCRA).
    sends_until: Option<Instant>,
    token_told: bool,
    last_request: Option<Instant>,
    expire_at: Option<Instant>,
    /// When requests that were not taken are sent again.
    ask_again_at: Option<Instant>,
    wake: Option<Instant>,
}

impl State {
    pub(crate) fn new(caller: Caller, at: Address, limits: Limits, places: Arc<Places>) -> State {
        State {
            caller,
            at,
            limits,
            places,
            channel: None,
            appearance: Presence::Online,
            registered: false,
            register_at: None,
            syncs: Vec::new(),
            sends_until: None,
            token_told: false,
            last_request: None,
            expire_at: None,
            ask_again_at: None,
            wake: None,
        }
    }

    /// Decides.
    pub(crate) fn decide(&mut self, input: Input, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Request(id, verb) => {
                self.last_request = Some(now.mono);
                if self.expire_at.is_none() && id.is_some() {
                    self.expire_at = Some(now.mono + REQUEST_DEADLINE);
                }
                self.request(id, verb, now, &mut out);
            }
            // another place's word counts no more
            Input::Registered(by) if self.channel == Some(by) => {
                (self.registered, self.register_at) = (true, None);
                out.extend(self.syncs.drain(..).map(|(id, sync)| Action::Job(Job::Sync(id, sync))));
            }
            Input::Registered(_) => {}
            Input::Forgotten(by, which) => {
                let planted = crate::planted::is(crate::planted::Mistake::NotRegisteredAgain);
                if !planted && self.channel == Some(by) && which.is_none_or(|slice| slice == self.slice()) {
                    self.register(now, &mut out);
                }
                out.push(Action::WatchThere(self.places.clone()));
            }
            Input::Lost(peer) => out.push(Action::AskAgain(Some(peer), self.places.clone())),
            Input::NotTaken => {
                self.ask_again_at.get_or_insert(now.mono + ASK_AGAIN);
            }
            Input::Placed(places) => {
                self.places = places;
                if self.channel != self.places.channel(self.slice()) {
                    self.register(now, &mut out);
                }
                out.push(Action::WatchThere(self.places.clone()));
                out.push(Action::AskAgain(None, self.places.clone()));
            }
            Input::LookAgain => out.push(Action::WatchAgain),
            Input::Renewed(expires_at) => (self.caller.expires_at, self.token_told) = (expires_at, false),
            Input::Tick => self.tick(now, &mut out),
            Input::Gone => return vec![Action::Stop],
        }
        if !self.registered && self.register_at.is_none() {
            self.register(now, &mut out);
        }
        self.schedule(now, &mut out);
        out
    }

    fn request(&mut self, id: Option<u32>, verb: Verb, now: Now, out: &mut Vec<Action>) {
        if let Err(error) = verb.check(self.limits.text_chars) {
            return out.push(Action::Answer(id, Err(error)));
        }
        match verb {
            Verb::Hello(_) => {
                let error =
                    Error::new(Code::BadFrame, "hello was said already; open another socket for another device");
                out.push(Action::Answer(id, Err(error)));
            }
            Verb::Send(send) => {
                if let Err(error) = self.send(id, send, now, out) {
                    out.push(Action::Answer(id, Err(error)));
                }
            }
            Verb::Sync(sync) if self.registered => out.push(Action::Job(Job::Sync(id, sync))),
            Verb::Sync(sync) => self.syncs.push((id, sync)),
            // a page that nobody wants is not read
            Verb::Hist(hist) => out.extend(id.map(|id| Action::Job(Job::Hist(id, hist)))),
            Verb::Read(mark) => self.mark(id, mark, true, out),
            Verb::Ack(mark) => self.mark(id, mark, false, out),
            Verb::Typ(typ) => {
                self.ask(typ.c, ToConversation::Typing { by: self.caller.user, on: typ.on }, out);
                out.push(Action::Answer(id, Ok(())));
            }
            Verb::Pres(pres) => {
                self.appearance = pres.state;
                let mail = ToPresence::Appear(self.caller.user, self.at, pres.state);
                let slice = self.slice();
                out.extend(self.channel.map(|at| Action::Send(at, Mail::Presence(slice, mail))));
                out.push(Action::Answer(id, Ok(())));
            }
            Verb::Watch(watch) => out.push(Action::Job(Job::Watch(id, watch.users))),
            Verb::Open(target) => {
                out.push(Action::Show(id, target.c, true));
            }
            Verb::Close(target) => {
                out.push(Action::Show(id, target.c, false));
            }
            Verb::Auth(auth) => out.push(Action::Job(Job::Auth(id, auth.token))),
        }
    }

    fn send(&mut self, id: Option<u32>, send: Send, now: Now, out: &mut Vec<Action>) -> Result<(), Error> {
        self.take_send(now.mono)?;
        let request_hash = crate::naming::hash("post", &send.post);
        let submission = Submission {
            requester: id.map(|tag| Requester { at: self.at, tag }),
            by: self.caller.user,
            cid: Some(send.cid),
            base: send.base,
            request_hash,
            change: Change::Post(Body::Post(send.post).encode().into()),
        };
        self.ask(send.c, ToConversation::Submit(submission), out);
        Ok(())
    }

    /// GCRA: `send_burst` at once, then `send_per_s`.
    fn take_send(&mut self, now: Instant) -> Result<(), Error> {
        if self.limits.send_per_s == 0 {
            return Ok(());
        }
        let interval = Duration::from_secs(1) / self.limits.send_per_s;
        let slack = interval.saturating_mul(self.limits.send_burst.max(1) - 1);
        let full_at = self.sends_until.map_or(now, |at| at.max(now));
        let wait = full_at.duration_since(now).saturating_sub(slack);
        if !wait.is_zero() {
            metrics::counter!("starling_rate_limited_total", "scope" => "send").increment(1);
            let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
            return Err(Error::new(Code::RateLimited, "too many sends; wait before the next").after_ms(ms));
        }
        self.sends_until = Some(full_at + interval);
        Ok(())
    }

    fn mark(&mut self, id: Option<u32>, mark: Mark, read: bool, out: &mut Vec<Action>) {
        let requester = id.map(|tag| Requester { at: self.at, tag });
        let request = MarkRequest { requester, by: self.caller.user, read, seq: mark.seq };
        self.ask(mark.c, ToConversation::Mark(request), out);
    }

    fn ask(&self, c: ConversationId, mail: ToConversation, out: &mut Vec<Action>) {
        out.push(Action::Ask(self.places.conversation(c), c, mail));
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Action>) {
        self.wake = None;
        if self.register_at.is_some_and(|at| at <= now.mono) {
            self.register(now, out);
        }
        if self.expire_at.is_some_and(|at| at <= now.mono) {
            out.push(Action::Expire);
            let more = self.last_request.is_some_and(|last| last + REQUEST_DEADLINE > now.mono);
            self.expire_at = more.then(|| now.mono + DEADLINE_TICK);
        }
        // of what nobody has at its deadline that can be said
        if self.ask_again_at.is_some_and(|at| at <= now.mono) {
            self.ask_again_at = None;
            out.push(Action::AskAgain(None, self.places.clone()));
        }
        let left = self.token_left(now);
        if left.is_zero() {
            out.push(Action::Close(protocol::close::CloseCode::TokenExpired));
        } else if left <= TOKEN_NOTICE && !self.token_told {
            self.token_told = true;
            out.push(Action::Push(push::push("token", TokenEnding { expires_at: self.caller.expires_at })));
        }
    }

    fn register(&mut self, now: Now, out: &mut Vec<Action>) {
        self.register_at = Some(now.mono + REGISTER_AGAIN);
        self.registered = false;
        self.channel = self.places.channel(self.slice());
        let mail = ToPresence::Register(self.caller.user, self.at, self.appearance);
        out.extend(self.channel.map(|at| Action::Send(at, Mail::Presence(self.slice(), mail))));
    }

    fn slice(&self) -> Slice {
        Slice::of(self.caller.user)
    }

    fn token_left(&self, now: Now) -> Duration {
        Duration::from_millis(self.caller.expires_at.0.saturating_sub(now.wall.0))
    }

    fn schedule(&mut self, now: Now, out: &mut Vec<Action>) {
        let left = self.token_left(now);
        let token_at = now.mono + if self.token_told { left } else { left.saturating_sub(TOKEN_NOTICE) };
        let times = [Some(token_at), self.register_at, self.expire_at, self.ask_again_at];
        let at = times.into_iter().flatten().min().unwrap_or(token_at);
        if self.wake.is_none_or(|wake| at < wake) {
            self.wake = Some(at);
            out.push(Action::WakeAt(at));
        }
    }
}

#[cfg(test)]
mod tests;
