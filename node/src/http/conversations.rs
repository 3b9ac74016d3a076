//! `/v1/conversations`: make, list, change, members.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use protocol::rest::{AddMembers, ChangeRole, Conversation, ConversationChange, CreateConversation, List, Member};

use super::{
    extract::{IdempotencyKey, JsonBody, Query, Signed, id, number},
    refusal::Refusal,
};
use crate::app::App;

type Answer<T> = Result<T, Refusal>;

pub(crate) async fn create(
    State(app): State<App>, Signed(caller): Signed, IdempotencyKey(key): IdempotencyKey,
    JsonBody(body): JsonBody<CreateConversation>,
) -> Answer<(StatusCode, Json<Conversation>)> {
    let (conversation, fresh) = app.starling.conversations.create(caller, body, key).await?;
    Ok((if fresh { StatusCode::CREATED } else { StatusCode::OK }, Json(conversation)))
}

pub(crate) async fn list(
    State(app): State<App>, Signed(caller): Signed, query: Query,
) -> Answer<Json<List<Conversation>>> {
    let cursor = query.get("cursor").map(String::as_str);
    Ok(Json(app.starling.conversations.list(caller, number(&query, "limit")?, cursor).await?))
}

pub(crate) async fn one(
    State(app): State<App>, Signed(caller): Signed, Path(c): Path<String>,
) -> Answer<Json<Conversation>> {
    Ok(Json(app.starling.conversations.one(caller, id(&c)?).await?))
}

pub(crate) async fn change(
    State(app): State<App>, Signed(caller): Signed, Path(c): Path<String>, IdempotencyKey(key): IdempotencyKey,
    JsonBody(body): JsonBody<ConversationChange>,
) -> Answer<Json<Conversation>> {
    Ok(Json(app.starling.conversations.change(caller, id(&c)?, body, key).await?))
}

pub(crate) async fn members(
    State(app): State<App>, Signed(caller): Signed, Path(c): Path<String>, query: Query,
) -> Answer<Json<List<Member>>> {
    let cursor = query.get("cursor").map(String::as_str);
    Ok(Json(app.starling.conversations.members(caller, id(&c)?, number(&query, "limit")?, cursor).await?))
}

pub(crate) async fn add_members(
    State(app): State<App>, Signed(caller): Signed, Path(c): Path<String>, IdempotencyKey(key): IdempotencyKey,
    JsonBody(body): JsonBody<AddMembers>,
) -> Answer<StatusCode> {
    app.starling.conversations.add_members(caller, id(&c)?, body, key).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn change_role(
    State(app): State<App>, Signed(caller): Signed, Path((c, user)): Path<(String, String)>,
    IdempotencyKey(key): IdempotencyKey, JsonBody(body): JsonBody<ChangeRole>,
) -> Answer<StatusCode> {
    app.starling.conversations.change_role(caller, id(&c)?, id(&user)?, body, key).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn remove_member(
    State(app): State<App>, Signed(caller): Signed, Path((c, user)): Path<(String, String)>,
    IdempotencyKey(key): IdempotencyKey,
) -> Answer<StatusCode> {
    app.starling.conversations.remove_member(caller, id(&c)?, id(&user)?, key).await?;
    Ok(StatusCode::NO_CONTENT)
}
