//! Whom the broker lets in, and what others see of the device's connection.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[allow(dead_code)]
mod broker;

use std::os::unix::fs::PermissionsExt;

use broker::{Broker, ended, free_port, outcome};

fn sample() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../data/samples/readings.csv")
}

#[test]
fn a_revoked_certificate_is_refused_with_advice_and_nothing_is_lost() {
    let broker = Broker::start_as("broker", "crlfile @/revocations.pem");
    let few = ["--file", sample(), "--count", "50", "--rate", "1000"];
    let (code, report, said) = outcome(&broker.publish_as("revoked", "ca", &few).output().unwrap());
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("refused this device's certificate") && said.contains("revoked.pem"), "{said}");
    assert_eq!(report["acknowledged"], 0);
    // With a certificate that is good the broker takes the device, and what was pressed before.
    let (code, again, said) = outcome(&broker.publish(&["--file", sample(), "--count", "50"]).output().unwrap());
    assert_eq!(code, Some(0), "{said}");
    let before = report["waiting"].as_u64().unwrap();
    assert_eq!((again["left_over"].as_u64(), again["acknowledged"].as_u64()), (Some(before), Some(before + 50)), "{again}");
}

#[test]
fn the_status_topic_says_whether_the_device_is_there() {
    const TOPIC: &str = "rtr/iot/status/RTRPIIOT";
    let broker = Broker::start();
    let status = || broker.retained(TOPIC);
    let run = |extra: &[&str]| {
        let mut command = broker.publish(&["--file", sample(), "--status-topic", TOPIC]);
        command.args(extra);
        command
    };
    // A farewell in good order, which keeps the broker from publishing the last will.
    let (code, report, said) = outcome(&run(&["--count", "20"]).output().unwrap());
    assert_eq!((code, &report["acknowledged"]), (Some(0), &20.into()), "{said}");
    assert_eq!(broker::until(status)["status"], "offline");
    let mut child = run(&["--rate", "5"]).spawn().unwrap();
    let online = broker::until(|| status().filter(|status| status["status"] == "online"));
    assert_eq!((&online["deviceId"], online["waiting"].is_u64()), (&"RTRPIIOT".into(), true), "{online}");
    // Without a farewell it is the broker that tells.
    child.kill().unwrap();
    child.wait().unwrap();
    let offline = broker::until(|| status().filter(|status| status["status"] == "offline"));
    assert_eq!(offline["waiting"], serde_json::Value::Null, "{offline}");
}

#[test]
fn a_key_that_others_can_read_is_told() {
    let broker = Broker::start();
    let key = broker.folder.path().join("device.key");
    for (mode, warned) in [(0o644, true), (0o600, false)] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let (code, _, said) = outcome(&broker.publish(&["--file", sample(), "--count", "1"]).output().unwrap());
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(said.contains("others can read the private key") && said.contains("chmod 600"), warned, "{said}");
    }
}

#[test]
fn readings_pressed_while_the_broker_is_away_go_out_at_the_next_start() {
    let mut broker = Broker::start();
    let mosquitto = broker.port;
    broker.port = free_port();
    let paced = ["--file", sample(), "--count", "30", "--rate", "1000", "--connect-timeout", "2"];
    let (code, report, said) = outcome(&broker.publish(&paced).output().unwrap());
    assert_eq!((code, &report["queued"], &report["waiting"]), (Some(69), &30.into(), &30.into()), "{said}");
    assert!(said.contains("30 readings stay in the outbox"), "{said}");
    broker.port = mosquitto;
    let subscriber = broker.subscribe();
    let child = broker.publish(&["--file", sample(), "--count", "5"]).spawn().unwrap();
    let (code, report, said) = ended(child);
    assert_eq!((code, &report["left_over"], &report["acknowledged"]), (Some(0), &30.into(), &35.into()), "{said}");
    let arrived = subscriber.wait_for(35);
    let mut sequence: Vec<u64> = arrived.values().map(|(event, _)| event["sequence"].as_u64().unwrap()).collect();
    sequence.sort_unstable();
    assert!(sequence.into_iter().eq(1..=35));
    assert!(arrived.values().all(|(event, _)| event["clockSynced"].is_boolean()));
}
