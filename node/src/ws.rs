//! `/v1/ws`: the upgrade. Checks everything that HTTP can refuse, takes the connection from hyper and starts the
//! socket's task. What is said on the socket is `actors`' business.

mod liveness;
mod meters;
pub(crate) mod settings;
mod socket;

use std::time::Duration;

use actors::Caller;
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use hyper_util::rt::TokioIo;
use protocol::{Code, Error, close::CloseCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::{
    app::App,
    http::{
        extract::bearer,
        origin,
        refusal::{self, Refusal},
    },
    net::{Connected, Stream},
};
use settings::Settings;

/// The one subprotocol; a client that names none means it.
const SUBPROTOCOL: &str = "starling.v1.json";
/// How long hyper may take to hand over the connection after the answer.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the upgrade found out.
enum Verdict {
    /// Nobody yet: `hello` brings the token.
    Unknown,
    /// A header or ticket proved who it is.
    Proved(Caller),
    /// Accept, then close with this: browsers cannot read a refused upgrade.
    Close(CloseCode),
}

/// `GET /v1/ws`.
pub(crate) async fn upgrade(State(app): State<App>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let key = match check(&parts, &app.sockets) {
        Ok(key) => key,
        Err(response) => return *response,
    };
    let (Some(on_upgrade), Some(connected)) =
        (parts.extensions.remove::<hyper::upgrade::OnUpgrade>(), parts.extensions.remove::<Connected>())
    else {
        return refuse(StatusCode::UPGRADE_REQUIRED, "this connection cannot be upgraded");
    };
    let subprotocols = subprotocols(&parts.headers);
    let verdict = match subprotocols.is_empty() || subprotocols.contains(&SUBPROTOCOL) {
        true => match who(&app, &parts).await {
            Ok(verdict) => verdict,
            // A store that is away is no reason to call the ticket bad.
            Err(error) => return Refusal(error).into_response(),
        },
        false => Verdict::Close(CloseCode::Version),
    };
    let named = !subprotocols.is_empty();
    // Some clients fail the handshake themselves if their choice is not echoed; close 4506 must reach them.
    let chosen = match verdict {
        Verdict::Close(CloseCode::Version) => subprotocols.first().and_then(|name| HeaderValue::from_str(name).ok()),
        _ => named.then_some(HeaderValue::from_static(SUBPROTOCOL)),
    };
    tokio::spawn(async move {
        let Ok(Ok(upgraded)) = tokio::time::timeout(HANDOVER_TIMEOUT, on_upgrade).await else { return };
        let Ok(taken) = upgraded.downcast::<TokioIo<Stream>>() else { return };
        // A copy: the original keeps hyper's whole buffer alive.
        let already_read = taken.read_buf.to_vec();
        let stream = taken.io.into_inner();
        drop(taken.read_buf);
        socket::run(app, stream, already_read, verdict).await;
        drop(connected);
    });
    switching(&key, chosen)
}

/// The head of the request: method, headers, version, origin. Answers the key.
fn check(parts: &Parts, settings: &Settings) -> Result<HeaderValue, Box<Response>> {
    let headers = &parts.headers;
    let has = |name: header::HeaderName, word: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
    };
    if parts.method != Method::GET || !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
        let mut response = refuse(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket: upgrade the connection");
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        return Err(Box::new(response));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut response = refuse(StatusCode::UPGRADE_REQUIRED, "only version 13 of WebSocket is spoken here");
        response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Err(Box::new(response));
    }
    if !origin::allowed(headers, &settings.allowed_origins) {
        let error = Error::new(Code::Forbidden, "this origin is not in auth.allowed_origins");
        return Err(Box::new(Refusal(error).into_response()));
    }
    // 16 bytes in base64: 24 characters.
    match headers.get(header::SEC_WEBSOCKET_KEY) {
        Some(key) if key.len() == 24 => Ok(key.clone()),
        _ => Err(Box::new(refuse(StatusCode::BAD_REQUEST, "sec-websocket-key is missing or has not 24 characters"))),
    }
}

fn refuse(status: StatusCode, message: &str) -> Response {
    refusal::with_status(status, Error::new(Code::BadFrame, message))
}

fn subprotocols(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// Whom the header or the ticket proves.
async fn who(app: &App, parts: &Parts) -> Result<Verdict, Error> {
    let accounts = &app.starling.accounts;
    let caller = match (bearer(parts), ticket(parts.uri.query())) {
        (Some(token), _) => accounts.authenticate(token).await,
        (None, Some(ticket)) => accounts.redeem(ticket).await,
        (None, None) => return Ok(Verdict::Unknown),
    };
    match caller {
        Ok(caller) => Ok(Verdict::Proved(caller)),
        Err(error) if error.code == Code::TokenExpired => Ok(Verdict::Close(CloseCode::TokenExpired)),
        Err(error) if error.code.status() < 429 => Ok(Verdict::Close(CloseCode::BadToken)),
        Err(error) => Err(error),
    }
}

/// `?ticket=`. Tickets are plain letters and digits, so nothing needs decoding.
fn ticket(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|pair| pair.strip_prefix("ticket="))
}

fn switching(key: &HeaderValue, subprotocol: Option<HeaderValue>) -> Response {
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is plain text");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(subprotocol) = subprotocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    response
}
