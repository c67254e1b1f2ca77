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
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let mut node = CertificateParams::new(vec!["speedtrap".to_owned()])?;
    node.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let node_pem = node.signed_by(&key, &issuer)?.pem();
    let files = [
        ("SPEEDTRAP_CLUSTER__TLS_CA", "authority.pem", authority_pem),
        ("SPEEDTRAP_CLUSTER__TLS_CERT", "node.pem", node_pem),
        ("SPEEDTRAP_CLUSTER__TLS_KEY", "node.key", key.serialize_pem()),
    ];
    let write = |(setting, name, text): (&'static str, &str, String)| {
        let path = folder.join(name);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok((setting, path))
    };
    files.into_iter().map(write).collect()
}
