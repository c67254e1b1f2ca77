//! The program for a Raspberry Pi, under emulation, against a real broker with mutual TLS. `tests/run pi` builds it first.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[allow(dead_code)]
mod broker;

use std::path::PathBuf;
use std::process::Command;

use broker::{Broker, outcome};

fn built_program() -> PathBuf {
    let path = std::env::var_os("SPEEDTRAP_PI_DEVICE").expect("SPEEDTRAP_PI_DEVICE names the program; `tests/run pi` sets it");
    PathBuf::from(path)
}

fn emulated(broker: &Broker, command: &str, extra: &[&str]) -> Command {
    let at = |name: &str| broker.folder.path().join(name);
    let mut emulator = Command::new("qemu-aarch64-static");
    emulator.args(["-L", "/usr/aarch64-linux-gnu"]).arg(built_program());
    emulator.args([command, "--endpoint", "localhost", "--port", &broker.port.to_string(), "--json"]);
    emulator.arg("--root-ca").arg(at("ca.pem")).arg("--cert").arg(at("device.pem")).arg("--key").arg(at("device.key"));
    emulator.arg("--outbox").arg(at("outbox")).args(extra);
    emulator
}

#[test]
fn the_program_for_a_pi_publishes_and_tests_itself() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let file = broker.file("rows.csv", &(0..50).map(|n| format!("P-{n},1,2,c,s,80\n")).collect::<String>());
    let file = file.to_str().unwrap();
    let (code, report, said) = outcome(&emulated(&broker, "publish", &["--file", file]).output().unwrap());
    assert_eq!((code, &report["acknowledged"]), (Some(0), &50.into()), "{said}");
    assert_eq!(subscriber.wait_for(50).len(), 50);
    let (code, report, said) = outcome(&emulated(&broker, "selftest", &["--echo"]).output().unwrap());
    assert_eq!(code, Some(0), "{report} {said}");
    // It has the pins' code, and this machine has no pins.
    for flag in ["--trigger", "--light"] {
        let (code, _, said) = outcome(&emulated(&broker, "publish", &[flag, "gpio", "--file", file]).output().unwrap());
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains("no Raspberry Pi") && said.contains("--trigger keys"), "{said}");
    }
    let bytes = std::fs::metadata(built_program()).unwrap().len();
    println!("figures: the device program for aarch64 has {:.1} MB", bytes as f64 / 1e6);
}
