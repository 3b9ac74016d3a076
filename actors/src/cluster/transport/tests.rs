//! Two transports in one process, joined by pipes: the runtime tells them apart, as their actors stand in groups of their own
//! and every link has a number of its own.

use std::sync::atomic::{AtomicU64, Ordering};

use protocol::{NodeId, peer::VERSIONS};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const PIPE_BYTES: usize = 256 << 10;

/// Randomness that no two tests share.
struct Counted;

impl Random for Counted {
    fn fill(&self, bytes: &mut [u8]) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        bytes.fill(0xa5);
        bytes[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    }
}

/// Dials whoever is next in line.
struct Pipes(std::sync::Mutex<Vec<Result<PeerStream, NotReached>>>);

impl Dialer for Pipes {
    fn dial<'a>(&'a self, _: &'a PeerAddress) -> BoxFuture<'a, Result<PeerStream, NotReached>> {
        let next = self.0.lock().unwrap().pop().unwrap();
        Box::pin(async { next })
    }

    fn seeds(&self) -> BoxFuture<'_, Vec<PeerAddress>> {
        Box::pin(async { Vec::new() })
    }
}

struct Rig {
    transport: Arc<Transport>,
    events: Events,
    pipes: Arc<Pipes>,
    me: Incarnation,
}

impl Rig {
    async fn start(node: &str) -> Rig {
        let mut me = Incarnation([0; 16]);
        Counted.fill(&mut me.0);
        let node = NodeId::try_from(node.to_owned()).unwrap();
        let ours = Greeting { versions: VERSIONS, node, incarnation: me, equal: Vec::new(), alike: Vec::new() };
        let pipes = Arc::new(Pipes(std::sync::Mutex::default()));
        let (transport, events) = Transport::start(ours, pipes.clone(), Arc::new(Counted)).await.unwrap();
        Rig { transport, events, pipes, me }
    }

    fn dial(&self, stream: PeerStream) {
        self.pipes.0.lock().unwrap().push(Ok(stream));
        self.transport.dial(address());
    }

    async fn next(&mut self) -> LinkEvent {
        tokio::time::timeout(PATIENCE, self.events.next()).await.unwrap().unwrap()
    }

    async fn up(&mut self) -> Greeting {
        match self.next().await {
            LinkEvent::Up { peer, version } => {
                assert_eq!(version, VERSIONS.1);
                peer
            }
            other => panic!("{other:?}"),
        }
    }

