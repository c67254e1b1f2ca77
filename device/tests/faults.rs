//! `speedtrap-device publish` when brokers, links and the device itself fail: every reading that was told to be queued
//! arrives.
//!
//! `SPEEDTRAP_READINGS=20000` presses as many readings in the tests that count them; the default is 2,000.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[allow(dead_code)]
mod broker;
#[path = "broker/cuttable_link.rs"]
mod cuttable_link;
#[path = "broker/scripted.rs"]
mod scripted;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use broker::{Broker, free_port, outcome};
use cuttable_link::CuttableLink;
use scripted::{BrokerProcess, Manner};
use serde_json::Value;

fn n_readings() -> usize {
    std::env::var("SPEEDTRAP_READINGS").map_or(2_000, |text| text.parse().unwrap())
}

fn readings_file(broker: &Broker, n: usize) -> PathBuf {
    let rows: Vec<String> = (0..n).map(|i| format!("P-{i},101.766855,79.694526,West Kristopher,Iowa,{}", 60 + i % 51)).collect();
    broker.file(&format!("readings-{n}.csv"), &rows.join("\n"))
}

/// Starts a publish that notes in `log` which readings were told to be queued.
fn publish_noting(broker: &Broker, file: &Path, extra: &[&str], log: &Path) -> Device {
    let mut command = broker.publish(&["-vv", "--file", file.to_str().unwrap()]);
    Device(Some(command.args(extra).stderr(File::create(log).unwrap()).spawn().unwrap()))
}

/// A running device, which does not outlive a test that fails.
struct Device(Option<Child>);

impl Device {
    fn child(&self) -> &Child {
        self.0.as_ref().unwrap()
    }

