//! Makes an authority and certificates for nodes, for people who have none. Writes no files.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::DnsName;

/// Longer than a machine lives: an authority that expires takes the whole cluster down.
const YEARS: u64 = 20;
const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// Clocks differ, and a certificate made now is used at once.
const BACKDATED: Duration = Duration::from_secs(86_400);
/// Every authority made here is called so; its key tells it from others.
const AUTHORITY: &str = "Starling cluster authority";

/// A certificate and its key, as PEM.
pub(crate) struct Issued {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// An authority of its own.
pub(crate) fn authority() -> Result<Issued, rcgen::Error> {
    let key = KeyPair::generate()?;
    let cert = authority_params().self_signed(&key)?;
    Ok(Issued { cert: cert.pem(), key: key.serialize_pem() })
}

/// A certificate for `node`, by the authority that has this key (PEM).
pub(crate) fn certificate(node: &str, authority_key: &str) -> Result<Issued, rcgen::Error> {
    let issuer = Issuer::new(authority_params(), KeyPair::from_pem(authority_key)?);
    let key = KeyPair::generate()?;
    let cert = node_params(node)?.signed_by(&key, &issuer)?;
    Ok(Issued { cert: cert.pem(), key: key.serialize_pem() })
}

/// What a certificate for `node` says.
pub(super) fn node_params(node: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![node.to_owned()])?;
    params.distinguished_name = called(node);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // each node dials and is dialled
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(lasting(params))
}

pub(super) fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = called(AUTHORITY);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lasting(params)
}

fn lasting(mut params: CertificateParams) -> CertificateParams {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + now + YEAR * u32::try_from(YEARS).unwrap_or(1);
    params
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

/// Whether a node of this name can have a certificate.
pub(crate) fn is_certifiable(node: &str) -> bool {
    // an address would be written into a certificate as one, and not be found as a name
    DnsName::try_from(node).is_ok() && node.parse::<std::net::IpAddr>().is_err()
}
