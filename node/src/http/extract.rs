//! Parts of a request as types: who asks, the body, ids in the path, numbers in the query. Everything that is wrong is
//! refused here, with the field's name.

use std::{collections::HashMap, str::FromStr};

use actors::Caller;
use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Request},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use protocol::{ClientId, Code, Error};
use serde::de::DeserializeOwned;

use super::{
    edge::ClientAddress,
    refusal::{self, Refusal},
};
use crate::app::App;

/// Bytes of one request's body.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Who is signed in, by `Authorization: Bearer`; within their rate.
pub(crate) struct Signed(pub(crate) Caller);

impl FromRequestParts<App> for Signed {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Signed, Refusal> {
        let Open(from) = address(parts)?;
        let token = bearer(parts).ok_or_else(|| Error::new(Code::Unauthenticated, "an access token is needed"))?;
        match app.starling.accounts.authenticate(token).await {
            Ok(caller) => {
                app.starling.accounts.throttle(Some(&caller), from).await?;
                Ok(Signed(caller))
            }
            // A bad token costs a signature check: its address pays.
            Err(error) => {
                app.starling.accounts.throttle(None, from).await?;
                Err(error.into())
            }
        }
    }
}

/// Anybody, within the rate of their address; for routes that need no sign-in.
pub(crate) struct Open(pub(crate) std::net::IpAddr);

impl FromRequestParts<App> for Open {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Open, Refusal> {
        let open = address(parts)?;
        app.starling.accounts.throttle(None, open.0).await?;
        Ok(open)
    }
}

/// The client's address as the edge has found it.
fn address(parts: &Parts) -> Result<Open, Refusal> {
    let found = parts.extensions.get::<ClientAddress>().copied();
    let ClientAddress(from) = found.ok_or_else(|| Error::new(Code::Internal, "a request without an address"))?;
    Ok(Open(from))
}

/// The token of `Authorization: Bearer`.
pub(crate) fn bearer(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A JSON body. Fields that are wrong are named.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Response;
    async fn from_request(request: Request, _: &S) -> Result<JsonBody<T>, Response> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        if !kind.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/json") {
            let error = Error::field("content-type", "the body must be application/json");
            return Err(refusal::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, error));
        }
        read(request.into_body()).await.map(JsonBody).map_err(|error| Refusal(error).into_response())
    }
}

async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Error> {
    let bytes = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|error| {
        let source = std::error::Error::source(&error);
        match source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>()) {
            true => Error::new(Code::TooLarge, format!("the body is larger than {BODY_BYTES_MAX} bytes")),
            false => Error::new(Code::BadFrame, "the body ended early"),
        }
    })?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::field("d", "the body is not UTF-8"))?;
    protocol::request::read(text)
}

/// An id in the path. One that cannot be is answered like one that does not exist.
pub(crate) fn id<T: FromStr>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|_| Error::new(Code::NotFound, "there is no such thing").into())
}

/// The query's values by name. Unknown ones are ignored.
pub(crate) type Query = axum::extract::Query<HashMap<String, String>>;

/// A value of the query as what it should be.
pub(crate) fn number<T: FromStr>(query: &Query, name: &str) -> Result<Option<T>, Refusal> {
    let Some(text) = query.get(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Error::field(name, "not a number").into())
}

/// The client's name for a request that must happen once: the header `Idempotency-Key`.
pub(crate) struct IdempotencyKey(pub(crate) Option<ClientId>);

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<IdempotencyKey, Refusal> {
        const NAME: &str = "idempotency-key";
        let Some(value) = parts.headers.get(NAME) else { return Ok(IdempotencyKey(None)) };
        let text = value.to_str().map_err(|_| Error::field(NAME, "not plain text"))?;
        let key = ClientId::try_from(text.to_owned()).map_err(|reason| Error::field(NAME, reason))?;
        Ok(IdempotencyKey(Some(key)))
    }
}
