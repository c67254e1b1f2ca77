//! `speedtrap-device publish` against a real broker with mutual TLS.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[allow(dead_code)]
mod broker;

use std::collections::BTreeSet;
use std::time::Duration;

use broker::{Broker, ended, free_port, outcome};
use serde_json::Value;

fn sample() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../data/samples/readings.csv")
}

#[test]
fn every_reading_arrives_as_it_stands_in_the_file_and_is_acknowledged() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let (code, report, said) = outcome(&broker.publish(&["--file", sample()]).output().unwrap());
    assert_eq!(code, Some(0), "{said}");
    for (name, expected) in [("rows", 1_000), ("published", 1_000), ("acknowledged", 1_000), ("repeats", 0), ("rejected", 0)] {
        assert_eq!(report[name], expected, "{name} in {report}");
    }
    let arrived = subscriber.wait_for(1_000);
    let members = |v: &Value| {
        ["licensePlate", "longitude", "latitude", "city", "state", "speed"].map(|name| v[name].as_str().unwrap().to_owned())
    };
    let mut got: Vec<_> = arrived.values().map(|(value, _)| members(value)).collect();
    let rows = csv::Reader::from_path(sample()).unwrap().into_records().map(Result::unwrap);
    let mut sent: Vec<[String; 6]> = rows.map(|row| std::array::from_fn(|i| row[i].to_owned())).collect();
    got.sort();
    sent.sort();
    assert_eq!(got, sent);
    assert!(arrived.keys().all(|id| id.starts_with("RTRPIIOT-") && id.len() <= 64));
    assert!(arrived.values().all(|(value, times)| *times == 1 && value["deviceId"] == "RTRPIIOT"));
}

#[test]
fn bad_rows_are_named_and_the_rest_is_published() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let huge = "x".repeat(200_000);
    let file = broker.file("bad.csv", &format!("A-1,1,2,c,s,80\nA-2,1,2\nA-3,1,2,{huge},s,80\nA-4,1,2,c,s,80"));
    let (code, report, said) = outcome(&broker.publish(&["--file", file.to_str().unwrap()]).output().unwrap());
    assert_eq!(code, Some(3), "{said}");
    assert_eq!((&report["rows"], &report["published"], &report["acknowledged"]), (&4.into(), &2.into(), &2.into()));
    let lines: Vec<_> = report["rejected_rows"].as_array().unwrap().iter().map(|row| row["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [3, 4]);
    assert!(report["rejected_rows"][1]["reason"].as_str().unwrap().contains("131072"));
    assert_eq!(subscriber.wait_for(2).len(), 2);
}

#[test]
fn a_broker_that_goes_away_and_comes_back_gets_every_reading() {
    let mut broker = Broker::start();
    let subscriber = broker.subscribe();
    let child = broker.publish(&["--file", sample(), "--rate", "400"]).spawn().unwrap();
    for seen in [200, 500] {
        subscriber.wait_for(seen);
        broker.stop();
        std::thread::park_timeout(Duration::from_millis(300));
        broker.resume();
    }
    let (code, report, said) = ended(child);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((&report["published"], &report["acknowledged"]), (&1_000.into(), &1_000.into()));
    let arrived = subscriber.wait_for(1_000);
    let sequence: BTreeSet<u64> = arrived.keys().map(|id| id.rsplit('-').next().unwrap().parse().unwrap()).collect();
    assert!(sequence.into_iter().eq(1..=1_000), "not every sequence number arrived");
    assert!(said.contains("next attempt"), "{said}");
}

#[test]
fn a_foreign_certificate_is_refused_with_advice() {
    let broker = Broker::start();
    let (code, report, said) = outcome(&broker.publish_as("foreign", "ca", &["--file", sample()]).output().unwrap());
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("refused this device's certificate") && said.contains("foreign.pem"), "{said}");
    assert_eq!(report["acknowledged"], 0);
    // The other way round: the device does not trust the broker.
    let (code, _, said) = outcome(&broker.publish_as("device", "foreign-ca", &["--file", sample()]).output().unwrap());
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("--root-ca") && said.contains("foreign-ca.pem"), "{said}");
}

