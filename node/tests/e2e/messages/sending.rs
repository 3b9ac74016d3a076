//! `send`: the answer, the pushes, the client id.

use serde_json::{Value, json};

use crate::house::{House, cid};

fn send(c: &str, cid: &str, text: &str) -> Value {
    json!({"c": c, "cid": cid, "text": text})
}

#[tokio::test]
async fn g2_a_post_reaches_all_devices_of_all_members_in_one_order() {
    let house = House::shared();
    let (ann, bob, eve) = (house.person().await, house.person().await, house.person().await);
    let c = ann.group(&[&bob, &eve]).await;
    let ann_too = ann.on("second").await;
    let mut writer = ann.live("a").await;
    let mut readers = vec![ann_too.live("b").await, ann.live("c").await, bob.live("d").await, eve.live("e").await];

    let mut acknowledged = Vec::new();
    for n in 0..20 {
        let text = format!("post {n}");
        let sent = writer.ask("send", send(&c, &cid(), &text)).await;
        assert_eq!((&sent["seq"], &sent["post_no"], &sent["dup"]), (&json!(n + 2), &json!(n + 1), &json!(false)));
        acknowledged.push((sent["seq"].clone(), sent["at"].clone(), text));
    }
    for reader in &mut readers {
        for (seq, at, text) in &acknowledged {
            let post = reader.push("msg").await;
            assert_eq!((&post["c"], &post["seq"], &post["at"]), (&json!(c), seq, at));
            assert_eq!((&post["from"], &post["text"]), (&json!(ann.id), &json!(text)));
            assert!(post["cid"].is_string(), "all are told the client id: {post}");
        }
        assert_eq!(reader.seqs(&c).await, [] as [u64; 0], "nothing twice");
    }
    assert_eq!(writer.seqs(&c).await, [] as [u64; 0], "`ok` is the event for the socket that sent it");
}

#[tokio::test]
async fn ok_stands_at_its_place_in_the_stream() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let c = ann.group(&[&bob]).await;
    let (mut a, mut b) = (ann.live("a").await, bob.live("b").await);
    // both talk at once; each sees its own `ok` and the other's `msg` in the order of seq
    let mut ids = (Vec::new(), Vec::new());
    for n in 0..25 {
        ids.0.push(a.say("send", send(&c, &format!("a{n}"), "from a")).await);
        ids.1.push(b.say("send", send(&c, &format!("b{n}"), "from b")).await);
    }
    for (wire, ids) in [(&mut a, ids.0), (&mut b, ids.1)] {
        let stream = wire.stream(50).await;
        let seqs: Vec<u64> = stream.iter().map(|(_, d)| d["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, (2..52).collect::<Vec<_>>());
        let own: Vec<u64> = stream.iter().filter_map(|(id, _)| *id).collect();
        assert_eq!(own, ids, "stored in the order sent");
    }
}

#[tokio::test]
async fn g5_a_retry_is_answered_with_the_same_post() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let c = ann.direct(&bob).await;
    let (mut a, mut b) = (ann.live("a").await, bob.live("b").await);
    let first = a.ask("send", send(&c, "once", "hello")).await;
    assert_eq!(first["dup"], false);
    let again = json!({"seq": first["seq"], "post_no": first["post_no"], "at": first["at"], "dup": true});
    assert_eq!(a.ask("send", send(&c, "once", "hello")).await, again);
    let with_base = json!({"c": c, "cid": "once", "text": "hello", "base": 1});
    assert_eq!(a.ask("send", with_base).await, again);
    let mut elsewhere = ann.on("elsewhere").await.live("x").await;
    assert_eq!(elsewhere.ask("send", send(&c, "once", "hello")).await, again, "from another session");
    // REST and the socket share client ids
    let path = format!("conversations/{c}/messages");
    assert_eq!(ann.post(&path, json!({"cid": "once", "text": "hello"})).await.is(200), again);
    let by_rest = ann.post(&path, json!({"cid": "rest", "text": "hi"})).await.is(201);
    assert_eq!(by_rest["dup"], false);
    let seq = a.ask("send", send(&c, "rest", "hi")).await;
    assert_eq!((&seq["seq"], &seq["dup"]), (&by_rest["seq"], &json!(true)));
    // another sender's client id is another one
    let bobs = b.ask("send", send(&c, "once", "hello")).await;
    assert_eq!(bobs["dup"], false);

    for text in ["hello ", "Hello", "other"] {
        a.refused("send", send(&c, "once", text), "conflict").await;
    }
    a.refused("send", json!({"c": c, "cid": "once", "text": "hello", "meta": {"a": 1}}), "conflict").await;
    ann.post(&path, json!({"cid": "once", "text": "other"})).await.refused(409, "conflict");
    assert_eq!(b.seqs(&c).await, [2, 3], "each post once");
}

