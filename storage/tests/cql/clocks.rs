//! A server whose clock is ten minutes ahead, and comes back on the same data ten minutes behind: an operator is told, and
//! whatever is written later still counts. A plain write without a stamp of its own would carry the server's time, and lose.

use std::time::{Duration, Instant};

use loadtest::servers::Server;
use protocol::{Epoch, Kind, Millis, Role, Seq, push::Marks};
use storage::{
    Store,
    accounts::{Session, SigningKey, User, UserUpdate},
    cql::{Settings, inspect},
    directory::MarkUpdate,
    log::{Appended, Claimed},
};

use crate::{
    common::{Log, events, ids, incarnation, session_id, stores, user},
    keyspace::settings,
    rig::{ALL, seqs},
};

const MINUTES_10: i64 = 600;
const NOBODY: &str = "00000000-0000-0000-0000-000000000001";
/// More than what a busy machine needs to find a server again.
const BACK_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_after_a_clock_was_set_back_by_minutes_still_counts() {
    ids::refresh();
    let mut server = tokio::task::block_in_place(|| Server::cassandra_off_by(MINUTES_10));
    let nodes = vec![server.address().to_owned()];
    let settings = Settings { nodes, keyspace: "clocks".into(), username: None, password: None, ..settings() };
    let store = stores::on_cql(&settings).await;
    told(&settings, "ahead of").await;
    let mut log = before(&store).await;
    // such a write the product never makes: it is stamped with the server's time
    let plain = |at| format!("UPDATE clocks.last_seen SET at = {at} WHERE user_id = {NOBODY}");
    server.cql().run(&plain(1)).unwrap();

    tokio::task::block_in_place(|| server.set_clock(-MINUTES_10));
    let begun = Instant::now();
    while let Err(error) = store.health.ping().await {
        assert!(begun.elapsed() < BACK_WITHIN, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    told(&settings, "behind").await;
    server.cql().run(&plain(2)).unwrap();
    let kept = server.cql().run(&format!("SELECT at FROM clocks.last_seen WHERE user_id = {NOBODY}")).unwrap();
    assert_eq!(kept, [[1_u64.to_be_bytes()]], "the clock is not the one by which this server stamps");

    conversations(&store, &mut log).await;
    accounts(&store).await;
}

/// What `starling check` says of the clocks: the server's, by how much, and what to do.
async fn told(settings: &Settings, how: &str) {
    let findings = inspect(settings).await;
    let clocks = findings.iter().find(|finding| finding.name == "clocks").unwrap();
    let said = clocks.outcome.clone().unwrap_err();
    let rest = said.strip_prefix(&format!("the clock of {} is ", settings.nodes[0])).unwrap_or_default();
    let (seconds, rest) = rest.split_once(" s ").unwrap_or_default();
    let seconds: i64 = seconds.parse().unwrap_or_default();
    assert!((seconds - MINUTES_10).abs() <= 5 && rest.starts_with(how) && rest.ends_with("(NTP)"), "{said}");
}

fn account(n: u8) -> User {
    User {
        id: user(n),
        username: format!("User{n}"),
        display_name: "early".into(),
        email: None,
        password_hash: "early".into(),
        created_at: Millis(1000),
        banned_at: None,
        deleted_at: None,
    }
}

fn key(n: u8) -> SigningKey {
    SigningKey { kid: format!("k{n}"), sealed: vec![n], public: vec![n], created_at: Millis(u64::from(n)) }
}

fn mark(read: u64) -> MarkUpdate {
    MarkUpdate { user: user(2), marks: Marks { read: Seq(read), delivered: Seq(read) } }
}

/// Everything that is changed later, while the clock is ahead.
async fn before(store: &Store) -> Log {
    let mut log = Log::create(store, 1, Kind::Group, &[1, 2, 3, 4]).await;
    log.title("early").await;
    log.role(2, Role::Admin).await;
    log.remove(3).await;
    log.post(1, "early").await;
    store.directory.mark(log.c, &[mark(3)]).await.unwrap();

    for n in [1, 2] {
        store.accounts.create_user(&account(n), &ids::name(&format!("user{n}"))).await.unwrap();
        let ban = UserUpdate { banned_at: Some(Some(Millis(5))), ..UserUpdate::default() };
        assert!(store.accounts.update_user(user(n), &ban).await.unwrap());
        store.accounts.add_signing_key(&key(n)).await.unwrap();
        let session = Session {
            id: session_id(n),
            user: user(1),
            device: None,
            device_name: None,
            generation: 1,
            created_at: Millis(1000),
            last_seen_at: Millis(1000),
            expires_at: Millis(5000),
            revoked_at: None,
        };
        store.sessions.create_session(&session).await.unwrap();
    }
    log
}

/// The log goes on under its owner, then under the next one; what follows from it and what people mark does, too.
async fn conversations(store: &Store, log: &mut Log) {
    log.post(2, "late").await;
    log.title("late").await;
    log.role(2, Role::Member).await;
    log.join(&[3]).await;
    log.remove(4).await;
    assert_eq!(store.directory.mark(log.c, &[mark(7)]).await.unwrap(), [mark(7).marks]);
    assert_eq!(store.directory.mark(log.c, &[mark(2)]).await.unwrap(), [mark(7).marks], "marks never go back");

    let Claimed::Claimed(tenancy) = store.log.claim(log.c, incarnation(2), None).await.unwrap() else { panic!() };
    assert_eq!((tenancy.epoch, tenancy.head.seq), (Epoch(2), log.head));
    let next = [events::post(log.head.0 + 1, log.posts + 1, 1, "last")];
    let deposed = store.log.append(log.c, log.epoch, log.head, log.head, &next).await.unwrap();
    assert!(matches!(deposed, Appended::Fenced { epoch: Epoch(2), .. }), "{deposed:?}");
    let applied = store.log.append(log.c, tenancy.epoch, log.head, log.head, &next).await.unwrap();
    assert!(matches!(applied, Appended::Applied { .. }), "{applied:?}");
    store.log.follow(log.c, &next).await.unwrap();
    assert_eq!(seqs(store, log, ALL).await, (1..=log.head.0 + 1).collect::<Vec<_>>());

    let conversation = store.directory.conversation(log.c).await.unwrap().unwrap();
    assert_eq!((conversation.title.as_deref(), conversation.members), (Some("late"), 3));
    let members = store.directory.members(log.c, None, 9).await.unwrap();
    assert_eq!(members.iter().map(|member| member.user).collect::<Vec<_>>(), [user(1), user(2), user(3)]);
    assert_eq!((members[1].role, members[1].marks), (Role::Member, mark(7).marks));
    assert_eq!(store.directory.list(user(4)).await.unwrap(), []);
    assert_eq!(store.directory.list(user(3)).await.unwrap().len(), 1);
}

/// Changes of users, whatever is written twice of sessions, and the end of a key.
async fn accounts(store: &Store) {
    let change = UserUpdate {
        display_name: Some("late".into()),
        password_hash: Some("late".into()),
        banned_at: Some(None),
        deleted_at: None,
    };
    assert!(store.accounts.update_user(user(1), &change).await.unwrap());
    let changed = User { display_name: "late".into(), password_hash: "late".into(), ..account(1) };
    assert_eq!(store.accounts.user(user(1)).await.unwrap(), Some(changed));
    let delete = UserUpdate { deleted_at: Some(Millis(9)), ..UserUpdate::default() };
    assert!(store.accounts.update_user(user(2), &delete).await.unwrap());
    assert_eq!(store.accounts.existing(&[user(1), user(2)]).await.unwrap(), [user(1)]);

    store.sessions.rotated(session_id(1), 2, Millis(2000), Millis(6000)).await.unwrap();
    let rotated = store.sessions.session(session_id(1)).await.unwrap().unwrap();
    assert_eq!((rotated.generation, rotated.expires_at), (2, Millis(6000)));
    store.sessions.revoke(session_id(2), Millis(2000)).await.unwrap();
    let left = store.sessions.sessions_of(user(1)).await.unwrap();
    assert_eq!(left.iter().map(|session| session.id).collect::<Vec<_>>(), [session_id(1)]);
    assert_eq!(store.accounts.drop_signing_keys(Millis(99)).await.unwrap(), 1);
    assert_eq!(store.accounts.signing_keys().await.unwrap(), [key(2)]);
}
