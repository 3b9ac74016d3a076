//! The one conversion of errors into HTTP answers. Handlers return a [`Refusal`]; the edge adds request id and time.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::{Code, Error, Millis, rest::Failure};

/// What a handler refuses with.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Error);

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = StatusCode::from_u16(self.0.code.status()).unwrap_or_default().into_response();
        response.extensions_mut().insert(Pending(self.0));
        response
    }
}

/// An error that is not written out yet.
#[derive(Clone)]
struct Pending(Error);

/// The error an answer stands for, if it is one: a handler's, or what the framework refused by itself.
pub(crate) fn of(response: &mut Response) -> Option<Error> {
    if let Some(Pending(error)) = response.extensions_mut().remove::<Pending>() {
        return Some(error);
    }
    let status = response.status();
    // An answer in JSON is a handler's own, as that of `/ready`.
    let is_written = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if is_written || !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    Some(match status {
        StatusCode::NOT_FOUND => Error::new(Code::NotFound, "there is no such route"),
        StatusCode::METHOD_NOT_ALLOWED => Error::new(Code::UnknownType, "this route does not take that method"),
        StatusCode::PAYLOAD_TOO_LARGE => Error::new(Code::TooLarge, "the body is larger than 64 KiB"),
        status if status.is_client_error() => Error::new(Code::BadFrame, "the request cannot be understood"),
        _ => Error::new(Code::Internal, "something went wrong here"),
    })
}

/// Writes an error out. The status stays what the response says: 405 and 415 have no code of their own.
pub(crate) fn write(response: Response, error: &Error, request_id: &str, now: Millis) -> Response {
    let (mut head, _) = response.into_parts();
    let body = serde_json::to_vec(&Failure::of(error, request_id.to_owned(), now)).expect("plain data serialises");
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if matches!(head.status.as_u16(), 429 | 503) {
        let seconds = error.after_ms.unwrap_or(1000).div_ceil(1000).max(1);
        head.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if head.status == StatusCode::UNAUTHORIZED {
        head.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    Response::from_parts(head, Body::from(body))
}

/// A refusal with a status that no code has.
pub(crate) fn with_status(status: StatusCode, error: Error) -> Response {
    let mut response = Refusal(error).into_response();
    *response.status_mut() = status;
    response
}

/// The same answer with its error put back, to be written out further up.
pub(crate) fn with_status_of(mut response: Response, error: Error) -> Response {
    response.extensions_mut().insert(Pending(error));
    response
}
