//! What a client may send, how much of it at once, and how it is written.

use serde_json::json;

use crate::house::{House, cid};

#[tokio::test]
async fn verbs_of_the_future_are_unknown_and_harm_nothing() {
    let ann = House::shared().person().await;
    let c = ann.group(&[]).await;
    let mut a = ann.live("a").await;
    for verb in ["edit", "del", "react", "pin", "SEND", "", "ok", "msg"] {
        let refusal = a.refused(verb, json!({"c": c, "seq": 1, "cid": cid()}), "unknown_type").await;
        assert_eq!((&refusal["status"], &refusal["retry"]), (&json!(400), &json!(false)));
        a.tell(verb, json!({})).await;
    }
    assert_eq!(a.pushes().await, [], "without an id no reply, not even an error");
}

#[tokio::test]
async fn without_an_id_there_is_no_reply_but_the_thing_is_done() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let c = ann.direct(&bob).await;
    let (mut a, mut b) = (ann.live("a").await, bob.live("b").await);
    a.tell("send", json!({"c": c, "cid": "quiet", "text": "quiet"})).await;
    assert_eq!(b.push("msg").await["cid"], "quiet");
    assert_eq!(a.push("msg").await["cid"], "quiet", "no `ok`, so the event itself");
    a.tell("send", json!({"c": c, "cid": "quiet", "text": "another"})).await;
    a.tell("send", json!({"c": c})).await;
    a.tell("read", json!({"c": c, "seq": 99})).await;
    a.tell("hist", json!({"c": c})).await;
    a.ask("send", json!({"c": c, "cid": cid(), "text": "loud"})).await;
    assert_eq!(a.seqs(&c).await, [] as [u64; 0]);
}

#[tokio::test]
async fn several_frames_share_a_message_and_unknown_keys_are_ignored() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let c = ann.direct(&bob).await;
    let mut a = ann.live("a").await;
    let frames: Vec<_> = (0..3)
        .map(|n| {
            json!({"t": "send", "id": 100 + n, "v": 2, "x": {"y": []},
                "d": {"c": c, "cid": format!("j{n}"), "text": "x", "shiny": [1]}})
            .to_string()
        })
        .collect();
    a.raw(format!("\n{}\n\n  {}\r\n{{}}\n{}\n", frames[0], frames[1], frames[2])).await;
    for n in 0..3 {
        assert_eq!(a.answer(100 + n).await.unwrap()["seq"], n + 2);
    }
    // hello, sync and a send in the very first message
    let mut fresh = crate::wire::Wire::connect(&house.target(), &Default::default()).await;
    let hello = json!({"t": "hello", "id": 1, "d": {"token": ann.access, "device": "one-shot", "new": true}});
    let sync = json!({"t": "sync", "id": 2, "d": {"have": {&c: 1}}});
    let send = json!({"t": "send", "id": 3, "d": {"c": c, "cid": "first-message", "text": "x"}});
    fresh.raw(format!("{hello}\n{sync}\n{send}")).await;
    assert_eq!(fresh.answer(1).await.unwrap()["user"], ann.id.as_str());
    fresh.answer(2).await.unwrap();
    assert_eq!(fresh.answer(3).await.unwrap()["seq"], 5);
}

#[tokio::test]
async fn hello_states_the_limits_that_hold() {
    let ann = House::shared().person().await;
    let mut wire = crate::wire::Wire::connect(&ann.house.target(), &Default::default()).await;
    let welcome = wire.ask("hello", json!({"token": ann.access, "device": "d", "app": "e2e/1", "caps": ["x"]})).await;
    assert_eq!((&welcome["user"], &welcome["session"]), (&json!(ann.id), &json!(ann.session)));
    let limits = json!({"frame": 65536, "text": 8000, "inflight": 32, "send_per_s": 0, "burst": 30});
    assert_eq!((&welcome["limits"], &welcome["ping_ms"]), (&limits, &json!(25000)));
    wire.refused("hello", json!({"token": ann.access}), "bad_frame").await;
    wire.ask("sync", json!({})).await;
}

