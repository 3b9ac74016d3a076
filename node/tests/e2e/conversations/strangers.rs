//! G9: who is not a member learns nothing, not even that there is something; who is removed receives nothing later.

use hyper::Method;
use loadtest::rest::Call;
use serde_json::{Value, json};

use crate::house::{House, Person, cid};

const NOWHERE: &str = "c_00000000000000000000000000000000";

/// Every verb that names a conversation.
fn verbs(c: &str) -> Vec<(&'static str, Value)> {
    let mut verbs = vec![
        ("hist", json!({"c": c})),
        ("hist", json!({"c": c, "after": 0})),
        ("hist", json!({"c": c, "around": 2})),
        ("hist", json!({"c": c, "limit": 0})),
        ("send", json!({"c": c, "cid": "probe", "text": "x"})),
        ("send", json!({"c": c, "cid": "probe", "text": "another"})),
        ("send", json!({"c": c, "cid": "known", "text": "x", "base": 0})),
        ("send", json!({"c": c, "cid": "known", "text": "x", "base": 99})),
        ("send", json!({"c": c, "cid": "probe"})),
        ("typ", json!({"c": c, "on": true})),
        ("open", json!({"c": c})),
        ("close", json!({"c": c})),
        ("sync", json!({"have": {c: 0}})),
        ("sync", json!({"have": {c: 1}, "list": {"limit": 50}})),
        ("sync", json!({"have": {c: 99}})),
    ];
    for seq in [0, 1, 2, 99] {
        verbs.push(("read", json!({"c": c, "seq": seq})));
        verbs.push(("ack", json!({"c": c, "seq": seq})));
    }
    verbs
}

/// Every route that names a conversation. `user`: somebody who is in it.
fn routes(c: &str, me: &str, user: &str) -> Vec<(Method, String, Option<Value>)> {
    let at = |rest: &str| format!("conversations/{c}{rest}");
    let get = |rest: &str| (Method::GET, at(rest), None);
    let post = |rest: &str, body: Value| (Method::POST, at(rest), Some(body));
    let mut routes = vec![
        get(""),
        get("/members"),
        get("/members?limit=0"),
        get("/members?cursor=x"),
        get(&format!("/members?cursor={user}")),
        get("/messages"),
        get("/messages?after=0"),
        get("/messages?limit=0"),
        post("/messages", json!({"cid": "rest", "text": "x"})),
        post("/messages", json!({"cid": "rest", "text": "another"})),
        post("/messages", json!({"cid": "rest"})),
        post("/read", json!({"seq": 0})),
        post("/read", json!({"seq": 1})),
        post("/read", json!({"seq": 99})),
        post("/members", json!({"users": [user]})),
        post("/members", json!({"users": [me]})),
        post("/members", json!({"users": ["u_00000000000000000000000000000000"]})),
        post("/members", json!({"users": []})),
        (Method::PATCH, at(""), Some(json!({"title": "T"}))),
        (Method::PATCH, at(""), Some(json!({"title": ""}))),
        (Method::PATCH, at(""), Some(json!({}))),
    ];
    for who in [me, user, "u_00000000000000000000000000000000", "x"] {
        routes.push((Method::PATCH, at(&format!("/members/{who}")), Some(json!({"role": "owner"}))));
        routes.push((Method::DELETE, at(&format!("/members/{who}")), None));
    }
    routes
}

/// Everything somebody is answered about a conversation, its id and all that differs between any two answers aside.
async fn all_answers(who: &Person, c: &str, member: &str) -> Vec<String> {
    let mut wire = who.live("probe").await;
    let mut answers = Vec::new();
    for (verb, d) in verbs(c) {
        let id = wire.say(verb, d.clone()).await;
        let mut answer = wire.answer(id).await;
        if let Err(refusal) = &mut answer {
            refusal.as_object_mut().unwrap().remove("request");
        }
        answers.push(format!("{verb} {d}: {answer:?}").replace(c, "THERE"));
    }
    let pushed = wire.pushes().await;
    answers.push(format!("pushed: {pushed:?}"));
    for (method, path, body) in routes(c, &who.id, member) {
        for key in [None, Some("key")] {
            let mut call = Call::new(method.clone(), &path).by(&who.access);
            call = body.iter().fold(call, |call, body| call.body(body));
            call = key.into_iter().fold(call, |call, key| call.header("idempotency-key", key));
            let reply = who.house.call(call).await;
            let names: Vec<_> = reply.headers.keys().map(|name| name.to_string()).collect();
            answers.push(format!("{method} {path} {body:?} {key:?}: {:?} {names:?}", reply.said()).replace(c, "THERE"));
        }
    }
    answers
}

fn assert_alike(there: &[String], nowhere: &[String]) {
    for (there, nowhere) in there.iter().zip(nowhere) {
        assert_eq!(there, nowhere);
    }
}

#[tokio::test]
async fn g9_to_a_stranger_what_exists_is_like_what_does_not() {
    let house = House::shared();
    let (ann, bob, eve) = (house.person().await, house.person().await, house.person().await);
    let mut witness = bob.live("witness").await;
    let nowhere = all_answers(&eve, NOWHERE, &bob.id).await;
    let channel = json!({"kind": "channel", "title": "News", "members": [bob.id]});
    let channel = ann.post("conversations", channel).await.is(201)["id"].as_str().unwrap().to_owned();
    for c in [ann.direct(&bob).await, ann.group(&[&bob]).await, channel] {
        ann.says(&c, "secret").await;
        witness.push("msg").await;
        witness.pushes().await;
        assert_alike(&all_answers(&eve, &c, &bob.id).await, &nowhere);
        // no trace of any of it in the conversation
        assert_eq!(witness.seqs(&c).await, [] as [u64; 0]);
        assert_eq!(ann.get(&format!("conversations/{c}")).await.is(200)["head"], 2);
    }
}

