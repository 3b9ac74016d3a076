//! Conversations and messages over REST.

use hyper::Method;
use loadtest::rest::Call;
use protocol::{Code, ConversationId, Role, Seq, push, rest};
use serde_json::json;

use super::{Context, any, ensure, equal};

/// Answers the group in which alice (owner) and bob are.
pub(super) async fn check(x: &mut Context) -> Option<ConversationId> {
    let (alice, bob, carol) = (x.alice.user.id, x.bob.user.id, x.carol.user.id);
    let token = x.alice.tokens.access_token.clone();
    let stranger = x.carol.tokens.access_token.clone();
    let call = |method, path: &str| Call::new(method, path).by(&token);

    let direct = call(Method::POST, "conversations").body(&json!({"kind": "direct", "members": [bob]}));
    let first =
        |c: &rest::Conversation| equal("title", &c.title, &None).and_then(|()| equal("with", &c.with, &Some(bob)));
    if let Some(first) = x.call("conversations: a direct one", direct.clone(), 201, first).await {
        let same = |again: &rest::Conversation| equal("id", &again.id, &first.id);
        x.call("conversations: the same direct one again", direct, 200, same).await;
        let leave = call(Method::DELETE, &format!("conversations/{}/members/{alice}", first.id));
        x.call_refused_any("a direct one cannot be left", leave).await;
    }
    let oneself = call(Method::POST, "conversations").body(&json!({"kind": "direct", "members": [alice]}));
    x.refused("conversations: direct with oneself", oneself, Code::BadField, Some("members")).await;

    let group = json!({"kind": "group", "title": "smoke", "members": [bob]});
    let make = call(Method::POST, "conversations").header("idempotency-key", "smoke-group").body(&group);
    let fresh = |c: &rest::Conversation| {
        equal("head", &c.head, &Seq(1))
            .and_then(|()| equal("members_count", &c.members_count, &2))
            .and_then(|()| equal("role", &c.role, &Role::Owner))
    };
    let c = x.call("conversations: a group", make.clone(), 201, fresh).await?.id;
    let again = x.rest.call::<rest::Conversation>(make).await.map_err(|e| e.to_string());
    x.checks.note("the same idempotency key, the same group", again.and_then(|(_, again)| equal("id", &again.id, &c)));
    let at = |rest: &str| format!("conversations/{c}{rest}");

    let listed = |list: &rest::List<rest::Conversation>| ensure(list.items.iter().any(|i| i.id == c), "not in it");
    x.call("conversations: the list", call(Method::GET, "conversations"), 200, listed).await;
    let one = |got: &rest::Conversation| equal("title", &got.title.as_deref(), &Some("smoke"));
    x.call("conversations/{id}", call(Method::GET, &at("")), 200, one).await;
    let outside = Call::new(Method::GET, at("")).by(&stranger);
    x.refused("conversations/{id}: a stranger", outside, Code::NotFound, None).await;
    let renamed = |got: &rest::Conversation| equal("title", &got.title.as_deref(), &Some("smoked"));
    let rename = call(Method::PATCH, &at("")).body(&json!({"title": "smoked"}));
    x.call("conversations/{id}: another title", rename, 200, renamed).await;

    x.call::<()>("members: add one", call(Method::POST, &at("/members")).body(&json!({"users": [carol]})), 204, any)
        .await;
    let three = |list: &rest::List<rest::Member>| equal("members", &list.items.len(), &3);
    x.call("members: the list", call(Method::GET, &at("/members")), 200, three).await;
    let by_member = Call::new(Method::DELETE, at(&format!("/members/{bob}"))).by(&stranger);
    x.refused("members: a member removes nobody", by_member, Code::Forbidden, None).await;
    let promote = call(Method::PATCH, &at(&format!("/members/{carol}"))).body(&json!({"role": "admin"}));
    x.call::<()>("members/{user}: a role", promote, 204, any).await;
    let leave = Call::new(Method::DELETE, at(&format!("/members/{carol}"))).by(&stranger);
    x.call::<()>("members/{user}: leaving", leave, 204, any).await;
    let outside = Call::new(Method::GET, at("/messages")).by(&stranger);
    x.refused("messages: who left sees none", outside, Code::NotFound, None).await;
    messages(x, c).await;
    Some(c)
}

