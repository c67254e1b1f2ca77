//! Certificates of a cluster of the test's own.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// An authority, and one certificate for all nodes, in files; with the settings that name them.
///
/// # Errors
/// When they cannot be made or written.
pub fn certificates(folder: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    let [authority, certificate, key] = signed("speedtrap")?;
    let files = [
        ("SPEEDTRAP_CLUSTER__TLS_CA", "authority.pem", authority),
        ("SPEEDTRAP_CLUSTER__TLS_CERT", "node.pem", certificate),
        ("SPEEDTRAP_CLUSTER__TLS_KEY", "node.key", key),
    ];
    let write = |(setting, name, text): (&'static str, &str, String)| anyhow::Ok((setting, write(&folder.join(name), &text)?));
    files.into_iter().map(write).collect()
}

/// An authority, a certificate of it for the API at a name or address, and that one's key, in files of these endings.
///
/// # Errors
/// When they cannot be made or written.
pub fn api_certificate(folder: &Path, name: &str, host: &str) -> Result<[PathBuf; 3]> {
    let [authority, certificate, key] = signed(host)?;
    Ok([
        write(&folder.join(format!("{name}.ca.pem")), &authority)?,
        write(&folder.join(format!("{name}.pem")), &certificate)?,
        write(&folder.join(format!("{name}.key")), &key)?,
    ])
}

fn signed(host: &str) -> Result<[String; 3]> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let mut node = CertificateParams::new(vec![host.to_owned()])?;
    node.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let node_pem = node.signed_by(&key, &issuer)?.pem();
    Ok([authority_pem, node_pem, key.serialize_pem()])
}

fn write(path: &Path, text: &str) -> Result<PathBuf> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(path.to_owned())
}
