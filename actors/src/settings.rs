//! What the operator chose, already checked. Defaults, units and bounds of each are in `cluster.toml`.

use std::time::Duration;

use protocol::Incarnation;

/// What decisions depend on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the node, as clients and operators see it.
    pub node: String,
    /// This run of the process.
    pub incarnation: Incarnation,
    /// Accounts.
    pub auth: Auth,
    /// Limits of clients.
    pub limits: Limits,
}

/// See [`Settings::auth`].
#[derive(Clone, Debug)]
pub struct Auth {
    /// `iss` and `aud` of tokens.
    pub issuer: String,
    /// Life of an access token.
    pub access_ttl: Duration,
    /// Life of a refresh token.
    pub refresh_ttl: Duration,
    /// Seals signing keys, derives successors of refresh tokens.
    pub secret: Secret,
    /// Sessions a user may have; the oldest ends when one more begins.
    pub sessions_per_user_max: usize,
    /// A sign-in ends all other sessions of the user.
    pub single_session: bool,
    /// argon2id memory, KiB.
    pub password_memory_kib: u32,
    /// argon2id passes.
    pub password_passes: u32,
}

/// A key that never shows itself.
#[derive(Clone)]
pub struct Secret(pub [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// See [`Settings::limits`]. A rate of 0 is no limit.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one WebSocket message.
    pub frame_bytes: usize,
    /// Characters of a post's text.
    pub text_chars: usize,
    /// Requests of one socket unanswered at once.
    pub inflight: usize,
    /// Outbound bytes of one socket above which it is told of gaps instead of events.
    pub queue_soft_bytes: usize,
    /// Outbound bytes of one socket above which it is closed.
    pub queue_hard_bytes: usize,
    /// Ping interval of an idle socket, for `hello`'s answer.
    pub ping_ms: u64,
    /// Sends per second of one session.
    pub send_per_s: u32,
    /// Sends of one session at once.
    pub send_burst: u32,
    /// REST requests per minute of one session, or address where nobody is signed in.
    pub rest_per_min: u32,
    /// Failed sign-ins per minute of one account and of one address.
    pub login_per_min: u32,
    /// Registrations per minute of one address.
    pub register_per_min: u32,
    /// Members of one conversation.
    pub members: usize,
}
