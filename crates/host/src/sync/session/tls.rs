//! TLS as sessions use it (`sync-40`): version 1.3 alone, raw public keys at both ends, no
//! certificate anywhere.
//!
//! The provider is mixed: the key exchange comes from aws-lc-rs, which has the post-quantum hybrid,
//! the ciphers from ring, whose AES-GCM was measured to be nearly twice as fast on the machines at
//! hand. A peer is its Ed25519 key (RFC 7250), so there is no authority to ask and nothing expires.

use std::sync::Arc;

use ahoy_wire::peer::PeerId;
use ahoy_wire::sync::Hint;
use ahoy_wire::sync::knock::ALPN;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, ring};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};

use crate::sync::keys::PeerKey;

/// What stands in front of the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
const PUBLIC_KEY_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// The same for a private key in PKCS #8 (RFC 8410).
const PRIVATE_KEY_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// How the dialer behaves: shows `me`, and takes nobody but `expected` if that is known.
///
/// # Errors
/// None are expected; the library's own are passed on.
pub(super) fn dialing(me: &PeerKey, expected: Option<PeerId>) -> Result<Arc<ClientConfig>, Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Acquaintance { expected }))
        .with_client_cert_resolver(Arc::new(
            rustls::client::AlwaysResolvesClientRawPublicKeys::new(shown(me)?),
        ));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// How the acceptor behaves: shows `me`, and takes anybody who owns the key that he shows.
///
/// # Errors
/// None are expected; the library's own are passed on.
pub(super) fn accepting(me: &PeerKey) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(Acquaintance { expected: None }))
        .with_cert_resolver(Arc::new(
            rustls::server::AlwaysResolvesServerRawPublicKeys::new(shown(me)?),
        ));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.ignore_client_order = !aes_is_fast();
    Ok(Arc::new(config))
}

/// What the dialer writes into the server name: a hint at whom or what it wants.
pub(super) fn server_name(hint: &Hint) -> ServerName<'static> {
    ServerName::try_from(format!("{hint}.ahoy")).expect("base32 and letters make a host name")
}

/// What the acceptor reads there.
pub(super) fn hint_of(server_name: &str) -> Option<Hint> {
    Hint::parse(server_name.strip_suffix(".ahoy")?)
}

/// Whose key was shown on this connection.
pub(super) fn peer_of(certificates: Option<&[CertificateDer<'_>]>) -> Option<PeerId> {
    peer_in(certificates?.first()?)
}

/// Key exchange of aws-lc-rs, everything else of ring; see above.
fn provider() -> Arc<CryptoProvider> {
    use ring::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    let mut cipher_suites = vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384];
    let chacha_at = if aes_is_fast() { 2 } else { 0 };
    cipher_suites.insert(chacha_at, TLS13_CHACHA20_POLY1305_SHA256);
    Arc::new(CryptoProvider {
        cipher_suites,
        kx_groups: vec![
            aws_lc_rs::kx_group::X25519MLKEM768,
            aws_lc_rs::kx_group::X25519,
        ],
        ..ring::default_provider()
    })
}

/// Whether this processor has AES instructions; without them ChaCha20 is several times faster.
fn aes_is_fast() -> bool {
    #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
    let fast = std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let fast = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
    let fast = false;
    fast
}

fn shown(me: &PeerKey) -> Result<Arc<CertifiedKey>, Error> {
    let private = [&PRIVATE_KEY_PREFIX[..], me.seed()].concat();
    let key = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(private))?;
    let public = [&PUBLIC_KEY_PREFIX[..], me.id().as_bytes()].concat();
    Ok(Arc::new(CertifiedKey::new(
        vec![CertificateDer::from(public)],
        key,
    )))
}

fn peer_in(certificate: &CertificateDer<'_>) -> Option<PeerId> {
    let key = certificate.strip_prefix(&PUBLIC_KEY_PREFIX[..])?;
    key.try_into().ok().map(PeerId::new)
}

/// Takes raw Ed25519 keys: the expected one, or any if none is.
#[derive(Debug)]
struct Acquaintance {
    expected: Option<PeerId>,
}

impl Acquaintance {
    fn check(&self, key: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let peer = peer_in(key).filter(|_| chain.is_empty());
        let peer = peer.ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if self.expected.is_some_and(|expected| expected != peer) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(())
    }

    fn algorithms() -> WebPkiSupportedAlgorithms {
        ring::default_provider().signature_verification_algorithms
    }
}

fn check_signature(
    message: &[u8],
    key: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    rustls::crypto::verify_tls13_signature_with_raw_key(
        message,
        &SubjectPublicKeyInfoDer::from(key.as_ref()),
        signed,
        &Acquaintance::algorithms(),
    )
}

fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(rustls::PeerIncompatible::Tls12NotOffered.into())
}

impl ServerCertVerifier for Acquaintance {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(key, chain)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_signature(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Acquaintance {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(key, chain)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_signature(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
