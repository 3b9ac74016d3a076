//! `sync`: everything missed in one round trip, the list, and the line between past and live.

use serde_json::{Value, json};

use crate::{
    house::{House, Person, cid},
    support::are_real,
};

fn seqs(item: &Value) -> Vec<u64> {
    item["events"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).collect()
}

fn ids(synced: &Value) -> Vec<String> {
    let items = synced["conversations"].as_array().unwrap().iter();
    items.map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn g7_one_number_per_conversation_brings_everything_missed() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let (direct, group) = (ann.direct(&bob).await, ann.group(&[&bob]).await);
    let untouched = ann.group(&[&bob]).await;
    drop(bob.live("phone").await);
    for n in 0..7 {
        ann.says(&direct, &format!("d{n}")).await;
    }
    ann.patch(&format!("conversations/{group}"), json!({"title": "Renamed"})).await.is(200);
    ann.says(&group, "g").await;

    let mut b = bob.hello("phone").await;
    let synced = b.ask("sync", json!({"have": {&direct: 3, &group: 1, &untouched: 1}})).await;
    assert_eq!(
        ids(&synced),
        [group.clone(), direct.clone()],
        "most recent first; where nothing is new, nothing is said"
    );
    let (in_group, in_direct) = (&synced["conversations"][0], &synced["conversations"][1]);
    assert_eq!((seqs(in_direct), seqs(in_group)), ((4..=8).collect(), vec![2, 3]));
    assert_eq!((&in_direct["head"], &in_direct["head_post"], &in_direct["unread"]), (&json!(8), &json!(7), &json!(7)));
    assert_eq!((&in_direct["more"], in_direct.get("gap")), (&json!(false), None));
    assert_eq!((&in_direct["title"], &in_direct["with"]), (&json!(null), &json!(ann.id)));
    assert_eq!((&in_group["events"][0]["kind"], &in_group["title"]), (&json!("settings"), &json!("Renamed")));
    assert_eq!((&synced["left"], &synced["next"]), (&json!([]), &json!(null)));

    // live from the answer on
    ann.says(&direct, "now").await;
    assert_eq!(b.push("msg").await["seq"], 9);
    let nothing = b.ask("sync", json!({"have": {&direct: 9, &group: 3, &untouched: 1}})).await;
    assert_eq!(nothing["conversations"], json!([]));
    let ahead = b.ask("sync", json!({"have": {&direct: 99}})).await;
    assert_eq!(ahead["conversations"], json!([]), "who claims more than there is lacks nothing");
}

#[tokio::test]
async fn g7_a_long_absence_gets_the_newest_page_and_a_gap() {
    let house = House::shared();
    let ann = house.person().await;
    let c = ann.group(&[]).await;
    let mut a = ann.live("a").await;
    for batch in 0..10 {
        let ids: Vec<_> = (0..25).map(|n| json!({"c": c, "cid": format!("{batch}.{n}"), "text": "x"})).collect();
        let mut asked = Vec::new();
        for d in ids {
            asked.push(a.say("send", d).await);
        }
        for id in asked {
            a.answer(id).await.unwrap();
        }
    }
    let head = 251;
    let item = |have: u64| json!({"have": {&c: have}});
    let long = a.ask("sync", item(1)).await["conversations"][0].clone();
    assert_eq!(long["gap"], json!({"from": 2, "to": head - 100}));
    assert_eq!(seqs(&long), (head - 99..=head).collect::<Vec<_>>());
    assert_eq!(long["more"], false);
    let just = a.ask("sync", item(head - 100)).await["conversations"][0].clone();
    assert_eq!((seqs(&just), just.get("gap")), ((head - 99..=head).collect(), None), "100 are no long absence");
    let over = a.ask("sync", item(head - 101)).await["conversations"][0].clone();
    assert_eq!((over["gap"].clone(), seqs(&over).len()), (json!({"from": head - 100, "to": head - 100}), 100));
    // the gap is fetched with `hist`
    let page = a.ask("hist", json!({"c": c, "after": 1, "limit": 200})).await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 200);
}

