//! What `listen.admin` answers: health, readiness, metrics, and `/admin/*`, which the commands use. Never for the
//! public: `/admin/*` wants the operator's token if there is one, and no browser's page may call it.

use std::time::Instant;

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use metrics_exporter_prometheus::PrometheusHandle;
use protocol::{Code, Error, UserId, rest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    app::App,
    http::{
        extract::{JsonBody, bearer},
        refusal::{self, Refusal},
    },
    metrics::render,
    shutdown::Shutdown,
};

/// What the admin routes can reach.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) app: App,
    pub(crate) node: String,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) shutdown: Shutdown,
    pub(crate) started: Instant,
}

/// Everything on `listen.admin`.
pub(crate) fn router(admin: Admin) -> Router {
    let operators = Router::new()
        .route("/admin/status", get(status))
        .route("/admin/drain", post(drain))
        .route("/admin/keys", get(keys))
        .route("/admin/keys/rotate", post(rotate))
        .route("/admin/users", post(add_user))
        .route("/admin/users/{name}", get(show_user))
        .route("/admin/users/{name}/ban", post(ban))
        .route("/admin/users/{name}/unban", post(unban))
        .layer(middleware::from_fn_with_state(admin.clone(), operators_only));
    Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .merge(operators)
        .layer(middleware::from_fn_with_state(admin.clone(), written))
        .with_state(admin)
}

/// Refuses pages in a browser (they can reach loopback, but cannot hide their origin) and who lacks the token.
async fn operators_only(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if parts.headers.contains_key(header::ORIGIN) || parts.headers.contains_key("sec-fetch-site") {
        return Refusal(Error::new(Code::Forbidden, "not for pages in a browser")).into_response();
    }
    if let Some(token) = &admin.app.config.admin_token {
        let given = bearer(&parts).unwrap_or("");
        if aws_lc_rs::constant_time::verify_slices_are_equal(given.as_bytes(), token.as_bytes()).is_err() {
            return Refusal(Error::new(Code::Unauthenticated, "the admin token is needed")).into_response();
        }
    }
    next.run(Request::from_parts(parts, body)).await
}

/// Writes errors out as the clients' side does.
async fn written(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(error) = refusal::of(&mut response) {
        response = refusal::write(response, &error, "", admin.app.world.clock.wall());
    }
    response
}

/// What `status` shows.
#[derive(Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) node: String,
    pub(crate) version: String,
    pub(crate) uptime_s: u64,
    pub(crate) ready: bool,
    pub(crate) unready: Vec<String>,
    pub(crate) connections: usize,
    pub(crate) sessions: usize,
    pub(crate) conversations: usize,
    pub(crate) presence_channels: usize,
}

impl Admin {
    async fn now(&self) -> Status {
        let mut snapshot = self.app.starling.snapshot();
        if self.shutdown.is_draining() && !snapshot.unready.iter().any(|reason| reason == "draining") {
            snapshot.unready.insert(0, "draining".to_owned());
        }
        if let Err(error) = self.app.world.store.health.ping().await {
            snapshot.unready.push(error.to_string());
        }
        Status {
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            ready: snapshot.unready.is_empty(),
            unready: snapshot.unready,
            connections: snapshot.connections,
            sessions: snapshot.sessions,
            conversations: snapshot.conversations,
            presence_channels: snapshot.presence_channels,
        }
    }
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, Json<Value>) {
    let now = admin.now().await;
    let status = if now.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": now.ready, "reasons": now.unready })))
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], render(&admin.metrics))
}

async fn status(State(admin): State<Admin>) -> Json<Status> {
    Json(admin.now().await)
}

/// As SIGTERM: answers at once, the process ends when all clients are gone.
async fn drain(State(admin): State<Admin>) -> (StatusCode, Json<Value>) {
    admin.shutdown.drain();
    (StatusCode::ACCEPTED, Json(json!({ "draining": true })))
}

async fn keys(State(admin): State<Admin>) -> Json<Value> {
    let keys = admin.app.starling.accounts.keys().into_iter();
    Json(keys.map(|(kid, made_at, signs)| json!({ "kid": kid, "made_at": made_at, "signs": signs })).collect())
}

async fn rotate(State(admin): State<Admin>) -> Result<Json<Value>, Refusal> {
    let kid = admin.app.starling.accounts.rotate_keys().await?;
    tracing::info!(%kid, "signing key added");
    Ok(Json(json!({ "kid": kid })))
}

async fn add_user(
    State(admin): State<Admin>, JsonBody(body): JsonBody<rest::Register>,
) -> Result<(StatusCode, Json<rest::User>), Refusal> {
    let accounts = &admin.app.starling.accounts;
    let signed_in = accounts.register(body, std::net::IpAddr::from([127, 0, 0, 1])).await?;
    // Registering signs in; the operator needs no session.
    accounts.logout(accounts.authenticate(&signed_in.tokens.access_token)?).await?;
    Ok((StatusCode::CREATED, Json(signed_in.user)))
}

async fn show_user(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Json<rest::User>, Refusal> {
    Ok(Json(find(&admin, &name).await?))
}

async fn ban(State(admin): State<Admin>, Path(name): Path<String>) -> Result<StatusCode, Refusal> {
    set_banned(&admin, &name, true).await
}

async fn unban(State(admin): State<Admin>, Path(name): Path<String>) -> Result<StatusCode, Refusal> {
    set_banned(&admin, &name, false).await
}

async fn set_banned(admin: &Admin, name: &str, banned: bool) -> Result<StatusCode, Refusal> {
    admin.app.starling.accounts.ban(find(admin, name).await?.id, banned).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// By id or by username.
async fn find(admin: &Admin, name: &str) -> Result<rest::User, Refusal> {
    let accounts = &admin.app.starling.accounts;
    if let Ok(id) = name.parse::<UserId>() {
        return Ok(accounts.user(id).await?);
    }
    Ok(accounts.find_user(name).await?.ok_or_else(|| Error::new(Code::NotFound, "there is no such user"))?)
}
