//! TLS for clients: certificates from files, read again when they change. A certificate that cannot be read leaves the
//! one in use in place.

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// The certificate in use.
#[derive(Clone)]
pub(crate) struct Tls(Arc<Inner>);

struct Inner {
    cert: String,
    key: String,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads certificate and key. The error is one line for the operator.
    pub(crate) fn load(cert: &str, key: &str) -> Result<Tls, String> {
        let current = RwLock::new(read(cert, key)?);
        Ok(Tls(Arc::new(Inner { cert: cert.into(), key: key.into(), current })))
    }

    pub(crate) async fn accept(&self, tcp: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let config = self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        TlsAcceptor::from(config).accept(tcp).await
    }

    /// Reads the files again; new connections get what they hold now.
    pub(crate) fn reload(&self) {
        match read(&self.0.cert, &self.0.key) {
            Ok(fresh) => {
                *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                tracing::info!("certificates read again");
            }
            Err(error) => tracing::error!(%error, "cannot read new certificates; those in use stay"),
        }
    }

    /// Looks now and then whether a file has changed.
    pub(crate) async fn watch(self) {
        watch_files(&[&self.0.cert, &self.0.key], || self.reload()).await;
    }
}

/// Calls `changed` whenever one of these files has changed.
pub(crate) async fn watch_files(paths: &[&String], changed: impl Fn()) {
    let look = || -> Vec<Option<SystemTime>> {
        paths.iter().map(|path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok()).collect()
    };
    let mut seen = look();
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let now = look();
        if now != seen {
            seen = now;
            changed();
        }
    }
}

fn read(cert: &str, key: &str) -> Result<Arc<ServerConfig>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(Path::new(cert)).and_then(Iterator::collect);
    let chain = chain.map_err(|error| format!("cannot read listen.tls.cert {cert}: {error}"))?;
    if chain.is_empty() {
        return Err(format!("cannot use listen.tls.cert {cert}: there is no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_file(Path::new(key));
    let private = private.map_err(|error| format!("cannot read listen.tls.key_file {key}: {error}"))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| format!("cannot use listen.tls.cert {cert} with listen.tls.key_file {key}: {error}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
