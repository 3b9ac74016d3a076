//! What a conversation watches: for each slice that has members, one watch in its presence channel, on the node that
//! keeps it. What can happen to a watch is in `CLUSTER.md` ("Who is told"). Pure.

use std::sync::Arc;

use protocol::{
    ConversationId, Incarnation, UserId,
    peer::{Slice, ToPresence, WatchId},
};

use super::Telling;
use crate::{
    cluster::places::Places,
    maps::{HashMap, HashSet},
};

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Watch {
    users: Vec<UserId>,
    id: WatchId,
    /// Where it was made; `None`: nowhere, as nobody may keep the channel.
    at: Option<Incarnation>,
    /// The channel has answered this watch.
    answered: bool,
    /// It, or an earlier one for no fewer users, was answered: devices that came since get the head when it is.
    heard: bool,
    /// No socket of its users waits to be registered there again.
    complete: bool,
    /// Its end was answered.
    ended: bool,
}

/// See the module.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Watches {
    id: ConversationId,
    places: Arc<Places>,
    slices: HashMap<Slice, Watch>,
    /// The last name that was given.
    named: u64,
    /// All are being ended.
    ending: bool,
}

impl Watches {
    pub(super) fn new(id: ConversationId, names: u64, places: Arc<Places>) -> Watches {
        Watches { id, places, slices: HashMap::default(), named: names, ending: false }
    }

    /// The last name that was given to a watch.
    pub(crate) fn names(&self) -> u64 {
        self.named
    }

    /// Watches these users and nobody else, all anew.
    pub(super) fn only(&mut self, users: &HashSet<UserId>, out: &mut Vec<Telling>) {
        let before = std::mem::take(&mut self.slices);
        self.ending = false;
        for user in users {
            self.note(*user);
        }
        for (slice, watch) in before {
            if !self.slices.contains_key(&slice) {
                self.end(slice, &watch, out);
            }
        }
        self.again(|_, _| true, out);
    }

    /// Watches these users too.
    pub(super) fn add(&mut self, users: &[UserId], out: &mut Vec<Telling>) {
        let slices: HashSet<Slice> = users.iter().filter(|user| self.note(**user)).map(|u| Slice::of(*u)).collect();
        self.again(|slice, _| slices.contains(&slice), out);
    }

    /// Watches this user no more.
    pub(super) fn remove(&mut self, user: UserId, out: &mut Vec<Telling>) {
        let slice = Slice::of(user);
        let Some(watch) = self.slices.get_mut(&slice) else { return };
        watch.users.retain(|other| *other != user);
        if !watch.users.is_empty() {
            return self.again(|other, _| other == slice, out);
        }
        if let Some(watch) = self.slices.remove(&slice) {
            self.end(slice, &watch, out);
        }
    }

    /// A new view: what is kept elsewhere now is watched there.
    pub(crate) fn moved(&mut self, places: Arc<Places>, out: &mut Vec<Telling>) {
        self.places = places.clone();
        self.again(|slice, watch| watch.at != places.channel(slice), out);
    }

    /// A node has forgotten what was watched there, all or one slice of it.
    pub(crate) fn forgotten(&mut self, by: Incarnation, which: Option<Slice>, out: &mut Vec<Telling>) {
        if crate::planted::is(crate::planted::Mistake::WatchesNotMadeAgain) {
            return;
        }
        self.again(|slice, watch| watch.at == Some(by) && which.is_none_or(|which| which == slice), out);
    }

    /// A channel has dropped a watch.
    pub(crate) fn dropped(&mut self, slice: Slice, id: WatchId, out: &mut Vec<Telling>) {
        self.again(|other, watch| other == slice && watch.id == id, out);
    }

    /// Asks again where no answer came, under the same name: whichever answer comes last is whole.
    pub(crate) fn retry(&mut self, out: &mut Vec<Telling>) {
        let silent: Vec<Slice> =
            self.slices.iter().filter(|(_, watch)| !watch.answered).map(|(slice, _)| *slice).collect();
        silent.into_iter().for_each(|slice| self.ask(slice, out));
    }

    /// A channel answers. `None`: this is about a watch that is no more; else whom it was about.
    pub(super) fn answered(&mut self, slice: Slice, id: WatchId, complete: bool) -> Option<&[UserId]> {
        let watch = self.slices.get_mut(&slice).filter(|watch| watch.id == id)?;
        (watch.answered, watch.heard, watch.complete) = (true, true, complete);
        Some(&watch.users)
    }

    /// A channel says that a watch has ended, and all there was to say was said.
    pub(crate) fn ended(&mut self, slice: Slice, id: WatchId) {
        if let Some(watch) = self.slices.get_mut(&slice).filter(|watch| watch.id == id) {
            watch.ended = true;
        }
    }

    /// All members have agreed that none of their sockets waits to be registered at a node again.
    pub(crate) fn completed(&mut self, at: Incarnation) {
        for watch in self.slices.values_mut().filter(|watch| watch.at == Some(at) && watch.answered) {
            watch.complete = true;
        }
    }

