//! The server's key. Agents are told its hash when they are armed, so no authority has to sign anything, and no clock matters.

use crate::types::SetHash;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// Name in the certificate, which nobody looks at.
const NAME: &str = "testbox-store";

fn key(path: &Path) -> io::Result<KeyPair> {
    let bad = |e: rcgen::Error| io::Error::other(format!("{}: {e}", path.display()));
    match fs::read_to_string(path) {
        Ok(pem) => return KeyPair::from_pem(&pem).map_err(bad),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(bad)?;
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(key.serialize_pem().as_bytes())?;
    file.sync_all()?;
    Ok(key)
}

/// The hash by which agents know this server: SHA-256 of the SubjectPublicKeyInfo of its key, which is made where it is
/// missing.
///
/// # Errors
/// The file cannot be read or made, or holds no key.
pub fn pin(path: &Path) -> io::Result<SetHash> {
    Ok(SetHash::of(&key(path)?.subject_public_key_info()))
}

/// TLS 1.3 with that key.
///
/// # Errors
/// As [`pin`].
pub(super) fn config(path: &Path) -> io::Result<Arc<ServerConfig>> {
    let key = key(path)?;
    let bad = |e: &dyn std::fmt::Display| io::Error::other(format!("{}: {e}", path.display()));
    let certificate = CertificateParams::new(vec![NAME.to_owned()])
        .and_then(|params| params.self_signed(&key))
        .map_err(|e| bad(&e))?;
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|e| bad(&e))?;
    Ok(Arc::new(config))
}
