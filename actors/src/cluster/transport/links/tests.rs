//! What happens on a link, in every order that the runtime allows.

use protocol::{NodeId, peer::VERSIONS};

use super::*;

const SMALL: Incarnation = Incarnation([1; 16]);
const LARGE: Incarnation = Incarnation([9; 16]);

fn greeting(node: &str, incarnation: Incarnation) -> Greeting {
    let equal = vec![("cluster.name".to_owned(), "starling".to_owned())];
    let node = NodeId::try_from(node.to_owned()).unwrap();
    Greeting { versions: VERSIONS, node, incarnation, equal, alike: Vec::new() }
}

fn bytes(greeting: Greeting) -> Bytes {
    peer::encode(&Frame::Greeting(greeting), VERSIONS.0).unwrap()
}

fn address() -> PeerAddress {
    PeerAddress { at: "10.0.0.2:7946".to_owned(), node: None }
}

fn token(link: LinkId) -> Token {
    Token([u8::try_from(link).unwrap(); 16])
}

/// A node's links, and what they did, in words.
struct Rig {
    links: Links,
    now: Instant,
}

impl Rig {
    /// With a peer of the other incarnation.
    fn new(me: Incarnation) -> Rig {
        Rig { links: Links::new(greeting("n1", me)), now: Instant::now() }
    }

    fn on(&mut self, input: Input) -> String {
        let did = self.links.on(input, self.now);
        did.into_iter().map(|action| words(action) + ". ").collect::<String>().trim_end().to_owned()
    }

    fn open(&mut self, link: LinkId, dialled: bool) {
        let dialled = dialled.then(address);
        assert_eq!(self.on(Input::Opened { link, token: token(link), dialled, names: None }), "");
    }

    fn ready(&mut self, link: LinkId, peer: Incarnation) -> String {
        self.on(Input::Ready { link, peer })
    }

    fn greeted(&mut self, link: LinkId, peer: Incarnation) -> String {
        self.on(Input::Greeted { token: token(link), greeting: bytes(greeting("n2", peer)) })
    }

    fn welcomed(&mut self, link: LinkId) -> String {
        self.on(Input::Welcomed { token: token(link) })
    }

    fn came(&mut self, link: LinkId) -> String {
        self.on(Input::Came { token: token(link), frame: Bytes::from_static(b"parcels") })
    }

    /// Up with a peer, whoever decides.
    fn up(&mut self, link: LinkId, dialled: bool, peer: Incarnation) -> String {
        self.open(link, dialled);
        self.ready(link, peer);
        self.greeted(link, peer) + &self.welcomed(link)
    }
}

fn words(action: Action) -> String {
    match action {
        Action::Greet(link) => format!("greet {link}"),
        Action::Welcome(link) => format!("welcome {link}"),
        Action::Refuse(link, why) => format!("refuse {link}: {why}"),
        Action::Close(link) => format!("close {link}"),
        Action::Note(why) => format!("note {why}"),
        Action::Unlike { settings, .. } => format!("unlike {settings}"),
        Action::Tell(told) => match told.event {
            LinkEvent::Up { peer, .. } => format!("UP {}", peer.node.as_str()),
            LinkEvent::Frame { frame, .. } => format!("FRAME of {}", frame.len()),
            LinkEvent::Down { why, .. } => format!("DOWN {why}"),
            LinkEvent::NotReached { why, .. } => format!("NOT REACHED {why}"),
        },
    }
}

#[test]
fn who_decides_greets_first_and_is_up_when_greeted_back() {
    let mut rig = Rig::new(SMALL);
    rig.open(1, true);
    assert_eq!(rig.ready(1, LARGE), "greet 1.");
    assert_eq!(rig.greeted(1, LARGE), "welcome 1. UP n2.");
    assert_eq!(rig.came(1), "FRAME of 7.");
    assert_eq!(rig.links.to(LARGE), Some(1));
}

#[test]
fn who_follows_greets_back_and_is_up_when_welcome() {
    let mut rig = Rig::new(LARGE);
    rig.open(1, true);
    assert_eq!(rig.ready(1, SMALL), "");
    assert_eq!(rig.greeted(1, SMALL), "greet 1.");
    assert_eq!(rig.welcomed(1), "UP n2.");
    assert_eq!(rig.welcomed(1), "", "said twice");
}

#[test]
fn a_greeting_that_overtakes_the_news_of_the_peers_actors_waits_for_it() {
    let mut rig = Rig::new(LARGE);
    rig.open(1, false);
    assert_eq!(rig.greeted(1, SMALL), "");
    assert_eq!(rig.ready(1, SMALL), "greet 1.");
    assert_eq!(rig.welcomed(1), "UP n2.");
}

