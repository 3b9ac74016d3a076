//! Access tokens: what a signed token says, and whether one presented is ours and lives now. Knows keys by `kid`
//! only through [`Ring`]; never asks a store and never reads the machine's clock.

use std::collections::HashSet;

use aws_lc_rs::{
    digest,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use protocol::{Code, Error, Millis, SessionId, UserId};
use serde::{Deserialize, Serialize};

use super::Caller;

/// Ours have about 400 bytes.
const TOKEN_BYTES_MAX: usize = 4096;
/// `typ` of the header: an access token by RFC 9068, so that no other kind of token of ours is ever taken for one.
const TYPE: &str = "at+jwt";
/// Clocks of nodes differ, and a clock set back a little across a restart must lock nobody out.
const NOT_BEFORE_MS: u64 = 60_000;
/// On both ends.
const LEEWAY_S: u64 = 5;

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    sid: SessionId,
    iat: u64,
    nbf: u64,
    exp: u64,
}

/// One key, ready for use.
pub(super) struct Key {
    pub(super) kid: String,
    pub(super) public: Vec<u8>,
    pub(super) created_at: Millis,
    sign: EncodingKey,
    verify: DecodingKey,
}

impl Key {
    /// From the private key's PKCS#8. The public half is derived, never believed: a store that could name the public
    /// key could sign.
    pub(super) fn new(pkcs8: &[u8], created_at: Millis) -> Option<Key> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).ok()?;
        let public = pair.public_key().as_ref().to_vec();
        Some(Key {
            kid: kid(&public),
            sign: EncodingKey::from_ed_der(pkcs8),
            verify: DecodingKey::from_ed_der(&public),
            public,
            created_at,
        })
    }
}

/// The name of a key: the start of its public half's hash.
pub(super) fn kid(public: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(&digest::digest(&digest::SHA256, public).as_ref()[..9])
}

/// The keys of one moment, newest first and never empty. The newest signs, all verify.
pub(super) struct Ring {
    pub(super) keys: Vec<Key>,
}

/// Why a token is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not ours, or not a token at all.
    Forged,
    /// Names a key that is not in the ring; it may have been made by another process a moment ago.
    UnknownKey,
    /// Was ours, but does not live now.
    Expired,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        match refusal {
            Refusal::Forged | Refusal::UnknownKey => unauthenticated(),
            Refusal::Expired => Error::new(Code::TokenExpired, "the access token has ended; refresh it"),
        }
    }
}

/// The one answer to everything that proves nobody.
pub(super) fn unauthenticated() -> Error {
    Error::new(Code::Unauthenticated, "not signed in, or not any more")
}

impl Ring {
    /// A token for a session, and when it ends.
    pub(super) fn sign(
        &self, issuer: &str, user: UserId, session: SessionId, now: Millis, ttl_s: u64,
    ) -> Option<String> {
        let key = self.keys.first()?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(key.kid.clone());
        let claims = Claims {
            iss: issuer.to_owned(),
            aud: issuer.to_owned(),
            sub: user,
            sid: session,
            iat: now.0 / 1000,
            nbf: now.0.saturating_sub(NOT_BEFORE_MS) / 1000,
            exp: now.0 / 1000 + ttl_s,
        };
        jsonwebtoken::encode(&header, &claims, &key.sign).ok()
    }

    /// Checks everything a token says of itself. A token that is not valid *yet* (the clock was set back) counts as
    /// expired: its holder is known, and refreshing mends it.
    pub(super) fn verify(&self, token: &str, issuer: &str, now: Millis) -> Result<Caller, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::Forged);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refusal::Forged)?;
        if header.alg != Algorithm::EdDSA || header.typ.as_deref() != Some(TYPE) || header.crit.is_some() {
            return Err(Refusal::Forged);
        }
        let kid = header.kid.ok_or(Refusal::Forged)?;
        let key = self.keys.iter().find(|key| key.kid == kid).ok_or(Refusal::UnknownKey)?;
        let claims = jsonwebtoken::decode::<Claims>(token, &key.verify, &validation(issuer));
        let claims = claims.map_err(|_| Refusal::Forged)?.claims;
        let now_s = now.0 / 1000;
        if now_s >= claims.exp.saturating_add(LEEWAY_S) || now_s.saturating_add(LEEWAY_S) < claims.nbf {
            return Err(Refusal::Expired);
        }
        Ok(Caller { user: claims.sub, session: claims.sid, expires_at: Millis(claims.exp.saturating_mul(1000)) })
    }

    /// The public keys as a JWK set.
    pub(super) fn jwks(&self) -> serde_json::Value {
        let keys = self.keys.iter().map(|key| {
            serde_json::json!({
                "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
                "kid": key.kid, "x": URL_SAFE_NO_PAD.encode(&key.public),
            })
        });
        serde_json::json!({ "keys": keys.collect::<Vec<_>>() })
    }
}

/// The library checks the signature, `iss` and `aud`; time is checked by the caller, whose clock is the world's.
fn validation(issuer: &str) -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.required_spec_claims = HashSet::from(["exp", "nbf", "iss", "aud", "sub"].map(str::to_owned));
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[issuer]);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation
}

#[cfg(test)]
mod tests;
