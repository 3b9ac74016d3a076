//! Who is told: the members' devices, as their presence channels report them, and the events that are stored but not
//! yet told. Pure.
//!
//! Membership here is that of the last event told, so that each event goes exactly to those who were members at its
//! place in the log (and a removal to the removed as well). How it learns of devices is in `audience/watches.rs`; who has
//! left and may not know it, in `audience/departed.rs`.

mod departed;
pub(crate) mod watches;

use std::{collections::VecDeque, sync::Arc};

use protocol::{
    ConnId, ConversationId, Event, Incarnation, Seq, UserId,
    peer::{Address, Fanout, Requester, Slice, ToConnections, ToPresence, WatchId},
    push,
};

use self::{
    departed::{Departed, joining, leaving},
    watches::Watches,
};
use crate::{
    cluster::places::Places,
    maps::{HashMap, HashSet},
};

/// Members with devices, from which on events are gathered for a moment while more are being stored.
const LARGE: usize = 64;

/// Mail that telling leads to.
#[derive(Debug, PartialEq)]
pub(crate) enum Telling {
    /// To a presence channel, on the node that keeps it.
    Channel(Incarnation, Slice, ToPresence),
    /// To sockets of one node.
    Node(Incarnation, ToConnections),
}

/// See the module.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Audience {
    id: ConversationId,
    members: HashSet<UserId>,
    departed: Departed,
    pub(super) watches: Watches,
    devices: HashMap<UserId, Vec<Address>>,
    plan: Option<HashMap<Incarnation, Vec<ConnId>>>,
    untold: VecDeque<(Event, Option<Requester>)>,
    told: Seq,
}

impl Audience {
    /// Nobody yet. `names`: its watches are named from here on.
    pub(crate) fn new(id: ConversationId, names: u64, places: Arc<Places>) -> Audience {
        Audience {
            id,
            members: HashSet::default(),
            departed: Departed::default(),
            watches: Watches::new(id, names, places),
            devices: HashMap::default(),
            plan: None,
            untold: VecDeque::new(),
            told: Seq(0),
        }
    }

    /// The end of a log, of which another may have told nobody: whoever has left in it may not know.
    pub(crate) fn inherit(&mut self, tail: &[Event]) {
        if !crate::planted::is(crate::planted::Mistake::DepartedForgotten) {
            self.departed = Departed::of(tail);
        }
    }

    /// The last events, posts aside, of which a predecessor may have told nobody.
    pub(crate) fn recall(&mut self, events: &[Event]) {
        self.departed.replay(events);
    }

    /// Whoever has left is for another owner to tell.
    pub(crate) fn disinherit(&mut self) {
        self.departed = Departed::default();
    }

    /// These are the members at this place of the log, up to which it is told; asks where they are connected, and where
    /// those are who have left. Whoever is gets the head: what was told before may have been less.
    pub(crate) fn load(&mut self, members: impl Iterator<Item = UserId>, told: Seq, out: &mut Vec<Telling>) {
        self.told = told;
        self.untold.clear();
        self.devices.clear();
        self.plan = None;
        self.members = members.collect();
        let watched = self.members.iter().copied().chain(self.departed.users()).collect();
        self.watches.only(&watched, out);
    }

    /// A stored event. Told at once if everybody's devices are known, else as soon as they are.
    pub(crate) fn tell(&mut self, event: Event, requester: Option<Requester>, out: &mut Vec<Telling>) {
        self.watches.add(joining(&event), out);
        self.untold.push_back((event, requester));
        self.flush(false, out);
    }

    /// True if everybody's devices are known.
    pub(crate) fn is_known(&self) -> bool {
        self.watches.are_heard()
    }

    /// True if telling everybody costs more than storing what they are told.
    pub(crate) fn is_large(&self) -> bool {
        self.devices.len() >= LARGE
    }

    /// True if nothing is left to tell.
    pub(crate) fn is_told(&self) -> bool {
        self.untold.is_empty()
    }

    /// The first event by which somebody has left who may not know it.
    pub(crate) fn first_leaving(&self) -> Option<Seq> {
        let waiting = self.untold.iter().find(|(event, _)| leaving(event).is_some());
        waiting.map(|(event, _)| event.seq).into_iter().chain(self.departed.oldest()).min()
    }

    /// True if somebody has left who may not know it.
    pub(crate) fn has_departed(&self) -> bool {
        !self.departed.is_empty()
    }

