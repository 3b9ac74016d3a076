//! Who a node is, and who others are: certificates by one authority, read from files and read again when they change. Says
//! what is wrong with them before a peer does.

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::TLS13,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::{config::Config, net::tls};

/// Both sides say so: nothing else that speaks TLS is taken for a node.
const PROTOCOL: &[u8] = b"starling-peer";
const CA: &str = "cluster.tls.ca";
const CERT: &str = "cluster.tls.cert";
const KEY: &str = "cluster.tls.key_file";

/// Where they are.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) ca: String,
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Files {
    /// All three, or none: the configuration has seen to it.
    pub(crate) fn of(config: &Config) -> Option<Files> {
        let [ca, cert, key] = [&config.cluster_tls_ca, &config.cluster_tls_cert, &config.cluster_tls_key_file];
        Some(Files { ca: ca.clone()?, cert: cert.clone()?, key: key.clone()? })
    }
}

/// What is wrong, for the operator.
#[derive(Debug, PartialEq)]
pub(crate) struct Unusable {
    pub(crate) key: &'static str,
    pub(crate) file: String,
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot use {} {}: {}; {}", self.key, self.file, self.reason, self.remedy)
    }
}

/// The certificates in use.
pub(crate) struct Certificates {
    files: Files,
    node: Option<String>,
    current: RwLock<Current>,
}

#[derive(Clone)]
struct Current {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Certificates {
    /// Reads them and looks whether peers will believe them. `node`: whose they must be, where that is known yet.
    pub(crate) fn load(files: Files, node: Option<&str>) -> Result<Certificates, Unusable> {
        let current = RwLock::new(read(&files, node)?);
        Ok(Certificates { files, node: node.map(str::to_owned), current })
    }

    /// Whatever is wrong with them, as of a node whose clock or files are wrong.
    #[cfg(test)]
    pub(super) fn unchecked(files: Files) -> Certificates {
        let current = RwLock::new(sides(&files).unwrap().current);
        Certificates { files, node: None, current }
    }

    pub(super) async fn accept(&self, tcp: TcpStream) -> std::io::Result<server::TlsStream<TcpStream>> {
        TlsAcceptor::from(self.current().server).accept(tcp).await
    }

    pub(super) async fn connect(&self, tcp: TcpStream) -> std::io::Result<client::TlsStream<TcpStream>> {
        // Not who is meant, which may not be known: the names of a certificate are compared after the handshake.
        let anybody = ServerName::try_from("starling").map_err(std::io::Error::other)?;
        TlsConnector::from(self.current().client).connect(anybody, tcp).await
    }

    /// Reads the files again; new connections use what they hold now.
    pub(crate) fn reload(&self) {
        match read(&self.files, self.node.as_deref()) {
            Ok(fresh) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                tracing::info!("certificates for peers read again");
            }
            Err(error) => tracing::error!(%error, "cannot read new certificates for peers; those in use stay"),
        }
    }

    /// Looks now and then whether a file has changed.
    pub(crate) async fn watch(&self) {
        let Files { ca, cert, key } = &self.files;
        tls::watch_files(&[ca, cert, key], || self.reload()).await;
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The names in the certificate that was shown.
pub(super) fn names(chain: Option<&[CertificateDer<'_>]>) -> Vec<String> {
    let shown = chain.and_then(<[_]>::first).and_then(|first| webpki::EndEntityCert::try_from(first).ok());
    shown.iter().flat_map(|first| first.valid_dns_names()).map(str::to_owned).collect()
}

/// Why a handshake failed, in an operator's words.
pub(super) fn words(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(inner) = inner else {
        return match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "it closed the connection in the handshake".to_owned(),
            _ => error.to_string(),
        };
    };
    match inner {
        rustls::Error::InvalidCertificate(error) => format!("its certificate {}", fault(error)),
        rustls::Error::NoCertificatesPresented => "it shows no certificate".to_owned(),
        rustls::Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::DecryptError) => {
            format!("to it this node's certificate is not by the authority in its {CA}")
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "to it this node's certificate has expired or is not valid yet; compare the clocks".to_owned()
        }
        rustls::Error::AlertReceived(alert) => format!("it refuses this node's handshake: {alert:?}"),
        rustls::Error::InvalidMessage(_) => "it does not speak TLS".to_owned(),
        other => other.to_string(),
    }
}

fn fault(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired => "has expired".to_owned(),
        CertificateError::ExpiredContext { time, not_after } => {
            format!("has expired {} days ago", days(time.as_secs().saturating_sub(not_after.as_secs())))
        }
        CertificateError::NotValidYet => "is not valid yet; compare the clocks".to_owned(),
        CertificateError::NotValidYetContext { time, not_before } => {
            let ahead = days(not_before.as_secs().saturating_sub(time.as_secs()));
            format!("is not valid for another {ahead} days; compare the clocks")
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!("is not by the authority in {CA}")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not for both servers and clients".to_owned()
        }
        other => format!("is refused: {other}"),
    }
}

