//! What Speedtrap costs in AWS in a month, by service: pure arithmetic on a load and a file of prices.

mod lower;
mod prices;

use serde::Serialize;

pub(crate) use lower::{Advice, advice};
pub(crate) use prices::{PRICES, Prices};

/// An average month, in hours.
const HOURS: f64 = 730.0;
const MONTH_S: f64 = HOURS * 3_600.0;
const MILLION: f64 = 1e6;
const GB: f64 = 1e9;
/// A shard takes 1,000 records or 1 MiB a second.
const SHARD_RECORDS: f64 = 1_000.0;
/// Kinesis is asked five times a second and shard at most, DynamoDB Streams as often as the poll interval says.
const POLLS_PER_SECOND: f64 = 5.0;
/// A reading as the device writes it, and one with its driver, in bytes.
const READING: f64 = 186.0;
const VIOLATION: f64 = 320.0;
/// A violation's item and its claim; both are below the 1 KB of a write unit.
const ITEM: f64 = 300.0;
/// Firehose counts a record as at least so many bytes.
const FIREHOSE_RECORD: f64 = 5_000.0;
/// Objects that Firehose writes: one a minute as the template has it.
const OBJECTS: f64 = MONTH_S / 60.0;
/// Characters that a text has in one part, and in each of several (GSM alphabet).
const ONE_PART: usize = 160;
const EACH_PART: usize = 153;
/// Lease writes of one shard in an hour while it is busy (a checkpoint a second renews as well) and idle.
const BUSY_LEASE_WRITES: f64 = 3_600.0;
const IDLE_LEASE_WRITES: f64 = 1_080.0;
/// A heartbeat a second.
const HEARTBEATS: f64 = MONTH_S;

/// What is to be carried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Load {
    pub(crate) events_per_second: f64,
    /// Share of the events that are violations, 0 to 1.
    pub(crate) violations: f64,
    /// Shards of the stream that readings arrive on; of the out-stream there is as much of a share as violations need.
    pub(crate) shards: u32,
    pub(crate) fan_out: bool,
    pub(crate) retention_hours: u32,
    pub(crate) nodes: u32,
    pub(crate) devices: u32,
    /// Characters of a text.
    pub(crate) text_characters: usize,
    /// Nodes of a Redshift cluster that is there for the drivers alone; 0 if it is there anyway.
    pub(crate) redshift_nodes: u32,
    /// Whether every event is stored, not only violations.
    pub(crate) raw_table: bool,
    /// Whether violations are texted.
    pub(crate) texts: bool,
}

/// A part of the bill.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Item {
    pub(crate) service: &'static str,
    pub(crate) what: String,
    pub(crate) dollars: f64,
}

/// A month.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Bill {
    pub(crate) items: Vec<Item>,
    pub(crate) dollars: f64,
    /// Of all that, without texts, so that loads can be compared.
    pub(crate) dollars_per_million_events: Option<f64>,
}

/// Shards that so many events a second need at least.
pub(crate) fn least_shards(events_per_second: f64) -> u32 {
    // A reading is far below a thousandth of a MiB, so the count of records is the limit.
    (events_per_second / SHARD_RECORDS).ceil().max(1.0) as u32
}

/// What a month of this load costs.
pub(crate) fn bill(load: &Load, prices: &Prices) -> Bill {
    let events = load.events_per_second * MONTH_S;
    let violations = events * load.violations;
    let mut items = Vec::new();
    let mut add = |service, what: String, dollars: f64| items.push(Item { service, what, dollars });
    iot(load, prices, events, &mut add);
    kinesis(load, prices, events, violations, &mut add);
    dynamodb(load, prices, events, violations, &mut add);
    let archived = violations * FIREHOSE_RECORD / GB;
    add("Firehose", format!("{archived:.1} GB, each violation counted as 5 KB"), archived * prices.firehose.gb);
    let kept = violations * VIOLATION / GB;
    let puts = OBJECTS / 1_000.0 * prices.s3.thousand_puts;
    add("S3", format!("{kept:.1} GB more each month, {OBJECTS:.0} objects"), kept * prices.s3.gb_month + puts);
    if load.texts {
        let parts = violations * parts(load.text_characters) as f64;
        let what = format!("{violations:.0} texts of {} parts, with the carriers' fees", self::parts(load.text_characters));
        add("SNS", what, parts * (prices.sms.part + prices.sms.carrier_fee));
    }
    add("EC2", format!("machines {}", load.nodes), f64::from(load.nodes) * HOURS * prices.ec2.instance_hour);
    if load.redshift_nodes > 0 {
        let n = load.redshift_nodes;
        add("Redshift", format!("{n} nodes for the drivers alone"), f64::from(n) * HOURS * prices.redshift.node_hour);
    }
    add("Secrets Manager", "the warehouse's password".to_owned(), prices.secrets.secret_month);
    let dollars: f64 = items.iter().map(|item| item.dollars).sum();
    let texts: f64 = items.iter().filter(|item| item.service == "SNS").map(|item| item.dollars).sum();
    let dollars_per_million_events = (events > 0.0).then(|| (dollars - texts) / (events / MILLION));
    Bill { items, dollars, dollars_per_million_events }
}

