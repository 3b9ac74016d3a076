//! Three nodes over one store, joined by wires that keep order and can be cut: everything is found wherever it is placed,
//! and found again when views change and links break.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use protocol::{
    ConversationId, Incarnation, UserId,
    cluster::View,
    peer::{Mail, Parcel, Slice, ToConnections},
    push::PresenceState,
    request::{Presence, Verb},
};
use serde_json::Value;
use storage::memory::{
    Memory,
    faults::{Fault, Operation},
};
use tokio::sync::mpsc;

use super::{Rig, TestSocket};
use crate::{
    cluster::places::{
        Places,
        views::{node, view},
    },
    router::{Abroad, Router},
};

/// What joins the nodes.
#[derive(Default)]
struct Wires {
    routers: Mutex<HashMap<Incarnation, Arc<Router>>>,
    /// From where to where nothing arrives.
    cut: Mutex<HashSet<(Incarnation, Incarnation)>>,
    /// What is for it comes back, as without a link; whether the store is away as well.
    unreachable: Mutex<Option<(Incarnation, bool)>>,
    /// Parcels with an event, from where to where.
    events: Mutex<Vec<(Incarnation, Incarnation)>>,
}

type Plan = Arc<Mutex<Vec<(Operation, Fault)>>>;

struct Way(mpsc::UnboundedSender<(Incarnation, Parcel)>);

impl Abroad for Way {
    fn send(&self, to: Incarnation, parcel: Parcel) {
        let _ = self.0.send((to, parcel));
    }

    fn read_view(&self) {}

    fn is_telling(&self, _: ConversationId) -> bool {
        false
    }
}

struct Cluster {
    nodes: Vec<Rig>,
    wires: Arc<Wires>,
    version: u64,
}

impl Cluster {
    /// Nodes 1, 2 and 3, all up.
    async fn start() -> Cluster {
        Cluster::start_on(Memory::store()).await
    }