#[test]
fn a_frame_that_overtakes_the_welcome_counts_as_one() {
    let mut rig = Rig::new(LARGE);
    rig.open(1, true);
    rig.ready(1, SMALL);
    rig.greeted(1, SMALL);
    assert_eq!(rig.came(1), "UP n2. FRAME of 7.");
    assert_eq!(rig.welcomed(1), "");
}

#[test]
fn who_speaks_out_of_turn_is_dropped_and_only_he() {
    let mut rig = Rig::new(LARGE);
    assert_eq!(rig.up(1, true, SMALL), "greet 1.UP n2.");
    for link in 2..=4 {
        rig.open(link, true);
        rig.ready(link, Incarnation([2; 16]));
    }
    assert_eq!(rig.came(2), "NOT REACHED it sends before it is welcome. close 2.");
    assert_eq!(rig.welcomed(3), "NOT REACHED it welcomes who has not greeted. close 3.");
    let beat = peer::encode(&Frame::Ack(1), VERSIONS.0).unwrap();
    let said = rig.on(Input::Greeted { token: token(4), greeting: beat });
    assert_eq!(said, "refuse 4: that is no greeting. NOT REACHED that is no greeting.");
    assert_eq!(rig.greeted(1, SMALL), "DOWN it greets twice. close 1.");
}

#[test]
fn what_bears_no_token_of_a_link_is_nobodys() {
    let mut rig = Rig::new(SMALL);
    rig.up(1, true, LARGE);
    assert_eq!(rig.came(77), "");
    rig.on(Input::Ended { link: 1, why: "cut".to_owned() });
    assert_eq!(rig.came(1) + &rig.greeted(1, LARGE) + &rig.welcomed(1), "", "late mail of a link that has ended");
}

#[test]
fn the_end_of_a_link_is_told_once_and_to_whom_it_concerns() {
    let mut rig = Rig::new(SMALL);
    rig.up(1, true, LARGE);
    let cut = |link| Input::Ended { link, why: "cut".to_owned() };
    assert_eq!(rig.on(cut(1)), "DOWN cut. close 1.");
    assert_eq!(rig.on(cut(1)), "close 1.");
    rig.open(2, true);
    assert_eq!(rig.on(cut(2)), "NOT REACHED cut. close 2.");
    rig.open(3, false);
    assert_eq!(rig.on(cut(3)), "note cut. close 3.");
    rig.up(4, false, LARGE);
    assert_eq!(rig.on(Input::Drop { peer: LARGE }), "DOWN dropped by this node. close 4.");
    assert_eq!(rig.on(Input::Drop { peer: LARGE }), "");
}

#[test]
fn who_does_not_greet_in_time_is_closed_and_who_is_up_stays() {
    let mut rig = Rig::new(SMALL);
    rig.open(1, true);
    rig.ready(1, LARGE);
    assert_eq!(rig.on(Input::Late { link: 1 }), "NOT REACHED it did not greet in time. close 1.");
    rig.up(2, true, LARGE);
    assert_eq!(rig.on(Input::Late { link: 2 }), "");
}

#[test]
fn a_refusal_names_the_reason_on_both_sides_and_the_peer_closes() {
    let mut rig = Rig::new(LARGE);
    rig.open(1, false);
    rig.ready(1, SMALL);
    let mut other = greeting("n2", SMALL);
    other.equal[0].1 = "else".to_owned();
    let why = "cluster.name differs: starling at n1, else at n2; make them equal, or they are two clusters";
    let said = rig.on(Input::Greeted { token: token(1), greeting: bytes(other) });
    assert_eq!(said, format!("refuse 1: {why}. note {why}."));
    assert_eq!(rig.on(Input::Late { link: 1 }), "close 1.", "unless it does not");

    let mut rig = Rig::new(SMALL);
    rig.open(1, true);
    rig.ready(1, LARGE);
    let said = rig.on(Input::Refused { token: token(1), why: "key\ndiffers".to_owned() });
    assert_eq!(said, "NOT REACHED refused by the peer: key differs. close 1.");
}

#[test]
fn a_node_that_dials_itself_is_told_so() {
    let mut rig = Rig::new(SMALL);
    rig.open(1, true);
    assert_eq!(rig.ready(1, SMALL), "NOT REACHED this node itself answers there. close 1.");
}

#[test]
fn a_run_is_the_one_it_began_as() {
    let mut rig = Rig::new(SMALL);
    rig.open(1, true);
    rig.ready(1, LARGE);
    let said = rig.greeted(1, Incarnation([8; 16]));
    assert!(said.starts_with("refuse 1: it greets as another run"), "{said}");
}

