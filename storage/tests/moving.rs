//! Moving house: what was in one store is in the other afterwards, whatever their kinds, and what is not whole never
//! gets in.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use common::{Log, cid, conversation, events, incarnation, stores::cql_settings, user};
use loadtest::servers;
use protocol::{Body, DeviceId, Kind, Millis, Role, Seq, SessionId, push::Marks};
use storage::{
    History, Settings, Store, TokenStore,
    accounts::{Session, SignIn, SigningKey, User, UserCreated, UserUpdate},
    cql,
    directory::MarkUpdate,
    memory::{Memory, faults},
    moving::{Counts, Import, MoveError, export, import},
    redis,
    tokens::{Rotated, Rotation},
};

mod common;

/// Later than any clock, so that a server that looks at its own finds nothing ended.
const NOW: Millis = Millis(4_000_000_000_000);
const LATER: Millis = Millis(NOW.0 + 1_000_000);

fn how(path: &Path) -> Import<'_> {
    Import { path, resume: false, owner: incarnation(9), now: NOW }
}

fn session(n: u8, of: u8, revoked_at: Option<Millis>) -> Session {
    let device = Some(DeviceId::try_from(format!("device {n}")).unwrap());
    Session {
        id: SessionId([n; 16]),
        user: user(of),
        device,
        device_name: None,
        generation: 1,
        created_at: Millis(NOW.0 - 1000),
        last_seen_at: Millis(NOW.0 - 500),
        expires_at: LATER,
        revoked_at,
    }
}

fn rotation(n: u8, presented: u64) -> Rotation {
    let hash = |generation: u64| [n ^ u8::try_from(generation).unwrap(); 32];
    Rotation {
        family: SessionId([n; 16]),
        presented,
        presented_hash: hash(presented),
        successor_hash: hash(presented + 1),
        now: NOW,
        expires_at: LATER,
        known: 1,
        grace_ms: 10_000,
    }
}

async fn fill_accounts(store: &Store) {
    for n in [1, 2, 3, 4] {
        let name = format!("Bird {n}");
        let row = User {
            id: user(n),
            username: name.clone(),
            display_name: format!("„{name}“\n\u{1F426}"),
            email: (n == 1).then(|| "one@birds.example".to_owned()),
            password_hash: "$argon2id$v=19$…".into(),
            created_at: Millis(u64::from(n)),
            banned_at: (n == 2).then_some(NOW),
            deleted_at: None,
        };
        let created = store.accounts.create_user(&row, &name.to_lowercase()).await.unwrap();
        assert_eq!(created, UserCreated::Created);
    }
    let gone = UserUpdate { deleted_at: Some(NOW), ..UserUpdate::default() };
    assert!(store.accounts.update_user(user(4), &gone).await.unwrap());
    for (kid, created_at) in [("k1", Millis(1)), ("k2", Millis(2))] {
        let key = SigningKey { kid: kid.into(), sealed: vec![0, 255, 7], public: vec![8; 32], created_at };
        store.accounts.add_signing_key(&key).await.unwrap();
    }
    for (n, of, revoked_at) in [(1, 1, None), (2, 1, Some(Millis(NOW.0 - 10))), (3, 3, None), (4, 3, Some(Millis(5)))] {
        store.sessions.create_session(&session(n, of, revoked_at)).await.unwrap();
        if revoked_at.is_none() {
            let first = rotation(n, 1).presented_hash;
            store.tokens.begin_family(SessionId([n; 16]), first, NOW, LATER).await.unwrap();
        }
    }
    const DAY_MS: u64 = 86_400_000;
    let sign_ins = [
        (1, 1, "192.0.2.1", NOW.0 - 1000),
        (2, 1, "2001:db8::1", NOW.0 - 1000), // at one moment: stores have orders of their own
        (0xf3, 1, "192.0.2.1", NOW.0 - 1000),
        (5, 1, "192.0.2.7", NOW.0 - 90 * DAY_MS), // of a session long forgotten
        (3, 3, "198.51.100.9", NOW.0 - 1000),
        (4, 3, "198.51.100.9", NOW.0),
    ];
    for (n, of, address, at) in sign_ins {
        let device_name = (n == 2).then(|| "„phone“ \u{1F4F1}".to_owned());
        let (session, address) = (SessionId([n; 16]), address.parse().unwrap());
        let sign_in = SignIn { user: user(of), at: Millis(at), session, address, device_name };
        store.sessions.note_sign_in(&sign_in).await.unwrap();
    }
    assert_eq!(store.tokens.rotate(rotation(1, 1)).await.unwrap(), Rotated::Rotated);
    store.sessions.rotated(SessionId([1; 16]), 2, NOW, LATER).await.unwrap();
}

