//! One client: connects where it can, syncs, posts, retries or never does, fetches what is missing, and writes down what
//! it saw for the checker.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use loadtest::{
    history::{Entry, Record, What, content},
    timeline::Timeline,
};
use protocol::{
    ClientId, Code, ConversationId, Post, Presence, Seq, UserId,
    event::{EventView, PostView, View},
    limits::REQUEST_DEADLINE_MS,
    push::{Gap, Head, HistoryPage, PresenceStates, Receipts, Sent, ServerFrame, Synced},
    request::{Hist, ListWindow, Mark, Page, Send, Sync, Target, Verb, Watch},
};
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    clockwork::{Clockwork, Due},
    node::Node,
    world::Scene,
};
use crate::{Caller, Next, Outbound, session::state::Input};

/// See the module.
pub(super) struct Device {
    pub(super) number: usize,
    pub(super) caller: Caller,
    /// It is connected and has synced.
    pub(super) live: bool,
    /// It stays away.
    pub(super) away: bool,
    /// What it has of each conversation.
    pub(super) places: BTreeMap<ConversationId, Timeline>,
    /// How it was last told that users appear.
    pub(super) seen: BTreeMap<UserId, Presence>,
    pub(super) sockets: u32,
    pub(super) talk: Option<Talk>,
    retries: bool,
    attempts: u64,
    posts: u64,
    open: Option<Open>,
    /// What is missing is not asked for earlier.
    fetch_at: Instant,
}

/// A post that is not acknowledged.
struct Open {
    c: ConversationId,
    cid: ClientId,
    base: Option<Seq>,
    post: Post,
    /// When to send it again; `None`: it waits for an answer.
    again_at: Option<Instant>,
}

enum About {
    Send { attempt: u64, c: ConversationId },
    Hist { c: ConversationId, from: u64, asked_us: u64 },
    Sync { have: HashMap<ConversationId, Seq> },
    Watch,
    Other,
}

/// A socket while it stands.
pub(super) struct Talk {
    pub(super) run: usize,
    pub(super) outbound: Arc<Outbound>,
    ids: u32,
    pending: BTreeMap<u32, (About, Instant)>,
}

#[derive(Deserialize)]
struct Refusal {
    code: Code,
    #[serde(default)]
    after_ms: Option<u64>,
}

impl Device {
    pub(super) fn new(number: usize, caller: Caller, works: &Clockwork) -> Device {
        Device {
            number,
            caller,
            live: false,
            away: false,
            places: BTreeMap::new(),
            seen: BTreeMap::new(),
            sockets: 0,
            talk: None,
            retries: works.happens(60),
            attempts: 0,
            posts: 0,
            open: None,
            fetch_at: works.now(),
        }
    }

    /// Does what comes to its mind.
    pub(super) fn act(&mut self, scene: &mut Scene) {
        let works = scene.works.clone();
        if self.talk.is_none() {
            if !self.away {
                self.connect(scene);
            }
            return;
        }
        if let Some(late) = self.unanswered(works.now()) {
            scene.complain(format!("device {}: {late} was never answered", self.number));
            return self.hang_up(scene);
        }
        if self.away || scene.posting && works.happens(2) {
            return self.hang_up(scene);
        }
        if self.live {
            self.fetch(scene);
            if scene.posting {
                self.speak(scene);
            }
        }
    }

    /// Posts now, whatever else it does.
    pub(super) fn post(&mut self, scene: &mut Scene, c: ConversationId) {
        self.open = None;
        self.compose(scene, c);
        self.send(scene);
    }

    /// The socket is gone, or what is at its other end.
    pub(super) fn lost(&mut self, scene: &mut Scene) {
        let Some(talk) = self.talk.take() else { return };
        self.live = false;
        for (about, _) in talk.pending.into_values() {
            if let About::Send { attempt, .. } = about {
                self.note(scene, What::Unknown { attempt, why: "the socket ended".into() });
                self.not_acknowledged(scene, Duration::ZERO);
            }
        }
        self.note(scene, What::Closed { code: None });
    }

    /// Frames came.
    pub(super) fn hear(&mut self, scene: &mut Scene, frames: &[Bytes], next: &Next) {
        for frame in frames {
            if self.talk.is_some() {
                self.take(scene, frame);
            }
        }
        if matches!(next, Next::Close(_)) {
            self.hang_up(scene);
        } else if self.live {
            self.fetch(scene);
        }
    }

    pub(super) fn hang_up(&mut self, scene: &mut Scene) {
        if let Some(talk) = &self.talk {
            let (run, outbound) = (talk.run, talk.outbound.clone());
            scene.acting(run, |node| node.close(&outbound));
        }
        self.lost(scene);
    }