    /// Watches those no more who have left and know it: all sockets of theirs that there are are known, and what they
    /// were told has `arrived`. And those who left up to `bound`, whatever they know.
    pub(crate) fn let_go(&mut self, arrived: bool, bound: Seq, out: &mut Vec<Telling>) {
        // one of them may be about to be told to be back
        if !self.is_told() {
            return;
        }
        let watches = &self.watches;
        let known = |user: UserId, seq: Seq| seq <= bound || arrived && watches.is_complete(user);
        for user in self.departed.let_go(known) {
            self.devices.remove(&user);
            self.watches.remove(user, out);
        }
    }

    /// Tells what waits. `anyway`: even where a channel has not answered yet; its devices are sent the head when it does.
    pub(crate) fn flush(&mut self, anyway: bool, out: &mut Vec<Telling>) {
        while self.is_known() || anyway {
            let Some((event, requester)) = self.untold.pop_front() else { return };
            self.tell_now(&event, requester, out);
        }
    }

    /// A channel answers a watch: these are all devices of its users.
    pub(crate) fn answered(
        &mut self, slice: Slice, watch: WatchId, devices: Vec<(UserId, Address)>, complete: bool,
        out: &mut Vec<Telling>,
    ) {
        let Some(users) = self.watches.answered(slice, watch, complete) else { return };
        let mut before: HashSet<Address> = HashSet::default();
        for user in users {
            before.extend(self.devices.remove(user).into_iter().flatten());
        }
        self.plan = None;
        for (user, device) in devices {
            if self.watches.has(user) {
                self.devices.entry(user).or_default().push(device);
                if !before.contains(&device) {
                    self.greet(user, device, out);
                }
            }
        }
        self.flush(false, out);
    }

    /// A device came.
    pub(crate) fn attached(&mut self, watch: WatchId, user: UserId, device: Address, out: &mut Vec<Telling>) {
        if !self.watches.is_current(watch, user) {
            return;
        }
        let devices = self.devices.entry(user).or_default();
        if !devices.contains(&device) {
            devices.push(device);
            self.plan = None;
            self.greet(user, device, out);
        }
    }

    /// A device went. Until its channel says otherwise it may be about to come again.
    pub(crate) fn detached(&mut self, watch: WatchId, user: UserId, device: Address) {
        if !self.watches.is_current(watch, user) {
            return;
        }
        self.watches.doubt(user);
        if let Some(devices) = self.devices.get_mut(&user) {
            devices.retain(|other| *other != device);
            if devices.is_empty() {
                self.devices.remove(&user);
            }
            self.plan = None;
        }
    }

    /// Sends something to every member's devices.
    pub(crate) fn everybody(&mut self, out: &mut Vec<Telling>, mail: impl Fn(Vec<ConnId>) -> ToConnections) {
        for (node, to) in self.plan() {
            out.push(Telling::Node(*node, mail(to.clone())));
        }
    }

    /// Sends something to one member's devices, except one.
    pub(crate) fn devices_of(
        &self, user: UserId, except: Option<Address>, out: &mut Vec<Telling>,
        mail: impl Fn(Vec<ConnId>) -> ToConnections,
    ) {
        let devices = self.devices.get(&user).into_iter().flatten().filter(|device| Some(**device) != except);
        for (node, to) in by_node(devices) {
            out.push(Telling::Node(node, mail(to)));
        }
    }

    fn tell_now(&mut self, event: &Event, requester: Option<Requester>, out: &mut Vec<Telling>) {
        let joined = joining(event);
        if !joined.is_empty() {
            self.members.extend(joined);
            for user in joined.iter().filter(|user| self.departed.since(**user).is_some()) {
                // perhaps they never heard that they had left, and not of what came after
                self.devices_of(*user, None, out, |to| ToConnections::Head {
                    conversation: self.id,
                    seq: event.seq,
                    to,
                });
            }
            joined.iter().for_each(|user| self.departed.returned(*user));
            self.plan = None;
        }
        if let Some(frame) = frame_of(self.id, event) {
            self.fan_out(event, requester, frame, out);
        }
        for user in joined {
            self.tell_list(*user, true, event.seq, out);
        }
        if let Some(user) = leaving(event) {
            self.tell_list(user, false, event.seq, out);
            self.everybody(out, |to| ToConnections::Parted { user, to });
            self.members.remove(&user);
            self.departed.left(user, event.seq);
            self.plan = None;
        }
        self.told = event.seq;
    }

