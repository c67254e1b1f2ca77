//! `speedtrap-device selftest` with one fault planted at a time, against a real broker with mutual TLS.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[allow(dead_code)]
mod broker;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use broker::{Broker, TOPIC, free_port, outcome};
use serde_json::Value;

/// Where the device looks for everything, and as whom.
struct Setup<'a> {
    broker: &'a Broker,
    endpoint: &'a str,
    port: u16,
    ca: &'a str,
    cert: &'a str,
    key: &'a str,
    outbox: &'a str,
}

impl<'a> Setup<'a> {
    fn good(broker: &'a Broker) -> Self {
        let key = broker.folder.path().join("device.key");
        std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self { broker, endpoint: "localhost", port: broker.port, ca: "ca", cert: "device", key: "device", outbox: "outbox" }
    }

    fn command(&self) -> Command {
        let at = |name: String| self.broker.folder.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_speedtrap-device"));
        command.args(["selftest", "--echo", "--endpoint", self.endpoint, "--port", &self.port.to_string()]);
        command.arg("--root-ca").arg(at(format!("{}.pem", self.ca)));
        command.arg("--cert").arg(at(format!("{}.pem", self.cert))).arg("--key").arg(at(format!("{}.key", self.key)));
        command.arg("--outbox").arg(at(self.outbox.to_owned()));
        command
    }

    /// Exit code, and verdict and text of each check by its name.
    fn run(&self) -> (Option<i32>, Vec<(String, String, String)>) {
        let (code, report, said) = outcome(&self.command().arg("--json").output().unwrap());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let checks = report["checks"].as_array().unwrap_or_else(|| panic!("no checks: {said}"));
        let checks = checks.iter().map(|check| {
            let words = format!("{}; next: {}", text(&check["what"]), text(&check["next"]));
            (text(&check["check"]), text(&check["verdict"]), words)
        });
        (code, checks.collect())
    }

    /// That exactly this check fails, and says these words.
    fn fails_at(&self, check: &str, words: &[&str]) {
        let (code, checks) = self.run();
        let failed: Vec<_> = checks.iter().filter(|(_, verdict, _)| verdict == "fail").collect();
        assert_eq!(code, Some(1), "{checks:#?}");
        assert!(failed.len() == 1 && failed[0].0 == check, "{check}: {checks:#?}");
        assert!(failed[0].2.split("; next: ").nth(1).is_some_and(|next| !next.is_empty()), "it says what to do: {failed:?}");
        for word in words {
            assert!(failed[0].2.contains(word), "{word}: {failed:?}");
        }
    }
}

#[test]
fn all_is_well_and_the_echo_comes_back() {
    let broker = Broker::start();
    let setup = Setup::good(&broker);
    let (code, checks) = setup.run();
    let names: Vec<_> = checks.iter().map(|(check, ..)| check.as_str()).collect();
    assert_eq!(names, ["config", "clock", "root CA", "certificate", "key", "outbox", "dns", "tcp", "tls", "broker", "echo"]);
    for (check, verdict, words) in &checks {
        // Whether a time service keeps the clock depends on the machine.
        assert!(verdict == "ok" || (check == "clock" && verdict == "warn"), "{check}: {verdict}: {words}");
    }
    assert_eq!(code, Some(0));
    assert!(!broker.folder.path().join("outbox").exists(), "the outbox is not touched");
    let words = String::from_utf8(setup.command().output().unwrap().stdout).unwrap();
    assert!(words.lines().any(|line| line.starts_with("ok") && line.contains("echo")), "{words}");
}