#[tokio::test]
async fn g9_who_was_removed_or_left_is_a_stranger_again() {
    let house = House::shared();
    let (ann, bob, eve, dan) = (house.person().await, house.person().await, house.person().await, house.person().await);
    let c = ann.group(&[&bob, &eve, &dan]).await;
    ann.says(&c, "known to all").await;
    // they have used the conversation, marks and all, but under no client id that is asked about below
    for who in [&eve, &dan] {
        who.says(&c, "hi").await;
        who.post(&format!("conversations/{c}/read"), json!({"seq": 2})).await.is(204);
    }
    ann.delete(&format!("conversations/{c}/members/{}", eve.id)).await.is(204);
    dan.delete(&format!("conversations/{c}/members/{}", dan.id)).await.is(204);
    ann.says(&c, "not for them").await;
    for who in [&eve, &dan] {
        let nowhere = all_answers(who, NOWHERE, &bob.id).await;
        assert_alike(&all_answers(who, &c, &bob.id).await, &nowhere);
        assert_eq!(who.get("conversations").await.is(200)["items"], json!([]));
    }
}

#[tokio::test]
async fn g9_who_is_removed_receives_nothing_later_than_that() {
    let house = House::shared();
    let (ann, bob, eve) = (house.person().await, house.person().await, house.person().await);
    for round in 0..5 {
        let c = ann.group(&[&bob, &eve]).await;
        let (mut a, mut b, mut e) = (ann.live("a").await, bob.live("b").await, eve.live("e").await);
        let mut e_too = eve.live("e-too").await;
        for wire in [&mut e, &mut e_too] {
            wire.ask("open", json!({"c": c})).await;
            wire.ask("watch", json!({"users": [ann.id]})).await;
        }
        // a stream of posts, and in its middle the removal
        let mut ids = Vec::new();
        for _ in 0..10 {
            ids.push(a.say("send", json!({"c": c, "cid": cid(), "text": "x"})).await);
        }
        let removal = {
            let (ann, path) = (ann.clone(), format!("conversations/{c}/members/{}", eve.id));
            tokio::spawn(async move { ann.delete(&path).await.is(204) })
        };
        for _ in 0..15 {
            ids.push(a.say("send", json!({"c": c, "cid": cid(), "text": "x"})).await);
        }
        for id in ids {
            a.answer(id).await.unwrap();
        }
        removal.await.unwrap();
        a.ask("typ", json!({"c": c, "on": true})).await;
        b.ask("read", json!({"c": c, "seq": 5})).await;
        let last = a.ask("send", json!({"c": c, "cid": cid(), "text": "the end"})).await["seq"].as_u64().unwrap();
        assert_eq!(last, 28);
        let mut all = Vec::new();
        while all.last() != Some(&last) {
            let (kind, d) = b.any_push().await;
            if kind == "msg" || kind == "evt" {
                all.push(d["seq"].as_u64().unwrap());
            }
        }
        assert_eq!(all, (2..=last).collect::<Vec<_>>());
        let page = ann.get(&format!("conversations/{c}/messages?limit=200")).await.is(200);
        let removed = page["events"].as_array().unwrap().iter().find(|e| e["kind"] == "remove").unwrap()["seq"].clone();
        let removed = removed.as_u64().unwrap();
        for wire in [&mut e, &mut e_too] {
            let pushes = wire.pushes().await;
            let of_c = |(t, d): &&(String, Value)| d["c"] == c.as_str() && (t == "msg" || t == "evt");
            let seqs: Vec<_> = pushes.iter().filter(of_c).map(|(_, d)| d["seq"].as_u64().unwrap()).collect();
            assert_eq!(seqs, (2..=removed).collect::<Vec<_>>(), "round {round}: up to and with the removal");
            let after = pushes.iter().skip_while(|(t, d)| t != "evt" || d["kind"] != "remove").skip(1);
            let after: Vec<_> = after.filter(|(t, _)| t != "pres").collect();
            let left = ("conv".to_owned(), json!({"c": c, "change": "left", "seq": removed}));
            assert_eq!(after, [&left], "round {round}");
        }
        // back again: sees all of it, is told of what comes
        ann.post(&format!("conversations/{c}/members"), json!({"users": [eve.id]})).await.is(204);
        assert_eq!(e.push("evt").await["kind"], "join");
        ann.says(&c, "welcome back").await;
        assert_eq!(e.push("msg").await["seq"], last + 2);
        let page = eve.get(&format!("conversations/{c}/messages?limit=200")).await.is(200);
        assert_eq!(page["messages"].as_array().unwrap().len(), 27);
    }
}

#[tokio::test]
async fn g9_the_answer_to_an_earlier_post_is_given_even_after_the_removal() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let c = ann.group(&[&bob]).await;
    let mut b = bob.live("b").await;
    let post = json!({"c": c, "cid": "mine", "text": "x"});
    let first = b.ask("send", post.clone()).await;
    ann.delete(&format!("conversations/{c}/members/{}", bob.id)).await.is(204);
    let again = b.ask("send", post).await;
    assert_eq!((&again["seq"], &again["dup"]), (&first["seq"], &json!(true)), "dedupe comes before every refusal");
    b.refused("send", json!({"c": c, "cid": "new", "text": "x"}), "not_found").await;
    b.refused("send", json!({"c": c, "cid": "mine", "text": "y"}), "conflict").await;
}
