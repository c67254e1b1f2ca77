//! TLS of clients that show no certificate: what they trust.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
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

/// The authorities in a PEM file, or those of the system.
///
/// # Errors
/// When there are none, or they cannot be read.
pub fn authorities(ca_file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, ClientTlsError> {
    let from = || ca_file.map_or_else(|| "the system".to_owned(), |file| format!("`{}`", file.display()));
    let unreadable = |detail: String| ClientTlsError { from: from(), detail };
    let mut roots = RootCertStore::empty();
    let found = match ca_file {
        Some(file) => {
            let all = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let all = all.map_err(|error| unreadable(error.to_string()))?;
            all.iter().try_for_each(|one| roots.add(one.clone())).map_err(|error| unreadable(error.to_string()))?;
            all
        }
        None => {
            let all = rustls_native_certs::load_native_certs().certs;
            roots.add_parsable_certificates(all.iter().cloned());
            all
        }
    };
    if roots.is_empty() {
        return Err(unreadable("there are none".to_owned()));
    }
    Ok(found)
}

/// Who does the arithmetic. Named, because several crates choose different defaults and rustls then takes none.
#[must_use]
pub fn crypto() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Trusts the authorities in a PEM file, or those of the system.
///
/// # Errors
/// When there are none, or they cannot be read.
pub(super) fn client_tls(ca_file: Option<&Path>) -> Result<ClientConfig, ClientTlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities(ca_file)?);
    let config = ClientConfig::builder_with_provider(crypto())
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientTlsError { from: "rustls".to_owned(), detail: error.to_string() })?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
