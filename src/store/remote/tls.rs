//! TLS to a server whose key is known beforehand: no authority vouches for it, and no clock is asked, since that of a test
//! machine may be years off.

use crate::types::{KeyPin, SetHash};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use std::sync::Arc;

/// What is said of a server with another key.
const OTHER_KEY: &str = "it is not the server whose key this machine was told (testbox.store-key=)";

/// Takes one key, and no other.
#[derive(Debug)]
struct Pinned {
    key: KeyPin,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let other = |why: &str| Error::General(why.into());
        let entity = webpki::EndEntityCert::try_from(certificate)
            .map_err(|e| other(&format!("its certificate cannot be read ({e})")))?;
        match SetHash::of(&entity.subject_public_key_info()).to_string() == self.key.as_str() {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(other(OTHER_KEY)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// TLS 1.3 with the holder of this key.
///
/// # Errors
/// Those of the library; none is known.
pub fn config(key: &KeyPin) -> Result<Arc<ClientConfig>, Error> {
    let provider = rustls::crypto::ring::default_provider();
    let verifier = Pinned { key: key.clone(), algorithms: provider.signature_verification_algorithms };
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}