#[tokio::test]
async fn g5_one_client_id_from_two_devices_at_once_is_one_post() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let c = ann.direct(&bob).await;
    let (mut one, mut two) = (ann.live("one").await, ann.live("two").await);
    let mut b = bob.live("b").await;
    for round in 0..20 {
        let cid = format!("race-{round}");
        let ids = (one.say("send", send(&c, &cid, "same")).await, two.say("send", send(&c, &cid, "same")).await);
        let (one, two) = (one.answer(ids.0).await.unwrap(), two.answer(ids.1).await.unwrap());
        assert_eq!((&one["seq"], &one["post_no"], &one["at"]), (&two["seq"], &two["post_no"], &two["at"]));
        assert_ne!(one["dup"], two["dup"], "exactly one of them made it: {one} {two}");
        assert_eq!(b.push("msg").await["seq"], one["seq"]);
    }
    assert_eq!(b.seqs(&c).await, [] as [u64; 0]);
}

#[tokio::test]
async fn g6_one_client_id_for_two_texts_at_once_is_a_conflict_for_one() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let c = ann.direct(&bob).await;
    let (mut one, mut two) = (ann.live("one").await, ann.live("two").await);
    for round in 0..20 {
        let cid = format!("race-{round}");
        let (first, second) = (send(&c, &cid, "mine"), send(&c, &cid, "no, mine"));
        let ids = (one.say("send", first).await, two.say("send", second).await);
        let answers = [one.answer(ids.0).await, two.answer(ids.1).await];
        let stored = house_text(&ann, &c).await;
        let (granted, refused) = match &answers {
            [Ok(_), Err(refused)] => ("mine", refused),
            [Err(refused), Ok(_)] => ("no, mine", refused),
            both => panic!("one post under {cid}, two answers: {both:?}; stored: {stored}"),
        };
        assert_eq!((refused["code"].as_str(), stored.as_str()), (Some("conflict"), granted));
    }
    // and on one socket, both on their way before the first answer
    for round in 0..20 {
        let cid = format!("pipelined-{round}");
        let (first, one_frame) = one.frame("send", send(&c, &cid, "first"));
        let (second, other_frame) = one.frame("send", send(&c, &cid, "second"));
        one.raw(format!("{one_frame}\n{other_frame}")).await;
        let (first, second) = (one.answer(first).await, one.answer(second).await);
        assert_eq!(first.unwrap()["dup"], false);
        assert_eq!(second.expect_err("acknowledged what was not stored")["code"], "conflict");
        assert_eq!(house_text(&ann, &c).await, "first");
    }
}