async fn fill_conversations(store: &Store) {
    let mut group = Log::create(store, 1, Kind::Group, &[1, 2]).await;
    group.title("Ünïcode \u{0} \"quoted\"").await;
    // past the end of a bucket, in batches that do not touch its border
    while group.head.0 < 4200 {
        let first = group.head.0 + 1;
        let n = (4096 - first % 4096).min(50);
        let post = |i: u64| {
            let mut post = events::post(first + i, group.posts + 1 + i, 2, &format!("post {i}"));
            post.cid = Some(cid(&format!("cid {}", first + i)));
            post
        };
        let posts = (0..n).map(post).collect();
        group.append(posts).await;
    }
    group.join(&[3]).await;
    group.role(3, Role::Admin).await;
    group.remove(2).await;
    group.join(&[2]).await;
    group.leave(3, None).await;
    // of a later release: two kinds it adds, and a post in another envelope
    for (kind, bytes) in [(77, vec![2, b'{', b'}']), (0, vec![2, 0xff, 0xfe]), (78, vec![9])] {
        let body = Body::Other { kind, bytes };
        let post_no = group.posts + u64::from(kind == 0);
        group.append(vec![events::event(group.head.0 + 1, post_no, 1, body)]).await;
    }
    let marks =
        |user, read, delivered| MarkUpdate { user, marks: Marks { read: Seq(read), delivered: Seq(delivered) } };
    let updates = [marks(user(1), 17, 4100), marks(user(3), 4201, 4203)];
    store.directory.mark(group.c, &updates).await.unwrap();
    let mut direct = Log::create(store, 2, Kind::Direct, &[1, 3]).await;
    direct.post(3, "hello").await;
    for n in 3..40 {
        Log::create(store, n, Kind::Channel, &[1, n]).await;
    }
}

async fn filled(store: Store) -> Store {
    fill_accounts(&store).await;
    fill_conversations(&store).await;
    store
}

/// The lines but for the first and the last, whatever their order.
fn lines(path: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines[1..lines.len() - 1].iter().cloned().collect()
}

fn same(a: &Path, b: &Path) {
    let (a, b) = (lines(a), lines(b));
    let short = |line: &&String| line.chars().take(300).collect::<String>();
    let (missing, extra): (Vec<_>, Vec<_>) = (
        a.difference(&b).map(|line| short(&line)).take(3).collect(),
        b.difference(&a).map(|line| short(&line)).take(3).collect(),
    );
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:#?}, extra {extra:#?}");
}

/// Out of `from` and into each store in turn; each file holds what the first did.
async fn through(from: Store, stores: Vec<Store>, dir: &Path) -> Counts {
    let path = |n: usize| dir.join(format!("{n}.jsonl"));
    let counts = export(&from, &path(0), incarnation(8), NOW).await.unwrap();
    for (n, store) in stores.iter().enumerate() {
        assert_eq!(import(store, how(&path(n))).await.unwrap(), counts);
        assert_eq!(export(store, &path(n + 1), incarnation(8), NOW).await.unwrap(), counts);
        same(&path(0), &path(n + 1));
    }
    counts
}

#[tokio::test]
async fn everything_moves_from_sqlite_to_memory_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| Store::open_sqlite(&dir.path().join(name)).unwrap());
    let counts = through(filled(old).await, vec![Store::memory(), new.clone()], dir.path()).await;
    let expected = Counts {
        signing_keys: 2,
        users: 4,
        sign_ins: 6,
        sessions: 4,
        families: 2,
        conversations: 39,
        events: 4210 + 2 + 37,
        members: 3 + 2 + 37 * 2,
    };
    assert_eq!(counts, Counts { events: counts.events, members: counts.members, ..expected });

    let rotated = async |rotation| new.tokens.rotate(rotation).await.unwrap();
    assert_eq!(rotated(rotation(1, 1)).await, Rotated::Again, "a repeated request gets the same successor");
    assert_eq!(rotated(rotation(1, 2)).await, Rotated::Rotated, "nobody is signed out");
    assert_eq!(rotated(rotation(3, 1)).await, Rotated::Rotated);
    assert_eq!(rotated(rotation(2, 1)).await, Rotated::Unknown, "nobody is let in again");
    let revoked = new.tokens.revoked(Millis(0), NOW).await.unwrap();
    assert_eq!(revoked.into_iter().map(|(session, _)| session).collect::<Vec<_>>(), [SessionId([2; 16])]);
    let known = new.log.find(conversation(1), user(2), &cid("cid 4100")).await.unwrap().unwrap();
    assert_eq!(known.seq, Seq(4100), "a send that is repeated is recognised");
    assert_eq!(new.accounts.user_by_handle("bird 4").await.unwrap().unwrap().deleted_at, Some(NOW));
    let last = new.sessions.sign_ins(user(3), 1).await.unwrap();
    assert_eq!((last[0].session, last[0].address.to_string().as_str()), (SessionId([4; 16]), "198.51.100.9"));
}