fn iot(load: &Load, prices: &Prices, events: f64, add: &mut impl FnMut(&'static str, String, f64)) {
    if load.devices == 0 {
        return;
    }
    let minutes = f64::from(load.devices) * HOURS * 60.0;
    let each = prices.iot.million_messages + prices.iot.million_rules_triggered + prices.iot.million_actions;
    let dollars = events / MILLION * each + minutes / MILLION * prices.iot.million_minutes_connected;
    add(
        "IoT Core",
        format!("{:.1} million readings, connected devices {}, one rule and one action each", events / MILLION, load.devices),
        dollars,
    );
}

fn kinesis(load: &Load, prices: &Prices, events: f64, violations: f64, add: &mut impl FnMut(&'static str, String, f64)) {
    let price = &prices.kinesis;
    let out = least_shards(load.events_per_second * load.violations);
    // The error stream has one shard, and nothing on it.
    let shards = f64::from(load.shards + out + 1);
    add("Kinesis", format!("{shards} shards (in, out and errors)"), shards * HOURS * price.shard_hour);
    add("Kinesis", "puts".to_owned(), (events + violations) / MILLION * price.million_put_units);
    let hours = f64::from(load.retention_hours);
    if hours > 24.0 {
        add("Kinesis", format!("retention of {hours} h"), shards * HOURS * price.extended_shard_hour);
    }
    if hours > 168.0 {
        let a_second = load.events_per_second * (READING + load.violations * VIOLATION);
        let kept = a_second * (hours - 168.0) * 3_600.0 / GB;
        add("Kinesis", format!("{kept:.1} GB kept beyond 7 days"), kept * price.long_term_gb_month);
    }
    if load.fan_out {
        let read = (events * READING + violations * VIOLATION) / GB;
        let dollars = shards * HOURS * price.fan_out_consumer_shard_hour + read * price.fan_out_gb;
        add("Kinesis", "enhanced fan-out, one consumer a stream".to_owned(), dollars);
    }
}

fn dynamodb(load: &Load, prices: &Prices, events: f64, violations: f64, add: &mut impl FnMut(&'static str, String, f64)) {
    let price = &prices.dynamodb;
    let millions = |n: f64| n / MILLION;
    add("DynamoDB", "violations stored".to_owned(), millions(violations) * price.million_writes);
    if load.raw_table {
        add("DynamoDB", "every event stored (persist.raw_table)".to_owned(), millions(events) * price.million_writes);
    }
    if load.texts {
        // A claim, and the note that it was sent.
        add("DynamoDB", "claims of texts".to_owned(), millions(2.0 * violations) * price.million_writes);
    }
    let kept = (violations + if load.raw_table { events } else { 0.0 }) * ITEM / GB;
    add("DynamoDB", format!("{kept:.1} GB more each month"), kept * price.gb_month);
    let out = f64::from(least_shards(load.events_per_second * load.violations));
    let busy = if load.events_per_second > 0.0 { BUSY_LEASE_WRITES } else { IDLE_LEASE_WRITES };
    // The archive lane's shard of the table's stream, and the error stream's, which is idle.
    let leases = ((f64::from(load.shards) + out + 1.0) * busy + IDLE_LEASE_WRITES) * HOURS;
    let beats = f64::from(load.nodes) * HEARTBEATS;
    add("DynamoDB", "leases and heartbeats".to_owned(), millions(leases + beats) * price.million_writes);
    let scans = f64::from(load.nodes) * MONTH_S * (1.0 + 4.0 / 10.0);
    add("DynamoDB", "reads of node and lease tables".to_owned(), millions(scans) * price.million_reads);
    let polls = MONTH_S * POLLS_PER_SECOND;
    add("DynamoDB", "reads of the table's stream".to_owned(), millions(polls) * price.million_stream_reads);
}

/// Parts that a text is sent and paid in.
fn parts(characters: usize) -> usize {
    if characters <= ONE_PART { 1 } else { characters.div_ceil(EACH_PART) }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn load() -> Load {
        Load {
            events_per_second: 100.0,
            violations: 0.07,
            shards: 2,
            fan_out: false,
            retention_hours: 24,
            nodes: 3,
            devices: 10,
            text_characters: 240,
            redshift_nodes: 0,
            raw_table: false,
            texts: true,
        }
    }

    /// Round prices, so that sums can be followed by hand.
    pub(super) fn prices() -> Prices {
        Prices::read(PRICES).expect("a file of prices")
    }

    fn of(bill: &Bill, service: &str, part: &str) -> f64 {
        bill.items.iter().filter(|item| item.service == service && item.what.contains(part)).map(|item| item.dollars).sum()
    }

    fn is_near(one: f64, other: f64) -> bool {
        (one - other).abs() < 0.005
    }

    #[test]
    fn a_bill_can_be_followed_by_hand() {
        let bill = bill(&load(), &prices());
        // 100 a second are 262.8 million readings a month, 18.396 million of them violations.
        assert!(is_near(of(&bill, "IoT Core", ""), 262.8 * 1.30 + 0.438 * 0.08), "{bill:#?}");
        assert!(is_near(of(&bill, "Kinesis", "shards"), 4.0 * 730.0 * 0.015), "2 in, 1 out, 1 for errors");
        assert!(is_near(of(&bill, "Kinesis", "puts"), (262.8 + 18.396) * 0.014));
        assert!(is_near(of(&bill, "DynamoDB", "violations stored"), 18.396 * 0.625));
        assert!(is_near(of(&bill, "DynamoDB", "claims"), 2.0 * 18.396 * 0.625));
        assert!(is_near(of(&bill, "Firehose", ""), 18.396e6 * 5_000.0 / 1e9 * 0.029));
        assert!(is_near(of(&bill, "SNS", "2 parts"), 18.396e6 * 2.0 * 0.00945));
        assert!(is_near(of(&bill, "EC2", ""), 3.0 * 730.0 * 0.0208));
        assert!(is_near(bill.dollars, bill.items.iter().map(|item| item.dollars).sum()));
        let texts = of(&bill, "SNS", "");
        assert!(is_near(bill.dollars_per_million_events.expect("there are events"), (bill.dollars - texts) / 262.8));
    }

    #[test]
    fn what_is_longer_kept_or_pushed_costs_more() {
        let plain = bill(&load(), &prices()).dollars;
        let week = bill(&Load { retention_hours: 168, ..load() }, &prices());
        assert!(is_near(week.dollars - plain, 4.0 * 730.0 * 0.020), "{}", week.dollars - plain);
        let pushed = bill(&Load { fan_out: true, ..load() }, &prices());
        let gb = (262.8e6 * 186.0 + 18.396e6 * 320.0) / 1e9;
        assert!(is_near(pushed.dollars - plain, 4.0 * 730.0 * 0.015 + gb * 0.013), "{}", pushed.dollars - plain);
        assert!(of(&bill(&Load { retention_hours: 8_760, ..load() }, &prices()), "Kinesis", "beyond 7 days") > 0.0);
    }

    #[test]
    fn an_idle_system_costs_what_stands_and_nothing_by_event() {
        let idle = bill(&Load { events_per_second: 0.0, ..load() }, &prices());
        assert_eq!(idle.dollars_per_million_events, None);
        assert!(is_near(of(&idle, "SNS", ""), 0.0) && is_near(of(&idle, "Firehose", ""), 0.0));
        assert!(of(&idle, "DynamoDB", "leases and heartbeats") > 0.0);
    }

    #[test]
    fn texts_and_shards_come_whole() {
        assert_eq!([0, 160, 161, 306, 307].map(parts), [1, 1, 2, 2, 3]);
        assert_eq!([0.0, 1.0, 1_000.0, 1_001.0].map(least_shards), [1, 1, 1, 2]);
    }
}