async fn messages(x: &mut Context, c: ConversationId) {
    let token = x.alice.tokens.access_token.clone();
    let path = format!("conversations/{c}/messages");
    let post = |body: &serde_json::Value| Call::new(Method::POST, &path).by(&token).body(body);
    let get = |query: &str| Call::new(Method::GET, format!("{path}{query}")).by(&token);
    let hello = json!({"cid": "smoke-1", "text": "hello"});
    let first = |sent: &push::Sent| equal("post_no", &sent.post_no, &1).and_then(|()| equal("dup", &sent.dup, &false));
    let Some(first) = x.call("messages: a post", post(&hello), 201, first).await else { return };
    let same = |sent: &push::Sent| {
        equal("seq", &sent.seq, &first.seq).and_then(|()| equal("at", &sent.at, &first.at))?;
        equal("dup", &sent.dup, &true)
    };
    x.call("messages: the same cid, the same seq", post(&hello), 200, same).await;
    let other = json!({"cid": "smoke-1", "text": "something else"});
    x.refused("messages: the same cid, another text", post(&other), Code::Conflict, None).await;
    let keyed = Call::new(Method::POST, &path).by(&token).header("idempotency-key", "smoke-2");
    let second = |sent: &push::Sent| equal("seq", &sent.seq, &first.seq.next());
    x.call("messages: the idempotency key as cid", keyed.body(&json!({"text": "again"})), 201, second).await;
    x.refused("messages: no text", post(&json!({"cid": "smoke-3"})), Code::BadField, Some("text")).await;
    let long = json!({"cid": "smoke-4", "text": "x".repeat(8001)});
    x.refused("messages: too long a text", post(&long), Code::TooLarge, Some("text")).await;

    let all = |page: &push::HistoryPage| {
        let seqs: Vec<_> = page.messages.iter().map(|m| m.seq).collect();
        equal("seqs", &seqs, &vec![first.seq, first.seq.next()])?;
        equal("text", &page.messages[0].post.text.as_deref(), &Some("hello"))?;
        equal("head", &page.head, &first.seq.next())
    };
    x.call("messages: a page", get("?limit=10"), 200, all).await;
    let newest = |page: &push::HistoryPage| {
        equal("messages", &page.messages.len(), &1).and_then(|()| ensure(page.more, "more is false"))
    };
    x.call("messages: the newest one", get("?limit=1"), 200, newest).await;
    let none = |page: &push::HistoryPage| ensure(page.messages.is_empty() && !page.more, "something comes after");
    x.call("messages: after the head", get(&format!("?after={}", first.seq.0 + 1)), 200, none).await;
    x.refused("messages: too large a page", get("?limit=201"), Code::BadField, Some("limit")).await;

    let read =
        |seq: u64| Call::new(Method::POST, format!("conversations/{c}/read")).by(&token).body(&json!({"seq": seq}));
    x.call::<()>("read: up to the head", read(first.seq.0 + 1), 204, any).await;
    x.refused("read: above the head", read(first.seq.0 + 2), Code::BadField, Some("seq")).await;
    let bob = x.bob.user.id;
    let known = |states: &push::PresenceStates| ensure(states.presence.contains_key(&bob), "not in it");
    x.call("presence", Call::new(Method::GET, format!("presence?users={bob}")).by(&token), 200, known).await;
}

impl Context {
    /// A call that must be refused for good, with whichever code.
    async fn call_refused_any(&mut self, check: &str, call: Call) {
        let result = match self.rest.call::<serde::de::IgnoredAny>(call).await {
            Ok((status, _)) => Err(format!("answered {status}")),
            Err(failed) => ensure(failed.code().is_some_and(|code| !code.retry()), failed.to_string()),
        };
        self.checks.note(check, result);
    }
}