#[test]
fn faults_of_files_are_named() {
    let broker = Broker::start();
    let good = || Setup::good(&broker);
    Setup { ca: "nowhere", ..good() }.fails_at("root CA", &["nowhere.pem", "--root-ca"]);
    Setup { cert: "expired", key: "expired", ..good() }.fails_at("certificate", &["expired.pem", "expired on 2021-01-01"]);
    Setup { key: "foreign", ..good() }.fails_at("key", &["does not fit the certificate", "foreign.key"]);
    std::fs::write(broker.folder.path().join("empty.key"), "").unwrap();
    Setup { key: "empty", ..good() }.fails_at("key", &["no readable private key"]);
    Setup { outbox: "device.pem/outbox", ..good() }.fails_at("outbox", &["device.pem` is no folder"]);
    let careless = good();
    std::fs::set_permissions(broker.folder.path().join("device.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, checks) = careless.run();
    let key = checks.iter().find(|(check, ..)| check == "key").unwrap();
    assert!(code == Some(0) && key.1 == "warn" && key.2.contains("chmod 600"), "{checks:#?}");
}

#[test]
fn faults_on_the_way_are_named() {
    let broker = Broker::start();
    let good = || Setup::good(&broker);
    Setup { ca: "foreign-ca", ..good() }
        .fails_at("tls", &["signed by an authority that is not in the root CA file", "foreign-ca.pem"]);
    Setup { port: free_port(), ..good() }.fails_at("tcp", &["no connection", "--port"]);
    Setup { endpoint: "no-such-host.invalid", ..good() }.fails_at("dns", &["no-such-host.invalid", "--endpoint"]);
    Setup { endpoint: "127.0.0.1", ..good() }.fails_at("tls", &["another name than `127.0.0.1`", "localhost"]);
    Setup { cert: "foreign", key: "foreign", ..good() }.fails_at("broker", &["foreign.pem", "registered and active"]);
    let (code, report, _) = outcome(&Setup { port: free_port(), ..good() }.command().arg("--json").output().unwrap());
    let skipped = report["checks"].as_array().unwrap().iter().filter(|check| check["verdict"] == "skipped").count();
    assert_eq!((code, skipped), (Some(1), 3), "what cannot be looked at is not called good: {report}");
}

#[test]
fn a_broker_of_another_name_or_time_is_not_trusted() {
    let elsewhere = Broker::start_as("elsewhere", "");
    Setup::good(&elsewhere).fails_at("tls", &["another name than `localhost`", "elsewhere.example"]);
    let future = Broker::start_as("future", "");
    Setup::good(&future).fails_at("tls", &["not good yet", "clock"]);
    let expired = Broker::start_as("expired", "");
    Setup::good(&expired).fails_at("tls", &["has expired", "clock"]);
}

#[test]
fn a_broker_that_refuses_client_or_topic_is_named() {
    let picky = Broker::start_as("broker", "clientid_prefixes only-these-");
    Setup::good(&picky).fails_at("broker", &["refused client `RTRPIIOT`", "policy"]);
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), format!("pattern readwrite {TOPIC}\n")).unwrap();
    // The broker gives up root's rights or not, as it likes: it can read the rules either way.
    std::fs::set_permissions(rules.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let strict = Broker::start_as("broker", &format!("acl_file {}", rules.path().display()));
    let setup = Setup::good(&strict);
    setup.fails_at("echo", &["rtr/iot/selftest/RTRPIIOT", "--echo-topic"]);
    let (code, report, _) = outcome(&setup.command().args(["--echo-topic", TOPIC, "--json"]).output().unwrap());
    assert_eq!(code, Some(0), "{report}");
}

#[test]
fn faults_of_the_configuration_are_told_in_the_same_form() {
    let broker = Broker::start();
    let config = broker.folder.path().join("speedtrap-device.toml");
    std::fs::write(&config, "endpoint = \"localhost\"\nprot = 1\nport = 70000\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_speedtrap-device"));
    command.args(["selftest", "--json", "--config"]).arg(&config);
    let (code, report, said) = outcome(&command.output().unwrap());
    assert_eq!(code, Some(1), "{said}");
    let failed: Vec<_> = report["checks"].as_array().unwrap().iter().filter(|check| check["verdict"] == "fail").collect();
    assert_eq!(failed.len(), 2, "{report}");
    assert!(failed.iter().all(|check| check["check"] == "config"), "{report}");
}
