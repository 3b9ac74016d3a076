//! Real sockets on loopback and real certificates: who gets in, who does not and why, and that nobody is held up meanwhile.
//! The other end of the last tests is another process, as a killed node is.

mod process;

use std::{
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Instant,
};

use actors::cluster::{
    link::{ClusterLink, LinkEvent},
    transport::Events,
};
use bytes::Bytes;
use protocol::{
    Incarnation, NodeId,
    peer::{Greeting, VERSIONS},
};
use rcgen::{Issuer, KeyPair};
use tokio::io::AsyncReadExt;

use super::*;
use crate::world::SecureRandom;

const PATIENCE: Duration = Duration::from_secs(20);

/// An authority, and the certificates it issued.
struct House {
    dir: tempfile::TempDir,
    authority_key: String,
}

impl House {
    fn new() -> House {
        let dir = tempfile::tempdir().unwrap();
        let made = issue::authority().unwrap();
        private(&dir.path().join("ca.pem"), &made.cert);
        House { dir, authority_key: made.key }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn files(&self, node: &str) -> Files {
        Files {
            ca: self.path("ca.pem"),
            cert: self.path(&format!("{node}.pem")),
            key: self.path(&format!("{node}.key")),
        }
    }

    /// A certificate that bears `node`.
    fn issue(&self, node: &str) -> Files {
        let made = issue::certificate(node, &self.authority_key).unwrap();
        self.keep(node, &made.cert, &made.key)
    }

    /// One that has expired ten days ago.
    fn expired(&self, node: &str) -> Files {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let mut params = issue::node_params(node).unwrap();
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + (now - Duration::from_secs(10 * 86_400 + 60));
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        let issuer = Issuer::new(issue::authority_params(), KeyPair::from_pem(&self.authority_key).unwrap());
        let key = KeyPair::generate().unwrap();
        self.keep(node, &params.signed_by(&key, &issuer).unwrap().pem(), &key.serialize_pem())
    }

    fn keep(&self, node: &str, cert: &str, key: &str) -> Files {
        let files = self.files(node);
        private(Path::new(&files.cert), cert);
        private(Path::new(&files.key), key);
        files
    }
}

fn private(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new();
    let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

/// A node as far as its links: it accepts, dials, and notes what happens.
struct Node {
    links: Arc<Transport>,
    events: Events,
    me: Incarnation,
    at: String,
    _closing: watch::Sender<bool>,
}

impl Node {
    /// `files`: whatever is in them, checked or not.
    async fn start(name: &str, certificates: Option<Certificates>) -> Node {
        let peers = Arc::new(Peers {
            certificates,
            seeds: Vec::new(),
            admission: Admission::new(ACCEPTED_MAX, ACCEPTED_OF_ADDRESS_MAX, 0, Vec::new()),
            handshakes: Semaphore::new(HANDSHAKES_MAX),
        });
        let mut incarnation = [0; 16];
        actors::Random::fill(&SecureRandom, &mut incarnation);
        let me = Incarnation(incarnation);
        let node = NodeId::try_from(name.to_owned()).unwrap();
        let ours = Greeting { versions: VERSIONS, node, incarnation: me, equal: Vec::new(), alike: Vec::new() };
        let (links, events) = Transport::start(ours, peers.clone(), Arc::new(SecureRandom)).await.unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let closing = watch::Sender::new(false);
        tokio::spawn(peers.accept(listener, links.clone(), closing.subscribe()));
        Node { links, events, me, at, _closing: closing }
    }

    async fn certified(house: &House, name: &str) -> Node {
        Node::start(name, Some(Certificates::load(house.issue(name), Some(name)).unwrap())).await
    }

    fn dial(&self, at: &str, node: Option<&str>) {
        let node = node.map(|node| NodeId::try_from(node.to_owned()).unwrap());
        self.links.dial(PeerAddress { at: at.to_owned(), node });
    }

    async fn next(&mut self) -> LinkEvent {
        tokio::time::timeout(PATIENCE, self.events.next()).await.unwrap().unwrap()
    }

    async fn up(&mut self) -> Greeting {
        match self.next().await {
            LinkEvent::Up { peer, .. } => peer,
            other => panic!("{other:?}"),
        }
    }

    async fn not_reached(&mut self) -> (bool, String) {
        match self.next().await {
            LinkEvent::NotReached { refused, why, .. } => (refused, why),
            other => panic!("{other:?}"),
        }
    }

    /// Both are linked over a new connection.
    async fn joins(&mut self, other: &mut Node) {
        self.dial(&other.at, None);
        assert_eq!(self.up().await.incarnation, other.me);
        assert_eq!(other.up().await.incarnation, self.me);
    }
}

#[tokio::test]
async fn two_nodes_of_one_authority_speak() {
    let house = House::new();
    let (mut a, mut b) = (Node::certified(&house, "n1").await, Node::certified(&house, "n2").await);
    a.dial(&b.at, Some("n2"));
    assert_eq!(a.up().await.node.as_str(), "n2");
    assert_eq!(b.up().await.node.as_str(), "n1");
    let frame = Bytes::from(vec![7; 200 << 10]);
    a.links.send(b.me, frame.clone());
    b.links.send(a.me, frame.clone());
    assert_eq!(b.next().await, LinkEvent::Frame { from: a.me, frame: frame.clone() });
    assert_eq!(a.next().await, LinkEvent::Frame { from: b.me, frame });
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_on_both_sides() {
    let (house, strangers) = (House::new(), House::new());
    let (mut a, mut stranger) = (Node::certified(&house, "n1").await, Node::certified(&strangers, "n2").await);
    a.dial(&stranger.at, None);
    assert_eq!(a.not_reached().await, (false, "its certificate is not by the authority in cluster.tls.ca".to_owned()));
    stranger.dial(&a.at, None);
    assert_eq!(stranger.not_reached().await.1, "its certificate is not by the authority in cluster.tls.ca");
    // Who knows the right authority but has a certificate of another one learns it from the peer.
    let mut mixed = strangers.issue("n3");
    mixed.ca = house.path("ca.pem");
    let mixed = Certificates::unchecked(mixed);
    let mut mixed = Node::start("n3", Some(mixed)).await;
    mixed.dial(&a.at, None);
    let why = mixed.not_reached().await.1;
    assert_eq!(why, "to it this node's certificate is not by the authority in its cluster.tls.ca");
}

#[tokio::test]
async fn the_right_authority_and_the_wrong_name_is_refused() {
    let house = House::new();
    let mut a = Node::certified(&house, "n1").await;
    let mut b = Node::start("n2", Some(Certificates::load(house.issue("n3"), None).unwrap())).await;
    a.dial(&b.at, None);
    let (_, why) = a.not_reached().await;
    assert!(why.contains("calls itself n2 shows the certificate of n3"), "{why}");
    let mut c = Node::certified(&house, "n4").await;
    c.dial(&a.at, Some("n2"));
    let (_, why) = c.not_reached().await;
    assert!(why.contains("n1 answers where n2 was looked for"), "{why}");
    b.dial(&a.at, None);
    let (_, why) = b.not_reached().await;
    assert!(why.contains("calls itself n2 shows the certificate of n3"), "the one who is wrong hears it: {why}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_its_own_node_and_by_others() {
    let house = House::new();
    let files = house.expired("n2");
    let refused = Certificates::load(files.clone(), Some("n2")).err().unwrap();
    assert_eq!((refused.key, refused.reason.as_str()), ("cluster.tls.cert", "it has expired 10 days ago"));
    let mut a = Node::certified(&house, "n1").await;
    let mut late = Node::start("n2", Some(Certificates::unchecked(files))).await;
    a.dial(&late.at, None);
    assert_eq!(a.not_reached().await.1, "its certificate has expired 10 days ago");
    late.dial(&a.at, None);
    let (_, why) = late.not_reached().await;
    assert!(why.starts_with("to it this node's certificate has expired"), "{why}");
}

#[tokio::test]
async fn who_says_nothing_delays_nobody_and_who_says_garbage_harms_nobody() {
    let house = House::new();
    let (mut a, mut b) = (Node::certified(&house, "n1").await, Node::certified(&house, "n2").await);
    let mut silent = Vec::new();
    for _ in 0..HANDSHAKES_MAX / 2 {
        silent.push(TcpStream::connect(&b.at).await.unwrap());
    }
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4096], &16_777_216_u64.to_be_bytes()] {
        let mut tcp = TcpStream::connect(&b.at).await.unwrap();
        tcp.write_all(garbage).await.unwrap();
        silent.push(tcp);
    }
    let started = Instant::now();
    a.joins(&mut b).await;
    assert!(started.elapsed() < HANDSHAKE_MAX, "{:?}", started.elapsed());
    for mut tcp in silent {
        // closed, in its time
        let mut said = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut said)).await.unwrap();
    }
    a.links.send(b.me, Bytes::from_static(b"frame"));
    assert!(matches!(b.next().await, LinkEvent::Frame { .. }));
}

