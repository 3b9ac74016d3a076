//! Everything made from the operator's secret: one key per purpose, sealed boxes, and refresh tokens.
//! Holds no state but the keys; never touches a store.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    constant_time::verify_slices_are_equal,
    digest, hkdf, hmac,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use protocol::SessionId;

use crate::{Random, settings::Secret};

const REFRESH_PREFIX: &str = "rt_";
const REFRESH_BYTES: usize = 16 + 8 + 32;

/// Keys derived from the secret. Losing the secret means signing in again and new signing keys.
pub(super) struct Secrets {
    seal: LessSafeKey,
    refresh: hmac::Key,
}

/// What a refresh token says, its signature checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RefreshToken {
    /// The session.
    pub(super) family: SessionId,
    /// Grows by one with every rotation, from 1.
    pub(super) generation: u64,
}

impl Secrets {
    pub(super) fn new(secret: &Secret) -> Secrets {
        let sealing = derive(secret, b"starling signing keys 1");
        let seal = UnboundKey::new(&AES_256_GCM, &sealing).expect("a key of AES-256 has 32 bytes");
        let refresh = hmac::Key::new(hmac::HMAC_SHA256, &derive(secret, b"starling refresh tokens 1"));
        Secrets { seal: LessSafeKey::new(seal), refresh }
    }

    /// Encrypts `plain`; `name` must be given again to open it.
    pub(super) fn seal(&self, random: &dyn Random, name: &str, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce);
        let mut sealed = plain.to_vec();
        let tag = self
            .seal
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut sealed)
            .expect("a key of a hundred bytes is not too long to encrypt");
        [nonce.as_slice(), &sealed, tag.as_ref()].concat()
    }

    /// Decrypts what [`Secrets::seal`] made under the same secret and name.
    pub(super) fn open(&self, name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN)?;
        let mut rest = rest.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.seal.open_in_place(nonce, Aad::from(name), &mut rest).ok()?;
        Some(plain.to_vec())
    }

    /// The text of a refresh token. Always the same for the same token: a request repeated because its answer was lost
    /// gets the same successor, though the stores keep hashes only.
    pub(super) fn refresh_token(&self, token: RefreshToken) -> String {
        let mut bytes = Vec::with_capacity(REFRESH_BYTES);
        bytes.extend_from_slice(&token.family.0);
        bytes.extend_from_slice(&token.generation.to_be_bytes());
        let tag = hmac::sign(&self.refresh, &bytes);
        bytes.extend_from_slice(tag.as_ref());
        format!("{REFRESH_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a refresh token; `None`: not one of ours. Whether it is live, spent or revoked is for the stores to say.
    pub(super) fn read_refresh_token(&self, text: &str) -> Option<RefreshToken> {
        let text = text.strip_prefix(REFRESH_PREFIX)?;
        if text.len() != REFRESH_BYTES.div_ceil(3) * 4 - 1 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (said, tag) = bytes.split_at_checked(24)?;
        verify_slices_are_equal(hmac::sign(&self.refresh, said).as_ref(), tag).ok()?;
        let (family, generation) = said.split_at(16);
        let generation = u64::from_be_bytes(generation.try_into().ok()?);
        Some(RefreshToken { family: SessionId(family.try_into().ok()?), generation })
    }
}

/// SHA-256, the form in which the stores know tokens and tickets.
pub(super) fn hash(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    hash
}

fn derive(secret: &Secret, purpose: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"starling").extract(&secret.0);
    let purpose = [purpose];
    let okm = prk.expand(&purpose, hkdf::HKDF_SHA256).expect("32 bytes are not too many to derive");
    okm.fill(&mut key).expect("the buffer has the length asked for");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sevens;
    impl Random for Sevens {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    #[test]
    fn a_sealed_box_opens_only_under_its_secret_and_name() {
        let secrets = Secrets::new(&Secret([1; 32]));
        let sealed = secrets.seal(&Sevens, "k1", b"private");
        assert_eq!(secrets.open("k1", &sealed).as_deref(), Some(b"private".as_slice()));
        assert_eq!(secrets.open("k2", &sealed), None);
        assert_eq!(Secrets::new(&Secret([2; 32])).open("k1", &sealed), None);
        assert_eq!(secrets.open("k1", &sealed[..5]), None);
    }

    #[test]
    fn a_refresh_token_changed_anywhere_is_not_ours() {
        let secrets = Secrets::new(&Secret([1; 32]));
        let token = RefreshToken { family: SessionId([9; 16]), generation: 3 };
        let text = secrets.refresh_token(token);
        assert_eq!(secrets.read_refresh_token(&text), Some(token));
        assert_eq!(secrets.refresh_token(token), text, "a successor is derived, so it is always the same");
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(secrets.read_refresh_token(&changed), None, "byte {at}");
        }
        assert_eq!(secrets.read_refresh_token(&format!("{text}A")), None);
        assert_eq!(Secrets::new(&Secret([2; 32])).read_refresh_token(&text), None);
    }
}