    async fn start_on(store: storage::Store) -> Cluster {
        let wires = Arc::new(Wires::default());
        let mut nodes = Vec::new();
        for n in 1..=3 {
            let rig = Rig::start_node(n, store.clone(), u64::from(n)).await;
            let (sender, mut parcels) = mpsc::unbounded_channel();
            rig.starling.router.go_abroad(Way(sender));
            rig.starling.router.lived(1);
            wires.routers.lock().unwrap().insert(node(n), rig.starling.router.clone());
            let wires = wires.clone();
            tokio::spawn(async move {
                while let Some((to, parcel)) = parcels.recv().await {
                    if matches!(parcel.mail, Mail::Connections(ToConnections::Event(_))) {
                        wires.events.lock().unwrap().push((node(n), to));
                    }
                    let router = |of| wires.routers.lock().unwrap().get(&of).cloned().unwrap();
                    let unreachable = wires.unreachable.lock().unwrap().filter(|(peer, _)| *peer == to);
                    if let Some((_, storeless)) = unreachable {
                        router(node(n)).hand_back(parcel, false, storeless);
                    } else if !wires.cut.lock().unwrap().contains(&(node(n), to)) {
                        router(to).receive_all(node(n), [parcel]);
                    }
                }
            });
            let router = rig.starling.router.clone();
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    router.compare_all();
                }
            });
            nodes.push(rig);
        }
        let mut cluster = Cluster { nodes, wires, version: 0 };
        cluster.place(&[1, 2, 3]).await;
        cluster
    }

    fn node(&self, n: u8) -> &Rig {
        &self.nodes[usize::from(n) - 1]
    }

    /// A new view: these are up, the others draining.
    async fn place(&mut self, up: &[u8]) {
        let view = self.decide(up).await;
        for rig in &self.nodes {
            rig.starling.router.install(&Places::of(&view));
        }
    }

    /// The same, and no node knows of it yet.
    async fn decide(&mut self, up: &[u8]) -> View {
        self.version += 1;
        let rest: Vec<u8> = (1..=3).filter(|n| !up.contains(n)).collect();
        let view = view(self.version, up, &rest);
        let stored = self.nodes[0].store.cluster.as_ref().unwrap().change(&view).await.unwrap();
        assert_eq!(stored, storage::cluster::Changed::Applied);
        view
    }

    /// A new view, which each node goes by a while after the one before.
    async fn place_in_turn(&mut self, up: &[u8], turns: [u8; 3], pause: Duration) {
        let view = self.decide(up).await;
        for n in turns {
            self.node(n).starling.router.install(&Places::of(&view));
            tokio::time::sleep(pause).await;
        }
    }

    /// What is sent from one to the other gets lost from now on.
    fn cut(&self, from: u8, to: u8) {
        self.wires.cut.lock().unwrap().insert((node(from), node(to)));
    }

    /// It arrives again, and nobody has noticed.
    fn mend(&self) {
        self.wires.cut.lock().unwrap().clear();
    }

    /// Both ends notice that the link was reset.
    fn reset(&self, a: u8, b: u8) {
        self.node(a).starling.router.lost(node(b));
        self.node(b).starling.router.lost(node(a));
    }

    /// A node appends something of Ann's, and dies before it tells anybody.
    async fn append_and_die(&self, c: ConversationId, body: protocol::Body) {
        let (store, dead) = (&self.node(1).store, node(9));
        let Ok(storage::log::Claimed::Claimed(tenancy)) = store.log.claim(c, dead, None).await else { panic!() };
        let event = protocol::Event {
            seq: tenancy.head.seq.next(),
            id: protocol::EventId([9; 16]),
            by: protocol::UserId([1; 16]),
            cid: None,
            request_hash: [0; 16],
            at: tenancy.head.at,
            post_no: tenancy.head.post_no + u64::from(body.is_post()),
            body,
        };
        let (head, settled) = (tenancy.head.seq, tenancy.head.settled);
        store.log.append(c, tenancy.epoch, head, settled, &[event]).await.unwrap();
    }

    /// A link between them stands again.
    fn regain(&self, a: u8, b: u8) {
        self.node(a).starling.router.linked(node(b));
        self.node(b).starling.router.linked(node(a));
    }

    /// Ann on node 1, Bob on node 2, and a conversation of theirs.
    async fn talk(&self) -> (TestSocket, TestSocket, ConversationId) {
        let (ann, bob) = (self.node(1).user(1).await, self.node(2).user(2).await);
        let c = self.node(3).group(&[ann, bob]).await;
        (self.node(1).socket(ann, "a").await, self.node(2).socket(bob, "b").await, c)
    }
}

/// A store, and what goes wrong at the next call of an operation.
fn faulty() -> (storage::Store, Plan) {
    let plan = Plan::default();
    let faults = plan.clone();
    let store = Memory::with_faults(move |operation| {
        let mut plan = faults.lock().unwrap();
        let at = plan.iter().position(|(planned, _)| *planned == operation)?;
        Some(plan.remove(at).1)
    });
    (store, plan)
}

/// The next event or head of a conversation: how far its reader knows of it then.
async fn learns(socket: &mut TestSocket) -> u64 {
    loop {
        let push = socket.next().await.expect("nothing was told");
        if push["t"] == "msg" || push["t"] == "head" {
            return push["d"]["seq"].as_u64().unwrap();
        }
    }
}

async fn post(socket: &mut TestSocket, c: ConversationId, cid: &str) -> u64 {
    let answer = socket.ask(TestSocket::post(c, cid, cid)).await;
    assert_eq!(answer["t"], "ok", "{answer}");
    answer["d"]["seq"].as_u64().unwrap()
}

async fn state_of_bob(ann: &mut TestSocket) -> Value {
    let bob = protocol::UserId([2; 16]);
    let answer = ann.ask(Verb::Watch(protocol::request::Watch { users: vec![bob] })).await;
    answer["d"]["presence"][bob.to_string()]["state"].clone()
}

