//! Where the server is: reads a URL and opens byte streams to it, with TLS where the URL says so. The certificate is
//! always verified: against the system's roots, or against the given authority alone.

use std::{path::Path, sync::Arc};

use hyper_rustls::ConfigBuilderExt;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// A server: `http://host:port` or `https://host:port`.
#[derive(Clone, Debug)]
pub struct Target {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
}

/// Why a server cannot be reached, or not even be named.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Not a URL of the expected form.
    #[error("cannot use url `{0}`: expected http://HOST[:PORT] or https://HOST[:PORT] without a path")]
    Url(String),
    /// The file of `--ca`, or the system's certificates.
    #[error("cannot read certificates: {0}")]
    Certificates(String),
    /// Nobody answers.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// A byte stream, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Target {
    /// Reads `url`. `ca`: a PEM file whose certificates are trusted instead of the system's.
    ///
    /// # Errors
    /// [`TargetError::Url`], [`TargetError::Certificates`].
    pub fn new(url: &str, ca: Option<&Path>) -> Result<Target, TargetError> {
        let wrong = || TargetError::Url(url.to_owned());
        let (secure, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err(wrong()),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.is_empty() || authority.contains(['/', '?', '#', '@']) {
            return Err(wrong());
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') => (host, port.parse().map_err(|_| wrong())?),
            _ => (authority, if secure { 443 } else { 80 }),
        };
        let tls = if secure { Some(Arc::new(trust(ca)?)) } else { None };
        Ok(Target { host: host.to_owned(), port, tls })
    }

    /// Host and port, as in the `Host` header.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// What to trust, if the stream is encrypted.
    pub(crate) fn tls(&self) -> Option<&Arc<ClientConfig>> {
        self.tls.as_ref()
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// [`TargetError::Unreachable`].
    pub async fn connect(&self) -> Result<Box<dyn Stream>, TargetError> {
        let unreachable = |source| TargetError::Unreachable { address: self.authority(), source };
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, self.port)).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TargetError::Url(self.authority()))?;
        let stream = tokio_rustls::TlsConnector::from(tls.clone()).connect(name, stream).await.map_err(unreachable)?;
        Ok(Box::new(stream))
    }
}

fn trust(ca: Option<&Path>) -> Result<ClientConfig, TargetError> {
    let wrong = |e: &dyn std::fmt::Display| TargetError::Certificates(e.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|e| wrong(&e))?;
    let Some(path) = ca else {
        return Ok(config.with_native_roots().map_err(|e| wrong(&e))?.with_no_client_auth());
    };
    let shown = path.display();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| wrong(&format!("{shown}: {e}")))? {
        let certificate = certificate.map_err(|e| wrong(&format!("{shown}: {e}")))?;
        roots.add(certificate).map_err(|e| wrong(&format!("{shown}: {e}")))?;
    }
    if roots.is_empty() {
        return Err(wrong(&format!("{shown}: no certificate in it")));
    }
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_scheme_host_and_port_and_nothing_else() {
        let target = Target::new("http://127.0.0.1:8080/", None).unwrap();
        assert_eq!((target.scheme(), target.authority().as_str()), ("http", "127.0.0.1:8080"));
        assert_eq!(Target::new("http://chat.example", None).unwrap().authority(), "chat.example:80");
        for wrong in ["127.0.0.1:8080", "ws://x", "http://", "http://x/v1", "http://u@x", "http://x:port"] {
            assert!(matches!(Target::new(wrong, None), Err(TargetError::Url(_))), "{wrong}");
        }
    }
}
