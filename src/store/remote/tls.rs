//! TLS to a server whose key is known beforehand: no authority vouches for it, and no clock is asked, since that of a test
//! machine may be years off.

use crate::types::{KeyPin, SetHash};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion};
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
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
    config_of(key, &[&rustls::version::TLS13])
}

/// TLS of these versions with the holder of this key, who need not be a store.
///
/// # Errors
/// Those of the library; none is known.
pub fn config_of(
    key: &KeyPin,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Arc<ClientConfig>, Error> {
    let provider = rustls::crypto::ring::default_provider();
    let verifier = Pinned { key: key.clone(), algorithms: provider.signature_verification_algorithms };
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData, date_time_ymd};
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::time_provider::TimeProvider;
    use rustls::{ClientConnection, ServerConfig, ServerConnection};
    use std::time::Duration;

    /// A machine whose clock says so many seconds since 1970, for ever.
    #[derive(Debug)]
    struct StoppedClock(u64);

    impl TimeProvider for StoppedClock {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
        }
    }

    /// Shakes hands with a server whose certificate was good in 2001 alone.
    fn shake_hands(key: &KeyPair, pin: &str, clock: u64) -> Result<(), Error> {
        let mut params = CertificateParams::new(vec!["other-name".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2001, 12, 31));
        let certificate = params.self_signed(key).unwrap().der().to_vec();
        let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let server = server.with_no_client_auth().with_single_cert(vec![certificate.into()], secret)?;
        let mut client = (*config(&pin.parse().unwrap())?).clone();
        client.time_provider = Arc::new(StoppedClock(clock));
        let name = ServerName::try_from("10.0.0.1").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name)?;
        let mut server = ServerConnection::new(Arc::new(server))?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut sent = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut sent).unwrap();
            }
            let mut rest = &sent[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
                server.process_new_packets()?;
            }
            let mut sent = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut sent).unwrap();
            }
            let mut rest = &sent[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets()?;
            }
        }
        Ok(())
    }

    /// The key counts, and no date: that of the machine may be any, and no certificate runs out.
    #[test]
    fn a_known_key_counts_at_any_date_and_no_other_at_any() {
        let key = KeyPair::generate().unwrap();
        let pin = SetHash::of(&key.subject_public_key_info()).to_string();
        // 1970, 2001, 2026, 2100.
        for clock in [0, 990_000_000, 1_780_000_000, 4_102_444_800] {
            shake_hands(&key, &pin, clock).unwrap();
            let other = shake_hands(&key, &"ab".repeat(32), clock).unwrap_err();
            assert!(other.to_string().contains(OTHER_KEY), "{other}");
        }
    }
}