#[tokio::test(start_paused = true)]
async fn wherever_it_is_placed_a_conversation_is_found_and_its_members_are_told() {
    let mut cluster = Cluster::start().await;
    let (mut ann, mut bob, c) = cluster.talk().await;
    for (nth, up) in [[1].as_slice(), &[2], &[3], &[1, 2], &[2, 3], &[1, 2, 3]].into_iter().enumerate() {
        cluster.place(up).await;
        let seq = post(&mut ann, c, &format!("m{nth}")).await;
        while learns(&mut bob).await < seq {}
        assert_eq!(seq, nth as u64 + 2, "each once, in order");
        assert_eq!(state_of_bob(&mut ann).await, "online");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_goes_to_each_node_once_however_many_sockets_are_there() {
    let mut cluster = Cluster::start().await;
    cluster.place(&[3]).await;
    let mut people = Vec::new();
    for n in 1..=20 {
        people.push(cluster.node(1).user(n).await);
    }
    let c = cluster.node(1).group(&people).await;
    let mut sockets = Vec::new();
    for (n, caller) in people.into_iter().enumerate() {
        for device in ["phone", "laptop"] {
            sockets.push(cluster.node([1, 2][n % 2]).socket(caller, device).await);
        }
    }
    for cid in ["m1", "m2"] {
        cluster.wires.events.lock().unwrap().clear();
        let seq = post(&mut sockets[0], c, cid).await;
        for socket in &mut sockets[1..] {
            while learns(socket).await < seq {}
        }
        let mut sent = cluster.wires.events.lock().unwrap().clone();
        sent.sort_unstable();
        assert_eq!(sent, [(node(3), node(1)), (node(3), node(2))], "{cid}, to 20 sockets on each");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_until_all_go_by_the_new_view() {
    let mut cluster = Cluster::start().await;
    cluster.place(&[3]).await;
    let view = cluster.decide(&[1, 2]).await;
    let places = Places::of(&view);
    let of_two = |n: &u8| places.channel(Slice::of(UserId([*n; 16]))) == Some(node(2));
    let [ann, bob] = [0, 1].map(|nth| (1..100).filter(of_two).nth(nth).unwrap());
    let (ann, bob) = (cluster.node(1).user(ann).await, cluster.node(2).user(bob).await);
    let mut c = cluster.node(3).group(&[ann, bob]).await;
    while places.conversation(c) != Some(node(1)) {
        c = cluster.node(3).group(&[ann, bob]).await;
    }
    let (mut ann, mut bob) = (cluster.node(1).socket(ann, "a").await, cluster.node(2).socket(bob, "b").await);
    // node 1 owns the conversation now, and asks node 2 where its members are, and that does not know why yet
    cluster.node(1).starling.router.install(&places);
    let (begun, id) = (tokio::time::Instant::now(), ann.say(TestSocket::post(c, "m1", "at once?")));
    tokio::time::sleep(Duration::from_millis(100)).await;
    [2, 3].into_iter().for_each(|n| cluster.node(n).starling.router.install(&places));
    assert_eq!(ann.answer(id).await["t"], "ok");
    assert!(begun.elapsed() < Duration::from_millis(300), "{:?}", begun.elapsed());
    while learns(&mut bob).await < 2 {}
}

#[tokio::test(start_paused = true)]
async fn what_lives_elsewhere_now_ends_where_it_was() {
    let mut cluster = Cluster::start().await;
    let (mut ann, mut bob, c) = cluster.talk().await;
    cluster.place(&[2]).await;
    let seq = post(&mut ann, c, "m1").await;
    while learns(&mut bob).await < seq {}
    cluster.place(&[3]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    for n in [1, 2] {
        assert_eq!(cluster.node(n).starling.snapshot().conversations, 0, "on node {n}");
    }
    let seq = post(&mut bob, c, "m2").await;
    while learns(&mut ann).await < seq {}
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert_eq!(cluster.node(3).starling.snapshot().conversations, 0, "nobody needs it any more");
    assert_eq!(cluster.node(3).starling.snapshot().presence_channels, 2);
    assert_eq!(cluster.node(1).starling.snapshot().presence_channels, 0);
}

#[tokio::test(start_paused = true)]
async fn g6_a_request_that_a_broken_link_may_have_lost_is_asked_again_and_stored_once() {
    for answer_is_lost in [false, true] {
        let mut cluster = Cluster::start().await;
        cluster.place(&[3]).await;
        let (mut ann, mut bob, c) = cluster.talk().await;
        if answer_is_lost {
            cluster.cut(3, 1)
        } else {
            cluster.cut(1, 3)
        }
        let id = ann.say(TestSocket::post(c, "m1", "hello?"));
        tokio::time::sleep(Duration::from_secs(3)).await;
        cluster.mend();
        cluster.reset(1, 3);
        let answer = ann.answer(id).await;
        assert_eq!((&answer["t"], &answer["d"]["seq"]), (&"ok".into(), &2.into()), "{answer}");
        assert_eq!(answer["d"]["dup"].as_bool().unwrap_or_default(), answer_is_lost);
        let seq = post(&mut ann, c, "m2").await;
        assert_eq!(seq, 3, "the first was stored once");
        while learns(&mut bob).await < seq {}
    }
}

#[tokio::test(start_paused = true)]
async fn g6_what_the_next_owner_cannot_take_yet_is_asked_again_and_stored_once() {
    let (store, plan) = faulty();
    let mut cluster = Cluster::start_on(store).await;
    cluster.place(&[3]).await;
    let (caller, bob) = (cluster.node(1).user(1).await, cluster.node(2).user(2).await);
    let c = cluster.node(3).group(&[caller, bob]).await;
    let (mut ann, mut bob) = (cluster.node(1).socket(caller, "a").await, cluster.node(2).socket(bob, "b").await);
    let conversations = cluster.node(1).starling.conversations.clone();
    cluster.cut(3, 1);
    let first = ann.say(TestSocket::post(c, "m1", "the answer gets lost"));
    let words = protocol::Post { text: Some("so does this one's".into()), ..protocol::Post::default() };
    let body = protocol::rest::PostMessage { cid: "m2".to_owned().try_into().ok(), base: None, post: words };
    let second = tokio::spawn(async move { conversations.post(caller, c, body, None).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    plan.lock().unwrap().extend([(Operation::Claim, Fault::Refuse); 3]);
    cluster.place(&[2]).await;
    let (first, second) = (ann.answer(first).await, second.await.unwrap().unwrap());
    assert_eq!((&first["t"], &first["d"]["dup"]), (&"ok".into(), &true.into()), "{first}");
    assert!(second.dup);
    while learns(&mut bob).await < 3 {}
    assert_eq!(post(&mut ann, c, "m3").await, 4);
}

#[tokio::test(start_paused = true)]
async fn g6_what_was_never_sent_is_refused_at_once_while_the_store_is_away_and_waits_otherwise() {
    let mut cluster = Cluster::start().await;
    cluster.place(&[3]).await;
    let (mut ann, _bob, c) = cluster.talk().await;
    let unreachable = |storeless| *cluster.wires.unreachable.lock().unwrap() = Some((node(3), storeless));
    unreachable(true);
    let begun = tokio::time::Instant::now();
    let refused = ann.ask(TestSocket::post(c, "m1", "nobody takes it")).await;
    assert_eq!((&refused["d"]["code"], begun.elapsed().as_secs()), (&"unavailable".into(), 0), "{refused}");
    unreachable(false);
    let refused = ann.ask(TestSocket::post(c, "m1", "nobody takes it")).await;
    assert_eq!((&refused["d"]["code"], begun.elapsed().as_secs()), (&"unavailable".into(), 10), "{refused}");
    let id = ann.say(TestSocket::post(c, "m1", "the next one takes it"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.place(&[1]).await;
    assert_eq!(ann.answer(id).await["d"]["seq"], 2);
}

#[tokio::test(start_paused = true)]
async fn after_a_reset_everybody_is_known_again_and_learns_what_was_told_meanwhile() {
    let mut cluster = Cluster::start().await;
    cluster.place(&[3]).await;
    let (mut ann, mut bob, c) = cluster.talk().await;
    let seq = post(&mut ann, c, "m1").await;
    while learns(&mut bob).await < seq {}
    cluster.cut(3, 2);
    let seq = post(&mut ann, c, "m2").await;
    cluster.mend();
    cluster.reset(2, 3);
    while learns(&mut bob).await < seq {}
    let seq = post(&mut bob, c, "m3").await;
    while learns(&mut ann).await < seq {}
}

#[tokio::test(start_paused = true)]
async fn a_ghost_that_a_lost_farewell_has_left_is_noticed_by_the_digests() {
    let mut cluster = Cluster::start().await;
    cluster.place(&[3]).await;
    let (mut ann, bob, _) = cluster.talk().await;
    assert_eq!(state_of_bob(&mut ann).await, "online");
    cluster.cut(2, 3);
    drop(bob);
    tokio::time::sleep(Duration::from_millis(10)).await;
    cluster.mend();
    assert_eq!(state_of_bob(&mut ann).await, "online", "nobody knows yet");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(state_of_bob(&mut ann).await, "offline");
}

#[tokio::test(start_paused = true)]
async fn over_a_link_that_stands_again_all_is_said_again_and_nobody_has_looked_gone() {
    let mut cluster = Cluster::start().await;
    cluster.place(&[3]).await;
    let (mut ann, bob, _) = cluster.talk().await;
    assert_eq!(state_of_bob(&mut ann).await, "online");
    for n in [1, 2] {
        cluster.cut(n, 3);
        cluster.cut(3, n);
        cluster.reset(n, 3);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.mend();
    [1, 2].into_iter().for_each(|n| cluster.regain(n, 3));
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(bob);
    let mut offline = 0;
    while let Some(push) = ann.next().await {
        let bob = &push["d"]["presence"][protocol::UserId([2; 16]).to_string()];
        offline += usize::from(push["t"] == "pres" && bob["state"] == "offline");
    }
    assert_eq!(offline, 1, "when he went, and not before");
}

#[tokio::test(start_paused = true)]
async fn how_somebody_looks_counts_only_from_where_they_are_placed_or_by_a_later_view() {
    let mut cluster = Cluster::start().await;
    cluster.place(&[3]).await;
    let (mut ann, _bob, _) = cluster.talk().await;
    assert_eq!(state_of_bob(&mut ann).await, "online");
    let to: Vec<_> = cluster.node(1).starling.connections.sockets().iter().map(|socket| socket.conn).collect();
    let offline = PresenceState { state: Presence::Offline, last_seen_at: None };
    let v = cluster.version;
    for (from, view, counts) in [(2, v - 1, false), (2, v, false), (3, v, true), (3, v - 1, true), (2, v + 1, true)] {
        while ann.next().await.is_some() {}
        let mail = ToConnections::Presence { states: vec![(UserId([2; 16]), offline)], to: to.clone() };
        let parcel = Parcel { view, forwarded: false, mail: Mail::Connections(mail) };
        cluster.node(1).starling.router.receive_all(node(from), [parcel]);
        let told = ann.next().await.is_some_and(|push| push["t"] == "pres");
        assert_eq!(told, counts, "from node {from}, by view {view} of {v}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_crashed_asks_every_node_and_is_refilled_from_all_of_them() {
    let mut cluster = Cluster::start().await;
    cluster.place(&[3]).await;
    let (mut ann, mut bob, c) = cluster.talk().await;
    post(&mut ann, c, "m1").await;
    let channels = &cluster.node(3).starling.kinds.presence;
    channels.kill(protocol::peer::Slice::of(protocol::UserId([2; 16])));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let seq = post(&mut ann, c, "m2").await;
    while learns(&mut bob).await < seq {}
    assert_eq!(state_of_bob(&mut ann).await, "online");
}

#[tokio::test(start_paused = true)]
async fn g13_a_session_ended_on_one_node_is_over_on_all_of_them_at_once() {
    let cluster = Cluster::start().await;
    let bob = cluster.node(2).user(2).await;
    let mut socket = cluster.node(3).socket(bob, "b").await;
    let asked = tokio::time::Instant::now();
    cluster.node(1).starling.accounts.logout(bob).await.unwrap();
    let bye = loop {
        let push = socket.next().await.expect("it was not told");
        if push["t"] == "bye" {
            break push;
        }
    };
    assert_eq!(bye["d"]["code"], 4502);
    assert!(asked.elapsed() < Duration::from_millis(100), "nobody had to look: {:?}", asked.elapsed());
    assert!((1..=3).all(|n| cluster.node(n).starling.accounts.is_revoked(bob.session)));
}

/// What a deploy costs a send, but for the store: views that differ for a moment, and nothing that is only tried again after
/// a second.
#[tokio::test(start_paused = true)]
async fn a_send_while_things_move_waits_for_the_views_to_agree_and_no_longer() {
    let pause = Duration::from_millis(20);
    for turns in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
        let mut cluster = Cluster::start().await;
        let (mut ann, mut bob, c) = cluster.talk().await;
        for (nth, up) in [[3].as_slice(), &[2], &[1, 2], &[3], &[1]].into_iter().enumerate() {
            // what was here before has ended, or not
            tokio::time::sleep(Duration::from_secs(5 * (nth as u64 % 2))).await;
            let asked = tokio::time::Instant::now();
            let id = ann.say(TestSocket::post(c, &format!("a{nth}"), "before"));
            let place = cluster.place_in_turn(up, turns, pause);
            let answers = async {
                let first = ann.answer(id).await;
                let answers = [first, ann.ask(TestSocket::post(c, &format!("b{nth}"), "during")).await];
                (answers, asked.elapsed())
            };
            let ((), (answers, took)) = tokio::join!(place, answers);
            assert!(answers.iter().all(|answer| answer["t"] == "ok"), "{turns:?} {up:?}: {answers:?}");
            assert!(took < Duration::from_millis(500), "{turns:?} {up:?}: {took:?}");
            let last = answers[1]["d"]["seq"].as_u64().unwrap();
            while learns(&mut bob).await < last {}
            assert!(asked.elapsed() < Duration::from_millis(700), "{turns:?} {up:?}: bob after {:?}", asked.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_to_a_conversation_that_has_moved_waits_for_few_steps_of_the_store() {
    const STEP: Duration = Duration::from_millis(100);
    let slow = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_slow = slow.clone();
    let store =
        Memory::with_faults(move |_| is_slow.load(std::sync::atomic::Ordering::Relaxed).then_some(Fault::Delay(STEP)));
    let mut cluster = Cluster::start_on(store).await;
    cluster.place(&[3]).await;
    let (mut ann, _bob, c) = cluster.talk().await;
    post(&mut ann, c, "m1").await;
    cluster.place(&[2]).await;
    slow.store(true, std::sync::atomic::Ordering::Relaxed);
    let begun = tokio::time::Instant::now();
    post(&mut ann, c, "m2").await;
    // may the sender; claim; members, beside them the note and the view after it, and the index; append
    let steps = begun.elapsed().as_millis() / STEP.as_millis();
    assert!(steps <= 5, "{steps}: {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_rest_call_is_answered_by_an_owner_on_another_node_and_after_it_moved() {
    let mut cluster = Cluster::start().await;
    cluster.place(&[3]).await;
    let (ann, bob) = (cluster.node(1).user(1).await, cluster.node(2).user(2).await);
    let c = cluster.node(1).group(&[ann, bob]).await;
    cluster.cut(1, 3);
    let conversations = cluster.node(1).starling.conversations.clone();
    let key = protocol::ClientId::try_from("k".to_owned()).unwrap();
    let change = protocol::rest::ChangeRole { role: protocol::Role::Admin };
    let asked = tokio::spawn(async move { conversations.change_role(ann, c, bob.user, change, Some(key)).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.place(&[2]).await;
    asked.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_node_left_untold_is_told_although_nobody_posts() {
    let mut cluster = Cluster::start().await;
    cluster.place(&[3]).await;
    let (mut ann, mut bob, c) = cluster.talk().await;
    let seq = post(&mut ann, c, "m1").await;
    while learns(&mut bob).await < seq {}
    tokio::time::sleep(Duration::from_secs(70)).await;
    let last_words = protocol::Post { text: Some("last words".into()), ..protocol::Post::default() };
    cluster.append_and_die(c, protocol::Body::Post(last_words)).await;
    assert!(cluster.node(3).starling.router.look_after(cluster.version, vec![c]).await);
    while learns(&mut ann).await < 3 {}
    while learns(&mut bob).await < 3 {}
    assert!(!cluster.node(3).starling.router.look_after(cluster.version - 1, vec![c]).await, "of an earlier view");
}

#[tokio::test(start_paused = true)]
async fn who_was_removed_hears_of_it_although_the_owner_died_and_nobody_posts() {
    let mut cluster = Cluster::start().await;
    cluster.place(&[3]).await;
    let (mut ann, mut bob, c) = cluster.talk().await;
    // node 3 believes to own it; another removes Bob, and dies before it writes their row and tells anybody
    let remove = protocol::event::Remove { user: protocol::UserId([2; 16]) };
    cluster.append_and_die(c, protocol::Body::Remove(remove)).await;
    assert!(cluster.node(3).starling.router.look_after(cluster.version, vec![c]).await);
    while learns(&mut ann).await < 2 {}
    while learns(&mut bob).await < 2 {}
    let left = bob.next().await.unwrap();
    assert_eq!((&left["t"], &left["d"]["change"], &left["d"]["seq"]), (&"conv".into(), &"left".into(), &2.into()));
    post(&mut ann, c, "without Bob").await;
    assert!(bob.next().await.is_none(), "G9");
}

#[tokio::test(start_paused = true)]
async fn what_is_appended_was_noted_and_a_node_that_is_no_member_appends_nothing() {
    let mut cluster = Cluster::start().await;
    cluster.place(&[3]).await;
    let (mut ann, _bob, c) = cluster.talk().await;
    post(&mut ann, c, "m1").await;
    let stored = cluster.node(1).store.cluster.clone().unwrap();
    assert_eq!(stored.noted(node(3), 1).await.unwrap(), [c]);
    // node 3 is taken out of the view and has not heard of it
    let mut without = view(cluster.version + 1, &[1, 2], &[]);
    without.revision = cluster.version + 1;
    stored.change(&without).await.unwrap();
    tokio::time::sleep(protocol::cluster::SLOT).await;
    let id = ann.say(TestSocket::post(c, "m2", "too late"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let range = storage::log::Range {
        after: protocol::Seq(0),
        before: None,
        lane: storage::log::Lane::Both,
        limit: 10,
        newest: false,
    };
    assert_eq!(cluster.node(1).store.log.read(c, range).await.unwrap().len(), 2, "nobody would look after it");
    for n in 1..=3 {
        cluster.node(n).starling.router.install(&Places::of(&without));
    }
    assert_eq!(ann.answer(id).await["d"]["seq"], 3, "the next owner takes it, inside its deadline");
}

#[tokio::test(start_paused = true)]
async fn what_a_node_begins_that_was_taken_out_nobody_sees_before_another_has_noted_it() {
    let (store, plan) = faulty();
    let mut cluster = Cluster::start_on(store.clone()).await;
    cluster.place(&[3]).await;
    let (ann, bob) = (cluster.node(1).user(1).await, cluster.node(2).user(2).await);
    let mut socket = cluster.node(2).socket(bob, "b").await;
    plan.lock().unwrap().push((Operation::Create, Fault::Delay(Duration::from_secs(1))));
    let conversations = cluster.node(1).starling.conversations.clone();
    let body = protocol::rest::CreateConversation {
        kind: protocol::Kind::Group,
        title: Some("late".into()),
        members: vec![bob.user],
    };
    let create = async || {
        let key = protocol::ClientId::try_from("k".to_owned()).unwrap();
        conversations.create(ann, body.clone(), Some(key)).await
    };
    let (refused, view) = tokio::join!(create(), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        // node 3 is taken out of the view and has not heard of it; what it noted is looked after, and nothing it says arrives
        let mut without = view(cluster.version + 1, &[1, 2], &[]);
        without.revision = cluster.version + 1;
        let stored = store.cluster.as_ref().unwrap();
        stored.change(&without).await.unwrap();
        assert_eq!(stored.noted(node(3), 1).await.unwrap(), [], "there is nothing to look after yet");
        [1, 2].into_iter().for_each(|n| cluster.cut(3, n));
        without
    });
    assert_eq!(refused.unwrap_err().code, protocol::Code::Timeout, "it is begun, and nobody says so");
    assert!(store.directory.list(bob.user).await.unwrap().is_empty(), "nobody would tell them of it");
    [1, 2].into_iter().for_each(|n| cluster.node(n).starling.router.install(&Places::of(&view)));
    let (begun, made) = create().await.unwrap();
    assert!(!made, "it was there");
    let owner = Places::of(&view).conversation(begun.id).unwrap();
    let noted = store.cluster.as_ref().unwrap().noted(owner, 1).await.unwrap();
    assert_eq!(noted, [begun.id], "before anybody could see it");
    while learns(&mut socket).await < 1 {}
}

#[tokio::test(start_paused = true)]
async fn each_looks_after_what_is_placed_on_it_and_takes_nothing_from_others() {
    let mut cluster = Cluster::start().await;
    let (_ann, _bob, c) = cluster.talk().await;
    cluster.place(&[2]).await;
    let owner = async || cluster.node(1).store.log.standing(c).await.unwrap().unwrap().owner;
    for n in [2, 1, 3] {
        assert!(cluster.node(n).starling.router.look_after(cluster.version, vec![c]).await);
        assert_eq!(owner().await, node(2), "after node {n} has looked after it");
    }
    assert!(!cluster.node(2).starling.router.look_after(cluster.version - 1, vec![c]).await, "that view is over");
}

#[test]
fn every_test_that_the_document_names_exists() {
    let tests = concat!(
        include_str!("nodes.rs"),
        include_str!("sim.rs"),
        include_str!("../cluster/early.rs"),
        include_str!("../cluster/told/tests.rs"),
        include_str!("../connections/marked.rs"),
        include_str!("../conversation/state/tests.rs"),
        include_str!("../conversation/state/tests/answers.rs"),
        include_str!("../conversation/state/tests/departed.rs"),
        include_str!("../conversation/state/tests/placed.rs"),
        include_str!("../conversation/state/tests/untold.rs"),
        include_str!("../outbound/line/tests.rs"),
        include_str!("../presence/tests.rs"),
        include_str!("../session/state/tests.rs"),
    );
    let document = include_str!("../../CLUSTER.md");
    let chapter = document.split("\n## ").find(|chapter| chapter.starts_with("Who is told")).unwrap();
    let named: Vec<_> = chapter.split('`').filter(|word| word.matches('_').count() > 3).collect();
    assert!(named.len() > 30, "{named:?}");
    for name in named {
        assert!(tests.contains(&format!("fn {name}(")), "{name}");
    }
}