#[test]
fn when_both_dial_at_once_both_keep_the_link_that_was_first_where_it_is_decided() {
    let (mut decides, mut follows) = (Rig::new(SMALL), Rig::new(LARGE));
    for link in [1, 2] {
        decides.open(link, link == 1);
        follows.open(link, link == 2);
        decides.ready(link, LARGE);
        follows.ready(link, SMALL);
        follows.greeted(link, SMALL);
    }
    // the second is first where it is decided
    assert_eq!(decides.greeted(2, LARGE), "welcome 2. UP n2.");
    let why = "the two are linked already";
    assert_eq!(decides.greeted(1, LARGE), format!("refuse 1: {why}. NOT REACHED {why}."));
    let refused = Input::Refused { token: token(1), why: why.to_owned() };
    assert_eq!(follows.on(refused), format!("note refused by the peer: {why}. close 1."));
    assert_eq!(follows.welcomed(2), "UP n2.");
}

#[test]
fn a_second_link_replaces_one_that_the_peer_has_lost() {
    for (first, second, after) in [(false, false, 0), (true, false, 6)] {
        let mut rig = Rig::new(SMALL);
        rig.up(1, first, LARGE);
        rig.now += Duration::from_secs(after);
        let said = rig.up(2, second, LARGE);
        assert_eq!(said, "welcome 2. DOWN replaced by a newer link. close 1. UP n2.");
        assert_eq!(rig.links.to(LARGE), Some(2));
        assert_eq!(rig.on(Input::Ended { link: 1, why: "cut".to_owned() }), "close 1.");
        assert_eq!(rig.links.to(LARGE), Some(2), "the end of the first does not touch the second");
    }
    let mut follows = Rig::new(LARGE);
    follows.up(1, true, SMALL);
    assert_eq!(follows.up(2, false, SMALL), "greet 2.DOWN replaced by a newer link. close 1. UP n2.");
}

#[test]
fn a_dial_that_was_under_way_when_a_link_came_up_makes_no_second_one() {
    for (me, peer, first) in [(SMALL, LARGE, true), (SMALL, LARGE, false), (LARGE, SMALL, true), (LARGE, SMALL, false)]
    {
        let mut rig = Rig::new(me);
        rig.up(1, first, peer);
        rig.now += Duration::from_secs(6);
        rig.open(2, true);
        rig.ready(2, peer);
        let why = "the two are linked already";
        assert_eq!(rig.greeted(2, peer), format!("refuse 2: {why}. NOT REACHED {why}."));
        assert_eq!(rig.links.to(peer), Some(1));
    }
}

#[test]
fn another_run_of_the_same_node_is_another_peer() {
    let mut rig = Rig::new(SMALL);
    rig.up(1, true, LARGE);
    let again = Incarnation([10; 16]);
    assert!(rig.up(2, true, again).contains("UP n2"));
    assert_eq!((rig.links.to(LARGE), rig.links.to(again)), (Some(1), Some(2)));
}

#[test]
fn too_large_a_frame_and_too_many_that_nobody_takes_end_the_link() {
    let mut rig = Rig::new(SMALL);
    rig.up(1, true, LARGE);
    let frame = Bytes::from(vec![0; PEER_INBOUND_BYTES_MAX + 1]);
    let said = rig.on(Input::Came { token: token(1), frame });
    assert_eq!(said, "DOWN it sends a frame of 1048577 bytes. close 1.");

    rig.up(2, true, LARGE);
    let frame = Bytes::from(vec![0; PEER_INBOUND_BYTES_MAX]);
    let full = |rig: &mut Rig| rig.links.on(Input::Came { token: token(2), frame: frame.clone() }, rig.now);
    let mut taken = 0;
    // who looks at what comes never drops anybody
    while taken < 100 {
        for action in full(&mut rig) {
            let Action::Tell(told) = action else { panic!("{}", words(action)) };
            assert!(matches!(told.take(), LinkEvent::Frame { .. }));
            taken += 1;
        }
    }
    let left = (0..100).map(|_| full(&mut rig)).find(|did| did.len() != 1).unwrap();
    assert_eq!(
        left.into_iter().map(words).collect::<Vec<_>>(),
        ["DOWN it sends more than this node can look at", "close 2"]
    );
}

#[test]
fn when_what_receives_is_started_anew_all_links_end() {
    let mut rig = Rig::new(SMALL);
    rig.up(1, true, LARGE);
    rig.open(2, true);
    let why = "what receives on this node was started anew";
    assert_eq!(rig.on(Input::Restarted), format!("DOWN {why}. close 1. NOT REACHED {why}. close 2."));
}