    fn unanswered(&self, now: Instant) -> Option<String> {
        let pending = self.talk.as_ref()?.pending.iter();
        let mut late = pending.filter(|(_, (_, at))| now.duration_since(*at) > super::ANSWER);
        late.next().map(|(id, (about, _))| match about {
            About::Send { .. } => format!("send {id}"),
            About::Sync { .. } => format!("sync {id}"),
            _ => format!("request {id}"),
        })
    }

    fn connect(&mut self, scene: &mut Scene) {
        let Some(run) = scene.some_run() else { return };
        let (caller, number) = (self.caller, self.number);
        let outbound = scene.acting(run, |node: &mut Node| node.open(caller, number));
        let Some(outbound) = outbound else { return };
        self.sockets += 1;
        if super::TELLS.get() {
            scene.tell(format!("  device {}/{} of {} on run {run}", self.number, self.sockets, caller.user));
        }
        let slow = scene.slow_readers && scene.works.happens(30);
        let written = write(scene.works.clone(), outbound.clone(), self.number, self.sockets, slow);
        scene.works.acts(Some(run));
        scene.works.spawn(Box::pin(written));
        self.talk = Some(Talk { run, outbound, ids: 0, pending: BTreeMap::new() });
        self.seen.clear();
        self.note(scene, What::Connected);
        let have: HashMap<_, _> = self.places.iter().map(|(c, place)| (*c, Seq(place.position()))).collect();
        let list = ListWindow { limit: protocol::limits::SYNC_LIST_MAX, cursor: None };
        self.ask(scene, Verb::Sync(Sync { list, have: have.clone() }), About::Sync { have });
    }

    fn ask(&mut self, scene: &mut Scene, verb: Verb, about: About) -> bool {
        let Some(talk) = &mut self.talk else { return false };
        talk.ids += 1;
        let (id, now) = (talk.ids, scene.works.now());
        let deadline = now + Duration::from_millis(REQUEST_DEADLINE_MS);
        if talk.outbound.with(|line| line.begin(id, verb.name(), now, deadline)).is_err() {
            return false;
        }
        talk.pending.insert(id, (about, now));
        let (run, conn) = (talk.run, talk.outbound.conn);
        scene.acting(run, |node| node.hear(conn, Input::Request(Some(id), verb)));
        true
    }

    /// Asks for the first thing that is missing, one page at a time.
    fn fetch(&mut self, scene: &mut Scene) {
        let pending = self.talk.iter().flat_map(|talk| talk.pending.values());
        let fetching = pending.into_iter().any(|(about, _)| matches!(about, About::Hist { .. }));
        if fetching || self.fetch_at > scene.works.now() {
            return;
        }
        let missing = self.places.iter().find_map(|(c, place)| Some((*c, place.missing()?.0)));
        let Some((c, from)) = missing else { return };
        let page = Page { after: Some(Seq(from - 1)), limit: Some(100), ..Page::default() };
        let asked_us = scene.now_us();
        self.ask(scene, Verb::Hist(Hist { c, page }), About::Hist { c, from, asked_us });
    }

    /// Posts, or marks as read.
    fn speak(&mut self, scene: &mut Scene) {
        let works = scene.works.clone();
        if self.open.is_none() && works.happens(50) {
            let c = scene.conversations[works.below(scene.conversations.len() as u64) as usize];
            self.compose(scene, c);
        }
        if self.open.as_ref().is_some_and(|open| open.again_at.is_some_and(|at| at <= works.now())) {
            self.send(scene);
        } else if works.happens(15) {
            let first = self.places.iter().next().map(|(c, place)| (*c, Seq(place.position())));
            if let Some((c, seq)) = first.filter(|(_, seq)| seq.0 > 0) {
                self.ask(scene, Verb::Read(Mark { c, seq }), About::Other);
            }
        }
    }

    fn compose(&mut self, scene: &Scene, c: ConversationId) {
        // who was removed and does not know it yet, or cannot have been told, posts as well
        let position = self.places.get(&c).map_or(0, Timeline::position);
        self.posts += 1;
        let cid = format!("d{}-{}", self.number, self.posts);
        let post = Post { text: Some(cid.clone()), ..Post::default() };
        let base = (position > 0 && scene.works.happens(50)).then_some(Seq(position));
        let again_at = Some(scene.works.now());
        self.open = Some(Open { c, cid: cid.try_into().unwrap(), base, post, again_at });
    }

