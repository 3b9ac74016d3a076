//! Secrets and the files that hold them: `x_file` becomes `x`; a file that others may read is refused.

use std::{os::unix::fs::PermissionsExt, path::Path};

use super::{Loaded, Mistake};

/// Bytes of an admin token at least: guessing must be hopeless.
const TOKEN_BYTES_MIN: usize = 16;

/// Reads the files that secrets are in and checks what they hold.
pub(super) fn resolve(loaded: &mut Loaded) -> Vec<Mistake> {
    let mut found = Vec::new();
    let config = &loaded.config;
    let mut one = |name, value: &Option<String>, file: &Option<String>| {
        one(loaded, name, value.as_deref(), file.as_deref(), &mut found)
    };
    let admin_token = one("admin.token", &config.admin_token, &config.admin_token_file);
    let auth_secret = one("auth.secret", &config.auth_secret, &config.auth_secret_file);
    let cql_password = one("storage.cql.password", &config.storage_cql_password, &config.storage_cql_password_file);
    let redis_url = one("tokens.redis.url", &config.tokens_redis_url, &config.tokens_redis_url_file);
    if admin_token.as_ref().is_some_and(|token| token.len() < TOKEN_BYTES_MIN) {
        let reason = format!("shorter than {TOKEN_BYTES_MIN} bytes");
        found.push(loaded.mistake("admin.token", reason, "make one with: openssl rand -hex 32"));
    }
    if auth_secret.as_ref().is_some_and(|secret| parse_key(secret).is_none()) {
        let reason = "not 64 hexadecimal digits";
        found.push(loaded.mistake("auth.secret", reason, "make one with: openssl rand -hex 32"));
    }
    if redis_url.as_ref().is_some_and(|url| !url.starts_with("redis://") && !url.starts_with("rediss://")) {
        let remedy = "write it like redis://user:password@host:6379/0";
        found.push(loaded.mistake("tokens.redis.url", "neither redis:// nor rediss://", remedy));
    }
    if let Some(path) = &config.listen_tls_key_file
        && let Err((reason, remedy)) = private_file(Path::new(path))
    {
        found.push(loaded.mistake("listen.tls.key_file", reason, remedy));
    }
    if let Some(path) = &config.cluster_tls_key_file
        && let Err((reason, remedy)) = private_file(Path::new(path))
    {
        found.push(loaded.mistake("cluster.tls.key_file", reason, remedy));
    }
    loaded.config.admin_token = admin_token;
    loaded.config.auth_secret = auth_secret;
    loaded.config.storage_cql_password = cql_password;
    loaded.config.tokens_redis_url = redis_url;
    found
}

fn one(
    loaded: &Loaded, name: &str, value: Option<&str>, file: Option<&str>, found: &mut Vec<Mistake>,
) -> Option<String> {
    let file_key = format!("{name}_file");
    match (value, file) {
        (Some(_), Some(_)) => {
            found.push(loaded.mistake(&file_key, format!("{name} is set as well"), "keep one of the two"));
            None
        }
        (value, None) => value.map(str::to_owned),
        (None, Some(path)) => match private_file(Path::new(path)) {
            Ok(text) => Some(text.trim().to_owned()),
            Err((reason, remedy)) => {
                found.push(loaded.mistake(&file_key, reason, remedy));
                None
            }
        },
    }
}

/// Reads a file that nobody else may read.
fn private_file(path: &Path) -> Result<String, (String, String)> {
    let remedy = "name a file that this user can read".to_owned();
    let unreadable = |error: std::io::Error| (format!("cannot be read: {error}"), remedy.clone());
    let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err((format!("others may read it (mode {mode:03o})"), format!("chmod 600 {}", path.display())));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// 32 bytes from 64 hexadecimal digits.
pub(crate) fn parse_key(text: &str) -> Option<[u8; 32]> {
    let digits = text.trim().as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(key)
}
