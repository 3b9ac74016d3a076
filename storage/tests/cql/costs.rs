//! What calls cost, in statements counted on the wire: the table in the README, and that it stays so.

use loadtest::proxy::Proxy;
use protocol::{Epoch, Kind, Seq, push::Marks};
use storage::{
    Store,
    cql::Settings,
    directory::MarkUpdate,
    log::{Claimed, Lane, Range},
};

use crate::{
    common::{
        Log, VIEW, conversation, events, ids, incarnation, node, stores, user,
        views::{after, emptied},
    },
    rig::{ALL, fill},
};

/// A store behind a wire that counts.
struct Counted {
    wire: Proxy,
    store: Store,
}

impl Counted {
    async fn open() -> Counted {
        ids::refresh();
        let near = stores::cql_settings();
        let wire = Proxy::start_cql(&near.nodes[0], 1).await.unwrap();
        let store = stores::on_cql(&Settings { nodes: vec![wire.address().to_string()], ..near }).await;
        Counted { wire, store }
    }

    async fn of<T>(&self, call: impl Future<Output = T>) -> u64 {
        let before = self.wire.statements();
        call.await;
        self.wire.statements() - before
    }
}

#[tokio::test]
async fn what_nodes_tell_each_other_costs_what_the_readme_says() {
    let _view = VIEW.lock().await;
    let counted = Counted::open().await;
    let cluster = counted.store.cluster.clone().unwrap();
    let view = after(&emptied(&*cluster).await, &[1]);
    let change = async || cluster.change(&view).await.unwrap();
    assert_eq!(counted.of(change()).await, 1, "change");
    assert_eq!(counted.of(change()).await, 2, "change that is refused");
    assert_eq!(counted.of(async { cluster.view().await.unwrap() }).await, 1, "view");
    assert_eq!(counted.of(async { cluster.decided_view().await.unwrap() }).await, 1, "decided view");
    assert_eq!(counted.of(async { cluster.beat(&node(1), incarnation(1), 1).await.unwrap() }).await, 1, "beat");
    assert_eq!(counted.of(async { cluster.slots(&node(1)).await.unwrap() }).await, 1, "slots");
    let conversations: Vec<_> = (0..=200).map(conversation).collect();
    let note = async |n: usize| cluster.note(incarnation(1), 1, &conversations[..n]).await.unwrap();
    for (n, statements) in [(0, 0), (1, 1), (200, 1), (201, 2)] {
        assert_eq!(counted.of(note(n)).await, statements, "note of {n}");
    }
    assert_eq!(counted.of(async { cluster.noted(incarnation(1), 1).await.unwrap() }).await, 1, "notes of 201");
}

#[tokio::test]
async fn p7_a_call_costs_what_the_readme_says() {
    let counted = Counted::open().await;
    let Store { log: logs, directory, .. } = &counted.store;
    let mut log = Log::create(&counted.store, 1, Kind::Group, &[1, 2, 3]).await;
    fill(&mut log, 500, true).await;
    let head = log.head;

    let post = [events::post(head.0 + 1, log.posts + 1, 1, "x")];
    let append = logs.append(log.c, Epoch(1), head, head, &post);
    assert_eq!(counted.of(async { append.await.unwrap() }).await, 1, "append");
    assert_eq!(counted.of(async { logs.follow(log.c, &post).await.unwrap() }).await, 2, "follow of a post without cid");
    assert_eq!(counted.of(async { logs.standing(log.c).await.unwrap() }).await, 1, "standing");
    let claim = async {
        let claimed = logs.claim(log.c, incarnation(2), None).await.unwrap();
        assert!(matches!(claimed, Claimed::Claimed(_)));
    };
    assert_eq!(counted.of(claim).await, 4, "claim");
    let page = Range { lane: Lane::Posts, newest: true, limit: 50, ..ALL };
    assert_eq!(counted.of(async { logs.read(log.c, page).await.unwrap() }).await, 1, "newest page");
    let older = Range { before: Some(Seq(200)), ..page };
    assert_eq!(counted.of(async { logs.read(log.c, older).await.unwrap() }).await, 1, "older page");
    let since = Range { after: Seq(450), limit: 100, ..ALL };
    assert_eq!(counted.of(async { logs.read(log.c, since).await.unwrap() }).await, 2, "sync");
    let nothing = Range { after: Seq(501), ..since };
    assert_eq!(counted.of(async { logs.read(log.c, nothing).await.unwrap() }).await, 3, "sync of nothing");
    assert_eq!(counted.of(async { directory.membership(log.c, user(1)).await.unwrap() }).await, 3, "membership");
    assert_eq!(counted.of(async { directory.list(user(1)).await.unwrap() }).await, 3, "list of one");
    let mark = |read: u64| [MarkUpdate { user: user(2), marks: Marks { read: Seq(read), delivered: Seq(read) } }];
    assert_eq!(counted.of(async { directory.mark(log.c, &mark(400)).await.unwrap() }).await, 5, "mark");
    assert_eq!(counted.of(async { directory.mark(log.c, &mark(501)).await.unwrap() }).await, 4, "mark at the head");
    assert_eq!(counted.of(async { directory.mark(log.c, &mark(300)).await.unwrap() }).await, 2, "mark that stands");
}
