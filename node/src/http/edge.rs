//! What happens to every request alike: its id, its client's address, its deadline, its error in one form, its headers
//! and its figures. Knows no route by name.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use actors::{Clock, Random};
use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use protocol::{Code, Error, limits::REQUEST_DEADLINE_MS};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::Instrument;

use super::refusal::{self, Refusal};
use crate::{
    config::{Config, Network},
    net::{Connected, address},
};

/// The header that names a request in the logs.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The client's address, proxies seen through; in every request's extensions.
#[derive(Clone, Copy)]
pub(crate) struct ClientAddress(pub(crate) std::net::IpAddr);

/// What the treatment needs; there before the stores are.
#[derive(Clone)]
pub(crate) struct Edge {
    pub(crate) clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    allowed_origins: Arc<[HeaderValue]>,
    trusted_proxies: Arc<[Network]>,
}

impl Edge {
    pub(crate) fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>, config: &Config) -> Edge {
        let origins = config.auth_allowed_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
        let trusted_proxies = config.listen_trusted_proxies.clone().into();
        Edge { clock, random, allowed_origins: origins.collect(), trusted_proxies }
    }

    fn request_id(&self) -> String {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes);
        format!("r_{:016x}", u64::from_be_bytes(bytes))
    }
}

/// Puts the common treatment around all routes.
pub(crate) fn around(routes: Router, edge: Edge) -> Router {
    let origins = edge.allowed_origins.iter().cloned();
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, HeaderName::from_static("idempotency-key")])
        .expose_headers([REQUEST_ID, header::RETRY_AFTER])
        .max_age(Duration::from_secs(600));
    // The last layer is the outermost.
    routes.layer(middleware::from_fn(figures)).layer(cors).layer(middleware::from_fn_with_state(edge, treat))
}

/// Request id, address, deadline, errors, headers.
async fn treat(State(edge): State<Edge>, mut request: Request, next: Next) -> Response {
    let id = edge.request_id();
    if let Some(connected) = request.extensions().get::<Connected>() {
        let client = address::client(connected.peer, request.headers(), &edge.trusted_proxies);
        request.extensions_mut().insert(ClientAddress(client));
    }
    let span = tracing::info_span!("request", request = %id);
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    let deadline = Duration::from_millis(REQUEST_DEADLINE_MS);
    let answer = tokio::time::timeout(deadline, answer).instrument(span.clone()).await;
    let mut response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(_panic)) => {
            span.in_scope(|| tracing::error!("a handler panicked"));
            Refusal(Error::new(Code::Internal, "something went wrong here")).into_response()
        }
        Err(_) => {
            Refusal(Error::new(Code::Timeout, "no answer within ten seconds; it may still happen")).into_response()
        }
    };
    if let Some(error) = refusal::of(&mut response) {
        response = refusal::write(response, &error, &id, edge.clock.wall());
    }
    headers(response.headers_mut());
    response.headers_mut().insert(REQUEST_ID, HeaderValue::from_str(&id).expect("an id is plain text"));
    response
}

/// Duration and errors by route; the pattern, never the path, is the label.
async fn figures(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let path = path.as_ref().map_or("unknown", MatchedPath::as_str);
    let kind = format!("{} {path}", method(request.method()));
    let started = Instant::now();
    let mut response = next.run(request).await;
    metrics::histogram!("starling_request_duration_seconds", "type" => kind.clone()).record(started.elapsed());
    if let Some(error) = refusal::of(&mut response) {
        metrics::counter!("starling_request_errors_total", "type" => kind, "code" => error.code.as_str()).increment(1);
        response = refusal::with_status_of(response, error);
    }
    response
}

/// Methods are the client's words: only those we know become labels.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "GET",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

fn headers(headers: &mut HeaderMap) {
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Answers carry tokens and messages: unless a route says otherwise nobody on the way keeps them.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
