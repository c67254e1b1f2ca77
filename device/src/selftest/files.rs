//! Certificate, key and root CA: whether they can be read, belong together, and are good today.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::Timestamp;

use super::Checks;
use crate::certificate::{Certificate, Validity};
use crate::config::ConnectionArgs;
use crate::tls;

/// Whether all three can be used for a connection.
pub(crate) fn check_files(to: &ConnectionArgs, now: Timestamp, checks: &mut Checks) -> bool {
    let root = check_certificate("root CA", &to.root_ca, "--root-ca", now, checks);
    let own = check_certificate("certificate", &to.cert, "--cert", now, checks);
    let key = check_key(to, root && own, checks);
    root && own && key
}

fn check_certificate(check: &'static str, path: &Path, flag: &str, now: Timestamp, checks: &mut Checks) -> bool {
    let shown = path.display();
    let read = || -> Result<Vec<Certificate>, String> {
        let chain = tls::certificates(path, flag).map_err(|e| e.to_string())?;
        let parsed = chain.iter().map(|der| Certificate::from_der(der)).collect::<Result<_, _>>();
        parsed.map_err(|why| format!("the file `{shown}` given as {flag} is of no use: {why}"))
    };
    let certificates = match read() {
        Ok(certificates) => certificates,
        Err(why) => {
            checks.fail(check, why, "copy it from the connection kit again, or give the right path");
            return false;
        }
    };
    // The one that ends first decides; a bundle of authorities may hold old ones, of which one that is good is enough.
    let mut by_end: Vec<_> = certificates.iter().collect();
    by_end.sort_by_key(|certificate| certificate.not_after);
    let deciding = if flag == "--root-ca" { by_end.last() } else { by_end.first() };
    let Some(certificate) = deciding else { return false };
    let until = certificate.not_after.strftime("%Y-%m-%d");
    match certificate.validity(now) {
        Validity::Valid => checks.ok(check, format!("`{shown}` is good until {until}")),
        Validity::EndsSoon { days } => {
            checks.warn(check, format!("`{shown}` expires on {until}, in {days} days"), "get a new one in time");
        }
        Validity::Expired => {
            checks.fail(check, format!("`{shown}` expired on {until}"), "get a new one, or set the clock if that is wrong");
            return false;
        }
        Validity::NotYet => {
            let from = certificate.not_before.strftime("%Y-%m-%d %H:%M");
            checks.fail(check, format!("`{shown}` is good only from {from} UTC on"), "set the clock, or get another one");
            return false;
        }
    }
    true
}

/// `readable` tells whether certificate and root CA are, without which the key cannot be matched.
fn check_key(to: &ConnectionArgs, readable: bool, checks: &mut Checks) -> bool {
    let shown = to.key.display();
    if let Err(e) = tls::private_key(&to.key) {
        checks.fail("key", e.to_string(), "copy it from the connection kit again, or give the right path");
        return false;
    }
    if readable {
        if let Err(e) = tls::client_config(to) {
            checks.fail("key", e.to_string(), "take certificate and key from one and the same connection kit");
            return false;
        }
    }
    let mode = std::fs::metadata(&to.key).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        checks.warn("key", format!("other users can read `{shown}` (mode {mode:o})"), format!("chmod 600 '{shown}'"));
    } else if readable {
        checks.ok("key", format!("`{shown}` belongs to the certificate, and only its owner can read it"));
    } else {
        checks.ok("key", format!("`{shown}` can be read, and only by its owner"));
    }
    true
}