    async fn why_not_reached(&mut self) -> String {
        match self.next().await {
            LinkEvent::NotReached { why, refused: false, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    async fn frame(&mut self) -> (Incarnation, Bytes) {
        match self.next().await {
            LinkEvent::Frame { from, frame } => (from, frame),
            other => panic!("{other:?}"),
        }
    }
}

fn address() -> PeerAddress {
    PeerAddress { at: "pipe:1".to_owned(), node: None }
}

fn plain(stream: DuplexStream) -> PeerStream {
    PeerStream::new(stream, None)
}

/// Two nodes that are linked.
async fn pair() -> (Rig, Rig) {
    let (mut a, mut b) = (Rig::start("n1").await, Rig::start("n2").await);
    link(&mut a, &mut b).await;
    (a, b)
}

async fn link(a: &mut Rig, b: &mut Rig) {
    let (here, there) = duplex(PIPE_BYTES);
    b.transport.accepted(plain(there));
    a.dial(plain(here));
    assert_eq!(a.up().await.incarnation, b.me);
    assert_eq!(b.up().await.incarnation, a.me);
}

fn frame(number: u64, bytes: usize) -> Bytes {
    let mut frame = vec![0; bytes];
    frame[bytes - 8..].copy_from_slice(&number.to_le_bytes());
    frame.into()
}

#[tokio::test]
async fn frames_go_both_ways_in_order() {
    let (mut a, mut b) = pair().await;
    for number in 0..2_000 {
        a.transport.send(b.me, frame(number, 4 << 10));
        b.transport.send(a.me, frame(number, 512));
    }
    for number in 0..2_000 {
        assert_eq!(b.frame().await, (a.me, frame(number, 4 << 10)));
        assert_eq!(a.frame().await, (b.me, frame(number, 512)));
    }
    let largest = frame(1, protocol::limits::PEER_FRAME_BYTES_MAX);
    a.transport.send(b.me, largest.clone());
    assert_eq!(b.frame().await.1, largest);
}

#[tokio::test]
async fn a_beat_goes_another_way_and_arrives_as_it_is() {
    let (a, mut b) = pair().await;
    let beat = protocol::peer::Beat { view: 7, hears_you: true, store_ok: true, sent_us: 1, echo: None };
    let beat = peer::encode(&Frame::Beat(beat), VERSIONS.0).unwrap();
    assert!(peer::is_beat(&beat));
    a.transport.send(b.me, beat.clone());
    assert_eq!(b.frame().await, (a.me, beat));
}

#[tokio::test]
async fn the_end_of_a_stream_is_told_at_once_and_the_next_link_is_a_new_one() {
    let (mut a, mut b) = (Rig::start("n1").await, Rig::start("n2").await);
    for _ in 0..3 {
        link(&mut a, &mut b).await;
        a.transport.drop_peer(b.me);
        assert!(matches!(a.next().await, LinkEvent::Down { peer, .. } if peer == b.me));
        assert!(matches!(b.next().await, LinkEvent::Down { peer, .. } if peer == a.me));
        a.transport.send(b.me, frame(1, 64));
    }
}

#[tokio::test]
async fn both_may_dial_at_once_and_one_link_remains() {
    for _ in 0..10 {
        let (mut a, mut b) = (Rig::start("n1").await, Rig::start("n2").await);
        let ((a1, b1), (a2, b2)) = (duplex(PIPE_BYTES), duplex(PIPE_BYTES));
        b.transport.accepted(plain(b1));
        a.transport.accepted(plain(a2));
        a.dial(plain(a1));
        b.dial(plain(b2));
        // Who hears of both dials, and in which order, is left to chance; in the end they speak over one link.
        let (mut heard_a, mut heard_b) = (None, None);
        while heard_a.is_none() || heard_b.is_none() {
            a.transport.send(b.me, frame(1, 64));
            b.transport.send(a.me, frame(2, 64));
            tokio::select! {
                event = a.next() => if let LinkEvent::Frame { frame, .. } = event { heard_a = Some(frame); },
                event = b.next() => if let LinkEvent::Frame { frame, .. } = event { heard_b = Some(frame); },
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
        assert_eq!((heard_a, heard_b), (Some(frame(2, 64)), Some(frame(1, 64))));
    }
}

#[tokio::test]
async fn a_certificate_of_another_name_is_refused_and_both_hear_why() {
    let (mut a, b) = (Rig::start("n1").await, Rig::start("n2").await);
    let (here, there) = duplex(PIPE_BYTES);
    b.transport.accepted(PeerStream::new(there, Some(vec!["n3".to_owned()])));
    a.dial(PeerStream::new(here, Some(vec!["n2".to_owned()])));
    let why = a.why_not_reached().await;
    assert!(why.contains("calls itself n1 shows the certificate of n3"), "{why}");
}

#[tokio::test]
async fn a_node_that_reaches_itself_is_told_so() {
    let mut a = Rig::start("n1").await;
    let (here, there) = duplex(PIPE_BYTES);
    a.transport.accepted(plain(there));
    a.dial(plain(here));
    assert_eq!(a.why_not_reached().await, "this node itself answers there");
}

#[tokio::test]
async fn garbage_in_place_of_a_peer_ends_that_stream_and_no_other() {
    let (mut a, mut b) = pair().await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &16_777_216_u64.to_be_bytes()] {
        let (here, mut there) = duplex(PIPE_BYTES);
        a.dial(plain(here));
        there.write_all(garbage).await.unwrap();
        let why = a.why_not_reached().await;
        assert_eq!(why, "the connection ended");
    }
    a.transport.send(b.me, frame(1, 64));
    assert_eq!(b.frame().await.0, a.me);
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_closed_in_time() {
    let mut a = Rig::start("n1").await;
    let (here, mut there) = duplex(PIPE_BYTES);
    a.dial(plain(here));
    assert_eq!(a.why_not_reached().await, "it did not greet in time");
    let mut said = Vec::new();
    there.read_to_end(&mut said).await.unwrap();
}

#[tokio::test]
async fn garbage_and_frames_of_16_mib_after_the_handshake_end_that_link_and_no_other() {
    let (mut a, mut b) = (Rig::start("n1").await, Rig::start("n2").await);
    let mut c = Rig::start("n3").await;
    link(&mut c, &mut b).await;
    for garbage in [&[0x77; 64][..], &16_777_216_u64.to_be_bytes()] {
        let (here, mut wire) = duplex(PIPE_BYTES);
        let (mut other_wire, there) = duplex(PIPE_BYTES);
        let (cut, mut cut_now) = tokio::sync::oneshot::channel::<Vec<u8>>();
        // a wire that can be tapped; what is put on it comes between two frames, as nobody speaks then
        let tapped = tokio::spawn(async move {
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut wire, &mut other_wire) => {}
                garbage = &mut cut_now => other_wire.write_all(&garbage.unwrap()).await.unwrap(),
            }
            (wire, other_wire)
        });
        b.transport.accepted(plain(there));
        a.dial(plain(here));
        a.up().await;
        b.up().await;
        cut.send(garbage.to_vec()).unwrap();
        let ends = tapped.await.unwrap();
        assert!(matches!(b.next().await, LinkEvent::Down { peer, .. } if peer == a.me));
        drop(ends);
        assert!(matches!(a.next().await, LinkEvent::Down { .. }));
    }
    c.transport.send(b.me, frame(1, 64));
    assert_eq!(b.frame().await.0, c.me);
}

#[tokio::test]
async fn another_run_of_a_node_is_not_kept_out_by_its_ghost() {
    let (mut a, b) = pair().await;
    // `b` is frozen rather than gone: its stream stays open
    let mut again = Rig::start("n2").await;
    link(&mut again, &mut a).await;
    a.transport.send(b.me, frame(1, 64));
    a.transport.send(again.me, frame(2, 64));
    assert_eq!(again.frame().await.1, frame(2, 64));
}

#[tokio::test]
async fn a_dial_that_fails_is_told_with_its_reason() {
    let mut a = Rig::start("n1").await;
    let refused = NotReached { refused: true, why: "connection refused".to_owned() };
    a.pipes.0.lock().unwrap().push(Err(refused));
    a.transport.dial(address());
    let expected = LinkEvent::NotReached {
        address: address(),
        refused: true,
        misfit: false,
        why: "connection refused".to_owned(),
    };
    assert_eq!(a.next().await, expected);
}
