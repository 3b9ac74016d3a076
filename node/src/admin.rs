//! What `listen.admin` answers: health, readiness, metrics, and `/admin/*`, which the commands use. Never for the
//! public: `/admin/*` wants the operator's token if there is one, and no browser's page may call it.

pub(crate) mod nodes;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actors::{
    Clock,
    drain::{Phase, Progress},
};
use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use metrics_exporter_prometheus::PrometheusHandle;
use protocol::{Code, Error, Millis, SessionId, UserId, rest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use storage::{accounts::SignIn, health::Health};
use tokio::{sync::watch, time::timeout};

use crate::{
    app::{App, Stage},
    http::{
        extract::{JsonBody, bearer},
        refusal::{self, Refusal},
    },
    metrics::render,
    shutdown::Shutdown,
};

/// A store that takes longer to give a sign of life is away: those who ask wait for a second, customarily.
const SIGN_OF_LIFE: Duration = Duration::from_millis(800);
/// So long who takes a drain back waits for the view to say so.
const PLACED_WITHIN: Duration = Duration::from_secs(2);
/// A screenful for who looks into one account.
const SIGN_INS_SHOWN: usize = 10;

/// What the admin routes can reach.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) stage: watch::Receiver<Stage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) token: Option<String>,
    pub(crate) node: String,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) shutdown: Shutdown,
    pub(crate) started: Instant,
}

/// Everything on `listen.admin`.
pub(crate) fn router(admin: Admin) -> Router {
    let operators = Router::new()
        .route("/admin/status", get(status))
        .route("/admin/nodes", get(nodes))
        .route("/admin/drain", post(drain))
        .route("/admin/undrain", post(undrain))
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
    if let Some(token) = &admin.token {
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
        response = refusal::write(response, &error, "", admin.clock.wall());
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
    /// What does not work though the node is ready.
    pub(crate) degraded: Vec<String>,
    /// How far it has emptied itself, if it is to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) drain: Option<Drain>,
    pub(crate) connections: usize,
    pub(crate) sessions: usize,
    pub(crate) conversations: usize,
    pub(crate) presence_channels: usize,
}

/// See [`Status::drain`].
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Drain {
    /// `unplacing`, `telling`, `settling`; `leaving`: there is no way back.
    pub(crate) state: String,
    /// Sockets that were told to go.
    pub(crate) told: usize,
    /// Sockets that are still there.
    pub(crate) left: usize,
    pub(crate) elapsed_ms: u64,
}

impl Drain {
    fn of(progress: Progress) -> Option<Drain> {
        let Progress { phase, told, left, elapsed } = progress;
        let state = serde_json::to_value(phase).ok()?.as_str()?.to_owned();
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        (phase != Phase::Serving).then_some(Drain { state, told, left, elapsed_ms })
    }
}

impl Admin {
    async fn now(&self) -> Status {
        let app = self.stage.borrow().begun();
        let drain = app.as_ref().ok().and_then(|app| Drain::of(*app.starling.draining().borrow()));
        let (mut snapshot, degraded) = match app {
            Ok(app) => stores(&app).await,
            Err(reason) => (actors::Snapshot { unready: vec![reason], ..actors::Snapshot::default() }, Vec::new()),
        };
        if snapshot.unready.is_empty() && matches!(&*self.stage.borrow(), Stage::Joining(_)) {
            snapshot.unready.push("starting".to_owned());
        }
        if self.shutdown.is_draining() && !snapshot.unready.iter().any(|reason| reason == "draining") {
            snapshot.unready.insert(0, "draining".to_owned());
        }
        Status {
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            ready: snapshot.unready.is_empty(),
            unready: snapshot.unready,
            degraded,
            drain,
            connections: snapshot.connections,
            sessions: snapshot.sessions,
            conversations: snapshot.conversations,
            presence_channels: snapshot.presence_channels,
        }
    }

    /// The deciding part, if it is there yet.
    fn app(&self) -> Result<App, Refusal> {
        self.stage.borrow().serving().map_err(|reason| Refusal(Error::new(Code::Unavailable, reason)))
    }
}

/// The node's numbers, what does not work though it serves, and what its stores say. Without its history a node is of no use. Without its tokens it is: those
/// who are signed in go on, and every other node lacks them too.
async fn stores(app: &App) -> (actors::Snapshot, Vec<String>) {
    let (mut snapshot, store) = (app.starling.snapshot(), &app.world.store);
    let tokens = async {
        match store.tokens.is_shared() {
            true => sign_of_life("tokens", &*store.token_health).await,
            false => None,
        }
    };
    let (history, tokens) = tokio::join!(sign_of_life("history", &*store.health), tokens);
    snapshot.unready.extend(history);
    let degraded = std::mem::take(&mut snapshot.degraded).into_iter().chain(tokens).collect();
    (snapshot, degraded)
}

/// Why a store does not answer, if it does not.
async fn sign_of_life(store: &'static str, health: &dyn Health) -> Option<String> {
    let reason = match timeout(SIGN_OF_LIFE, health.ping()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{store}: {error}")),
        Err(_) => Some(format!("{store}: no answer within {} ms", SIGN_OF_LIFE.as_millis())),
    };
    ::metrics::gauge!("starling_store_up", "store" => store).set(f64::from(u8::from(reason.is_none())));
    reason
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, Json<Value>) {
    let now = admin.now().await;
    let status = if now.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut answer = json!({ "ready": now.ready, "reasons": now.unready, "degraded": now.degraded });
    if let Some(drain) = now.drain {
        answer["drain"] = json!(drain);
    }
    (status, Json(answer))
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    // for the gauges of the stores
    admin.now().await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], render(&admin.metrics))
}

