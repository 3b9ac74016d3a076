//! `/v1/users`: oneself and others.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use protocol::{
    Error,
    rest::{List, User, UserChange},
};

use super::{
    extract::{JsonBody, Query, Signed, id},
    refusal::Refusal,
};
use crate::app::App;

type Answer<T> = Result<T, Refusal>;

pub(crate) async fn me(State(app): State<App>, Signed(caller): Signed) -> Answer<Json<User>> {
    Ok(Json(app.starling.accounts.me(caller).await?))
}

pub(crate) async fn change_me(
    State(app): State<App>, Signed(caller): Signed, JsonBody(body): JsonBody<UserChange>,
) -> Answer<Json<User>> {
    Ok(Json(app.starling.accounts.update_me(caller, body).await?))
}

pub(crate) async fn delete_me(State(app): State<App>, Signed(caller): Signed) -> Answer<StatusCode> {
    app.starling.accounts.delete_me(caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn one(
    State(app): State<App>, Signed(caller): Signed, Path(user): Path<String>,
) -> Answer<Json<User>> {
    let user = id(&user)?;
    if user == caller.user {
        return Ok(Json(app.starling.accounts.me(caller).await?));
    }
    Ok(Json(app.starling.accounts.user(user).await?))
}

/// `?username=`: a list of one or none.
pub(crate) async fn find(State(app): State<App>, _: Signed, query: Query) -> Answer<Json<List<User>>> {
    let username = query.get("username").ok_or_else(|| Error::field("username", "which one?"))?;
    let items = app.starling.accounts.find_user(username).await?.into_iter().collect();
    Ok(Json(List { items, next: None }))
}
