//! One group of as many people as a conversation takes, some hundred of them connected.

use std::time::{Duration, Instant};

use hyper::Method;
use loadtest::{Client, Device, client::Push, rest::Call};
use protocol::{
    Code, ConversationId, Millis, Seq, UserId,
    request::{ListWindow, Sync},
    rest,
};
use serde::de::IgnoredAny;
use storage::{Store, accounts::User};

use crate::rig::{PATIENCE, Part, Rig, judge, post, starter};

/// `limits.members` as it is by default.
const MEMBERS: usize = 10_000;
/// Of these, some come back after a kill; the others only listen.
const CONNECTED: usize = 200;
const DEVICES: usize = 20;

/// People who exist and never come. They are written before the node starts: to sign up ten thousand times is another
/// test's subject, and takes longer than everything here.
async fn silent(store: Store, n: usize) -> Vec<UserId> {
    let users: Vec<User> = (0..n)
        .map(|number| User {
            id: UserId((number as u128 + 1).to_be_bytes()),
            username: format!("silent{number}"),
            display_name: format!("silent{number}"),
            email: None,
            password_hash: String::new(),
            created_at: Millis(1),
            banned_at: None,
            deleted_at: None,
        })
        .collect();
    for some in users.chunks(50) {
        futures_util::future::join_all(some.iter().map(|user| create(&store, user))).await;
    }
    users.iter().map(|user| user.id).collect()
}

/// A busy server may not say in time what became of it; to create somebody again changes nothing.
async fn create(store: &Store, user: &User) {
    let begun = Instant::now();
    while let Err(error) = store.accounts.create_user(user, &user.username).await {
        assert!(begun.elapsed() < PATIENCE, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_members_of_one_group() {
    let (starter, place) = starter(&[]);
    let absent = silent(place.store().await, MEMBERS - CONNECTED).await;
    let mut rig = Rig::of(starter, place);
    let people = rig.people(CONNECTED + 1).await;
    let (outsider, people) = people.split_last().unwrap();
    let owner = &people[0].tokens.access_token;

    let begun = Instant::now();
    let c = rig.group(people).await;
    for some in absent.chunks(200) {
        rig.rest.add_members(owner, c, some.to_vec()).await.unwrap();
    }
    println!("{MEMBERS} members made in {:?}", begun.elapsed());
    let one_more = rig.rest.add_members(owner, c, vec![outsider.user.id]).await;
    assert_eq!(one_more.err().and_then(|e| e.code()), Some(Code::Conflict), "one more than limits.members");

    let begun = Instant::now();
    let listed = list(&rig, owner, c).await;
    println!("all members listed in {:?}", begun.elapsed());
    let mut expected: Vec<UserId> = people.iter().map(|user| user.user.id).chain(absent).collect();
    expected.sort_unstable();
    assert!(listed == expected, "{} of {} members are listed", listed.len(), expected.len());

    let begun = Instant::now();
    let mut head = 1 + (MEMBERS - CONNECTED).div_ceil(200) as u64;
    let (mut devices, mut listeners) = (Vec::new(), Vec::new());
    for user in &people[..DEVICES] {
        devices.push(rig.device(user, 0, rig.target()).await);
    }
    for user in &people[DEVICES..] {
        // with everything up to here, it hears what comes
        let sync = Sync { list: ListWindow::default(), have: [(c, Seq(head))].into() };
        listeners.push(rig.socket(user, sync).await);
    }
    println!("{CONNECTED} of them connected and synced in {:?}", begun.elapsed());
    let mut took = Vec::new();
    for number in 0..20 {
        let begun = Instant::now();
        let sent = devices[number % 7].send(&post(c, &format!("n{number}"), "to all"), PATIENCE).await.unwrap();
        let acked = begun.elapsed();
        head += 1;
        assert_eq!(sent.seq.0, head);
        everybody(&devices, &mut listeners, c, head).await;
        took.push((begun.elapsed(), acked));
    }
    took.sort_unstable();
    println!("send to the last of {CONNECTED} deliveries, to ack: median {:?}, longest {:?}", took[10], took[19]);

    // somebody leaves, somebody else takes the place
    let begun = Instant::now();
    let leaving = &people[CONNECTED - 1];
    let path = format!("conversations/{c}/members/{}", leaving.user.id);
    let call = Call::new(Method::DELETE, path).by(&leaving.tokens.access_token);
    rig.rest.call::<IgnoredAny>(call).await.unwrap();
    everybody(&devices, &mut listeners, c, head + 1).await;
    drop(listeners.pop());
    rig.rest.add_members(owner, c, vec![outsider.user.id]).await.unwrap();
    everybody(&devices, &mut listeners, c, head + 2).await;
    println!("one left and one came, told to all, in {:?}", begun.elapsed());

    let begun = Instant::now();
    rig.restart();
    devices[0].send(&post(c, "after", "still here"), PATIENCE).await.unwrap();
    everybody(&devices, &mut [], c, head + 3).await;
    println!("killed, back, posted and everybody told in {:?}", begun.elapsed());

    let devices = people.iter().zip(&devices).map(|(user, device)| (user.user.id, device)).collect();
    let logs = rig.settle(&[Part { c, devices }]).await;
    judge("large", &rig.history(logs));
}

async fn everybody(devices: &[Device], listeners: &mut [Client], c: ConversationId, head: u64) {
    for listener in listeners {
        let heard = |push| if let Push::Event(view) = push { (view.seq().0 == head).then_some(()) } else { None };
        listener.expect(PATIENCE, heard).await.unwrap();
    }
    for device in devices {
        assert!(device.settle(c, head, PATIENCE).await, "{} of {head}", device.position(c));
    }
}

/// All members, page by page, in the order of their ids.
async fn list(rig: &Rig, token: &str, c: ConversationId) -> Vec<UserId> {
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("conversations/{c}/members?limit=200{cursor}");
        let begun = Instant::now();
        let (_, page): (_, rest::List<rest::Member>) =
            rig.rest.call(Call::new(Method::GET, path).by(token)).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
        listed.extend(page.items.iter().map(|member| member.user));
        match page.next {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    listed.sort_unstable();
    listed
}
