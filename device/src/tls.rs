//! The TLS side of the connection: files in, client configuration out.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::certificate::{Certificate, Validity};
use crate::config::ConnectionArgs;
use crate::failure::Failure;

/// What AWS IoT wants to be told on port 443, where it also serves HTTPS:
/// <https://docs.aws.amazon.com/iot/latest/developerguide/protocols.html>.
const ALPN_AWS_MQTT: &[u8] = b"x-amzn-mqtt-ca";

pub(crate) fn client_config(to: &ConnectionArgs) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(&to.root_ca, "--root-ca")? {
        roots.add(cert).map_err(|e| bad(&to.root_ca, "--root-ca", &format!("holds an unusable certificate ({e})")))?;
    }
    let chain = certificates(&to.cert, "--cert")?;
    let key = private_key(&to.key)?;
    // The provider is named here because the library is built without a default one.
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Failure::BadCredentials { what: format!("TLS cannot be set up: {e}") })?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|e| bad(&to.key, "--key", &format!("does not fit the certificate `{}` ({e})", to.cert.display())))?;
    if to.port == 443 {
        config.alpn_protocols = vec![ALPN_AWS_MQTT.to_vec()];
    }
    Ok(Arc::new(config))
}

/// What should be said about the device's own certificate before it is used, if anything.
pub(crate) fn validity_warning(to: &ConnectionArgs, now: jiff::Timestamp) -> Option<String> {
    let certificate = Certificate::from_der(certificates(&to.cert, "--cert").ok()?.first()?).ok()?;
    let path = to.cert.display();
    match certificate.validity(now) {
        Validity::Valid => None,
        Validity::EndsSoon { days } => {
            Some(format!("the certificate `{path}` ends in {days} days, on {}", certificate.not_after))
        }
        Validity::Expired => Some(format!("the certificate `{path}` ended on {}", certificate.not_after)),
        Validity::NotYet => {
            Some(format!("the certificate `{path}` begins on {}; is the clock of this device wrong?", certificate.not_before))
        }
    }
}

/// What should be said about the key file, if anything. No failure: a device that stops at the roadside because somebody
/// copied its files carelessly helps nobody.
pub(crate) fn key_warning(to: &ConnectionArgs) -> Option<String> {
    let mode = std::fs::metadata(&to.key).ok()?.permissions().mode() & 0o777;
    let path = to.key.display();
    (mode & 0o077 != 0).then(|| format!("others can read the private key `{path}` (mode {mode:o}); next: chmod 600 '{path}'"))
}

pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|e| bad(path, "--key", &format!("holds no readable private key in PEM form ({})", reason(&e))))
}

pub(crate) fn certificates(path: &Path, flag: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let unreadable = |e: &rustls::pki_types::pem::Error| bad(path, flag, &format!("cannot be read ({})", reason(e)));
    let certs: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(|e| unreadable(&e))?.collect::<Result<_, _>>().map_err(|e| unreadable(&e))?;
    if certs.is_empty() {
        return Err(bad(path, flag, "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(certs)
}

fn reason(e: &rustls::pki_types::pem::Error) -> String {
    match e {
        rustls::pki_types::pem::Error::Io(e) => e.to_string(),
        other => other.to_string(),
    }
}

fn bad(path: &Path, flag: &str, why: &str) -> Failure {
    Failure::BadCredentials { what: format!("the file `{}` given as {flag} {why}", path.display()) }
}
