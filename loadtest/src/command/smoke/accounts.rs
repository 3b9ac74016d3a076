//! Accounts: register, sign in, refresh, sessions, tickets, and at the very end signing out.

use std::time::Duration;

use hyper::Method;
use loadtest::{
    Client, Socket,
    rest::Call,
    socket::{Ended, Upgrade},
};
use protocol::{Code, request::Hello, rest};
use serde_json::json;

use super::{Context, any, ensure, equal};
use crate::command::crowd;

pub(super) async fn check(x: &mut Context) {
    let (me, token) = (x.alice.user.clone(), x.alice.tokens.access_token.clone());
    let get = |path: &str| Call::new(Method::GET, path).by(&token);
    let post = |path: &str| Call::new(Method::POST, path);

    let taken = json!({"username": me.username, "password": "another-good-secret-41"});
    x.refused("register: a taken name", post("auth/register").body(&taken), Code::AlreadyExists, Some("username"))
        .await;
    let nameless = json!({"password": "another-good-secret-41"});
    x.refused("register: no name", post("auth/register").body(&nameless), Code::BadField, Some("username")).await;
    let weak = json!({"username": format!("{}w", me.username), "password": "password1"});
    x.refused("register: a weak password", post("auth/register").body(&weak), Code::BadField, Some("password")).await;
    x.refused("register: not JSON", post("auth/register").text("{"), Code::BadFrame, None).await;

    let wrong = json!({"login": me.username, "password": "not-this-one-77"});
    x.refused("login: a wrong password", post("auth/login").body(&wrong), Code::Unauthenticated, None).await;
    let nobody = json!({"login": "nobodyatallhere", "password": "not-this-one-77"});
    x.refused("login: an unknown name", post("auth/login").body(&nobody), Code::Unauthenticated, None).await;
    let login = crowd::another(&x.rest, &x.alice, 1).await.map_err(|e| e.to_string());
    let login = login.and_then(|login| equal("user", &login.user.id, &me.id).map(|()| login));
    let second = x.checks.note("login: another device", login);

    if let Some(second) = second {
        let refresh = json!({"refresh_token": second.tokens.refresh_token});
        let first = x.call::<rest::Tokens>("refresh: new tokens", post("auth/refresh").body(&refresh), 200, any).await;
        if let Some(first) = first {
            let same = |again: &rest::Tokens| equal("successor", &again.refresh_token, &first.refresh_token);
            x.call("refresh: a lost reply may be asked again", post("auth/refresh").body(&refresh), 200, same).await;
        }
    }
    let forged = json!({"refresh_token": "forged"});
    x.refused("refresh: a forged token", post("auth/refresh").body(&forged), Code::Unauthenticated, None).await;

    let is_me = |user: &rest::User| equal("id", &user.id, &me.id);
    x.call("users/me", get("users/me"), 200, is_me).await;
    let named = |user: &rest::User| equal("display_name", &user.display_name.as_str(), &"Alice");
    let rename = Call::new(Method::PATCH, "users/me").by(&token).body(&json!({"display_name": "Alice"}));
    x.call("users/me: another display name", rename, 200, named).await;
    let is_bob = x.bob.user.id;
    let other = |user: &rest::User| {
        equal("id", &user.id, &is_bob).and_then(|()| ensure(user.email.is_none(), "shows an e-mail address"))
    };
    x.call("users/{id}: somebody else", get(&format!("users/{is_bob}")), 200, other).await;
    let found = |list: &rest::List<rest::User>| match list.items.as_slice() {
        [user] => other(user),
        items => Err(format!("{} users of one name", items.len())),
    };
    x.call("users?username=", get(&format!("users?username={}", x.bob.user.username)), 200, found).await;
    let unknown = protocol::UserId([0; 16]);
    x.refused("users/{id}: nobody", get(&format!("users/{unknown}")), Code::NotFound, None).await;
    x.refused("users/me: no token", Call::new(Method::GET, "users/me"), Code::Unauthenticated, None).await;
    x.refused("users/me: a forged token", Call::new(Method::GET, "users/me").by("a.b.c"), Code::Unauthenticated, None)
        .await;
    x.refused("no such route", get("nothing"), Code::NotFound, None).await;

    let answer = x.rest.raw(get("users/me")).await.map_err(|e| e.to_string());
    let named = answer.and_then(|a| ensure(a.headers.contains_key("x-request-id"), "no x-request-id"));
    x.checks.note("every answer has a request id", named);

    let session = x.alice.session;
    let current = |list: &rest::List<rest::Session>| {
        ensure(list.items.iter().any(|s| s.current && s.id == session), "the session that asks is not in it")
    };
    x.call("auth/sessions", get("auth/sessions"), 200, current).await;
    tickets(x).await;
}

async fn tickets(x: &mut Context) {
    let ask = Call::new(Method::POST, "auth/ticket").by(&x.alice.tokens.access_token);
    let Some(ticket) = x.call::<rest::Ticket>("auth/ticket", ask, 201, any).await else { return };
    let upgrade = Upgrade { ticket: Some(ticket.ticket), ..Upgrade::default() };
    let hello = Hello { device: Some(crowd::device(9)), ..Hello::default() };
    let welcome = match Socket::connect(&x.target, &upgrade).await {
        Ok(socket) => Client::over(socket, hello, None).await.map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    };
    let welcome = welcome.and_then(|client| equal("user", &client.welcome.user, &x.alice.user.id));
    x.checks.note("a ticket instead of a token", welcome);
    let again = match Socket::connect(&x.target, &upgrade).await {
        Ok(mut socket) => socket.expect(Duration::from_secs(5), |_| false).await.err(),
        Err(e) => Some(Ended::Lost(e.to_string())),
    };
    let closed = match again {
        Some(Ended::Closed { code, .. }) => equal("close code", &code, &4501),
        other => Err(format!("{other:?}, expected close code 4501")),
    };
    x.checks.note("a ticket works once", closed);
}

/// What ends sessions comes last.
pub(super) async fn check_endings(x: &mut Context) {
    let token = x.carol.tokens.access_token.clone();
    let call = |method, path: &str| Call::new(method, path).by(&token);
    match crowd::another(&x.rest, &x.carol, 1).await {
        Ok(other) => {
            let end = call(Method::DELETE, &format!("auth/sessions/{}", other.session));
            x.call::<()>("auth/sessions/{id}: end another one", end, 204, any).await;
            let mine = Call::new(Method::GET, "users/me").by(&other.tokens.access_token);
            x.refused("its token is over", mine, Code::Unauthenticated, None).await;
        }
        Err(e) => drop(x.checks.note::<()>("login: another device", Err(e.to_string()))),
    }
    x.call::<()>("auth/logout-others", call(Method::POST, "auth/logout-others"), 204, any).await;
    let wrong = json!({"old": "not-this-one-77", "new": "brand-new-secret-29"});
    let change = call(Method::POST, "auth/password").body(&wrong);
    x.refused("auth/password: a wrong one", change, Code::BadField, Some("old")).await;
    let right = json!({"old": crowd::PASSWORD, "new": "brand-new-lantern-29"});
    x.call::<()>("auth/password", call(Method::POST, "auth/password").body(&right), 204, any).await;
    x.call::<()>("auth/logout", call(Method::POST, "auth/logout"), 204, any).await;
    x.refused("after logout", call(Method::GET, "users/me"), Code::Unauthenticated, None).await;
    let bye = Call::new(Method::DELETE, "users/me").by(&x.bob.tokens.access_token);
    x.call::<()>("users/me: delete the account", bye, 204, any).await;
}
