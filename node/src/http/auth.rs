//! `/v1/auth`: register, sign in, refresh, sign out, tickets, sessions.

use axum::{
    Json,
    extract::{Path, State},
    http::{StatusCode, header},
    response::IntoResponse,
};
use protocol::rest::{ChangePassword, List, Login, Refresh, Register, Session, SignedIn, Ticket, Tokens};

use super::{
    extract::{JsonBody, Open, Signed, id},
    refusal::Refusal,
};
use crate::app::App;

type Answer<T> = Result<T, Refusal>;

pub(crate) async fn register(
    State(app): State<App>, Open(from): Open, JsonBody(body): JsonBody<Register>,
) -> Answer<(StatusCode, Json<SignedIn>)> {
    Ok((StatusCode::CREATED, Json(app.starling.accounts.register(body, from).await?)))
}

pub(crate) async fn login(
    State(app): State<App>, Open(from): Open, JsonBody(body): JsonBody<Login>,
) -> Answer<Json<SignedIn>> {
    Ok(Json(app.starling.accounts.login(body, from).await?))
}

pub(crate) async fn refresh(
    State(app): State<App>, Open(from): Open, JsonBody(body): JsonBody<Refresh>,
) -> Answer<Json<Tokens>> {
    Ok(Json(app.starling.accounts.refresh(body, from).await?))
}

pub(crate) async fn logout(State(app): State<App>, Signed(caller): Signed) -> Answer<StatusCode> {
    app.starling.accounts.logout(caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn logout_others(State(app): State<App>, Signed(caller): Signed) -> Answer<StatusCode> {
    app.starling.accounts.logout_others(caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn change_password(
    State(app): State<App>, Signed(caller): Signed, from: axum::Extension<super::edge::ClientAddress>,
    JsonBody(body): JsonBody<ChangePassword>,
) -> Answer<StatusCode> {
    app.starling.accounts.change_password(caller, body, from.0.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn ticket(State(app): State<App>, Signed(caller): Signed) -> Answer<(StatusCode, Json<Ticket>)> {
    Ok((StatusCode::CREATED, Json(app.starling.accounts.ticket(caller).await?)))
}

pub(crate) async fn sessions(State(app): State<App>, Signed(caller): Signed) -> Answer<Json<List<Session>>> {
    let items = app.starling.accounts.sessions(caller).await?;
    Ok(Json(List { items, next: None }))
}

pub(crate) async fn end_session(
    State(app): State<App>, Signed(caller): Signed, Path(session): Path<String>,
) -> Answer<StatusCode> {
    app.starling.accounts.end_session(caller, id(&session)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `/.well-known/jwks.json`: for who verifies tokens itself.
pub(crate) async fn jwks(State(app): State<App>) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "public, max-age=300")], Json(app.starling.accounts.jwks().await))
}
