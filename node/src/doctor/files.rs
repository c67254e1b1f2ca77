//! Files that the configuration names: there, for the node's eyes only where they hold secrets, and certificates with time left.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use speedtrap_actors::adapters::{ClusterTls, MqttTls};
use speedtrap_actors::wire::SmsTemplate;
use x509_cert::der::Decode as _;

use super::report::Finding;
use super::{Check, Group};
use crate::api::{ApiTls, TlsFault};
use crate::config::NodeConfig;
use crate::tokens::Tokens;

/// Enough to notice it and have another made.
const ENOUGH_TIME: Duration = Duration::from_secs(30 * 86_400);

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Certificates,
    Secret,
}

/// Whatever the configuration names; nothing for what is not set.
pub(super) fn checks(config: &NodeConfig) -> Vec<Check> {
    let mut all = Vec::new();
    for (key, file, holds) in named(config) {
        let look = move || match holds {
            Holds::Secret => secret(&file),
            Holds::Certificates => certificates(&file, SystemTime::now()),
        };
        let kind = if holds == Holds::Secret { "file" } else { "certificate" };
        all.push(Check::local(Group::Files, format!("{kind}.{key}"), look));
    }
    if !config.cluster.tls_ca.is_empty() {
        let (files, name) = (config.cluster.tls_files().map(|(_, file)| PathBuf::from(file)), config.cluster.tls_name.clone());
        all.push(Check::local(Group::Files, "tls.cluster", move || {
            let [ca, certificate, key] = &files;
            fits(ClusterTls::from_files(ca, certificate, key, &name).map(drop), "cluster.tls_ca, tls_cert and tls_key")
        }));
    }
    if config.ingest.is_on() && !config.ingest.ca.is_empty() {
        let ingest = config.ingest.clone();
        all.push(Check::local(Group::Files, "tls.ingest", move || {
            let own = (!ingest.cert.is_empty()).then(|| (Path::new(&ingest.cert), Path::new(&ingest.key)));
            fits(MqttTls::from_files(Path::new(&ingest.ca), own).map(drop), "ingest.ca, cert and key")
        }));
    }
    if let Some((certificate, key)) = config.dashboard.tls_files() {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        all.push(Check::local(Group::Files, "tls.dashboard", move || {
            let read = ApiTls::from_files(&certificate, &key).map(drop);
            fits(
                read.map_err(|TlsFault { file, what }| format!("`{}`: {what}", file.display())),
                "dashboard.tls_cert and tls_key",
            )
        }));
    }
    if let Some(file) = config.dashboard.tokens_file().map(Path::to_owned) {
        all.push(Check::local(Group::Files, "dashboard.tokens", move || tokens(&file)));
    }
    let audit = config.audit_file();
    all.push(Check::local(Group::Files, "file.dashboard.audit_file", move || writable(&audit)));
    let template = config.notify.template.clone();
    all.push(Check::local(Group::Files, "notify.template", move || match SmsTemplate::parse(&template) {
        Ok(_) => Finding::ok("the text's template can be filled"),
        Err(error) => Finding::fail(format!("the text's template: {error}"), "correct notify.template"),
    }));
    all
}

fn named(config: &NodeConfig) -> Vec<(&'static str, PathBuf, Holds)> {
    let (cluster, ingest, warehouse) = (&config.cluster, &config.ingest, &config.warehouse);
    // Of the three places of the warehouse's URL the first one that is set counts.
    let url_file = if warehouse.url.is_set() { "" } else { &warehouse.url_file };
    let mut all = vec![
        ("cluster.tls_ca", &*cluster.tls_ca, Holds::Certificates),
        ("cluster.tls_cert", &cluster.tls_cert, Holds::Certificates),
        ("cluster.tls_key", &cluster.tls_key, Holds::Secret),
        ("cluster.cookie_file", &cluster.cookie_file, Holds::Secret),
        ("warehouse.url_file", url_file, Holds::Secret),
        ("warehouse.ca_file", &warehouse.ca_file, Holds::Certificates),
    ];
    if ingest.is_on() {
        all.extend([
            ("ingest.ca", &*ingest.ca, Holds::Certificates),
            ("ingest.cert", &ingest.cert, Holds::Certificates),
            ("ingest.key", &ingest.key, Holds::Secret),
            ("ingest.password_file", &ingest.password_file, Holds::Secret),
        ]);
    }
    let is_set = |(_, file, _): &(&str, &str, Holds)| !file.is_empty();
    let mut files: Vec<_> = all.into_iter().filter(is_set).map(|(key, file, holds)| (key, PathBuf::from(file), holds)).collect();
    if let Some((certificate, key)) = config.dashboard.tls_files() {
        files.push(("dashboard.tls_cert", certificate.to_owned(), Holds::Certificates));
        files.push(("dashboard.tls_key", key.to_owned(), Holds::Secret));
    }
    if let Some(file) = config.dashboard.tokens_file() {
        files.push(("dashboard.tokens_file", file.to_owned(), Holds::Secret));
    }
    files
}

fn secret(file: &Path) -> Finding {
    let mode = match fs::metadata(file) {
        Ok(found) => found.permissions().mode() & 0o777,
        Err(error) => return unreadable(file, &error),
    };
    if let Err(error) = fs::File::open(file) {
        return unreadable(file, &error);
    }
    let name = file.display();
    let next = format!("chmod 600 {name}, and make another secret if others may have read this one");
    if mode & 0o007 != 0 {
        Finding::fail(format!("`{name}` is open to everybody on this machine (mode {mode:03o})"), next)
    } else if mode & 0o070 != 0 {
        Finding::warn(format!("`{name}` is open to its group (mode {mode:03o})"), next)
    } else {
        Finding::ok(format!("`{name}` is the owner's alone (mode {mode:03o})"))
    }
}

