//! `/v1/openapi.json`: the REST surface for machines. A test in `routes.rs` holds it to the list of routes.

use axum::{http::header, response::IntoResponse};

/// The document, as it is served.
pub(crate) const DOCUMENT: &str = include_str!("../../openapi.json");

pub(crate) async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "public, max-age=300")], DOCUMENT)
}
