//! Beginning, changing and leaving conversations, each as an event of their log.

use hyper::Method;
use loadtest::rest::Call;
use serde_json::{Value, json};

use crate::house::{House, Person, Reply};

async fn event_kinds(who: &Person, c: &str) -> Vec<String> {
    let page = who.get(&format!("conversations/{c}/messages?limit=200")).await.is(200);
    page["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

async fn roles(who: &Person, c: &str) -> Vec<(String, String)> {
    let list = who.get(&format!("conversations/{c}/members")).await.is(200);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list["items"].as_array().unwrap().iter().map(|item| (text(&item["user"]), text(&item["role"]))).collect()
}

async fn role(who: &Person, c: &str, of: &Person) -> Option<String> {
    roles(who, c).await.into_iter().find(|(user, _)| *user == of.id).map(|(_, role)| role)
}

fn member(c: &str, who: &Person) -> String {
    format!("conversations/{c}/members/{}", who.id)
}

#[tokio::test]
async fn a_direct_conversation_is_one_whoever_begins_it_and_however_often() {
    let house = House::shared();
    let (ann, bob) = (house.person().await, house.person().await);
    let begin = |with: &Person| json!({"kind": "direct", "members": [with.id]});
    let (mut a, mut b) = (ann.live("a").await, bob.live("b").await);
    let first = ann.post("conversations", begin(&bob)).await.is(201);
    let c = first["id"].as_str().unwrap();
    assert_eq!((&first["title"], &first["with"], &first["head"]), (&Value::Null, &json!(bob.id), &json!(1)));
    for (wire, other) in [(&mut a, &bob), (&mut b, &ann)] {
        let create = wire.push("evt").await;
        assert_eq!((&create["c"], &create["seq"], &create["kind"]), (&json!(c), &json!(1), &json!("create")));
        assert_eq!(wire.push("conv").await, json!({"c": c, "change": "joined", "seq": 1}), "{}", other.name);
    }
    for (who, other) in [(&ann, &bob), (&bob, &ann)] {
        let again = who.post("conversations", begin(other)).await.is(200);
        assert_eq!((&again["id"], &again["with"]), (&json!(c), &json!(other.id)));
    }
    // all at once, from both sides
    let (eve, dan) = (house.person().await, house.person().await);
    let asked = (0..8).map(|n| {
        let (who, other) = if n % 2 == 0 { (eve.clone(), dan.clone()) } else { (dan.clone(), eve.clone()) };
        tokio::spawn(async move { who.post("conversations", json!({"kind": "direct", "members": [other.id]})).await })
    });
    let asked: Vec<_> = asked.collect();
    let mut replies: Vec<Reply> = Vec::new();
    for one in asked {
        replies.push(one.await.unwrap());
    }
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 1);
    let ids: std::collections::HashSet<_> = replies.iter().map(|reply| reply.json()["id"].to_string()).collect();
    assert_eq!(ids.len(), 1);

    ann.post("conversations", begin(&ann)).await.refused(400, "bad_field");
    ann.post("conversations", json!({"kind": "direct", "members": []})).await.refused(400, "bad_field");
    ann.post("conversations", json!({"kind": "direct", "members": [bob.id, eve.id]})).await.refused(400, "bad_field");
    let titled = json!({"kind": "direct", "members": [bob.id], "title": "T"});
    ann.post("conversations", titled).await.refused(400, "bad_field");
    let nobody = json!({"kind": "direct", "members": ["u_00000000000000000000000000000000"]});
    ann.post("conversations", nobody).await.refused(404, "not_found");

    ann.delete(&member(c, &ann)).await.refused(403, "forbidden");
    ann.delete(&member(c, &bob)).await.refused(403, "forbidden");
    ann.patch(&format!("conversations/{c}"), json!({"title": "T"})).await.refused(403, "forbidden");
    ann.patch(&member(c, &bob), json!({"role": "owner"})).await.refused(403, "forbidden");
    ann.post(&format!("conversations/{c}/members"), json!({"users": [eve.id]})).await.refused(403, "forbidden");
    assert_eq!(event_kinds(&bob, c).await, ["create"], "nothing of that happened");
}

#[tokio::test]
async fn every_change_of_a_group_is_an_event_that_all_are_told() {
    let house = House::shared();
    let (ann, bob, eve, dan) = (house.person().await, house.person().await, house.person().await, house.person().await);
    let c = ann.group(&[&bob]).await;
    let (mut b, mut e) = (bob.live("b").await, eve.live("e").await);
    let told = async |wire: &mut crate::wire::Wire, seq: u64, kind: &str, by: &Person| {
        let event = wire.push("evt").await;
        assert_eq!(
            (&event["seq"], &event["kind"], &event["by"]),
            (&json!(seq), &json!(kind), &json!(by.id)),
            "{event}"
        );
        event
    };
    ann.patch(&format!("conversations/{c}"), json!({"title": "  New  "})).await.is(200);
    assert_eq!(ann.get(&format!("conversations/{c}")).await.is(200)["title"], "New", "at once");
    assert_eq!(told(&mut b, 2, "settings", &ann).await["title"], "New");
    ann.patch(&format!("conversations/{c}"), json!({"title": "New"})).await.is(200); // no change, no event
    ann.post(&format!("conversations/{c}/members"), json!({"users": [eve.id, bob.id, dan.id, eve.id]})).await.is(204);
    for wire in [&mut b, &mut e] {
        assert_eq!(told(wire, 3, "join", &ann).await["users"], json!([eve.id, dan.id]), "who is new, once");
    }
    assert_eq!(e.push("conv").await, json!({"c": c, "change": "joined", "seq": 3}));
    ann.post(&format!("conversations/{c}/members"), json!({"users": [eve.id]})).await.is(204); // again: no event
    ann.patch(&member(&c, &bob), json!({"role": "admin"})).await.is(204);
    let event = told(&mut b, 4, "role", &ann).await;
    assert_eq!((&event["user"], &event["role"]), (&json!(bob.id), &json!("admin")));
    told(&mut e, 4, "role", &ann).await;
    bob.delete(&member(&c, &dan)).await.is(204);
    assert_eq!(told(&mut e, 5, "remove", &bob).await["user"], dan.id.as_str());
    eve.delete(&member(&c, &eve)).await.is(204);
    told(&mut b, 5, "remove", &bob).await;
    told(&mut b, 6, "leave", &eve).await;
    told(&mut e, 6, "leave", &eve).await;
    assert_eq!(e.push("conv").await, json!({"c": c, "change": "left", "seq": 6}));
    assert_eq!(event_kinds(&bob, &c).await, ["create", "settings", "join", "role", "remove", "leave"]);
    let seen = bob.get(&format!("conversations/{c}")).await.is(200);
    assert_eq!((&seen["title"], &seen["members_count"], &seen["head"]), (&json!("New"), &json!(2), &json!(6)));

    for title in ["", "   ", "a\nb", &"x".repeat(201)] {
        ann.patch(&format!("conversations/{c}"), json!({"title": title})).await.refused(400, "bad_field");
        let made = json!({"kind": "group", "title": title, "members": []});
        ann.post("conversations", made).await.refused(400, "bad_field");
    }
    ann.post("conversations", json!({"kind": "group", "members": []})).await.refused(400, "bad_field");
    ann.post("conversations", json!({"kind": "club", "title": "T"})).await.refused(400, "bad_field");
    ann.post(&format!("conversations/{c}/members"), json!({"users": []})).await.refused(400, "bad_field");
    let many: Vec<String> = (0..201).map(|n| format!("u_{n:032x}")).collect();
    ann.post(&format!("conversations/{c}/members"), json!({"users": many})).await.refused(400, "bad_field");
    let nobody = json!({"users": ["u_00000000000000000000000000000000"]});
    ann.post(&format!("conversations/{c}/members"), nobody).await.refused(404, "not_found");
}

#[tokio::test]
async fn roles_say_who_may_do_what() {
    let house = House::shared();
    let (owner, admin, plain, other) =
        (house.person().await, house.person().await, house.person().await, house.person().await);
    let c = owner.group(&[&admin, &plain]).await;
    let at = |rest: &str| format!("conversations/{c}{rest}");
    admin.patch(&member(&c, &admin), json!({"role": "admin"})).await.refused(403, "forbidden");
    owner.patch(&member(&c, &admin), json!({"role": "admin"})).await.is(204);
    owner.patch(&member(&c, &admin), json!({"role": "king"})).await.refused(400, "bad_field");
    owner.patch(&member(&c, &other), json!({"role": "admin"})).await.refused(404, "not_found");

    plain.patch(&at(""), json!({"title": "T"})).await.refused(403, "forbidden");
    plain.post(&at("/members"), json!({"users": [other.id]})).await.refused(403, "forbidden");
    plain.delete(&member(&c, &admin)).await.refused(403, "forbidden");
    plain.patch(&member(&c, &plain), json!({"role": "owner"})).await.refused(403, "forbidden");
    admin.patch(&at(""), json!({"title": "T"})).await.is(200);
    admin.post(&at("/members"), json!({"users": [other.id]})).await.is(204);
    admin.delete(&member(&c, &owner)).await.refused(403, "forbidden");
    admin.patch(&member(&c, &plain), json!({"role": "admin"})).await.refused(403, "forbidden");
    admin.delete(&member(&c, &other)).await.is(204);
    admin.delete(&member(&c, &other)).await.refused(404, "not_found");
    owner.patch(&member(&c, &owner), json!({"role": "member"})).await.refused(409, "conflict");
    owner.patch(&member(&c, &plain), json!({"role": "owner"})).await.is(204);
    owner.patch(&member(&c, &owner), json!({"role": "member"})).await.is(204);
    owner.patch(&at(""), json!({"title": "mine"})).await.refused(403, "forbidden");
    assert_eq!(role(&plain, &c, &owner).await.as_deref(), Some("member"));
}

#[tokio::test]
async fn the_last_owner_who_leaves_hands_over() {
    let house = House::shared();
    let (ann, bob, eve, dan) = (house.person().await, house.person().await, house.person().await, house.person().await);
    let c = ann.group(&[&bob]).await;
    for later in [&eve, &dan] {
        ann.post(&format!("conversations/{c}/members"), json!({"users": [later.id]})).await.is(204);
    }
    ann.patch(&member(&c, &dan), json!({"role": "admin"})).await.is(204);
    let mut b = bob.live("b").await;
    ann.delete(&member(&c, &ann)).await.is(204);
    let left = b.push("evt").await;
    assert_eq!((&left["kind"], &left["by"], &left["heir"]), (&json!("leave"), &json!(ann.id), &json!(dan.id)));
    assert_eq!(role(&bob, &c, &dan).await.as_deref(), Some("owner"), "an admin before a member of longer standing");
    dan.delete(&member(&c, &dan)).await.is(204);
    assert_eq!(role(&bob, &c, &bob).await.as_deref(), Some("owner"), "the longest-standing member");
    bob.patch(&format!("conversations/{c}"), json!({"title": "Mine"})).await.is(200);
    eve.delete(&member(&c, &eve)).await.is(204);
    bob.delete(&member(&c, &bob)).await.is(204);
    bob.get(&format!("conversations/{c}")).await.refused(404, "not_found");
}

#[tokio::test]
async fn in_a_channel_only_owner_and_admins_post() {
    let house = House::shared();
    let (ann, bob, eve) = (house.person().await, house.person().await, house.person().await);
    let made = json!({"kind": "channel", "title": "News", "members": [bob.id, eve.id]});
    let c = ann.post("conversations", made).await.is(201)["id"].as_str().unwrap().to_owned();
    ann.patch(&member(&c, &eve), json!({"role": "admin"})).await.is(204);
    let mut b = bob.live("b").await;
    ann.says(&c, "from the owner").await;
    eve.says(&c, "from an admin").await;
    b.refused("send", json!({"c": c, "cid": "x", "text": "me too"}), "forbidden").await;
    let path = format!("conversations/{c}/messages");
    bob.post(&path, json!({"cid": "y", "text": "me too"})).await.refused(403, "forbidden");
    assert_eq!(b.seqs(&c).await, [3, 4]);
    b.ask("read", json!({"c": c, "seq": 4})).await;
    // the client id of a definite refusal is free
    ann.patch(&member(&c, &bob), json!({"role": "admin"})).await.is(204);
    assert_eq!(b.ask("send", json!({"c": c, "cid": "x", "text": "me too"})).await["dup"], false);
}

#[tokio::test]
async fn an_idempotency_key_makes_one_thing_of_many_tries() {
    let house = House::shared();
    let (ann, bob, eve) = (house.person().await, house.person().await, house.person().await);
    let keyed = |who: &Person, method: Method, path: &str, key: &str, body: Value| {
        let call = Call::new(method, path).by(&who.access).header("idempotency-key", key).body(&body);
        let house = house.clone();
        async move { house.call(call).await }
    };
    let group = json!({"kind": "group", "title": "G", "members": [bob.id]});
    let first = keyed(&ann, Method::POST, "conversations", "k1", group.clone()).await.is(201);
    let again = keyed(&ann, Method::POST, "conversations", "k1", group.clone()).await.is(200);
    let c = first["id"].as_str().unwrap().to_owned();
    assert_eq!(again["id"], c.as_str());
    assert_ne!(keyed(&bob, Method::POST, "conversations", "k1", group.clone()).await.is(201)["id"], c.as_str());
    assert_ne!(keyed(&ann, Method::POST, "conversations", "k2", group.clone()).await.is(201)["id"], c.as_str());
    let other = json!({"kind": "group", "title": "other", "members": [bob.id]});
    keyed(&ann, Method::POST, "conversations", "k1", other).await.refused(409, "conflict");
    for bad in ["", &"x".repeat(65)] {
        keyed(&ann, Method::POST, "conversations", bad, group.clone()).await.refused(400, "bad_field");
    }

    // all at once: one of them makes it
    let asked: Vec<_> =
        (0..8).map(|_| tokio::spawn(keyed(&ann, Method::POST, "conversations", "k3", group.clone()))).collect();
    let (mut n_made, mut ids) = (0, std::collections::HashSet::new());
    for one in asked {
        let reply = one.await.unwrap();
        n_made += usize::from(reply.status == 201);
        ids.insert(reply.json()["id"].to_string());
    }
    assert_eq!((n_made, ids.len()), (1, 1));

    // a retry that comes late does not undo what happened since
    let members = format!("conversations/{c}/members");
    let join = json!({"users": [eve.id]});
    keyed(&ann, Method::POST, &members, "join", join.clone()).await.is(204);
    ann.delete(&member(&c, &eve)).await.is(204);
    keyed(&ann, Method::POST, &members, "join", join).await.is(204);
    assert_eq!(role(&ann, &c, &eve).await, None, "the same request, not a second one");
    let title = |title: &str| json!({"title": title});
    let at = format!("conversations/{c}");
    keyed(&ann, Method::PATCH, &at, "t", title("one")).await.is(200);
    ann.patch(&at, title("two")).await.is(200);
    assert_eq!(keyed(&ann, Method::PATCH, &at, "t", title("one")).await.is(200)["title"], "two");
    keyed(&ann, Method::PATCH, &at, "t", title("three")).await.refused(409, "conflict");

    // a retry is answered even if one could not ask for it any more
    keyed(&bob, Method::DELETE, &member(&c, &bob), "leave", json!({})).await.is(204);
    keyed(&bob, Method::DELETE, &member(&c, &bob), "leave", json!({})).await.is(204);
    let mine = ann.group(&[&bob, &eve]).await;
    ann.patch(&member(&mine, &bob), json!({"role": "admin"})).await.is(204);
    let (dan, members) = (house.person().await, format!("conversations/{mine}/members"));
    let join = json!({"users": [dan.id]});
    keyed(&bob, Method::POST, &members, "add", join.clone()).await.is(204);
    ann.delete(&member(&mine, &bob)).await.is(204);
    keyed(&bob, Method::POST, &members, "add", join).await.is(204);
    // nor if who was named is gone since
    let with_dan = json!({"kind": "group", "title": "D", "members": [dan.id]});
    let made = keyed(&eve, Method::POST, "conversations", "with-dan", with_dan.clone()).await.is(201);
    dan.delete("users/me").await.is(204);
    assert_eq!(keyed(&eve, Method::POST, "conversations", "with-dan", with_dan).await.is(200)["id"], made["id"]);
}

#[tokio::test]
async fn the_list_of_members_is_paged_and_counted() {
    let house = House::shared();
    let ann = house.person().await;
    let mut others = Vec::new();
    for _ in 0..6 {
        others.push(house.person().await);
    }
    let c = ann.group(&others.iter().collect::<Vec<_>>()).await;
    let (mut seen, mut path) = (Vec::new(), format!("conversations/{c}/members?limit=3"));
    loop {
        let page = ann.get(&path).await.is(200);
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["user"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => path = format!("conversations/{c}/members?limit=3&cursor={next}"),
            None => break,
        }
    }
    let mut expected: Vec<String> = others.iter().chain([&ann]).map(|who| who.id.clone()).collect();
    expected.sort();
    assert_eq!(seen, expected);
    ann.get(&format!("conversations/{c}/members?cursor=x")).await.refused(400, "bad_field");
    ann.get(&format!("conversations/{c}/members?limit=0")).await.refused(400, "bad_field");
}

#[tokio::test]
async fn a_conversation_has_no_more_members_than_allowed() {
    let house = House::start(&[("limits.members", "3"), ("storage.backend", "memory")]);
    let (ann, bob, eve, dan) = (house.person().await, house.person().await, house.person().await, house.person().await);
    let c = ann.group(&[&bob, &eve]).await;
    let members = format!("conversations/{c}/members");
    ann.post(&members, json!({"users": [dan.id]})).await.refused(409, "conflict");
    eve.delete(&member(&c, &eve)).await.is(204);
    ann.post(&members, json!({"users": [dan.id]})).await.is(204);
    let four = json!({"kind": "group", "title": "T", "members": [bob.id, eve.id, dan.id]});
    ann.post("conversations", four).await.refused(409, "conflict");
}