#[test]
fn files_that_cannot_be_used_are_found_before_anything_is_sent() {
    let broker = Broker::start();
    let cases = [("device", "no-such-ca", 78, "no-such-ca.pem"), ("no-such-cert", "ca", 78, "no-such-cert.pem")];
    for (identity, ca, expected, named) in cases {
        let (code, _, said) = outcome(&broker.publish_as(identity, ca, &["--file", sample()]).output().unwrap());
        assert_eq!(code, Some(expected), "{said}");
        assert!(said.contains(named), "{said}");
    }
    std::fs::copy(broker.folder.path().join("foreign.key"), broker.folder.path().join("mixed.key")).unwrap();
    std::fs::copy(broker.folder.path().join("device.pem"), broker.folder.path().join("mixed.pem")).unwrap();
    let (code, _, said) = outcome(&broker.publish_as("mixed", "ca", &["--file", sample()]).output().unwrap());
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("does not fit the certificate"), "{said}");
    let dirty = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/samples/dirty/readings_wrong_header.csv");
    for (file, named) in [("no/such.csv", "no/such.csv"), (dirty, "licensePlate,longitude")] {
        let (code, _, said) = outcome(&broker.publish(&["--file", file]).output().unwrap());
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(named), "{said}");
    }
}

#[test]
fn a_broker_that_is_not_there_is_reported_as_unreachable() {
    let mut broker = Broker::start();
    broker.stop();
    broker.port = free_port();
    let (code, _, said) = outcome(&broker.publish(&["--file", sample(), "--connect-timeout", "1"]).output().unwrap());
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("cannot reach localhost:") && said.contains("--endpoint"), "{said}");
}

#[test]
fn a_policy_that_forbids_publishing_is_told_apart_from_a_lost_network() {
    let mut broker = Broker::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    broker.port = listener.local_addr().unwrap().port();
    broker::hang_up_at_publish(broker.folder.path(), listener);
    let (code, report, said) = outcome(&broker.publish(&["--file", sample()]).output().unwrap());
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("policy allows this client to publish"), "{said}");
    assert_eq!(report["acknowledged"], 0);
}

#[test]
fn a_broker_that_falls_silent_is_given_up_and_what_is_open_is_told() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let child = broker.publish(&["--file", sample(), "--rate", "100", "--stall-timeout", "2"]).spawn().unwrap();
    subscriber.wait_for(20);
    broker.signal("STOP");
    let (code, report, said) = ended(child);
    broker.signal("CONT");
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("unacknowledged"), "{said}");
    assert!(report["acknowledged"].as_u64().unwrap() >= 1 && report["acknowledged"].as_u64() < report["published"].as_u64());
}

#[test]
fn silence_longer_than_the_acknowledgement_limit_makes_it_send_again() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let child = broker.publish(&["--file", sample(), "--rate", "500", "--ack-timeout", "1"]).spawn().unwrap();
    subscriber.wait_for(50);
    broker.signal("STOP");
    std::thread::park_timeout(Duration::from_millis(2_500));
    broker.signal("CONT");
    let (code, report, said) = ended(child);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(report["acknowledged"], 1_000);
    assert!(report["repeats"].as_u64().unwrap() >= 1, "{report}");
    assert_eq!(subscriber.wait_for(1_000).len(), 1_000);
}

#[test]
fn interruption_says_what_was_acknowledged() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let child = broker.publish(&["--file", sample(), "--rate", "100"]).spawn().unwrap();
    subscriber.wait_for(20);
    broker::signal(&child, "INT");
    let (code, report, said) = ended(child);
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("readings acknowledged") && report["acknowledged"].as_u64().unwrap() >= 1, "{said}");
}