    fn ended(mut self) -> (Option<i32>, Value, String) {
        broker::ended(self.0.take().unwrap())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn queued(log: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(log).unwrap();
    assert!(!text.contains("panicked"), "{text}");
    text.lines().filter_map(|line| line.split_once("queued ")).map(|(_, id)| id.to_owned()).collect()
}

/// How often each event arrived, by id; and that per-device sequence numbers have no gap.
struct Arrivals {
    by_id: BTreeMap<String, u32>,
    extras: u32,
}

impl Arrivals {
    fn of(payloads: impl IntoIterator<Item = Value>) -> Self {
        let mut by_id = BTreeMap::new();
        let mut by_sequence: BTreeMap<u64, String> = BTreeMap::new();
        for value in payloads {
            let id = value["eventId"].as_str().unwrap().to_owned();
            let sequence = value["sequence"].as_u64().unwrap();
            assert!(id.starts_with("RTRPIIOT-") && id.ends_with(&format!("-{sequence}")), "{value}");
            // A repeat is the same event; a number is never used for two.
            assert_eq!(*by_sequence.entry(sequence).or_insert_with(|| id.clone()), id);
            *by_id.entry(id).or_insert(0) += 1;
        }
        let gaps = by_sequence.keys().zip(1..).filter(|(found, expected)| **found != *expected).count();
        assert_eq!(gaps, 0, "sequence numbers are missing");
        let extras = by_id.values().sum::<u32>() - u32::try_from(by_id.len()).unwrap();
        Self { by_id, extras }
    }

    fn parsed(noted: &[Vec<u8>]) -> Self {
        Self::of(noted.iter().map(|payload| serde_json::from_slice(payload).unwrap()))
    }

    fn hold_all_of(&self, queued: &BTreeSet<String>) {
        let missing: Vec<_> = queued.iter().filter(|id| !self.by_id.contains_key(*id)).take(5).collect();
        assert!(missing.is_empty(), "told to be queued and never arrived: {missing:?} and maybe more");
    }
}

/// No test of its own: other tests start this program again to have a broker that they can kill.
#[test]
fn a_broker_process_when_asked_to_be_one() {
    scripted::be_a_broker_if_asked();
}

#[test]
fn a_broker_killed_twenty_times_gets_every_queued_reading() {
    let n = n_readings();
    let mut broker = Broker::start();
    broker.port = free_port();
    let file = readings_file(&broker, n);
    let log = broker.folder.path().join("device.log");
    let mut process = BrokerProcess::start(broker.folder.path(), broker.port);
    let began = Instant::now();
    let rate = (n / 20).to_string();
    let child = publish_noting(&broker, &file, &["--rate", &rate, "--stall-timeout", "60"], &log);
    let mut kills = 0;
    // On a very slow machine all may have arrived before the last kill.
    while kills < 20 && process.noted().len() < n {
        let before = process.noted().len();
        wait_until("readings arrive", || process.noted().len() > (before + n / 100).min(n - 1));
        process.kill_and_restart();
        kills += 1;
    }
    let (code, report, _) = child.ended();
    assert_eq!(code, Some(0), "{report}: {}", std::fs::read_to_string(&log).unwrap());
    let (queued, arrivals) = (queued(&log), Arrivals::parsed(&process.noted()));
    assert_eq!((queued.len(), arrivals.by_id.len()), (n, n));
    arrivals.hold_all_of(&queued);
    assert!(kills > 10 && report["connections"].as_u64().unwrap() >= kills, "{kills} kills: {report}");
    println!(
        "figures: scripted broker, {n} readings, {kills} kills: {} arrived, {} extras, 0 gaps, {} connections, {:.1} s",
        arrivals.by_id.len(),
        arrivals.extras,
        report["connections"],
        began.elapsed().as_secs_f64()
    );
}

#[test]
fn a_link_cut_ten_times_before_mosquitto_costs_no_queued_reading() {
    let n = n_readings();
    let mut broker = Broker::start();
    let subscriber = broker.subscribe();
    let link = CuttableLink::to(broker.port);
    broker.port = link.port;
    let file = readings_file(&broker, n);
    let log = broker.folder.path().join("device.log");
    let rate = (n / 20).to_string();
    let child = publish_noting(&broker, &file, &["--rate", &rate, "--ack-timeout", "2", "--stall-timeout", "60"], &log);
    let mut cuts = 0;
    while cuts < 10 && subscriber.count() < n {
        let before = subscriber.count();
        wait_until("readings arrive", || subscriber.count() > (before + n / 50).min(n - 1) && link.is_open());
        link.cut(Duration::from_millis(if cuts % 2 == 0 { 300 } else { 0 }));
        cuts += 1;
    }
    let (code, report, _) = child.ended();
    assert_eq!(code, Some(0), "{report}: {}", std::fs::read_to_string(&log).unwrap());
    let arrived = subscriber.wait_for(n);
    let arrivals = Arrivals::of(arrived.into_values().flat_map(|(value, times)| vec![value; usize::try_from(times).unwrap()]));
    let queued = queued(&log);
    assert_eq!((queued.len(), arrivals.by_id.len()), (n, n));
    arrivals.hold_all_of(&queued);
    assert!(cuts > 5, "the link was cut {cuts} times only");
    println!(
        "figures: mosquitto behind a link cut {cuts} times, {n} readings: {} arrived, {} extras, 0 gaps, {} connections, {} s",
        arrivals.by_id.len(),
        arrivals.extras,
        report["connections"],
        report["seconds"]
    );
}

/// What the broker loses after it has acknowledged is the broker's; it is measured, so that the documentation can say it.
#[test]
fn what_mosquitto_loses_of_the_acknowledged_when_killed_is_measured() {
    let saving = "autosave_on_changes true\nautosave_interval 1";
    for (reader_is_there, further) in [(true, ""), (false, ""), (false, saving)] {
        // It writes all it holds at every change, which takes longer the more that is.
        let n = if further == saving { n_readings().min(2_000) } else { n_readings() };
        let mut broker = Broker::start_as("broker", further);
        let mut subscriber = Some(broker.subscribe());
        if !reader_is_there {
            subscriber = None;
        }
        let file = readings_file(&broker, n);
        let log = broker.folder.path().join("device.log");
        let rate = (n / 5).to_string();
        let child = publish_noting(&broker, &file, &["--rate", &rate, "--stall-timeout", "60"], &log);
        for kill in 1..=5 {
            wait_until("readings are queued", || queued_lines(&log) >= kill * n / 6);
            broker.kill();
            broker.resume();
        }
        let (code, report, _) = child.ended();
        assert_eq!(code, Some(0), "{report}");
        assert_eq!(report["acknowledged"], n);
        let subscriber = subscriber.unwrap_or_else(|| broker.subscribe());
        let mut arrived = subscriber.count();
        loop {
            std::thread::park_timeout(Duration::from_millis(700));
            if subscriber.count() == arrived {
                break;
            }
            arrived = subscriber.count();
        }
        println!(
            "figures: mosquitto killed 5 times, reader {}, {}: {n} readings acknowledged, {arrived} arrived, {} lost by mosquitto",
            if reader_is_there { "connected" } else { "away with a persistent session" },
            if further.is_empty() { "default autosave" } else { "autosave at every change" },
            n - arrived
        );
    }
}

#[test]
fn a_device_killed_at_any_moment_loses_no_queued_reading_and_starts_again() {
    let broker_files = Broker::start();
    let mut broker = broker_files;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    broker.port = listener.local_addr().unwrap().port();
    // Not all of its life does the device see an honest broker.
    let noted = scripted::serve(broker.folder.path(), listener, vec![Manner::Honest, Manner::NeverAcknowledges, Manner::HangsUp]);
    let file = readings_file(&broker, 2_000);
    let mut all_queued = BTreeSet::new();
    let kills = std::env::var("SPEEDTRAP_KILLS").map_or(12, |text| text.parse().unwrap());
    for kill in 0..kills {
        let log = broker.folder.path().join(format!("device-{kill}.log"));
        let child = publish_noting(&broker, &file, &["--rate", "700"], &log);
        std::thread::park_timeout(Duration::from_millis(40 + kill * 7_919 % 450));
        drop(child);
        all_queued.append(&mut queued(&log));
    }
    let nothing_new = broker.file("empty.csv", "");
    let (code, report, said) = outcome(&broker.publish(&["--file", nothing_new.to_str().unwrap()]).output().unwrap());
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((&report["rows"], &report["waiting"], &report["damaged"]), (&0.into(), &0.into(), &0.into()), "{report}");
    let arrivals = Arrivals::parsed(&noted.lock().unwrap());
    arrivals.hold_all_of(&all_queued);
    assert!(all_queued.len() > 100, "only {} were queued", all_queued.len());
    println!(
        "figures: device killed {kills} times: {} queued, {} arrived, {} extras, 0 gaps",
        all_queued.len(),
        arrivals.by_id.len(),
        arrivals.extras
    );
}

#[test]
fn no_misbehaviour_of_a_broker_wedges_the_device() {
    use Manner::{
        Babbles, ClaimsSession, CutsAfter, HalfAcknowledges, HangsUp, NeverAcknowledges, NotReady, Skips, Twice, Unasked,
        YoungestFirst,
    };
    let scripts: [(&str, Vec<Manner>); 8] = [
        ("loses the session", vec![CutsAfter(5_000), ClaimsSession, CutsAfter(9_000), ClaimsSession, HangsUp]),
        ("acknowledges out of order", vec![YoungestFirst]),
        ("acknowledges out of order and loses the session", vec![Skips(1), YoungestFirst, Skips(19), YoungestFirst]),
        ("never acknowledges", vec![NeverAcknowledges, NeverAcknowledges]),
        ("skips acknowledgements", vec![Skips(1), Skips(20), Skips(45)]),
        ("acknowledges too much", vec![Twice, Unasked, Twice]),
        ("cuts in the middle of packets", (0..12).map(|n| CutsAfter(60 + n * 397)).chain([HalfAcknowledges]).collect()),
        ("is not ready, or talks nonsense", vec![NotReady, HangsUp, Babbles, NotReady]),
    ];
    let broker = Broker::start();
    let file = readings_file(&broker, 200);
    std::thread::scope(|scope| {
        for (number, (name, manners)) in scripts.into_iter().enumerate() {
            let (broker, file) = (&broker, &file);
            scope.spawn(move || {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let port = listener.local_addr().unwrap().port();
                let noted = scripted::serve(broker.folder.path(), listener, manners);
                let mut command = broker.publish_to(port, &format!("outbox-{number}"), "device", "ca");
                command.args(["--ack-timeout", "1", "--stall-timeout", "50", "--file"]).arg(file);
                let (code, report, said) = outcome(&command.output().unwrap());
                assert_eq!(code, Some(0), "a broker that {name}: {said}");
                let arrivals = Arrivals::parsed(&noted.lock().unwrap());
                assert_eq!((&report["acknowledged"], arrivals.by_id.len()), (&200.into(), 200), "a broker that {name}: {said}");
            });
        }
    });
}

#[test]
fn a_day_without_a_broker_keeps_memory_flat_and_fills_the_disk_as_documented() {
    const DAY: usize = 86_400;
    let mut broker = Broker::start();
    let mosquitto = broker.port;
    broker.port = free_port();
    let file = readings_file(&broker, DAY);
    let log = broker.folder.path().join("device.log");
    let child = publish_noting(&broker, &file, &["--rate", "1000000", "--connect-timeout", "0"], &log);
    let rss = |child: &Device| kib(child.child(), "VmRSS:");
    wait_until("a fifth of the day passes", || queued_lines(&log) >= DAY / 5);
    let early = rss(&child);
    wait_until("the day passes", || queued_lines(&log) >= DAY);
    let late = rss(&child);
    assert!(late < early + 4 * 1024, "memory grew from {early} to {late} KiB");
    let on_disk: u64 = outbox_files(&broker).map(|file| file.metadata().unwrap().len()).sum();
    // A reading is some 270 bytes of JSON, to which the log adds 18.
    assert!((260 * DAY as u64..320 * DAY as u64).contains(&on_disk), "{on_disk} bytes");
    broker::signal(child.child(), "INT");
    let (code, report, _) = child.ended();
    assert_eq!((code, &report["waiting"]), (Some(130), &DAY.into()), "{report}");
    println!(
        "figures: {DAY} readings without a broker: {on_disk} bytes on disk ({} a reading), memory {early} KiB after a fifth, {late} KiB \
         at the end",
        on_disk / DAY as u64
    );

    // The broker is back: the rest of the day's work, and then the disk is free again.
    broker.port = mosquitto;
    let nothing_new = broker.file("empty.csv", "");
    let began = Instant::now();
    let (code, report, said) = outcome(&broker.publish(&["--file", nothing_new.to_str().unwrap()]).output().unwrap());
    assert_eq!((code, &report["acknowledged"], &report["left_over"]), (Some(0), &DAY.into(), &DAY.into()), "{said}");
    let left: u64 = outbox_files(&broker).map(|file| file.metadata().unwrap().len()).sum();
    assert!(left < 100, "{left} bytes are left on disk");
    println!("figures: {DAY} readings sent after a start in {:.1} s", began.elapsed().as_secs_f64());
}

#[test]
fn an_outbox_that_is_in_use_is_refused_and_a_full_one_drops_the_oldest() {
    let mut broker = Broker::start();
    let mosquitto = broker.port;
    broker.port = free_port();
    let file = readings_file(&broker, 10_000);
    let log = broker.folder.path().join("device.log");
    let full = ["--rate", "1000000", "--connect-timeout", "0", "--outbox-max", "1"];
    let child = publish_noting(&broker, &file, &full, &log);
    wait_until("all are queued", || queued_lines(&log) >= 10_000);
    let (code, _, said) = outcome(&broker.publish(&["--file", file.to_str().unwrap()]).output().unwrap());
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("in use by another process") && said.contains("--outbox"), "{said}");
    broker::signal(child.child(), "INT");
    let (code, report, _) = child.ended();
    let dropped = report["dropped"].as_u64().unwrap();
    assert_eq!((code, report["waiting"].as_u64().unwrap() + dropped), (Some(130), 10_000), "{report}");
    assert!(dropped > 5_000, "{report}");
    assert!(std::fs::read_to_string(&log).unwrap().contains("the outbox is full"));

    broker.port = mosquitto;
    let nothing_new = broker.file("empty.csv", "");
    let (code, report, said) = outcome(&broker.publish(&["--file", nothing_new.to_str().unwrap()]).output().unwrap());
    assert_eq!((code, report["acknowledged"].as_u64()), (Some(0), Some(10_000 - dropped)), "{said}");
}

fn outbox_files(broker: &Broker) -> impl Iterator<Item = std::fs::DirEntry> {
    std::fs::read_dir(broker.folder.path().join("outbox")).unwrap().map(Result::unwrap)
}

fn queued_lines(log: &Path) -> usize {
    std::fs::read(log).unwrap().windows(8).filter(|window| window == b" queued ").count()
}

fn kib(child: &Child, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < limit, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