#[tokio::test]
async fn sign_ins_that_make_a_store_forget_others_stay_behind() {
    let dir = tempfile::tempdir().unwrap();
    let [path, again] = ["1.jsonl", "2.jsonl"].map(|name| dir.path().join(name));
    let (old, new) = (filled(Store::memory()).await, Store::open_sqlite(&dir.path().join("new")).unwrap());
    // of users who have no others: the memory model forgets by user
    for (of, at) in [(2, NOW.0 + 1), (4, NOW.0 - 91 * 86_400_000)] {
        let address = "192.0.2.1".parse().unwrap();
        let sign_in =
            SignIn { user: user(of), at: Millis(at), session: SessionId([9; 16]), address, device_name: None };
        old.sessions.note_sign_in(&sign_in).await.unwrap();
    }
    let counts = export(&old, &path, incarnation(8), NOW).await.unwrap();
    assert_eq!(counts.sign_ins, 6);
    assert_eq!(import(&new, how(&path)).await.unwrap(), counts);
    export(&new, &again, incarnation(8), NOW).await.unwrap();
    same(&path, &again);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_moves_from_sqlite_to_cql_and_redis_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| Store::open_sqlite(&dir.path().join(name)).unwrap());
    let keyspace = servers::Cql::started().keyspace();
    let prefix = servers::Prefix { url: servers::redis_url(), name: keyspace.name.clone() };
    let cql = cql::Settings { keyspace: keyspace.name.clone(), ..cql_settings() };
    let redis = redis::Settings { url: prefix.url.clone(), tls_ca: None, prefix: format!("{}:", prefix.name) };
    let settings = Settings { history: History::Cql(cql), tokens: TokenStore::Redis(redis) };
    let store = Store::connect(&settings).await.unwrap();
    through(filled(old).await, vec![store.clone(), new], dir.path()).await;
    assert_eq!(store.tokens.rotate(rotation(1, 1)).await.unwrap(), Rotated::Again);
    assert_eq!(store.tokens.rotate(rotation(3, 1)).await.unwrap(), Rotated::Rotated);
    assert_eq!(store.tokens.rotate(rotation(2, 1)).await.unwrap(), Rotated::Unknown);
    let known = store.log.find(conversation(1), user(2), &cid("cid 4100")).await.unwrap().unwrap();
    assert_eq!(known.seq, Seq(4100));

    // a log whose owner died before it had written what follows
    let begun = [events::create(Kind::Group, &[1, 2])];
    store.log.create(conversation(200), incarnation(1), &begun).await.unwrap();
    let path = dir.path().join("begun.jsonl");
    let counts = export(&store, &path, incarnation(8), NOW).await.unwrap();
    assert_eq!(counts.conversations, 40);
    assert_eq!(import(&Store::memory(), how(&path)).await.unwrap(), counts);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_now_and_then_is_asked_again_until_all_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("house.jsonl");
    let counts = export(&filled(Store::memory()).await, &path, incarnation(8), NOW).await.unwrap();
    for seed in 0..5 {
        let store = Memory::with_faults(faults::seeded(seed, 200));
        assert_eq!(import(&store, how(&path)).await.unwrap(), counts, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_import_that_was_interrupted_goes_on_only_when_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("house.jsonl");
    let counts = export(&filled(Store::memory()).await, &path, incarnation(8), NOW).await.unwrap();
    for interrupted_after in [1, 5, 20, 60, 110] {
        let mut n_writes = 0;
        let store = Memory::with_faults(move |_| {
            n_writes += 1;
            // a call that takes a day is where it stood when it was interrupted
            (n_writes == interrupted_after).then_some(faults::Fault::Delay(std::time::Duration::from_secs(86_400)))
        });
        let hour = std::time::Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, import(&store, how(&path))).await.is_err());
        tokio::time::sleep(48 * hour).await;
        if interrupted_after > 5 {
            assert!(matches!(import(&store, how(&path)).await, Err(MoveError::NotEmpty(_))));
        }
        let again = Import { resume: true, owner: incarnation(10), ..how(&path) };
        assert_eq!(import(&store, again).await.unwrap(), counts);
    }
}