    fn fan_out(&mut self, event: &Event, requester: Option<Requester>, frame: bytes::Bytes, out: &mut Vec<Telling>) {
        let fanout = |requester: Option<(ConnId, u32)>, to: Vec<ConnId>| {
            ToConnections::Event(Fanout {
                conversation: self.id,
                seq: event.seq,
                post_no: event.post_no,
                at: event.at,
                requester,
                frame: frame.clone(),
                to,
            })
        };
        let plan = self.plan.take().unwrap_or_else(|| by_node(self.member_devices()));
        if let Some(Requester { at, .. }) = requester
            && !plan.get(&at.node).is_some_and(|to| to.contains(&at.conn))
        {
            // its answer is the next event of its stream: what came before must have been announced
            self.send_head(event.by, at, out);
        }
        let mut asked = requester;
        for (node, to) in &plan {
            let mut to = to.clone();
            let here = asked.filter(|asked| asked.at.node == *node).map(|asked| (asked.at.conn, asked.tag));
            if let Some((conn, _)) = here {
                asked = None;
                if !to.contains(&conn) {
                    to.push(conn);
                }
            }
            out.push(Telling::Node(*node, fanout(here, to)));
        }
        // a call, or a socket that is not attached yet, on a node with no other recipient
        if let Some(Requester { at, tag }) = asked {
            out.push(Telling::Node(at.node, fanout(Some((at.conn, tag)), vec![at.conn])));
        }
        self.plan = Some(plan);
    }

    fn plan(&mut self) -> &HashMap<Incarnation, Vec<ConnId>> {
        let plan = self.plan.take().unwrap_or_else(|| by_node(self.member_devices()));
        self.plan.insert(plan)
    }

    fn member_devices(&self) -> impl Iterator<Item = &Address> {
        let members = self.devices.iter().filter(|(user, _)| self.members.contains(user));
        members.flat_map(|(_, devices)| devices)
    }

    fn tell_list(&self, user: UserId, joined: bool, seq: Seq, out: &mut Vec<Telling>) {
        let conversation = self.id;
        self.devices_of(user, None, out, |to| ToConnections::List { conversation, joined, seq, to });
    }

    /// A device turned up. What there was to tell so far it may have missed.
    fn greet(&self, user: UserId, device: Address, out: &mut Vec<Telling>) {
        let to = || vec![device.conn];
        if let Some(seq) = self.departed.since(user) {
            let conversation = self.id;
            out.push(Telling::Node(device.node, ToConnections::Head { conversation, seq, to: to() }));
            out.push(Telling::Node(device.node, ToConnections::List { conversation, joined: false, seq, to: to() }));
        } else {
            self.send_head(user, device, out);
        }
        let parted = self.departed.users().map(|user| ToConnections::Parted { user, to: to() });
        out.extend(parted.map(|mail| Telling::Node(device.node, mail)));
    }

    fn send_head(&self, user: UserId, device: Address, out: &mut Vec<Telling>) {
        let planted = crate::planted::is(crate::planted::Mistake::NoHeadToNewDevices);
        if !planted && self.members.contains(&user) && self.told > Seq(0) {
            let head = ToConnections::Head { conversation: self.id, seq: self.told, to: vec![device.conn] };
            out.push(Telling::Node(device.node, head));
        }
    }
}

/// What everybody is sent; `None` for what nobody is shown.
fn frame_of(c: ConversationId, event: &Event) -> Option<bytes::Bytes> {
    if event.body.is_post() {
        push::message(c, event.seq, event.post_no, event.by, event.cid.as_ref(), event.at, &event.body.encode())
    } else {
        event.view(c).map(|view| push::event(&view))
    }
}

fn by_node<'a>(devices: impl Iterator<Item = &'a Address>) -> HashMap<Incarnation, Vec<ConnId>> {
    let mut nodes: HashMap<Incarnation, Vec<ConnId>> = HashMap::default();
    for device in devices {
        nodes.entry(device.node).or_default().push(device.conn);
    }
    nodes
}

/// For the model checker. The plan follows from the rest.
#[cfg(test)]
impl std::hash::Hash for Audience {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        use crate::conversation::state::digest::unordered;
        unordered(&self.members).hash(hasher);
        self.departed.hash(hasher);
        self.watches.hash(hasher);
        unordered(&self.devices).hash(hasher);
        self.untold.iter().for_each(|(event, requester)| (event.seq, event.id, requester).hash(hasher));
        self.told.hash(hasher);
    }
}
