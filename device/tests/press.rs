//! Presses, bouncing, sensor lines and settings, against a real broker with mutual TLS.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[allow(dead_code)]
mod broker;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use broker::{Broker, ended, outcome};
use serde_json::Value;

const ROWS: &str = "P-1,1,2,c,s,81\nP-2,1,2,c,s,82\nP-3,1,2,c,s,83\nP-4,1,2,c,s,84\nP-5,1,2,c,s,85\nP-6,1,2,c,s,86\n";

/// Plates in the order of their sequence numbers.
fn plates(arrived: &BTreeMap<String, (Value, u32)>) -> Vec<String> {
    let sequence = |id: &str| id.rsplit('-').next().unwrap().parse::<u64>().unwrap();
    let mut events: Vec<_> =
        arrived.iter().map(|(id, (event, _))| (sequence(id), event["licensePlate"].as_str().unwrap())).collect();
    events.sort_unstable();
    events.into_iter().map(|(_, plate)| plate.to_owned()).collect()
}

/// A line of standard error that begins so; the rest of what is said is read on in the background.
fn said(child: &mut Child, beginning: &str) -> String {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| line.starts_with(beginning)).expect("the line is said");
    std::thread::spawn(move || lines.for_each(drop));
    line
}

fn resident_kib(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn each_press_sends_the_next_row() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let file = broker.file("rows.csv", ROWS);
    let trigger = ["--trigger", "tcp", "--trigger-listen", "127.0.0.1:0", "--count", "5", "--file", file.to_str().unwrap()];
    let mut child = broker.publish(&trigger).spawn().unwrap();
    let address = said(&mut child, "trigger: listening at ").rsplit(' ').next().unwrap().to_owned();
    let mut button = TcpStream::connect(address).unwrap();
    for n in 1..=5 {
        button.write_all(b"down\nup\ndown\nup\n").unwrap();
        let arrived = subscriber.wait_for(n);
        assert_eq!(arrived.len(), n, "one press is one event, however it bounces");
        if n == 4 {
            let resident = resident_kib(&child);
            println!("figures: the device waiting for a press has {:.1} MiB resident (debug build)", resident as f64 / 1024.0);
            assert!(resident < 64 * 1024, "{resident} KiB");
        }
        // Longer than the line must be quiet.
        std::thread::park_timeout(Duration::from_millis(120));
    }
    let ended = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((ended.status.code(), &report["acknowledged"]), (Some(0), &5.into()), "{report}");
    assert_eq!(plates(&subscriber.wait_for(5)), ["P-1", "P-2", "P-3", "P-4", "P-5"]);
}

#[test]
fn thirty_bounces_in_300_ms_are_one_press_and_the_light_says_so() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let file = broker.file("rows.csv", ROWS);
    let bounces = |begin: u64| (0..60).map(move |i| format!("{} {}\n", begin + i * 5, if i % 2 == 0 { "down" } else { "up" }));
    let script = broker.folder.path().join("bounces.txt");
    std::fs::write(&script, bounces(0).chain(bounces(500)).collect::<String>()).unwrap();
    let script = ["--trigger", "script", "--trigger-script", script.to_str().unwrap(), "--file", file.to_str().unwrap()];
    let (code, report, said) = outcome(&broker.publish(&script).output().unwrap());
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(report["acknowledged"], 2, "{report}");
    assert_eq!(plates(&subscriber.wait_for(2)), ["P-1", "P-2"]);
    assert_eq!(said.matches("light: queued").count(), 2, "{said}");
    assert!(said.contains("light: sent"), "{said}");
}

#[test]
fn a_press_passes_over_bad_rows_and_a_loop_begins_again() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let file = broker.file("rows.csv", "P-1,1,2,c,s,81\nbad\nP-2,1,2,c,s,82\n");
    let keys = ["--trigger", "keys", "--loop", "--debounce", "1", "--light", "none", "--file", file.to_str().unwrap()];
    let mut child = broker.publish(&keys).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for n in 1..=5 {
        input.write_all(b"\n").unwrap();
        subscriber.wait_for(n);
    }
    // No more presses can come.
    drop(input);
    let (code, report, said) = ended(child);
    assert_eq!(code, Some(3), "{said}");
    assert_eq!(report["acknowledged"], 5, "{report}");
    assert_eq!(plates(&subscriber.wait_for(5)), ["P-1", "P-2", "P-1", "P-2", "P-1"]);
    assert_eq!(report["rejected_rows"][0]["line"], 3);
}