#[tokio::test]
async fn what_is_in_the_store_and_not_in_the_file_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("house.jsonl");
    export(&filled(Store::memory()).await, &path, incarnation(8), NOW).await.unwrap();
    let differs = async |store: &Store| {
        let again = Import { resume: true, ..how(&path) };
        import(store, again).await.unwrap_err().to_string()
    };
    let changed = Store::memory();
    import(&changed, how(&path)).await.unwrap();
    changed.sessions.create_session(&session(7, 1, None)).await.unwrap();
    assert_eq!(
        differs(&changed).await,
        "the store differs from the file: 5 sessions where there should be 4; empty the store and import again"
    );
    let changed = Store::memory();
    import(&changed, how(&path)).await.unwrap();
    let sign_in = changed.sessions.sign_ins(user(1), 1).await.unwrap().remove(0);
    changed.sessions.note_sign_in(&SignIn { at: NOW, ..sign_in }).await.unwrap();
    assert!(differs(&changed).await.contains(&format!("differs from the file: user {}", user(1))));
    let changed = Store::memory();
    import(&changed, how(&path)).await.unwrap();
    changed.sessions.revoke(SessionId([1; 16]), NOW).await.unwrap();
    assert!(differs(&changed).await.contains("session s_01010101"));
    let changed = Store::memory();
    let mut log = Log::create(&changed, 2, Kind::Direct, &[1, 3]).await;
    log.post(1, "something else").await;
    assert!(differs(&changed).await.contains("conversation c_02020202"));
}

#[tokio::test]
async fn a_file_that_is_not_whole_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("house.jsonl");
    export(&filled(Store::memory()).await, &path, incarnation(8), NOW).await.unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = whole.lines().collect();
    let n = lines.len();
    let with = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let without = |range: std::ops::Range<usize>| with(&[&lines[..range.start], &lines[range.end..]].concat());
    let swapped = with(&[&lines[..20], &[lines[21], lines[20]], &lines[22..]].concat());
    let damaged: Vec<(String, &str)> = vec![
        (String::new(), "not the beginning of an export"),
        (without(0..1), "not the beginning of an export"),
        (without(n - 1..n), "the file ends before its last line"),
        (without(n - 2..n - 1), "count or checksum differs"),
        (whole[..whole.len() - 20].to_owned(), "not a whole line"),
        (whole.replacen("post 7", "post 8", 1), "count or checksum differs"),
        (whole.replacen("\"version\":2", "\"version\":1", 1), "version 1, this release reads 2"),
        (whole.replacen("\"handle\"", "\"hantle\"", 1), "hantle"),
        (swapped, "line 21: an event out of order"),
        (format!("{whole}\n"), "line"),
        (format!("{whole}{}\n", lines[3]), "something follows the last line"),
    ];
    for (n, (text, reason)) in damaged.into_iter().enumerate() {
        let path = dir.path().join(format!("damaged {n}"));
        fs::write(&path, text).unwrap();
        let store = Store::memory();
        let refused = import(&store, how(&path)).await.unwrap_err().to_string();
        assert!(refused.contains(reason), "{n}: {refused}");
        assert!(matches!(export(&store, &dir.path().join("x"), incarnation(8), NOW).await, Err(MoveError::Empty)));
    }
    assert!(matches!(import(&Store::memory(), how(Path::new("/does/not/exist"))).await, Err(MoveError::File { .. })));
}

#[tokio::test]
async fn a_file_is_private_and_never_written_over_and_there_is_none_if_it_is_not_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("house.jsonl");
    let store = filled(Store::memory()).await;
    assert!(matches!(export(&Store::memory(), &path, incarnation(8), NOW).await, Err(MoveError::Empty)));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    export(&store, &path, incarnation(8), NOW).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = export(&store, &path, incarnation(8), NOW).await.unwrap_err().to_string();
    assert!(refused.contains("it is there already"), "{refused}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
