//! The program as a user meets it: what it prints, and how it ends.

use std::process::{Command, Output};

/// An address that nothing listens on: port 9 (discard) is closed on any machine that is not a museum.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Runs the program with nothing of the test's own environment but what is given.
fn speedtrap(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_speedtrap"));
    command.args(args).env_clear().envs(environment.iter().copied());
    command.output().expect("the program runs")
}

fn ended(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn every_fault_of_the_configuration_is_told_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("speedtrap.toml");
    std::fs::write(&file, "[lane]\ncredit_events = 0\n[rule]\nlimit = 60\n").expect("written");
    let file = file.display().to_string();
    let variables = [("SPEEDTRAP_LOG__LEVEL", "loud"), ("AWS_ENDPOINT_URL", "")];
    for args in [vec!["config", "check", "--config", &file], vec!["run", "--config", &file, "--listen", "0.0.0.0:7300"]] {
        let (code, out, err) = ended(&speedtrap(&args, &variables));
        assert_eq!((code, out.as_str()), (Some(78), ""), "{err}");
        for key in ["lane.credit_events", "rule.limit", "limit_mph", "log.level", "SPEEDTRAP_LOG__LEVEL", "AWS_ENDPOINT_URL"] {
            assert!(err.contains(key), "{key} is missing in {err}");
        }
    }
    let (code, out, _) = ended(&speedtrap(&["config", "check", "--json", "--config", &file], &variables));
    let page: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &page["valid"], page["faults"].as_array().map(Vec::len)), (Some(78), &false.into(), Some(5)));
}

#[test]
fn a_missing_file_is_told() {
    let (code, _, err) = ended(&speedtrap(&["config", "print", "--config", "/nowhere/speedtrap.toml"], &[]));
    assert_eq!(code, Some(78));
    assert!(err.contains("/nowhere/speedtrap.toml") && err.contains("next:"), "{err}");
}

#[test]
fn print_shows_the_merged_configuration_without_secrets() {
    let variables = [("SPEEDTRAP_RULE__LIMIT_MPH", "60"), ("SPEEDTRAP_WAREHOUSE__URL", "postgresql://u:hunter2@h/d")];
    let (code, out, _) = ended(&speedtrap(&["config", "print"], &variables));
    assert_eq!(code, Some(0));
    assert!(out.contains("limit_mph = 60") && out.contains("url = \"***\"") && !out.contains("hunter2"), "{out}");
    let (code, out, _) = ended(&speedtrap(&["config", "defaults", "--json"], &variables));
    let page: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &page["rule"]["limit_mph"]), (Some(0), &75.into()));
}

#[test]
fn a_node_that_is_not_there_is_unreachable() {
    for command in [&["status"][..], &["actors"], &["nodes"], &["shards"], &["drain", "node-2"]] {
        let (code, out, err) = ended(&speedtrap(command, &[("SPEEDTRAP_NODE_URL", NOWHERE)]));
        assert_eq!((code, out.as_str()), (Some(69), ""), "{command:?}");
        assert!(err.contains(NOWHERE) && err.contains("next:"), "{err}");
    }
}

#[test]
fn a_start_that_cannot_work_says_what_why_and_what_next() {
    let keys = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_EC2_METADATA_DISABLED", "true")];
    let run = ["run", "--listen", "127.0.0.1:0"];
    let with = |more: &[(&'static str, &'static str)]| ended(&speedtrap(&run, &[&keys[..], more].concat()));

    let (code, _, err) = with(&[]);
    assert!(code == Some(78) && err.contains("AWS_REGION"), "{err}");

    let (code, _, err) = with(&[("AWS_REGION", "us-east-1"), ("AWS_ENDPOINT_URL", NOWHERE)]);
    assert!(code == Some(69) && err.contains(NOWHERE) && err.contains("why:") && err.contains("next:"), "{err}");

    let anonymous = [("AWS_REGION", "us-east-1"), ("AWS_ENDPOINT_URL", NOWHERE), ("AWS_EC2_METADATA_DISABLED", "true")];
    let (code, _, err) = ended(&speedtrap(&run, &anonymous));
    assert!(code == Some(5) && err.contains("credentials"), "{err}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, _, err) = ended(&speedtrap(&["run", "--listen", &address], &keys));
    assert!(code == Some(1) && err.contains(&address) && err.contains("--listen"), "{err}");
}

#[test]
fn every_command_has_examples_that_begin_with_its_name() {
    for command in ["run", "status", "nodes", "shards", "actors", "drain", "config"] {
        let (code, out, _) = ended(&speedtrap(&[command, "--help"], &[]));
        let examples = out.split_once("Examples:\n").map(|(_, examples)| examples.to_owned()).unwrap_or_default();
        assert!(code == Some(0) && examples.contains(&format!("speedtrap {command}")), "{command}: {out}");
    }
}

#[test]
fn usage_faults_end_with_two() {
    for args in [
        vec!["drain"],
        vec!["drain", "a/b"],
        vec!["drain", "a", "--timeout", "soon"],
        vec!["fly"],
        vec!["run", "--roles", "pilot"],
        vec!["run", "--start", "yesterday"],
    ] {
        assert_eq!(ended(&speedtrap(&args, &[])).0, Some(2), "{args:?}");
    }
}
