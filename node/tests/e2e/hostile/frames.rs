//! Messages that are no frames, on a socket that said hello.

use serde_json::json;

use super::Bystanders;
use crate::house::House;

#[tokio::test]
async fn what_is_no_frame_is_told_without_an_id_and_the_tenth_closes() {
    let house = House::shared();
    let mut bystanders = Bystanders::of(&house).await;
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let deep_frame = format!(r#"{{"t":"send","id":999,"d":{}}}"#, "{\"a\":".repeat(5_000) + "1" + &"}".repeat(5_000));
    let bad = [
        "x",
        "null",
        "7",
        "[]",
        "\"hello\"",
        "{",
        "{]",
        "{\"t\":",
        r#"{"id":1}"#,
        r#"{"t":7,"id":1,"d":{}}"#,
        r#"{"t":null,"id":1,"d":{}}"#,
        r#"{"t":"sync","id":0,"d":{}}"#,
        r#"{"t":"sync","id":-1,"d":{}}"#,
        r#"{"t":"sync","id":1.5,"d":{}}"#,
        r#"{"t":"sync","id":"1","d":{}}"#,
        r#"{"t":"sync","id":2147483648,"d":{}}"#,
        r#"{"t":"sync","id":99999999999999999999,"d":{}}"#,
        r#"{"t":"sync","t":"sync","id":1}"#,
        r#"{"t":"sync","id":1,"d":{}} trailing"#,
        "{\"t\":\"sync\",\"id\":1,\"d\":{\"a\":\"\u{1}\"}}",
        "\u{0}\u{0}\u{0}",
        "\u{feff}{}",
        &deep,
    ];
    for bad in bad.chunks(8) {
        let mut wire = bystanders.ann.live("hostile").await;
        for bad in bad {
            wire.raw(*bad).await;
            let shown: String = bad.chars().take(60).collect();
            let error = wire.push("err").await;
            assert_eq!((&error["code"], &error["retry"]), (&json!("bad_frame"), &json!(false)), "{shown}");
            assert!(error["message"].as_str().unwrap().len() < 300, "a client's text comes back short");
        }
        wire.raw(deep_frame.clone()).await;
        wire.answer(999).await.expect_err("nested too deep, and no post besides");
        // with the ninth and tenth, binary ones, it is enough
        for _ in bad.len()..10 {
            wire.binary(vec![1, 2, 3]).await;
        }
        assert_eq!(wire.ended().await, 4500);
        bystanders.chat().await;
    }
}

#[tokio::test]
async fn fields_that_are_wrong_are_named_in_the_answer() {
    let house = House::shared();
    let ann = house.person().await;
    let c = ann.group(&[]).await;
    let mut wire = ann.live("a").await;
    let wrong = [
        ("sync", json!([]), "d"),
        ("sync", json!("x"), "d"),
        ("sync", json!({"have": []}), "have"),
        ("sync", json!({"have": {"x": 1}}), "have"),
        ("sync", json!({"have": {&c: -1}}), "have"),
        ("sync", json!({"list": {"limit": -1}}), "list.limit"),
        ("sync", json!({"list": {"limit": 101}}), "list.limit"),
        ("typ", json!({"c": c}), "on"),
        ("typ", json!({"c": c, "on": 1}), "on"),
        ("watch", json!({}), "users"),
        ("watch", json!({"users": "all"}), "users"),
        ("watch", json!({"users": [7]}), "users"),
        ("auth", json!({}), "token"),
        ("open", json!({"c": 7}), "c"),
        ("open", json!({"c": c.to_uppercase()}), "c"),
        ("hist", json!({"c": format!("{c} ")}), "c"),
        ("read", json!({"c": c, "seq": 9_007_199_254_740_992u64}), "seq"),
        ("read", json!({"c": c, "seq": 1.0}), "seq"),
    ];
    for (verb, d, field) in wrong {
        let refusal = wire.refused(verb, d.clone(), "bad_field").await;
        let named = refusal["field"].as_str().unwrap_or_default();
        assert!(named.starts_with(field), "{verb} {d}: {refusal}");
    }
    assert_eq!(wire.pushes().await, []);
}

#[tokio::test]
async fn a_message_may_be_as_large_as_hello_said_and_not_larger() {
    let house = House::shared();
    let mut bystanders = Bystanders::of(&house).await;
    let mut wire = bystanders.ann.live("hostile").await;
    let c = bystanders.ann.group(&[]).await;
    let (id, frame) = wire.frame("send", json!({"c": c, "cid": "large", "text": "x", "pad": ""}));
    let full = |bytes: usize| frame.replace(r#""pad":"""#, &format!(r#""pad":"{}""#, "p".repeat(bytes - frame.len())));
    wire.raw(full(65_536)).await;
    wire.answer(id).await.unwrap();
    wire.raw(full(65_537)).await;
    assert_eq!(wire.ended().await, 4509);
    bystanders.chat().await;
    let page = bystanders.ann.get(&format!("conversations/{c}/messages")).await.is(200);
    assert_eq!(page["messages"].as_array().unwrap().len(), 1);
}