    /// A socket of this user has gone, or waits to be registered again.
    pub(super) fn doubt(&mut self, user: UserId) {
        if let Some(watch) = self.slices.get_mut(&Slice::of(user)) {
            watch.complete = false;
        }
    }

    /// Begins to end all watches.
    pub(crate) fn end_all(&mut self, out: &mut Vec<Telling>) {
        self.ending = true;
        self.slices.iter().for_each(|(slice, watch)| self.end(*slice, watch, out));
    }

    /// They are needed after all.
    pub(crate) fn resume(&mut self, out: &mut Vec<Telling>) {
        if std::mem::take(&mut self.ending) {
            self.again(|_, _| true, out);
        }
    }

    /// True while they are being ended.
    pub(crate) fn are_ending(&self) -> bool {
        self.ending
    }

    /// True once all have ended, behind all that there was to say about them.
    pub(crate) fn are_ended(&self) -> bool {
        self.ending && self.slices.values().all(|watch| watch.ended || watch.at.is_none())
    }

    /// True if it is known of all users where they are connected.
    pub(super) fn are_heard(&self) -> bool {
        self.slices.values().all(|watch| watch.heard)
    }

    /// True if each watch that stands was answered.
    pub(crate) fn are_answered(&self) -> bool {
        self.slices.values().all(|watch| watch.answered)
    }

    /// The nodes of which it is not known whether sockets wait to be registered there again. Where there is one node, none
    /// does: no link between it and itself is reset.
    pub(crate) fn doubtful(&self) -> HashSet<Incarnation> {
        let doubtful = self.slices.values().filter(|watch| !watch.complete && !self.places.is_alone());
        doubtful.filter_map(|watch| watch.at).collect()
    }

    /// True if it is known where this user is connected, and none of their sockets waits to be registered again.
    pub(super) fn is_complete(&self, user: UserId) -> bool {
        let watch = self.slices.get(&Slice::of(user));
        watch.is_some_and(|watch| watch.answered && (watch.complete || self.places.is_alone()))
    }

    pub(super) fn has(&self, user: UserId) -> bool {
        self.slices.get(&Slice::of(user)).is_some_and(|watch| watch.users.contains(&user))
    }

    pub(super) fn is_current(&self, id: WatchId, user: UserId) -> bool {
        self.slices.get(&Slice::of(user)).is_some_and(|watch| watch.id == id && watch.users.contains(&user))
    }

    /// Watches one slice more or one user more; true if that has to be asked.
    fn note(&mut self, user: UserId) -> bool {
        let fresh = Watch {
            users: vec![],
            id: WatchId(0),
            at: None,
            answered: false,
            heard: false,
            complete: false,
            ended: false,
        };
        let watch = self.slices.entry(Slice::of(user)).or_insert(fresh);
        if watch.users.contains(&user) {
            return false;
        }
        watch.users.push(user);
        watch.heard = false;
        true
    }

    /// Makes some watches again, under new names. Where all were being ended, all of them.
    fn again(&mut self, which: impl Fn(Slice, &Watch) -> bool, out: &mut Vec<Telling>) {
        let mut slices: Vec<Slice> =
            self.slices.iter().filter(|(slice, watch)| which(**slice, watch)).map(|(slice, _)| *slice).collect();
        if slices.is_empty() {
            return;
        }
        if std::mem::take(&mut self.ending) {
            slices = self.slices.keys().copied().collect();
        }
        for slice in slices {
            self.named += 1;
            if let Some(watch) = self.slices.get_mut(&slice) {
                (watch.id, watch.at) = (WatchId(self.named), self.places.channel(slice));
                (watch.answered, watch.complete, watch.ended) = (false, false, false);
            }
            self.ask(slice, out);
        }
    }

    fn ask(&self, slice: Slice, out: &mut Vec<Telling>) {
        if let Some(Watch { users, id, at: Some(at), .. }) = self.slices.get(&slice) {
            let (conversation, watch, users) = (self.id, *id, users.clone());
            out.push(Telling::Channel(*at, slice, ToPresence::WatchMembers { conversation, watch, users }));
        }
    }

    fn end(&self, slice: Slice, watch: &Watch, out: &mut Vec<Telling>) {
        if let Some(at) = watch.at {
            out.push(Telling::Channel(at, slice, ToPresence::Unwatch(self.id, watch.id)));
        }
    }
}

/// For the model checker: what is watched and known, by whatever name.
#[cfg(test)]
impl std::hash::Hash for Watches {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        use crate::conversation::state::digest::unordered;
        let plain = |(slice, watch): (&Slice, &Watch)| (*slice, watch.users.clone(), watch.answered, watch.heard);
        unordered(self.slices.iter().map(plain)).hash(hasher);
        self.ending.hash(hasher);
    }
}
