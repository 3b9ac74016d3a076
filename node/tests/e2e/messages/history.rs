//! `hist` and the same pages over REST.

use serde_json::{Value, json};

use crate::{
    house::{House, Person},
    wire::Wire,
};

/// A group whose log is: 1 create, 2–11 posts 1–10, 12 title, 13–22 posts 11–20, 23 title.
async fn a_log() -> (Person, Wire, String) {
    let ann = House::shared().person().await;
    let c = ann.group(&[]).await;
    for (posts, title) in [(1..11, "first"), (11..21, "second")] {
        for n in posts {
            ann.says(&c, &n.to_string()).await;
        }
        ann.patch(&format!("conversations/{c}"), json!({"title": title})).await.is(200);
    }
    let wire = ann.live("a").await;
    (ann, wire, c)
}

fn seqs(items: &Value) -> Vec<u64> {
    items.as_array().unwrap().iter().map(|item| item["seq"].as_u64().unwrap()).collect()
}

fn run(range: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    range.collect()
}

#[tokio::test]
async fn pages_have_exclusive_bounds_and_say_if_there_is_more() {
    let (ann, mut wire, c) = a_log().await;
    // what is asked: messages, other events, more
    type Page = (Vec<u64>, Vec<u64>, bool);
    let all: Page = ([run(2..=11), run(13..=22)].concat(), vec![1, 12, 23], false);
    let pages: Vec<(Value, Page)> = vec![
        (json!({}), all.clone()),
        (json!({"limit": 200}), all.clone()),
        (json!({"limit": 20}), all.clone()),
        (json!({"limit": 10}), (run(13..=22), vec![23], true)),
        (json!({"limit": 11}), ([vec![11], run(13..=22)].concat(), vec![12, 23], true)),
        (json!({"before": 13, "limit": 3}), (run(9..=11), vec![12], true)),
        (json!({"before": 12, "limit": 3}), (run(9..=11), vec![], true)),
        (json!({"before": 5}), (run(2..=4), vec![1], false)),
        (json!({"before": 2}), (vec![], vec![1], false)),
        (json!({"before": 1}), (vec![], vec![], false)),
        (json!({"before": 0}), (vec![], vec![], false)),
        (json!({"before": 9_007_199_254_740_991u64, "limit": 10}), (run(13..=22), vec![23], true)),
        (json!({"after": 0}), all.clone()),
        (json!({"after": 10, "limit": 2}), (vec![11, 13], vec![12], true)),
        (json!({"after": 11, "limit": 2}), (run(13..=14), vec![12], true)),
        (json!({"after": 21}), (vec![22], vec![23], false)),
        (json!({"after": 22}), (vec![], vec![23], false)),
        (json!({"after": 23}), (vec![], vec![], false)),
        (json!({"after": 9_007_199_254_740_991u64}), (vec![], vec![], false)),
        (json!({"around": 12, "limit": 4}), ([run(10..=11), run(13..=14)].concat(), vec![12], true)),
        (json!({"around": 11, "limit": 4}), ([run(10..=11), run(13..=14)].concat(), vec![12], true)),
        (json!({"around": 11, "limit": 40}), all.clone()),
        (json!({"around": 5, "limit": 1}), (vec![5], vec![], true)),
        (json!({"around": 9_007_199_254_740_991u64, "limit": 4}), (run(21..=22), vec![23], true)),
    ];
    for (mut ask, (messages, events, more)) in pages {
        let query: Vec<_> = ask.as_object().unwrap().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let by_rest = ann.get(&format!("conversations/{c}/messages?{}", query.join("&"))).await.is(200);
        ask["c"] = json!(c);
        let page = wire.ask("hist", ask.clone()).await;
        assert_eq!(page, by_rest, "{ask}");
        assert_eq!((seqs(&page["messages"]), seqs(&page["events"])), (messages, events), "{ask}");
        assert_eq!((&page["head"], &page["more"]), (&json!(23), &json!(more)), "{ask}");
    }
}

