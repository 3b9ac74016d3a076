//! One request to a running node's `listen.admin`.

use std::{net::SocketAddr, time::Duration};

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::{config::Config, report::Failure};

const TIMEOUT: Duration = Duration::from_secs(15);

/// Asks the node of this configuration, and reads the answer; an empty one is `null`.
pub(super) fn ask(config: &Config, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    ask_at(config, config.listen_admin, method, path, body)
}

/// Asks a node that has the same admin token.
pub(super) fn ask_at(
    config: &Config, address: SocketAddr, method: Method, path: &str, body: Option<&Value>,
) -> Result<Value, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
    let unreachable =
        |reason: String| Failure::Unreachable(format!("no node answers at listen.admin {address}: {reason}"));
    let (status, bytes) = runtime
        .block_on(async { tokio::time::timeout(TIMEOUT, exchange(config, address, method, path, body)).await })
        .map_err(|_| unreachable("no answer in time".to_owned()))?
        .map_err(|error| unreachable(error.to_string()))?;
    let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    if status.is_success() {
        return Ok(value);
    }
    let message = value["error"]["message"].as_str().unwrap_or("it gave no reason");
    Err(Failure::Failed(format!("the node refused ({status}): {message}")))
}

async fn exchange(
    config: &Config, address: SocketAddr, method: Method, path: &str, body: Option<&Value>,
) -> Result<(StatusCode, Vec<u8>), Box<dyn std::error::Error + Send + Sync>> {
    let tcp = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = &config.admin_token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let answer = sender.send_request(request.body(body)?).await?;
    let status = answer.status();
    Ok((status, answer.into_body().collect().await?.to_bytes().to_vec()))
}