async fn status(State(admin): State<Admin>) -> Json<Status> {
    Json(admin.now().await)
}

async fn nodes(State(admin): State<Admin>) -> Json<nodes::Nodes> {
    Json(admin.nodes().await)
}

/// Answers at once; the process ends when all clients are gone, unless it is taken back before.
async fn drain(State(admin): State<Admin>) -> (StatusCode, Json<Value>) {
    admin.shutdown.drain();
    (StatusCode::ACCEPTED, Json(json!({ "draining": true })))
}

/// Answers once the node serves again, or why it will not. Whether the view says so already, `/ready` knows.
async fn undrain(State(admin): State<Admin>) -> Result<Json<Value>, Refusal> {
    let conflict = |why: &str| Refusal(Error::new(Code::Conflict, why));
    let app = admin.app()?;
    let mut draining = app.starling.draining();
    if !admin.shutdown.take_back() {
        return Err(conflict("a signal has asked it to end, and whoever sent that waits for the end; start it again"));
    }
    let settled = draining.wait_for(|progress| matches!(progress.phase, Phase::Serving | Phase::Leaving)).await;
    if settled.is_ok_and(|progress| progress.phase == Phase::Serving) {
        let _ = timeout(PLACED_WITHIN, app.placed()).await;
        return Ok(Json(json!({ "draining": false })));
    }
    admin.shutdown.drain();
    Err(conflict("its clients have gone and it is leaving; start it again"))
}

async fn keys(State(admin): State<Admin>) -> Result<Json<Value>, Refusal> {
    let keys = admin.app()?.starling.accounts.keys().into_iter();
    Ok(Json(keys.map(|(kid, made_at, signs)| json!({ "kid": kid, "made_at": made_at, "signs": signs })).collect()))
}

async fn rotate(State(admin): State<Admin>) -> Result<Json<Value>, Refusal> {
    let kid = admin.app()?.starling.accounts.rotate_keys().await?;
    tracing::info!(%kid, "signing key added");
    Ok(Json(json!({ "kid": kid })))
}

async fn add_user(
    State(admin): State<Admin>, JsonBody(body): JsonBody<rest::Register>,
) -> Result<(StatusCode, Json<rest::User>), Refusal> {
    let app = admin.app()?;
    let accounts = &app.starling.accounts;
    let signed_in = accounts.register(body, std::net::IpAddr::from([127, 0, 0, 1])).await?;
    // Registering signs in; the operator needs no session.
    accounts.logout(accounts.authenticate(&signed_in.tokens.access_token).await?).await?;
    Ok((StatusCode::CREATED, Json(signed_in.user)))
}

/// A user with what only operators see.
#[derive(Serialize)]
struct ShownUser {
    #[serde(flatten)]
    user: rest::User,
    /// The last ones, newest first.
    sign_ins: Vec<ShownSignIn>,
}

#[derive(Serialize)]
struct ShownSignIn {
    at: Millis,
    address: std::net::IpAddr,
    session: SessionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_name: Option<String>,
}

async fn show_user(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Json<ShownUser>, Refusal> {
    let user = find(&admin, &name).await?;
    let sign_ins = admin.app()?.starling.accounts.sign_ins(user.id, SIGN_INS_SHOWN).await?;
    let shown = sign_ins.into_iter().map(|sign_in| {
        let SignIn { at, address, session, device_name, .. } = sign_in;
        ShownSignIn { at, address, session, device_name }
    });
    Ok(Json(ShownUser { user, sign_ins: shown.collect() }))
}

async fn ban(State(admin): State<Admin>, Path(name): Path<String>) -> Result<StatusCode, Refusal> {
    set_banned(&admin, &name, true).await
}

async fn unban(State(admin): State<Admin>, Path(name): Path<String>) -> Result<StatusCode, Refusal> {
    set_banned(&admin, &name, false).await
}

async fn set_banned(admin: &Admin, name: &str, banned: bool) -> Result<StatusCode, Refusal> {
    admin.app()?.starling.accounts.ban(find(admin, name).await?.id, banned).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// By id or by username.
async fn find(admin: &Admin, name: &str) -> Result<rest::User, Refusal> {
    let app = admin.app()?;
    let accounts = &app.starling.accounts;
    if let Ok(id) = name.parse::<UserId>() {
        return Ok(accounts.user(id).await?);
    }
    Ok(accounts.find_user(name).await?.ok_or_else(|| Error::new(Code::NotFound, "there is no such user"))?)
}