#[tokio::test]
async fn paging_through_meets_everything_once() {
    let (_ann, mut wire, c) = a_log().await;
    for limit in [1, 3, 7] {
        let (mut newest_first, mut before) = (Vec::new(), 9999);
        loop {
            let page = wire.ask("hist", json!({"c": c, "before": before, "limit": limit})).await;
            let mut seen = [seqs(&page["messages"]), seqs(&page["events"])].concat();
            seen.sort_by_key(|seq| std::cmp::Reverse(*seq));
            before = seen.last().copied().unwrap_or(0);
            newest_first.extend(seen);
            if page["more"] == false {
                break;
            }
        }
        assert_eq!(newest_first, (1..=23).rev().collect::<Vec<_>>(), "backwards by {limit}");
        let (mut oldest_first, mut after) = (Vec::new(), 0);
        loop {
            let page = wire.ask("hist", json!({"c": c, "after": after, "limit": limit})).await;
            let mut seen = [seqs(&page["messages"]), seqs(&page["events"])].concat();
            seen.sort_unstable();
            after = seen.last().copied().unwrap_or(after);
            oldest_first.extend(seen);
            if page["more"] == false {
                break;
            }
        }
        assert_eq!(oldest_first, run(1..=23), "forwards by {limit}");
    }
}

#[tokio::test]
async fn bounds_that_make_no_sense_are_refused_by_name() {
    let (ann, mut wire, c) = a_log().await;
    let wrong = [
        (json!({"limit": 0}), "limit"),
        (json!({"limit": 201}), "limit"),
        (json!({"limit": -1}), "limit"),
        (json!({"limit": 1.5}), "limit"),
        (json!({"before": true}), "before"),
        (json!({"before": -1}), "before"),
        (json!({"around": 9_007_199_254_740_992u64}), "around"),
        (json!({"after": 18_446_744_073_709_551_615u64}), "after"),
        (json!({"before": 18_446_744_073_709_551_615u64}), "before"),
        (json!({"around": 18_446_744_073_709_551_615u64}), "around"),
        (json!({"before": 3, "after": 1}), "after"),
        (json!({"after": 3, "around": 1}), "around"),
    ];
    for (mut ask, field) in wrong {
        let query: Vec<_> = ask.as_object().unwrap().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let by_rest = ann.get(&format!("conversations/{c}/messages?{}", query.join("&"))).await;
        let by_rest = by_rest.refused(400, "bad_field");
        assert_eq!(by_rest["details"]["field"], field, "{ask}");
        ask["c"] = json!(c);
        assert_eq!(wire.refused("hist", ask.clone(), "bad_field").await["field"], field, "{ask}");
    }
}

#[tokio::test]
async fn a_page_of_large_posts_stays_within_its_bytes_and_says_more() {
    let ann = House::shared().person().await;
    let c = ann.group(&[]).await;
    let mut wire = ann.live("a").await;
    let text = "\u{1F426}".repeat(8000); // 32 KB
    for n in 0..20 {
        wire.ask("send", json!({"c": c, "cid": n.to_string(), "text": text})).await;
    }
    let (mut before, mut met) = (9999, Vec::new());
    loop {
        let reply = ann.get(&format!("conversations/{c}/messages?limit=200&before={before}")).await;
        assert!(reply.body.len() <= 256 << 10, "{}", reply.body.len());
        let page = reply.is(200);
        met.splice(0..0, seqs(&page["messages"]));
        before = met[0];
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(met, run(2..=21));
    // and what a device missed: as much as fits, the rest is asked for
    let synced = wire.ask("sync", json!({"have": {&c: 1}})).await;
    assert!(synced.to_string().len() <= 130 << 10);
    let (mut have, mut item) = (1, synced["conversations"][0].clone());
    while item["more"] == true {
        let got = seqs(&item["events"]);
        assert_eq!(got.first(), Some(&(have + 1)), "{got:?}");
        have = *got.last().unwrap();
        item = wire.ask("sync", json!({"have": {&c: have}})).await["conversations"][0].clone();
    }
    assert_eq!(seqs(&item["events"]).last(), Some(&21));
}
