//! The REST client: one call per route, typed as the protocol types it. It retries nothing and hides nothing: every
//! answer comes with its status, every failure with what the server said.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Bytes, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use protocol::{Code, ConversationId, Kind, Seq, UserId, push, rest};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Target, target::TargetError};

/// How long an answer may take: the server's own deadline and a little.
const DEADLINE: Duration = Duration::from_secs(15);

/// A REST client of one server. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Rest {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
}

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: hyper::HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Why a call has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum RestFailed {
    /// The server says no.
    #[error("{status} {}: {}", .failure.error.code.as_str(), .failure.error.message)]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it says.
        failure: Box<rest::Failure>,
    },
    /// An answer that is not in the protocol.
    #[error("unexpected answer: {status} {body}")]
    Unexpected {
        /// HTTP status.
        status: u16,
        /// The body, as text.
        body: String,
    },
    /// No answer: whether the request had an effect is unknown.
    #[error("no answer: {0}")]
    Lost(String),
}

impl RestFailed {
    /// The code of a refusal.
    pub fn code(&self) -> Option<Code> {
        match self {
            RestFailed::Refused { failure, .. } => Some(failure.error.code),
            _ => None,
        }
    }
}

/// A call under construction.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<String>,
}

impl Call {
    /// `path` without the leading `/v1/`.
    pub fn new(method: Method, path: impl Into<String>) -> Call {
        Call { method, path: path.into(), headers: Vec::new(), body: None }
    }

    /// Signed by an access token.
    #[must_use]
    pub fn by(self, access_token: &str) -> Call {
        self.header("authorization", format!("Bearer {access_token}"))
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Call {
        self.headers.push((name, value.into()));
        self
    }

    /// With a JSON body.
    #[must_use]
    pub fn body(self, body: &impl Serialize) -> Call {
        self.text(serde_json::to_string(body).expect("plain data always serialises"))
    }

    /// With a body that claims to be JSON.
    #[must_use]
    pub fn text(mut self, body: impl Into<String>) -> Call {
        self.body = Some(body.into());
        self
    }
}

impl Rest {
    /// A client; connects with the first call.
    ///
    /// # Errors
    /// None that `target` did not already have.
    pub fn new(target: &Target) -> Result<Rest, TargetError> {
        let tls = match target.tls() {
            Some(tls) => (**tls).clone(),
            None => rustls::ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
                .with_safe_default_protocol_versions()
                .map_err(|e| TargetError::Certificates(e.to_string()))?
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
        };
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Rest { client, base: format!("{}://{}", target.scheme(), target.authority()) })
    }

    /// Makes a call and gives back whatever came.
    ///
    /// # Errors
    /// [`RestFailed::Lost`].
    pub async fn raw(&self, call: Call) -> Result<Answer, RestFailed> {
        let lost = |e: &dyn std::fmt::Display| RestFailed::Lost(e.to_string());
        let mut request = Request::builder().method(call.method).uri(format!("{}/v1/{}", self.base, call.path));
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        if call.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = Full::from(call.body.unwrap_or_default());
        let request = request.body(body).map_err(|e| lost(&e))?;
        let answer = async {
            let response = self.client.request(request).await.map_err(|e| lost(&e))?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|e| lost(&e))?.to_bytes();
            Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
        };
        tokio::time::timeout(DEADLINE, answer).await.map_err(|_| lost(&format!("nothing within {DEADLINE:?}")))?
    }

    /// Makes a call whose good answer is a `T` (`()`: no body) and says with which status it came.
    ///
    /// # Errors
    /// [`RestFailed`].
    pub async fn call<T: DeserializeOwned>(&self, call: Call) -> Result<(u16, T), RestFailed> {
        let answer = self.raw(call).await?;
        let unexpected = || RestFailed::Unexpected {
            status: answer.status,
            body: String::from_utf8_lossy(&answer.body).into_owned(),
        };
        if !(200..300).contains(&answer.status) {
            let failure = serde_json::from_slice(&answer.body).map_err(|_| unexpected())?;
            return Err(RestFailed::Refused { status: answer.status, failure: Box::new(failure) });
        }
        let json: &[u8] = if answer.body.is_empty() { b"null" } else { &answer.body };
        Ok((answer.status, serde_json::from_slice(json).map_err(|_| unexpected())?))
    }

    /// `POST auth/register`.
    ///
    /// # Errors
    /// [`RestFailed`].
    pub async fn register(&self, body: &rest::Register) -> Result<rest::SignedIn, RestFailed> {
        Ok(self.call(Call::new(Method::POST, "auth/register").body(body)).await?.1)
    }

    /// `POST auth/login`.
    ///
    /// # Errors
    /// [`RestFailed`].
    pub async fn login(&self, body: &rest::Login) -> Result<rest::SignedIn, RestFailed> {
        Ok(self.call(Call::new(Method::POST, "auth/login").body(body)).await?.1)
    }

    /// `POST auth/refresh`.
    ///
    /// # Errors
    /// [`RestFailed`].
    pub async fn refresh(&self, refresh_token: &str) -> Result<rest::Tokens, RestFailed> {
        let body = rest::Refresh { refresh_token: refresh_token.to_owned() };
        Ok(self.call(Call::new(Method::POST, "auth/refresh").body(&body)).await?.1)
    }

    /// `POST conversations`, a group.
    ///
    /// # Errors
    /// [`RestFailed`].
    pub async fn create_group(
        &self, token: &str, title: &str, members: Vec<UserId>,
    ) -> Result<rest::Conversation, RestFailed> {
        let body = rest::CreateConversation { kind: Kind::Group, title: Some(title.to_owned()), members };
        Ok(self.call(Call::new(Method::POST, "conversations").by(token).body(&body)).await?.1)
    }

    /// `POST conversations/{id}/members`, at most 200 at once.
    ///
    /// # Errors
    /// [`RestFailed`].
    pub async fn add_members(&self, token: &str, c: ConversationId, users: Vec<UserId>) -> Result<(), RestFailed> {
        let body = rest::AddMembers { users };
        let call = Call::new(Method::POST, format!("conversations/{c}/members")).by(token).body(&body);
        self.call::<serde::de::IgnoredAny>(call).await.map(|_| ())
    }

    /// `GET conversations/{id}/messages`: what comes after `after`.
    ///
    /// # Errors
    /// [`RestFailed`].
    pub async fn page_after(
        &self, token: &str, c: ConversationId, after: Seq,
    ) -> Result<push::HistoryPage, RestFailed> {
        let path = format!("conversations/{c}/messages?after={after}&limit={}", protocol::limits::PAGE_POSTS_MAX);
        Ok(self.call(Call::new(Method::GET, path).by(token)).await?.1)
    }
}

impl Answer {
    /// The error that a failed call carries.
    pub fn failure(&self) -> Option<rest::Failure> {
        serde_json::from_slice(&self.body).ok()
    }
}