async fn house_text(who: &crate::house::Person, c: &str) -> String {
    let page = who.get(&format!("conversations/{c}/messages?limit=1")).await.is(200);
    page["messages"][0]["text"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_post_carries_what_it_was_given_and_refuses_what_it_cannot() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let c = ann.direct(&bob).await;
    let (mut a, mut b) = (ann.live("a").await, bob.live("b").await);
    let full = json!({
        "c": c, "cid": "full", "text": "مرحبا \u{1F426} line\nbreak \u{0000} \"quoted\" \\", "reply_to": 1,
        "mentions": [bob.id], "attachments": [{"url": "x", "size": 9007199254740991u64}],
        "meta": {"nested": {"n": [1, 2.5, null, true]}}, "unknown": "key",
    });
    let sent = a.ask("send", full.clone()).await;
    let post = b.push("msg").await;
    for key in ["c", "cid", "text", "reply_to", "mentions", "attachments", "meta"] {
        assert_eq!(post[key], full[key], "{key}");
    }
    assert_eq!(post.get("unknown"), None);
    let page = ann.get(&format!("conversations/{c}/messages")).await.is(200);
    assert_eq!(page["messages"][0], post, "pushed and read are the same");
    let only_attached = json!({"c": c, "cid": "bare", "attachments": [{"url": "y"}]});
    assert_eq!(a.ask("send", only_attached).await["seq"].as_u64(), sent["seq"].as_u64().map(|seq| seq + 1));

    let wrong = [
        (json!({"c": c, "cid": cid()}), "text"),
        (json!({"c": c, "cid": cid(), "text": ""}), "text"),
        (json!({"c": c, "cid": cid(), "text": 7}), "text"),
        (json!({"c": c, "text": "x"}), "cid"),
        (json!({"c": c, "cid": "", "text": "x"}), "cid"),
        (json!({"c": c, "cid": "x".repeat(65), "text": "x"}), "cid"),
        (json!({"c": "c_1", "cid": cid(), "text": "x"}), "c"),
        (json!({"cid": cid(), "text": "x"}), "c"),
        (json!({"c": c, "cid": cid(), "text": "x", "meta": []}), "meta"),
        (json!({"c": c, "cid": cid(), "text": "x", "mentions": ["bob"]}), "mentions"),
        (json!({"c": c, "cid": cid(), "text": "x", "reply_to": 0}), "reply_to"),
        (json!({"c": c, "cid": cid(), "text": "x", "reply_to": -1}), "reply_to"),
        (json!({"c": c, "cid": cid(), "text": "x", "base": "1"}), "base"),
    ];
    for (d, field) in wrong {
        let refusal = a.refused("send", d.clone(), "bad_field").await;
        assert!(refusal["field"].as_str().unwrap().starts_with(field), "{d}: {refusal}");
        let mut d = d;
        if d.as_object_mut().unwrap().remove("c") == Some(json!(c)) {
            ann.post(&format!("conversations/{c}/messages"), d).await.refused(400, "bad_field");
        }
    }
    a.refused("send", json!({"c": c, "cid": cid(), "text": "x".repeat(8001)}), "too_large").await;
    let longest = json!({"c": c, "cid": cid(), "text": "\u{1F426}".repeat(8000)});
    assert_eq!(a.ask("send", longest).await["dup"], false, "characters, not bytes");
}

#[tokio::test]
async fn a_sender_is_not_told_of_an_older_socket_of_theirs() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let c = ann.direct(&bob).await;
    // before the first sync there are no pushes, yet sending works and is answered
    let (mut mute, mut b) = (ann.hello("mute").await, bob.live("b").await);
    assert_eq!(mute.ask("send", send(&c, &cid(), "early")).await["seq"], 2);
    assert_eq!(b.push("msg").await["text"], "early");
    b.ask("send", send(&c, &cid(), "reply")).await;
    let mut control = ann.live("control").await;
    b.ask("send", send(&c, &cid(), "another")).await;
    assert_eq!(control.push("msg").await["seq"], 4);
    assert_eq!(mute.pushes().await, [], "nothing is pushed before the first sync");
    let synced = mute.ask("sync", json!({"have": {&c: 2}})).await;
    let seqs: Vec<_> = synced["conversations"][0]["events"].as_array().unwrap().iter().map(|e| &e["seq"]).collect();
    assert_eq!(seqs, [&json!(3), &json!(4)]);
}

#[tokio::test]
async fn requests_of_one_socket_keep_their_order_and_a_refused_one_holds_back_none() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let c = ann.direct(&bob).await;
    let (mut a, mut b) = (ann.live("a").await, bob.live("b").await);
    a.ask("send", send(&c, "known", "known")).await;
    b.push("msg").await;
    let mut expected = Vec::new();
    for round in 0..5 {
        // what is stored, and between it everything that is not
        let good = |n: u32| (send(&c, &format!("{round}.{n}"), "x"), "ok");
        let said = vec![
            good(1),
            (send(&c, "known", "another"), "conflict"),
            good(2),
            (send(&c, "known", "known"), "dup"),
            (send(&c, &format!("{round}.3"), ""), "bad_field"),
            good(3),
            (send("c_00000000000000000000000000000000", "nowhere", "x"), "not_found"),
            good(4),
        ];
        let frames: Vec<_> = said.into_iter().map(|(d, outcome)| (a.frame("send", d), outcome)).collect();
        a.raw(frames.iter().map(|((_, frame), _)| frame.as_str()).collect::<Vec<_>>().join("\n")).await;
        let mut last = 0;
        for ((id, frame), outcome) in frames {
            match (a.answer(id).await, outcome) {
                (Ok(sent), "ok") => {
                    let seq = sent["seq"].as_u64().unwrap();
                    assert!(seq > last && sent["dup"] == false, "{frame}: {sent}");
                    last = seq;
                    expected.push(seq);
                }
                (Ok(sent), "dup") => assert_eq!((&sent["seq"], &sent["dup"]), (&json!(2), &json!(true))),
                (Err(refusal), code) if refusal["code"] == code => {}
                (other, _) => panic!("{frame}: {other:?}"),
            }
        }
    }
    assert_eq!(expected, (3..23).collect::<Vec<_>>());
    for seq in expected {
        assert_eq!(b.push("msg").await["seq"], seq);
    }
}