#[test]
fn a_sensors_lines_are_sent_as_they_come_and_bad_ones_are_named() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let mut child = broker.publish(&["--sensor", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let reading = |n: u32| {
        format!(
            "{{\"licensePlate\":\"S-{n}\",\"longitude\":1.50,\"latitude\":\"2\",\"city\":\"c\",\"state\":\"s\",\"speed\":{n}}}\n"
        )
    };
    write!(input, "{}garbage\n{{}}\n\n{}", reading(71), reading(82)).unwrap();
    // It does not wait for the end of the input.
    let arrived = subscriber.wait_for(2);
    assert_eq!(plates(&arrived), ["S-71", "S-82"]);
    assert!(arrived.values().all(|(event, _)| event["longitude"] == "1.50"), "a number keeps its text");
    write!(input, "{}", reading(93).trim_end()).unwrap();
    drop(input);
    let (code, report, said) = ended(child);
    assert_eq!(code, Some(3), "{said}");
    assert_eq!((&report["acknowledged"], &report["rejected"]), (&3.into(), &2.into()), "{report}");
    let lines: Vec<_> = report["rejected_rows"].as_array().unwrap().iter().map(|row| row["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [2, 3]);
    assert_eq!(plates(&subscriber.wait_for(3)), ["S-71", "S-82", "S-93"]);
}

#[test]
fn a_sensor_behind_a_named_pipe_is_read_until_it_is_told_to_end() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let pipe = broker.folder.path().join("sensor");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let child = broker.publish(&["--loop", "--sensor", pipe.to_str().unwrap()]).spawn().unwrap();
    for n in 1..=2 {
        // Each writer comes and goes, as a sensor's driver does that is started again.
        let line = format!(r#"{{"licensePlate":"F-{n}","longitude":1,"latitude":2,"city":"c","state":"s","speed":80}}"#);
        std::fs::write(&pipe, line + "\n").unwrap();
        subscriber.wait_for(n);
    }
    broker::signal(&child, "TERM");
    let (code, report, said) = ended(child);
    assert_eq!(code, Some(130), "{said}");
    assert_eq!(report["acknowledged"], 2, "{report}");
}

#[test]
fn a_kit_is_all_that_is_needed_and_flags_go_over_it() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    broker.file("rows.csv", ROWS);
    let config = format!(
        "endpoint = \"localhost\"\nport = {}\nclient_id = \"PI-07\"\ntopic = \"rtr/iot/trafficdata\"\nroot_ca = \"ca.pem\"\n\
         cert = \"device.pem\"\nkey = \"device.key\"\nfile = \"rows.csv\"\noutbox = \"outbox\"\ncount = 1\n",
        broker.port
    );
    let path = broker.folder.path().join("speedtrap-device.toml");
    std::fs::write(&path, &config).unwrap();
    let device = |extra: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_speedtrap-device"));
        command.args(["publish", "--json", "--config"]).arg(&path).args(extra).current_dir("/");
        command
    };
    let (code, report, said) = outcome(&device(&[]).output().unwrap());
    assert_eq!((code, &report["acknowledged"]), (Some(0), &1.into()), "{said}");
    assert!(broker.folder.path().join("outbox").is_dir(), "paths are relative to the file");
    let (code, report, said) = outcome(&device(&["--count", "2"]).env("SPEEDTRAP_DEVICE_COUNT", "3").output().unwrap());
    assert_eq!((code, &report["acknowledged"]), (Some(0), &2.into()), "{said}");
    let arrived = subscriber.wait_for(3);
    assert!(arrived.values().all(|(event, _)| event["deviceId"] == "PI-07"), "{arrived:?}");

    std::fs::write(&path, config.replace("port = ", "prot = ").replace("count = 1", "count = -1")).unwrap();
    let (code, _, said) = outcome(&device(&[]).output().unwrap());
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("`prot`") && said.contains("`count`"), "all faults are told: {said}");
}

#[test]
fn off_a_pi_the_simulator_is_offered() {
    let broker = Broker::start();
    let file = broker.file("rows.csv", ROWS);
    for flag in ["--trigger", "--light"] {
        let (code, report, said) = outcome(&broker.publish(&[flag, "gpio", "--file", file.to_str().unwrap()]).output().unwrap());
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains("--trigger keys") && said.contains("--light terminal"), "{said}");
        assert_eq!(report["published"], 0);
    }
}

#[test]
fn presses_that_nobody_can_make_are_wrong_usage() {
    let broker = Broker::start();
    let file = broker.file("rows.csv", ROWS);
    let file = file.to_str().unwrap();
    let cases: [(&[&str], &str); 5] = [
        (&["--file", file, "--sensor", "-"], "cannot be used with"),
        (&["--trigger", "keys", "--sensor", "-"], "--sensor"),
        (&["--trigger", "keys", "--rate", "3", "--file", file], "--rate"),
        (&["--trigger", "script", "--file", file], "--trigger-script"),
        (&["--trigger", "tcp", "--trigger-listen", "0.0.0.0:1", "--file", file], "loopback"),
    ];
    for (flags, named) in cases {
        let begun = Instant::now();
        let (code, _, said) = outcome(&broker.publish(flags).stdin(Stdio::null()).output().unwrap());
        assert_eq!(code, Some(2), "{flags:?}: {said}");
        assert!(said.contains(named), "{flags:?}: {said}");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}

#[test]
fn a_late_clock_keeps_presses_until_it_is_set() {
    // Seen from a Pi that has just started, today's certificates lie in the future.
    let broker = Broker::start_as("future", "");
    let file = broker.file("rows.csv", ROWS);
    let keys = ["--trigger", "keys", "--debounce", "1", "--file", file.to_str().unwrap()];
    let mut child = broker.publish(&keys).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut heard = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(heard.any(|line| line.contains("is the clock of this device late")));
    input.write_all(b"\n").unwrap();
    assert!(heard.any(|line| line == "light: queued"));
    std::thread::spawn(move || heard.for_each(drop));
    broker::signal(&child, "TERM");
    let (code, report, _) = ended(child);
    assert_eq!((code, &report["acknowledged"]), (Some(130), &0.into()), "{report}");
}