    fn send(&mut self, scene: &mut Scene) {
        let Some(open) = &mut self.open else { return };
        open.again_at = None;
        let (c, cid, content) = (open.c, open.cid.clone(), content(&open.post));
        let send = Send { c, cid: cid.clone(), base: open.base, post: open.post.clone() };
        self.attempts += 1;
        let attempt = self.attempts;
        self.note(scene, What::Sent { attempt, c, cid, content });
        if !self.ask(scene, Verb::Send(send), About::Send { attempt, c }) {
            self.note(scene, What::Refused { attempt, code: Code::Draining });
            self.not_acknowledged(scene, Duration::from_millis(100));
        }
    }

    /// A send may be tried again.
    fn not_acknowledged(&mut self, scene: &Scene, after: Duration) {
        let retries = self.retries && scene.posting;
        self.open = self.open.take().filter(|_| retries);
        if let Some(open) = &mut self.open {
            open.again_at = Some(scene.works.now() + after);
        }
    }

    fn take(&mut self, scene: &mut Scene, frame: &[u8]) {
        let frame: ServerFrame<'_> = serde_json::from_slice(frame).unwrap();
        let d = frame.d.map_or("null", |d| d.get());
        match (frame.t.as_deref(), frame.id) {
            (Some(t @ ("ok" | "err")), Some(id)) => {
                let about = self.talk.as_mut().and_then(|talk| talk.pending.remove(&id));
                let Some((about, _)) = about else {
                    return scene.complain(format!("device {}: {id} was answered twice", self.number));
                };
                if t == "ok" { self.answered(scene, about, d) } else { self.refused(scene, about, read(d)) }
            }
            (Some("msg"), _) => self.event(scene, &View::Post(read::<PostView>(d))),
            (Some("evt"), _) => self.event(scene, &View::Event(read::<EventView>(d))),
            (Some("gap"), _) => {
                let Gap { c, from, to } = read(d);
                self.note(scene, What::Gap { c, from: from.0, to: to.0 });
                self.hear_of(c, to.0);
            }
            (Some("head"), _) => {
                let Head { c, seq, .. } = read(d);
                self.note(scene, What::Head { c, seq: seq.0 });
                self.hear_of(c, seq.0);
            }
            (Some("rcpt"), _) => {
                let receipts: Receipts = read(d);
                let mut marks: Vec<_> = receipts.marks.into_iter().collect();
                marks.sort_by_key(|(of, _)| *of);
                for (of, marks) in marks {
                    let (read, delivered) = (marks.read.0, marks.delivered.0);
                    self.note(scene, What::Marked { c: receipts.c, of, read, delivered });
                }
            }
            (Some("pres"), _) => self.sees(scene, &read(d)),
            _ => {}
        }
    }

    fn event(&mut self, scene: &mut Scene, view: &View) {
        let entry = Entry::of(view);
        let c = match view {
            View::Post(post) => post.c,
            View::Event(event) => event.c,
        };
        self.note(scene, What::Delivered { c, seq: entry.seq, digest: entry.digest });
        self.learn(c, &[entry]);
    }

    /// Takes what came of a conversation, in order. Who reads that they left it, and not that they are back, has left: also
    /// in a page, which shows it for as long as the rows that follow from it are not written.
    fn learn(&mut self, c: ConversationId, entries: &[Entry]) {
        let (me, place) = (self.caller.user, self.places.entry(c).or_default());
        for entry in entries {
            place.event(entry.seq);
        }
        let mine = entries.iter().rev().find(|entry| entry.gone == Some(me) || entry.joined.contains(&me));
        if mine.is_some_and(|entry| entry.gone == Some(me)) {
            self.places.remove(&c);
        }
    }

    fn hear_of(&mut self, c: ConversationId, seq: u64) {
        self.places.entry(c).or_default().heard_of(seq);
    }

    fn sees(&mut self, scene: &mut Scene, states: &PresenceStates) {
        if super::TELLS.get() {
            let seen: Vec<_> = states.presence.iter().map(|(user, state)| (user, state.state)).collect();
            scene.tell(format!("  device {}/{} sees {seen:?}", self.number, self.sockets));
        }
        self.seen.extend(states.presence.iter().map(|(user, state)| (*user, state.state)));
    }