#[tokio::test]
async fn more_requests_in_flight_than_allowed_are_refused_then_the_socket_closes() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let c = ann.direct(&bob).await;
    let (mut a, mut b) = (ann.live("a").await, bob.live("b").await);
    // one message, so that all of it is there before the first answer
    let mut frames = Vec::new();
    for n in 0..60 {
        frames.push(a.frame("send", json!({"c": c, "cid": format!("w{n}"), "text": "x"})));
    }
    a.raw(frames.iter().map(|(_, frame)| frame.as_str()).collect::<Vec<_>>().join("\n")).await;
    let mut granted = 0;
    for (id, _) in &frames {
        match a.answer(*id).await {
            Ok(_) => granted += 1,
            Err(refusal) => {
                assert_eq!((&refusal["code"], &refusal["retry"]), (&json!("too_many_inflight"), &json!(true)));
                assert!(refusal["after_ms"].as_u64().is_some(), "{refusal}");
            }
        }
    }
    assert!((32..60).contains(&granted), "{granted}");
    for n in 0..granted {
        assert_eq!(b.push("msg").await["seq"], n + 2, "what was refused is not stored");
    }
    assert_eq!(b.seqs(&c).await, [] as [u64; 0]);
    // an answered request frees its place
    a.ask("send", json!({"c": c, "cid": cid(), "text": "x"})).await;

    // who goes on regardless is closed
    let again: Vec<String> = (0..400).map(|n| a.frame("hist", json!({"c": c, "limit": 1, "before": n})).1).collect();
    a.raw(again.join("\n")).await;
    assert_eq!(a.ended().await, 4029);
    b.pushes().await;
}

#[tokio::test]
async fn an_id_that_is_still_unanswered_is_not_taken_again() {
    let ann = House::shared().person().await;
    let c = ann.group(&[]).await;
    let mut a = ann.live("a").await;
    let send = |cid: &str| json!({"t": "send", "id": 7, "d": {"c": c, "cid": cid, "text": "x"}}).to_string();
    a.raw(format!("{}\n{}", send("one"), send("two"))).await;
    let answers = [a.answer(7).await, a.answer(7).await];
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    let refusal = answers.iter().find_map(|answer| answer.as_ref().err()).unwrap();
    assert_eq!((&refusal["code"], &refusal["field"]), (&json!("bad_field"), &json!("id")));
    let page = ann.get(&format!("conversations/{c}/messages")).await.is(200);
    assert_eq!(page["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn sends_beyond_the_rate_are_refused_with_a_time_and_take_no_place() {
    let rates = [("limits.send_per_s", "1"), ("limits.send_burst", "3"), ("storage.backend", "memory")];
    let ann = House::start(&rates).person().await;
    let c = ann.group(&[]).await;
    let mut a = ann.live("a").await;
    let mut frames = Vec::new();
    for n in 0..10 {
        frames.push(a.frame("send", json!({"c": c, "cid": format!("r{n}"), "text": "x"})));
    }
    a.raw(frames.iter().map(|(_, frame)| frame.as_str()).collect::<Vec<_>>().join("\n")).await;
    let mut refused = Vec::new();
    for (n, (id, _)) in frames.iter().enumerate() {
        match a.answer(*id).await {
            Ok(_) => {}
            Err(refusal) if refusal["code"] == "rate_limited" && refusal["retry"] == true => {
                refused.push((n, refusal["after_ms"].as_u64().unwrap()));
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused.len() >= 6 && refused.iter().all(|(_, ms)| (1..=1000).contains(ms)), "{refused:?}");
    let (n, after_ms) = *refused.last().unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(after_ms)).await;
    let late = json!({"c": c, "cid": format!("r{n}"), "text": "x"});
    assert_eq!(a.ask("send", late).await["dup"], false, "after the time given it is taken");
}

#[tokio::test]
async fn a_socket_has_a_hundred_conversations_open_at_most() {
    let ann = House::shared().person().await;
    let c = ann.group(&[]).await;
    let mut a = ann.live("a").await;
    for n in 0..100 {
        a.ask("open", json!({"c": format!("c_{n:032x}")})).await;
    }
    a.ask("open", json!({"c": format!("c_{:032x}", 7)})).await;
    assert_eq!(a.refused("open", json!({"c": c}), "bad_field").await["field"], "c");
    a.ask("close", json!({"c": format!("c_{:032x}", 7)})).await;
    a.ask("open", json!({"c": c})).await;
}
