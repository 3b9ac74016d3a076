//! Where the Redis is. Never prints what the URL says of users and passwords.

use std::{fmt, path::PathBuf};

use ::redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, TlsCertificates, io::tcp::TcpSettings,
    parse_redis_url,
};

use crate::OpenError;

/// What the server shows of its clients.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How to reach a Redis or a Valkey.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// `redis://user:password@host:6379/0`; with `rediss://` through TLS. What is special in a password is
    /// percent-encoded.
    pub url: String,
    /// Set: only certificates that this authority (PEM) issued are taken; else those of the authorities that the system
    /// knows.
    pub tls_ca: Option<PathBuf>,
    /// Every key begins with it, so that several deployments share a server.
    pub prefix: String,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { url: _, tls_ca, prefix } = self;
        f.debug_struct("Settings")
            .field("url", &self.to_string())
            .field("tls_ca", tls_ca)
            .field("prefix", prefix)
            .finish()
    }
}

/// What is said of this store in messages.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.url.as_str().into_connection_info() {
            Ok(info) => write!(f, "the Redis on {}", info.addr()),
            Err(_) => f.write_str("the Redis"),
        }
    }
}

impl Settings {
    /// What the driver must know. Nothing is connected.
    pub(super) fn client(&self) -> Result<Client, OpenError> {
        let form = "write redis://user:password@host:6379/0, or rediss:// for TLS; percent-encode what is special in a \
                    password";
        let url = parse_redis_url(&self.url).filter(|url| matches!(url.scheme(), "redis" | "rediss"));
        let url = url.ok_or_else(|| self.unusable("its URL cannot be read", form))?;
        let info = url.into_connection_info().map_err(|error| {
            let said = error.to_string();
            let said = said.split(" - ").next().unwrap_or_default();
            self.unusable(&format!("its URL cannot be read ({said})"), form)
        })?;
        let said = info.redis_settings().clone();
        let info = info
            .set_redis_settings(said.set_protocol(ProtocolVersion::RESP2).set_lib_name("starling", VERSION))
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return self.client_of_tls(info);
        }
        if self.tls_ca.is_some() {
            let reason = "its certificate is to be checked, but its URL says redis://, which has none";
            return Err(self.unusable(reason, "write rediss://, or name no certificate authority"));
        }
        Client::open(info).map_err(|error| self.unusable(&error.to_string(), form))
    }

    fn client_of_tls(&self, info: ConnectionInfo) -> Result<Client, OpenError> {
        if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
            let reason = "its URL says #insecure, but certificates are always checked";
            return Err(self.unusable(reason, "name the certificate authority that issued its own"));
        }
        // The driver takes the process's; whoever was first has chosen the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let remedy = "name a PEM file with the certificate of the authority that issued the server's";
        let root_cert = self.tls_ca.as_ref().map(|path| {
            let pem = std::fs::read(path)
                .map_err(|error| self.unusable(&format!("cannot read {}: {error}", path.display()), remedy))?;
            if !pem.windows(17).any(|bytes| bytes == b"BEGIN CERTIFICATE") {
                return Err(self.unusable(&format!("{} holds no certificate", path.display()), remedy));
            }
            Ok(pem)
        });
        let certificates = TlsCertificates { client_tls: None, root_cert: root_cert.transpose()? };
        Client::build_with_tls(info, certificates).map_err(|error| self.unusable(&error.to_string(), remedy))
    }

    pub(super) fn unusable(&self, reason: &str, remedy: &str) -> OpenError {
        OpenError::Unusable { store: self.to_string(), reason: reason.to_owned(), remedy: remedy.to_owned() }
    }

    pub(super) fn unreachable(&self, reason: &str) -> OpenError {
        OpenError::Unreachable { store: self.to_string(), reason: reason.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> Settings {
        Settings { url: url.to_owned(), tls_ca: None, prefix: "starling:".to_owned() }
    }

    #[test]
    fn passwords_are_never_printed() {
        for url in ["redis://u:s3cret@127.0.0.1:1/0", "rediss://:s3cret@h/#insecure", "redis://:s3cret@h/x", "s3cret"] {
            let settings = settings(url);
            let error = settings.client().err().map(|error| error.to_string());
            let shown = format!("{settings} {settings:?} {error:?}");
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_named() {
        let refused = |settings: &Settings| settings.client().unwrap_err().to_string();
        for url in ["", "http://h", "unix:///tmp/redis", "127.0.0.1:6379", "redis://", "redis://h:99999"] {
            let error = refused(&settings(url));
            assert!(error.contains("URL cannot be read") && error.contains("write redis://"), "{url}: {error}");
        }
        assert!(refused(&settings("redis://h/zero")).contains("Invalid database number"));
        assert!(refused(&settings("rediss://h/#insecure")).contains("always checked"));
        let with_ca = |url: &str| Settings { tls_ca: Some("/nowhere/ca.pem".into()), ..settings(url) };
        assert!(refused(&with_ca("redis://h")).contains("write rediss://"));
        assert!(refused(&with_ca("rediss://h")).contains("cannot read /nowhere/ca.pem"));
    }
}