    fn answered(&mut self, scene: &mut Scene, about: About, d: &str) {
        match about {
            About::Send { attempt, c } => {
                let sent: Sent = read(d);
                self.note(scene, What::Acked { attempt, seq: sent.seq.0, dup: sent.dup });
                self.open = None;
                if let Some(place) = self.places.get_mut(&c) {
                    if sent.dup {
                        place.heard_of(sent.seq.0);
                    } else {
                        place.event(sent.seq.0);
                    }
                }
            }
            About::Hist { c, from, asked_us } => self.paged(scene, c, from, asked_us, &read(d)),
            About::Sync { have } => self.synced(scene, &have, read(d)),
            About::Watch => self.sees(scene, &read(d)),
            About::Other => {}
        }
    }

    fn refused(&mut self, scene: &mut Scene, about: About, Refusal { code, after_ms }: Refusal) {
        match about {
            About::Send { attempt, .. } => {
                let is_open = matches!(code, Code::Timeout | Code::Internal);
                let why = if is_open {
                    What::Unknown { attempt, why: format!("{code:?}") }
                } else {
                    What::Refused { attempt, code }
                };
                self.note(scene, why);
                if code.retry() {
                    self.not_acknowledged(scene, Duration::from_millis(after_ms.unwrap_or(50)));
                } else {
                    self.open = None;
                }
            }
            About::Hist { c, .. } if !code.retry() => drop(self.places.remove(&c)),
            About::Hist { .. } => {
                self.fetch_at = scene.works.now() + Duration::from_millis(after_ms.unwrap_or(100).max(10));
            }
            About::Sync { .. } => self.hang_up(scene),
            About::Watch => self.watch(scene),
            About::Other => {}
        }
    }

    fn watch(&mut self, scene: &mut Scene) {
        let users = scene.users.clone();
        self.ask(scene, Verb::Watch(Watch { users }), About::Watch);
    }

    fn paged(&mut self, scene: &mut Scene, c: ConversationId, from: u64, asked_us: u64, page: &HistoryPage) {
        let posts = page.messages.iter().map(Entry::of_post);
        let mut entries: Vec<Entry> = posts.chain(page.events.iter().map(Entry::of_event)).collect();
        entries.sort_by_key(|entry| entry.seq);
        for entry in &entries {
            self.note(scene, What::Fetched { c, seq: entry.seq, digest: entry.digest });
        }
        self.note(scene, What::Paged { c, asked_us, head: page.head.0 });
        if !self.places.contains_key(&c) {
            return;
        }
        self.learn(c, &entries);
        if self.places.get(&c).and_then(Timeline::missing).is_some_and(|(next, _)| next == from) {
            self.places.insert(c, Timeline::at(page.head.0));
            scene.complain(format!("device {}: {from} of {c} is not in history", self.number));
        }
    }

    fn synced(&mut self, scene: &mut Scene, have: &HashMap<ConversationId, Seq>, synced: Synced) {
        for item in synced.conversations {
            let entries: Vec<Entry> = item.events.iter().map(Entry::of).collect();
            for entry in &entries {
                self.note(scene, What::Fetched { c: item.id, seq: entry.seq, digest: entry.digest });
            }
            let synced = What::Synced {
                c: item.id,
                have: have.get(&item.id).map(|seq| seq.0),
                head: item.head.0,
                more: item.more,
                gap: item.gap.map(|gap| (gap.from.0, gap.to.0)),
                read: item.read.0,
                unread: item.unread,
            };
            self.note(scene, synced);
            self.hear_of(item.id, item.head.0);
            self.learn(item.id, &entries);
        }
        for left in synced.left {
            self.places.remove(&left);
        }
        self.live = true;
        for c in scene.conversations.clone() {
            self.ask(scene, Verb::Open(Target { c }), About::Other);
        }
        self.watch(scene);
    }

    fn note(&self, scene: &mut Scene, what: What) {
        let (at_us, device, user) = (scene.now_us(), self.number as u32, self.caller.user);
        scene.note(Record { at_us, device, user, socket: self.sockets, what });
    }
}

/// What `node` does with a socket: writes whatever there is, at the speed of its reader.
async fn write(works: Arc<Clockwork>, outbound: Arc<Outbound>, device: usize, socket: u32, slow: bool) {
    let mut last = works.now();
    loop {
        let mut frames = Vec::new();
        let next = outbound.next(&mut frames).await;
        let closes = matches!(next, Next::Close(_));
        last = last.max(works.now() + works.up_to_ms(20));
        works.at(last, None, Due::Said { device, socket, frames, next });
        if closes {
            return;
        }
        if slow {
            works.sleep(works.up_to_ms(1_500)).await;
        }
    }
}

fn read<'a, T: Deserialize<'a>>(json: &'a str) -> T {
    serde_json::from_str(json).unwrap_or_else(|e| panic!("{e} in {json}"))
}
