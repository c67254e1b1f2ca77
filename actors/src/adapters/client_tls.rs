//! TLS of clients that show no certificate: what they trust.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Why there is nothing to trust.
#[derive(Debug, thiserror::Error)]
#[error("no trusted certificates from {from}: {detail}")]
pub struct ClientTlsError {
    /// Where they were looked for.
    pub from: String,
    /// What is wrong with them.
    pub detail: String,
}

/// Trusts the authorities in a PEM file, or those of the system.
///
/// # Errors
/// When there are none, or they cannot be read.
pub fn client_tls(ca_file: Option<&Path>) -> Result<ClientConfig, ClientTlsError> {
    let mut roots = RootCertStore::empty();
    let from = ca_file.map_or_else(|| "the system".to_owned(), |file| format!("`{}`", file.display()));
    let unreadable = |detail: String| ClientTlsError { from: from.clone(), detail };
    match ca_file {
        Some(file) => {
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(error.to_string()))? {
                let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
                roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(unreadable("there are none".to_owned()));
    }
    // Named, because several crates choose different defaults and rustls then takes none.
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unreadable(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
