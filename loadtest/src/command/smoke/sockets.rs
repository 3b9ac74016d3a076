//! The verbs, with what the other side is told.

use std::time::Duration;

use hyper::Method;
use loadtest::{
    Client, Socket,
    client::{Failed, Push},
    rest::Call,
    socket::Upgrade,
};
use protocol::{
    ClientId, Code, ConversationId, Post, Seq,
    event::View,
    push::{HistoryPage, PresenceStates, Sent, Synced},
    request::{Auth, Hello, Hist, ListWindow, Mark, Page, Pres, Presence, Send, Sync, Target, Typ, Verb, Watch},
    rest::SignedIn,
};
use serde::de::IgnoredAny;

use super::{Context, Wrong, ensure, equal, refused_as};
use crate::command::crowd;

/// How long a push may take.
const SOON: Duration = Duration::from_secs(5);

pub(super) async fn check(x: &mut Context, c: ConversationId) {
    strangers(x).await;
    let alice = connect(x, &x.alice.clone(), 0).await;
    let alice = x.checks.note("hello", alice);
    let desk = connect(x, &x.alice.clone(), 2).await.ok();
    let bob = connect(x, &x.bob.clone(), 0).await.ok();
    let carol = connect(x, &x.carol.clone(), 0).await.ok();
    let (Some(alice), Some(mut desk), Some(mut bob), Some(carol)) = (alice, desk, bob, carol) else { return };
    positions(x, c, &alice, &desk, &bob).await;
    posts(x, c, &alice, &mut desk, &mut bob, &carol).await;
    marks(x, c, &alice, &mut bob).await;
    volatile(x, c, &alice, &mut bob).await;
    let token = x.alice.tokens.access_token.clone();
    let auth = alice.request::<IgnoredAny>(Verb::Auth(Auth { token })).await;
    x.checks.note("auth", said(auth));
    replaced(x, alice).await;
    for client in [desk, bob, carol] {
        client.close().await;
    }
}

async fn connect(x: &Context, who: &SignedIn, device: usize) -> Result<Client, Wrong> {
    let token = Some(who.tokens.access_token.clone());
    let hello = Hello { token, device: Some(crowd::device(device)), ..Hello::default() };
    let client = Client::connect(&x.target, hello, None).await.map_err(|e| e.to_string())?;
    equal("user", &client.welcome.user, &who.user.id)?;
    equal("session", &client.welcome.session, &who.session)?;
    ensure(client.welcome.limits.inflight > 0 && client.welcome.ping_ms > 0, "limits are missing")?;
    Ok(client)
}

fn said<T>(result: Result<T, Failed>) -> Result<T, Wrong> {
    result.map_err(|failed| failed.to_string())
}