fn days(seconds: u64) -> u64 {
    Duration::from_secs(seconds).as_secs() / 86_400
}

fn read(files: &Files, node: Option<&str>) -> Result<Current, Unusable> {
    let sides = sides(files)?;
    let reason = |reason| unusable(CERT, &files.cert, reason, ISSUE);
    is_believed(&sides.chain, &*sides.clients, &sides.servers, node).map_err(reason)?;
    Ok(sides.current)
}

/// How both sides of a handshake act, and what tells whether they will be believed.
struct Sides {
    current: Current,
    chain: Vec<CertificateDer<'static>>,
    clients: Arc<dyn ClientCertVerifier>,
    servers: Arc<Issued>,
}

fn sides(files: &Files) -> Result<Sides, Unusable> {
    let chain = pem(CERT, &files.cert)?;
    let authority = pem(CA, &files.ca)?;
    let key = PrivateKeyDer::from_pem_file(Path::new(&files.key));
    let key = key.map_err(|error| unusable(KEY, &files.key, format!("it holds no private key: {error}"), ISSUE))?;
    let mut roots = RootCertStore::empty();
    for certificate in authority {
        let added = roots.add(certificate);
        added.map_err(|error| unusable(CA, &files.ca, format!("it is no authority: {error}"), ISSUE))?;
    }
    let roots = Arc::new(roots);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
    let clients = clients.map_err(|error| unusable(CA, &files.ca, error.to_string(), ISSUE))?;
    let servers = Arc::new(Issued { roots, algorithms: provider.signature_verification_algorithms });
    let mismatched = |error: rustls::Error| {
        let reason = format!("it is not the key of {CERT} {}: {error}", files.cert);
        unusable(KEY, &files.key, reason, "name the key that was made with the certificate")
    };
    let versions = |error: rustls::Error| unusable(CERT, &files.cert, error.to_string(), ISSUE);
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(versions)?
        .with_client_cert_verifier(clients.clone())
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(mismatched)?;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(versions)?
        .dangerous()
        .with_custom_certificate_verifier(servers.clone())
        .with_client_auth_cert(chain.clone(), key)
        .map_err(mismatched)?;
    server.alpn_protocols = vec![PROTOCOL.to_vec()];
    client.alpn_protocols = vec![PROTOCOL.to_vec()];
    // A link lives for days: there is nothing to resume, and a resumed one would have proved nothing anew.
    server.send_tls13_tickets = 0;
    client.resumption = rustls::client::Resumption::disabled();
    let current = Current { server: Arc::new(server), client: Arc::new(client) };
    Ok(Sides { current, chain, clients, servers })
}

/// Looks at our own certificate as peers will.
fn is_believed(
    chain: &[CertificateDer<'_>], clients: &dyn ClientCertVerifier, servers: &Issued, node: Option<&str>,
) -> Result<(), String> {
    let [first, others @ ..] = chain else { return Err("there is no certificate in it".to_owned()) };
    let why = |error: rustls::Error| match error {
        rustls::Error::InvalidCertificate(error) => format!("it {}", fault(&error)),
        other => other.to_string(),
    };
    let now = UnixTime::now();
    servers.verify(first, others, now).map_err(why)?;
    clients.verify_client_cert(first, others, now).map_err(why)?;
    let names = names(Some(chain));
    match node {
        Some(node) if !names.iter().any(|name| name == node) => Err(format!(
            "it is for {}, and node.id is {node}",
            if names.is_empty() { "nobody".into() } else { names.join(", ") }
        )),
        _ => Ok(()),
    }
}

const ISSUE: &str = "`starling cluster init` makes an authority and certificates for nodes";

fn unusable(key: &'static str, file: &str, reason: String, remedy: &str) -> Unusable {
    Unusable { key, file: file.to_owned(), reason, remedy: remedy.to_owned() }
}

fn pem(key: &'static str, file: &str) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(Path::new(file)).and_then(Iterator::collect);
    let found = found.map_err(|error| unusable(key, file, format!("it cannot be read: {error}"), "name a PEM file"))?;
    if found.is_empty() {
        return Err(unusable(key, file, "there is no certificate in it".to_owned(), "name a PEM file"));
    }
    Ok(found)
}

/// Accepts whoever our authority vouches for; under which name is compared later.
#[derive(Debug)]
struct Issued {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Issued {
    fn verify(
        &self, first: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let first = ParsedCertificate::try_from(first)?;
        verify_server_cert_signed_by_trust_anchor(&first, &self.roots, others, now, self.algorithms.all)
    }
}

impl ServerCertVerifier for Issued {
    fn verify_server_cert(
        &self, first: &CertificateDer<'_>, others: &[CertificateDer<'_>], _: &ServerName<'_>, _: &[u8], now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(first, others, now).map(|()| ServerCertVerified::assertion())
    }

    /// Never asked: both sides speak TLS 1.3 only.
    fn verify_tls12_signature(
        &self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("peers speak TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self, message: &[u8], certificate: &CertificateDer<'_>, signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
