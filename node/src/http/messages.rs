//! `/v1/conversations/{id}/messages` and `/read`: history, posting, the read mark.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use protocol::{
    Error, Seq,
    limits::INTEGER_MAX,
    push::{HistoryPage, Sent},
    request::Page,
    rest::{PostMessage, ReadUpTo},
};

use super::{
    extract::{IdempotencyKey, JsonBody, Query, Signed, id, number},
    refusal::Refusal,
};
use crate::app::App;

type Answer<T> = Result<T, Refusal>;

pub(crate) async fn history(
    State(app): State<App>, Signed(caller): Signed, Path(c): Path<String>, query: Query,
) -> Answer<Json<HistoryPage>> {
    let page = Page {
        before: seq(&query, "before")?,
        after: seq(&query, "after")?,
        around: seq(&query, "around")?,
        limit: number(&query, "limit")?,
    };
    Ok(Json(app.starling.conversations.history(caller, id(&c)?, page).await?))
}

/// A bound of a page; no larger than what a frame could say.
fn seq(query: &Query, name: &str) -> Answer<Option<Seq>> {
    match number(query, name)? {
        Some(too_large) if too_large > INTEGER_MAX => Err(Error::field(name, "integers stay below 2^53").into()),
        seq => Ok(seq.map(Seq)),
    }
}

pub(crate) async fn send(
    State(app): State<App>, Signed(caller): Signed, Path(c): Path<String>, IdempotencyKey(key): IdempotencyKey,
    JsonBody(body): JsonBody<PostMessage>,
) -> Answer<(StatusCode, Json<Sent>)> {
    let sent = app.starling.conversations.post(caller, id(&c)?, body, key).await?;
    Ok((if sent.dup { StatusCode::OK } else { StatusCode::CREATED }, Json(sent)))
}

pub(crate) async fn read(
    State(app): State<App>, Signed(caller): Signed, Path(c): Path<String>, JsonBody(body): JsonBody<ReadUpTo>,
) -> Answer<StatusCode> {
    app.starling.conversations.read(caller, id(&c)?, body.seq).await?;
    Ok(StatusCode::NO_CONTENT)
}