/// What is said before anybody knows who speaks.
async fn strangers(x: &mut Context) {
    for (check, frame, code) in [
        ("a first frame that is not hello", r#"{"t":"sync","id":1,"d":{}}"#, 4500),
        ("a forged token", r#"{"t":"hello","id":1,"d":{"token":"a.b.c"}}"#, 4501),
    ] {
        let mut result = Err("cannot connect".to_owned());
        if let Ok(mut socket) = Socket::connect(&x.target, &Upgrade::default()).await {
            socket.send_text(frame).await.ok();
            result = match socket.expect(SOON, |_| false).await {
                Err(loadtest::socket::Ended::Closed { code: got, .. }) => equal("close code", &got, &code),
                other => Err(format!("{other:?}, expected close code {code}")),
            };
        }
        x.checks.note(check, result);
    }
}

async fn positions(x: &mut Context, c: ConversationId, alice: &Client, desk: &Client, bob: &Client) {
    let list = ListWindow { limit: 20, cursor: None };
    let sync = Sync { list, have: [(c, Seq(0))].into() };
    let synced = said(alice.request::<Synced>(Verb::Sync(sync.clone())).await);
    let complete = synced.and_then(|synced| {
        let item = synced.conversations.iter().find(|item| item.id == c).ok_or("the group is not in it")?;
        let seqs: Vec<u64> = item.events.iter().map(|event| event.seq().0).collect();
        equal("seqs", &seqs, &(1..=item.head.0).collect())?;
        ensure(!item.more && item.gap.is_none(), "more or gap in a short log")
    });
    x.checks.note("sync: everything missed", complete);
    for client in [desk, bob] {
        client.request::<Synced>(Verb::Sync(sync.clone())).await.ok();
    }
    let after = Page { after: Some(Seq(0)), limit: Some(1), ..Page::default() };
    let page = said(alice.request::<HistoryPage>(Verb::Hist(Hist { c, page: after })).await);
    let page =
        page.and_then(|page| equal("messages", &page.messages.len(), &1).and_then(|()| ensure(page.more, "no more")));
    x.checks.note("hist: a page of one", page);
    let both = Page { after: Some(Seq(0)), before: Some(Seq(9)), ..Page::default() };
    let both = alice.request::<IgnoredAny>(Verb::Hist(Hist { c, page: both })).await;
    x.checks.note("hist: two bounds", refused_as(both, Code::BadField));
    let again = alice.request::<IgnoredAny>(Verb::Hello(Hello::default())).await;
    x.checks.note("hello: a second one", refused_as(again, Code::BadFrame));
}

async fn posts(
    x: &mut Context, c: ConversationId, alice: &Client, desk: &mut Client, bob: &mut Client, carol: &Client,
) {
    let cid = ClientId::try_from("smoke-ws-1".to_owned()).expect("short and printable");
    let post = Post { text: Some("مرحبا".into()), ..Post::default() };
    let send = Send { c, cid: cid.clone(), base: None, post };
    let sent = said(alice.request::<Sent>(Verb::Send(send.clone())).await);
    let Some(sent) = x.checks.note("send", sent.and_then(|s| equal("dup", &s.dup, &false).map(|()| s))) else { return };
    for (who, client) in [("the other member", bob), ("the sender's other device", desk)] {
        let told = client.expect(SOON, |push| match push {
            Push::Event(View::Post(post)) if post.seq == sent.seq => Some(post),
            _ => None,
        });
        let told = told.await.map_err(|e| e.to_string()).and_then(|got| {
            equal("text", &got.post, &send.post)?;
            equal("cid", &got.cid.as_ref(), &Some(&cid))?;
            equal("post_no and at", &(got.post_no, got.at), &(sent.post_no, sent.at))
        });
        x.checks.note(&format!("send: {who} is told"), told);
    }
    let again = said(alice.request::<Sent>(Verb::Send(send.clone())).await);
    let same = again.and_then(|again| equal("answer", &again, &Sent { dup: true, ..sent }));
    x.checks.note("send: the same cid again", same);
    let mut other = send.clone();
    other.post.text = Some("other".into());
    let other = alice.request::<IgnoredAny>(Verb::Send(other)).await;
    x.checks.note("send: the same cid, another text", refused_as(other, Code::Conflict));
    let outside = carol.request::<IgnoredAny>(Verb::Send(send.clone())).await;
    x.checks.note("send: not a member", refused_as(outside, Code::NotFound));
    let nowhere = Send { c: ConversationId([0; 16]), ..send };
    let nowhere = alice.request::<IgnoredAny>(Verb::Send(nowhere)).await;
    x.checks.note("send: no such conversation", refused_as(nowhere, Code::NotFound));
    for verb in ["edit", "del", "react", "pin", "dance"] {
        let mut socket = match Socket::connect(&x.target, &Upgrade::default()).await {
            Ok(socket) => socket,
            Err(_) => continue,
        };
        let token = Some(x.bob.tokens.access_token.clone());
        let hello = Hello { token, device: Some(crowd::device(7)), ..Hello::default() };
        socket.send_text(Verb::Hello(hello).encode(Some(1))).await.ok();
        socket.send_text(format!(r#"{{"t":"{verb}","id":2,"d":{{}}}}"#)).await.ok();
        let answer = socket.expect(SOON, |frame| frame.id == Some(2)).await.map_err(|e| e.to_string());
        let refused = answer.and_then(|frame| ensure(frame.is("err") && frame.d.contains("unknown_type"), frame.d));
        x.checks.note(&format!("{verb}: no such verb"), refused);
    }
}

async fn marks(x: &mut Context, c: ConversationId, alice: &Client, bob: &mut Client) {
    let head = said(alice.request::<HistoryPage>(Verb::Hist(Hist { c, page: Page::default() })).await);
    let Some(head) = x.checks.note("hist: the newest page", head).map(|page| page.head) else { return };
    let open = said(bob.request::<IgnoredAny>(Verb::Open(Target { c })).await);
    x.checks.note("open", open);
    let ack = said(bob.request::<IgnoredAny>(Verb::Ack(Mark { c, seq: head })).await);
    x.checks.note("ack", ack);
    let me = x.alice.user.id;
    let read = said(alice.request::<IgnoredAny>(Verb::Read(Mark { c, seq: head })).await);
    x.checks.note("read", read);
    let told = bob.expect(SOON, |push| match push {
        Push::Receipts(receipts) if receipts.c == c => receipts.marks.get(&me).copied(),
        _ => None,
    });
    let told = told.await.map_err(|e| e.to_string());
    let whole =
        told.and_then(|marks| ensure(marks.read <= marks.delivered && marks.delivered <= head, format!("{marks:?}")));
    x.checks.note("read: the others are told", whole);
    let lower = said(bob.request::<IgnoredAny>(Verb::Read(Mark { c, seq: Seq(1) })).await);
    x.checks.note("read: lower than now changes nothing", lower);
    let above = bob.request::<IgnoredAny>(Verb::Read(Mark { c, seq: head.next() })).await;
    x.checks.note("read: above the head", refused_as(above, Code::BadField));
}

async fn volatile(x: &mut Context, c: ConversationId, alice: &Client, bob: &mut Client) {
    let typing = said(alice.request::<IgnoredAny>(Verb::Typ(Typ { c, on: true })).await);
    x.checks.note("typ", typing);
    let me = x.alice.user.id;
    let seen = bob.expect(SOON, |push| matches!(push, Push::Typing(t) if t.user == me && t.on).then_some(())).await;
    x.checks.note("typ: who has it open is told", seen.map_err(|e| e.to_string()));
    let states = said(bob.request::<PresenceStates>(Verb::Watch(Watch { users: vec![me] })).await);
    let online = states.and_then(|states| {
        let state = states.presence.get(&me).ok_or("not in the answer")?;
        equal("state", &state.state, &Presence::Online)
    });
    x.checks.note("watch: the state now", online);
    let away = said(alice.request::<IgnoredAny>(Verb::Pres(Pres { state: Presence::Away })).await);
    x.checks.note("pres: away", away);
    let call = Call::new(Method::GET, format!("presence?users={me}")).by(&x.bob.tokens.access_token);
    let known = |states: &PresenceStates| ensure(states.presence.contains_key(&me), "not in it");
    x.call("presence: of somebody online", call, 200, known).await;
    let close = said(bob.request::<IgnoredAny>(Verb::Close(Target { c })).await);
    x.checks.note("close", close);
}

/// The same device once more: the older socket goes.
async fn replaced(x: &mut Context, mut older: Client) {
    let newer = connect(x, &x.alice.clone(), 0).await;
    let ended = older.expect(SOON, |push| match push {
        Push::Ended(ended) => Some(ended),
        _ => None,
    });
    let result = match (newer, ended.await) {
        (Ok(_), Ok(loadtest::socket::Ended::Closed { code, .. })) => equal("close code", &code, &4505),
        (Ok(_), other) => Err(format!("{other:?}, expected close code 4505")),
        (Err(e), _) => Err(e),
    };
    x.checks.note("hello: the same device replaces its older socket", result);
}