#[tokio::test]
async fn the_list_is_paged_by_most_recent_activity() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let mut made = vec![ann.direct(&bob).await];
    for _ in 0..4 {
        made.push(ann.group(&[&bob]).await);
    }
    ann.says(&made[1], "wakes up").await;
    let order = [1, 4, 3, 2, 0].map(|n: usize| made[n].clone());
    let mut b = bob.hello("x").await;
    let (mut seen, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let page = b.ask("sync", json!({"list": {"limit": 2, "cursor": cursor}})).await;
        seen.extend(ids(&page));
        cursor = page["next"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(seen, order);
    let (mut seen, mut path) = (Vec::new(), "conversations?limit=2".to_owned());
    loop {
        let page = bob.get(&path).await.is(200);
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => path = format!("conversations?limit=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, order);
    let none = b.ask("sync", json!({"list": {"limit": 0}})).await;
    assert_eq!((&none["conversations"], &none["next"]), (&json!([]), &json!(null)));
    b.refused("sync", json!({"list": {"limit": 2, "cursor": "x"}}), "bad_field").await;
    bob.get("conversations?limit=0").await.refused(400, "bad_field");
    bob.get("conversations?cursor=x").await.refused(400, "bad_field");
    // the first contact of a new device: the list, and in each conversation what there is
    let fresh = b.ask("sync", json!({"list": {"limit": 30}})).await;
    assert_eq!(seqs(&fresh["conversations"][0]), [1, 2]);
}

#[tokio::test]
async fn what_one_has_left_is_named_and_what_one_never_had_too() {
    let house = House::shared();
    let (ann, bob, eve) = (house.person().await, house.person().await, house.person().await);
    let (stays, goes) = (ann.group(&[&bob]).await, ann.group(&[&bob]).await);
    let foreign = ann.group(&[&eve]).await;
    ann.says(&goes, "before").await;
    ann.delete(&format!("conversations/{goes}/members/{}", bob.id)).await.is(204);
    ann.says(&goes, "after").await;
    ann.says(&stays, "still").await;
    let nowhere = "c_00000000000000000000000000000000";
    let mut b = bob.hello("x").await;
    let have = json!({&stays: 1, &goes: 1, &foreign: 1, nowhere: 5});
    let synced = b.ask("sync", json!({"list": {"limit": 30}, "have": have})).await;
    assert_eq!(ids(&synced), [stays.as_str()]);
    let mut left: Vec<_> = synced["left"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    left.sort_unstable();
    let mut expected = vec![goes.as_str(), &foreign, nowhere];
    expected.sort_unstable();
    assert_eq!(left, expected);
}

/// Everything a socket is shown of one conversation: synced, then pushed.
async fn follow(who: &Person, c: &str, have: u64, last: u64) -> Vec<u64> {
    let mut wire = who.hello(&cid()).await;
    let synced = wire.ask("sync", json!({"have": {c: have}})).await;
    let mut seen: Vec<u64> = synced["conversations"].as_array().unwrap().iter().flat_map(seqs).collect();
    while seen.last() != Some(&last) {
        let (kind, d) = wire.any_push().await;
        match kind.as_str() {
            "msg" | "evt" => seen.push(d["seq"].as_u64().unwrap()),
            "head" if d["seq"].as_u64().unwrap() > seen.last().copied().unwrap_or(have) => {
                // told that there is more: it is fetched
                let after = seen.last().copied().unwrap_or(have);
                let again = wire.ask("sync", json!({"have": {c: after}})).await;
                seen.extend(again["conversations"].as_array().unwrap().iter().flat_map(seqs));
            }
            _ => {}
        }
        // pushed as well as fetched: at least once, and dropped by seq
        let mut known = 0;
        seen.retain(|seq| {
            let fresh = *seq > known;
            known = known.max(*seq);
            fresh
        });
    }
    seen
}

#[tokio::test]
async fn g7_sync_is_the_line_between_past_and_live() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let c = ann.direct(&bob).await;
    let mut a = ann.live("a").await;
    let last = 201;
    // devices come in the middle of a stream of posts, and miss nothing
    let writer = tokio::spawn({
        let c = c.clone();
        async move {
            for n in 0..last - 1 {
                a.ask("send", json!({"c": c, "cid": n.to_string(), "text": "x"})).await;
            }
        }
    });
    let readers: Vec<_> = (0..6)
        .map(|_| {
            let (bob, c) = (bob.clone(), c.clone());
            tokio::spawn(async move { follow(&bob, &c, 1, last).await })
        })
        .collect();
    for reader in readers {
        let seen = reader.await.unwrap();
        let full: Vec<u64> = (2..=last).collect();
        assert!(full.ends_with(&seen) && seen.len() >= 100, "{seen:?}");
    }
    writer.await.unwrap();
}

#[tokio::test]
async fn a_post_that_is_larger_read_than_written_stops_nobody_from_catching_up() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let c = ann.group(&[&bob]).await;
    let mut a = ann.live("a").await;
    ann.says(&c, "before").await;
    // 5 bytes as it is written, 19 as it is read: more than one answer to `sync` holds
    let numbers = vec!["1e15"; 13_000].join(",");
    let meta = format!(r#"{{"c":"{c}","cid":"swollen","text":"x","meta":{{"n":[{numbers}]}}}}"#);
    a.raw(format!(r#"{{"t":"send","id":999,"d":{meta}}}"#)).await;
    a.answer(999).await.unwrap();
    ann.says(&c, "after").await;
    let (mut have, mut seen) = (1, Vec::new());
    let mut b = bob.hello("x").await;
    for _ in 0..4 {
        let synced = b.ask("sync", json!({"have": {&c: have}})).await;
        let Some(item) = synced["conversations"].get(0) else { break };
        seen.extend(seqs(item));
        have = *seen.last().unwrap();
    }
    assert_eq!(seen, [2, 3, 4]);
}

#[tokio::test]
async fn what_an_operator_allows_to_be_posted_can_be_read() {
    // nodes that share a store hand on less
    let (frame_bytes, n_chars) = if are_real() { ("245760", 60_000) } else { ("1048576", 100_000) };
    let largest = [
        ("limits.frame_bytes", frame_bytes),
        ("limits.text_chars", &n_chars.to_string()),
        ("limits.queue_hard_bytes", "4194304"),
        ("storage.backend", "memory"),
    ];
    let ann = House::start(&largest).person().await;
    let c = ann.group(&[]).await;
    let mut a = ann.live("a").await;
    let text = "\u{1F426}".repeat(n_chars); // 240 or 400 KB: no page and no answer to `sync` holds two
    for n in 0..3 {
        a.ask("send", json!({"c": c, "cid": n.to_string(), "text": text})).await;
    }
    for n in 2..=4 {
        let page = a.ask("hist", json!({"c": c, "after": n - 1})).await;
        assert_eq!((&page["messages"][0]["seq"], &page["more"]), (&json!(n), &json!(n < 4)));
        let page = a.ask("hist", json!({"c": c, "before": n + 1, "limit": 1})).await;
        assert_eq!(page["messages"][0]["text"], text.as_str());
        let synced = a.ask("sync", json!({"have": {&c: n - 1}})).await;
        assert_eq!(synced["conversations"][0]["events"][0]["seq"], n);
    }
}