#[tokio::test]
async fn nobody_listening_is_told_from_somebody_silent() {
    let mut a = Node::start("n1", None).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    a.dial(&at, None);
    assert_eq!(a.not_reached().await, (false, "it accepts connections and says nothing".to_owned()));
    drop(listener);
    a.dial(&at, None);
    let (refused, why) = a.not_reached().await;
    assert!(refused && why.starts_with("it cannot be connected to"), "{why}");
    a.dial("nobody.invalid:7946", None);
    let (refused, why) = a.not_reached().await;
    assert!(!refused && why.starts_with("its name cannot be looked up"), "{why}");
}

#[tokio::test]
async fn a_node_with_certificates_and_one_without_do_not_speak_and_say_why() {
    let house = House::new();
    let (mut plain, mut certified) = (Node::start("n1", None).await, Node::certified(&house, "n2").await);
    certified.dial(&plain.at, None);
    assert_eq!(certified.not_reached().await.1, "it does not speak TLS");
    plain.dial(&certified.at, None);
    // the other waits for the beginning of TLS as long as it waits for anybody
    let (_, why) = plain.not_reached().await;
    assert!(why.contains("says nothing") || why.contains("closed the connection"), "{why}");
}

#[test]
fn what_is_wrong_with_files_is_said_with_key_file_and_remedy() {
    let house = House::new();
    let good = house.issue("n1");
    let other = house.issue("n2");
    let refused = |files: Files| Certificates::load(files, Some("n1")).err().unwrap().to_string();
    let missing = PathBuf::from(&good.ca).with_file_name("none.pem").display().to_string();
    let said = refused(Files { ca: missing.clone(), ..good.clone() });
    assert!(said.contains("cluster.tls.ca") && said.contains(&missing) && said.contains("cannot be read"), "{said}");
    let said = refused(Files { ca: good.key.clone(), ..good.clone() });
    assert!(said.contains("there is no certificate in it"), "{said}");
    let said = refused(Files { key: other.key.clone(), ..good.clone() });
    assert!(said.contains("cluster.tls.key_file") && said.contains("is not the key of cluster.tls.cert"), "{said}");
    let said = refused(other);
    assert!(said.contains("it is for n2, and node.id is n1; `starling cluster init`"), "{said}");
    let strangers = House::new();
    let said = refused(Files { ca: strangers.path("ca.pem"), ..good });
    assert!(said.contains("it is not by the authority in cluster.tls.ca"), "{said}");
}