fn unreadable(file: &Path, error: &io::Error) -> Finding {
    Finding::fail(format!("`{}` cannot be read: {error}", file.display()), "correct the path, or let the node's user read it")
}

fn certificates(file: &Path, now: SystemTime) -> Finding {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) => return unreadable(file, &error),
    };
    let name = file.display();
    let Some((from, until)) = validity(&text) else {
        return Finding::fail(format!("`{name}` holds no certificate in PEM form"), "name a file with BEGIN CERTIFICATE in it");
    };
    let shown = |time: SystemTime| Timestamp::try_from(time).map_or_else(|_| "a far day".to_owned(), |time| time.to_string());
    let next = "have a new one signed, put it into the same file, and restart the nodes one by one";
    if now > until {
        Finding::fail(format!("`{name}` ended at {}", shown(until)), next)
    } else if now < from {
        Finding::fail(format!("`{name}` begins at {}", shown(from)), "check the clock, or have one signed that is valid now")
    } else if until.duration_since(now).unwrap_or_default() < ENOUGH_TIME {
        Finding::warn(format!("`{name}` ends at {}", shown(until)), next)
    } else {
        Finding::ok(format!("`{name}` is valid until {}", shown(until)))
    }
}

/// When the last certificate of a file begins, and when the first one ends; none if one of them is none.
fn validity(pem: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let mut all: Option<(SystemTime, SystemTime)> = None;
    for der in CertificateDer::pem_slice_iter(pem) {
        let certificate = x509_cert::Certificate::from_der(&der.ok()?).ok()?;
        let validity = certificate.tbs_certificate().validity();
        let (from, until) = (validity.not_before.to_system_time(), validity.not_after.to_system_time());
        all = Some(all.map_or((from, until), |(first, last)| (first.max(from), last.min(until))));
    }
    all
}

fn fits<E: std::fmt::Display>(read: Result<(), E>, keys: &str) -> Finding {
    match read {
        Ok(()) => Finding::ok(format!("{keys} fit together")),
        Err(error) => Finding::fail(error.to_string(), format!("correct {keys}")),
    }
}

fn tokens(file: &Path) -> Finding {
    match Tokens::read(file).map(|tokens| tokens.entries().len()) {
        Ok(0) => Finding::warn(
            format!("`{}` holds no token, so nobody may ask the API", file.display()),
            format!("speedtrap token new --name NAME --role admin --file {}", file.display()),
        ),
        Ok(n) => Finding::ok(format!("`{}`: tokens {n}", file.display())),
        Err(fault) => Finding::fail(fault.to_string(), "correct it, or let `speedtrap token new` write another one"),
    }
}

/// Writes nothing into a log that is there; where there is none, its folder has to take a file for a moment.
fn writable(file: &Path) -> Finding {
    let name = file.display();
    let next = "set dashboard.audit_file to a file that the node's user may append to, or let systemd give a StateDirectory=";
    if file.exists() {
        return match OpenOptions::new().append(true).open(file) {
            Ok(_) => Finding::ok(format!("`{name}` can be appended to")),
            Err(error) => Finding::fail(format!("`{name}` cannot be appended to: {error}"), next),
        };
    }
    // The node makes the folders that are missing, below the first that is there.
    let folder = file.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let trial = folder.join(format!(".speedtrap-doctor-{}", std::process::id()));
    match OpenOptions::new().create_new(true).write(true).open(&trial).and_then(|_| fs::remove_file(&trial)) {
        Ok(()) => Finding::ok(format!("`{name}` can be made")),
        Err(error) => Finding::fail(format!("`{name}` cannot be made: {error}"), next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(folder: &Path, mode: u32) -> PathBuf {
        let file = folder.join(format!("secret-{mode:o}"));
        fs::write(&file, "a secret").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("set");
        file
    }

    #[test]
    fn a_secret_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let verdict = |mode| format!("{:?}", secret(&at(folder.path(), mode)));
        assert!(verdict(0o600).contains("Ok"));
        assert!(verdict(0o640).contains("Warn"));
        assert!(verdict(0o644).contains("Fail") && verdict(0o644).contains("chmod 600"));
        assert!(format!("{:?}", secret(&folder.path().join("missing"))).contains("cannot be read"));
    }

    #[test]
    fn a_certificate_is_judged_by_the_time_it_has_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("roots.pem");
        fs::write(&file, include_str!("../commands/device/amazon_roots.pem")).expect("written");
        let at = |second: u64| format!("{:?}", certificates(&file, SystemTime::UNIX_EPOCH + Duration::from_secs(second)));
        // The first of them ends at 2038-01-17T00:00:00Z, and all begin by 2015-05-26.
        assert!(at(2_147_299_201).contains("ended at 2038-01-17T00:00:00Z"));
        assert!(at(2_147_299_200 - 86_400).contains("Warn"));
        assert!(at(1_800_000_000).contains("Ok"));
        assert!(at(1_000_000_000).contains("begins at"));
        fs::write(&file, "nothing").expect("written");
        assert!(at(1_800_000_000).contains("holds no certificate"));
    }

    #[test]
    fn nothing_is_left_behind_where_the_audit_log_would_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("deeper/audit.ndjson");
        assert_eq!(writable(&log), Finding::ok(format!("`{}` can be made", log.display())));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
