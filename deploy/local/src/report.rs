//! What arrived where, and whether it adds up.
//!
//! Two witnesses are compared: what the programs say they did (device, loader, nodes) and what an audit of the cloud's
//! services and of the warehouse finds. Events and effects are counted by distinct event id, so a repeated delivery or a
//! replay after a crash changes no count; what programs say is compared record by record unless something was replayed.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use crate::node::Placement;

/// What audit.py found.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(crate) struct Audit {
    pub(crate) in_stream: InStream,
    error_stream: Records,
    /// Distinct violations whose plate is not in the warehouse.
    owner_unknown: u64,
    letters: BTreeMap<String, Letters>,
    speeding: Stored,
    out_stream: OutStream,
    texts: Texts,
    archive: Stored,
    alerts: Alerts,
    publish_to_text_ms: Vec<f64>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(crate) struct InStream {
    records: u64,
    under_limit_records: u64,
    violation_records: u64,
    rejected: u64,
    under_limit: u64,
    violations: u64,
    lettered: u64,
    events: u64,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
struct Records {
    records: u64,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
struct Letters {
    rows: u64,
    tries: u64,
}

/// Items or lines, and how many events they are about.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
struct Stored {
    #[serde(alias = "items", alias = "lines")]
    stored: u64,
    events: u64,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
struct OutStream {
    events: u64,
    repeats: u64,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
struct Texts {
    messages: u64,
    distinct: u64,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
struct Alerts {
    sent: u64,
}

/// What all nodes together say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeCounts {
    /// Events that enrich lanes have ended, in any way.
    pub(crate) enrich_ended: u64,
    pub(crate) errors_ended: u64,
    pub(crate) under_limit: u64,
    pub(crate) published: u64,
    pub(crate) owner_unknown: u64,
    pub(crate) possible_repeats: u64,
    /// Whether no node died: the counts of one that did went with it, and the audit is the only witness left.
    pub(crate) whole: bool,
}

/// Everything the report is made from.
pub(crate) struct Facts<'a> {
    /// Readings the broker has acknowledged to the device.
    pub(crate) acknowledged: u64,
    /// Drivers the loader says it has brought in.
    pub(crate) drivers: u64,
    /// Rows of the warehouse's driver table.
    pub(crate) driver_rows: u64,
    pub(crate) nodes: &'a NodeCounts,
    pub(crate) audit: &'a Audit,
}

/// The JSON report; its keys are a contract.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Report {
    readings: u64,
    events_in: u64,
    violations: u64,
    persisted: u64,
    published: u64,
    texts: u64,
    archived_lines: u64,
    drivers_loaded: u64,
    dead_letters: u64,
    duplicates: u64,
    possible_repeats: u64,
    publish_to_text_ms: Percentiles,
    pub(crate) reconciled: bool,
}

#[derive(Debug, PartialEq, Serialize)]
struct Percentiles {
    p50: Option<f64>,
    p99: Option<f64>,
}

impl Audit {
    fn letters(&self, stages: &[&str]) -> Letters {
        let of = |count: fn(&Letters) -> u64| stages.iter().filter_map(|stage| self.letters.get(*stage)).map(count).sum();
        Letters { rows: of(|letters| letters.rows), tries: of(|letters| letters.tries) }
    }

    /// Records on the two streams that the topic rule feeds.
    fn records_in(&self) -> u64 {
        self.in_stream.records + self.error_stream.records
    }
}

/// Makes the report, and one sentence for each equation that does not hold.
pub(crate) fn reconcile(facts: &Facts<'_>) -> (Report, Vec<String>) {
    let Facts { acknowledged, drivers, driver_rows, nodes, audit } = *facts;
    let stream = &audit.in_stream;
    let mut check = Check::default();

    let events_in = stream.events + audit.error_stream.records;
    check.equal("readings == events in", acknowledged, events_in);

    // The input side's letters are keyed by payload, so equal payloads share a row; `tries` counts each.
    let letters = audit.letters(&["enrich", "errors"]);
    let unusable = stream.rejected + stream.lettered + audit.error_stream.records;
    let ended = nodes.enrich_ended + nodes.errors_ended;
    if nodes.whole && ended == audit.records_in() {
        check.equal("under the limit, as nodes say == by audit", nodes.under_limit, stream.under_limit_records);
        let found = nodes.published + nodes.owner_unknown;
        check.equal("violations, as nodes say == by audit", found, stream.violation_records);
        check.equal("dead letters of input (tries) == unusable records", letters.tries, unusable);
    } else {
        // A lane that restarted has let some records in twice.
        if nodes.whole {
            check.at_least("ended by nodes >= records on in-stream and error stream", ended, audit.records_in());
        }
        check.at_least("dead letters of input (tries) >= unusable records", letters.tries, unusable);
    }
    check.at_least("unusable records >= dead letters of input (rows)", unusable, letters.rows);
    check.equal(
        "events in == under the limit + violations + unusable",
        events_in,
        stream.under_limit + stream.violations + unusable,
    );

    let persisted = audit.speeding.stored;
    check.equal("persisted == violations", persisted, stream.violations);
    check.equal("persisted items == their distinct events", persisted, audit.speeding.events);
    let published = audit.out_stream.events;
    check.equal("published + owner unknown == violations", published + audit.owner_unknown, stream.violations);
    let texts = audit.texts.distinct;
    check.equal("texts + dead letters of notify == published", texts + audit.letters(&["notify"]).rows, published);
    check.equal("texts == alerts marked as sent", texts, audit.alerts.sent);
    check.at_least(
        "possible repeats >= repeated texts",
        nodes.possible_repeats,
        audit.texts.messages - texts.min(audit.texts.messages),
    );
    let archived = audit.archive.events;
    check.equal("archived lines + dead letters of archive == persisted", archived + audit.letters(&["archive"]).rows, persisted);
    check.equal("drivers loaded == rows in the warehouse", drivers, driver_rows);

    let mut waits = audit.publish_to_text_ms.clone();
    waits.sort_by(f64::total_cmp);
    let report = Report {
        readings: acknowledged,
        events_in,
        violations: stream.violations,
        persisted,
        published,
        texts,
        archived_lines: archived,
        drivers_loaded: driver_rows,
        dead_letters: audit.letters.values().map(|stage| stage.rows).sum(),
        duplicates: audit.out_stream.repeats,
        possible_repeats: nodes.possible_repeats,
        publish_to_text_ms: Percentiles { p50: percentile(&waits, 50), p99: percentile(&waits, 99) },
        reconciled: check.failures.is_empty(),
    };
    (report, check.failures)
}

#[derive(Default)]
struct Check {
    failures: Vec<String>,
}

impl Check {
    fn equal(&mut self, equation: &str, left: u64, right: u64) {
        if left != right {
            self.failures.push(format!("{equation}: {left} and {right}"));
        }
    }

    fn at_least(&mut self, equation: &str, left: u64, right: u64) {
        if left < right {
            self.failures.push(format!("{equation}: {left} and {right}"));
        }
    }
}

/// The smallest value that at least `share` percent of the values do not exceed (nearest rank).
fn percentile(ordered: &[f64], share: usize) -> Option<f64> {
    let rank = (ordered.len() * share).div_ceil(100);
    ordered.get(rank.saturating_sub(1)).copied()
}

impl Report {
    pub(crate) fn table(&self) -> String {
        let time = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.0} ms"));
        let rows = [
            ("readings", self.readings.to_string(), "acknowledged to the device"),
            ("events in", self.events_in.to_string(), "on the in-stream and the error stream"),
            ("violations", self.violations.to_string(), "above the limit"),
            ("persisted", self.persisted.to_string(), "items in rtr-iot-speeding"),
            ("published", self.published.to_string(), "events on the out-stream"),
            ("texts", self.texts.to_string(), "sent to drivers"),
            ("archived lines", self.archived_lines.to_string(), "events in the archive bucket"),
            ("drivers loaded", self.drivers_loaded.to_string(), "rows in the warehouse"),
            ("dead letters", self.dead_letters.to_string(), "rows in rtr-iot-dead-letters"),
            ("duplicates", self.duplicates.to_string(), "repeats on the out-stream"),
            ("possible repeats", self.possible_repeats.to_string(), "texts that may have gone out twice"),
            ("publish to text", time(self.publish_to_text_ms.p50), "half of the texts took no longer"),
            ("", time(self.publish_to_text_ms.p99), "99 of 100 took no longer"),
        ];
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_header(["what", "count", "where"]);
        for (what, count, place) in rows {
            table.add_row([what, &count, place]);
        }
        if let Some(counts) = table.column_mut(1) {
            counts.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }
}

/// What runs where: the shards of each role, by node.
pub(crate) fn places_table(placement: &Placement) -> String {
    let roles: BTreeSet<&String> = placement.values().flat_map(BTreeMap::keys).collect();
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["node", "shards"].into_iter().chain(roles.iter().map(|role| role.as_str())));
    for (node, shards) in placement {
        let of_role = |role: &&String| shards.get(*role).copied().unwrap_or_default().to_string();
        let all = shards.values().sum::<u64>().to_string();
        table.add_row([node.clone(), all].into_iter().chain(roles.iter().map(of_role)));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn audit() -> Audit {
        let letters = |rows, tries| Letters { rows, tries };
        Audit {
            in_stream: InStream {
                records: 9,
                under_limit_records: 3,
                violation_records: 5,
                rejected: 1,
                under_limit: 3,
                violations: 5,
                lettered: 0,
                events: 9,
            },
            error_stream: Records { records: 2 },
            owner_unknown: 1,
            // Both records of the error stream had the same payload.
            letters: [("enrich", letters(1, 1)), ("errors", letters(1, 2)), ("notify", letters(1, 1))]
                .map(|(stage, letters)| (stage.to_owned(), letters))
                .into(),
            speeding: Stored { stored: 5, events: 5 },
            out_stream: OutStream { events: 4, repeats: 0 },
            texts: Texts { messages: 3, distinct: 3 },
            archive: Stored { stored: 6, events: 5 },
            alerts: Alerts { sent: 3 },
            publish_to_text_ms: vec![30.0, 10.0, 20.0],
        }
    }

    fn nodes() -> NodeCounts {
        NodeCounts {
            enrich_ended: 9,
            errors_ended: 2,
            under_limit: 3,
            published: 4,
            owner_unknown: 1,
            possible_repeats: 0,
            whole: true,
        }
    }

    fn failures(audit: &Audit, nodes: &NodeCounts) -> Vec<String> {
        reconcile(&Facts { acknowledged: 11, drivers: 7, driver_rows: 7, nodes, audit }).1
    }

    #[test]
    fn a_clean_run_reconciles() {
        let facts = Facts { acknowledged: 11, drivers: 7, driver_rows: 7, nodes: &nodes(), audit: &audit() };
        let (report, failures) = reconcile(&facts);
        assert_eq!(failures, Vec::<String>::new());
        assert!(report.reconciled);
        assert_eq!((report.events_in, report.violations, report.dead_letters, report.archived_lines), (11, 5, 3, 5));
        assert_eq!(report.publish_to_text_ms, Percentiles { p50: Some(20.0), p99: Some(30.0) });
    }

    #[test]
    fn repeats_on_the_way_change_no_count() {
        let mut seen = audit();
        seen.in_stream.records += 1;
        seen.in_stream.violation_records += 1;
        seen.out_stream.repeats = 1;
        let said = NodeCounts { enrich_ended: 10, published: 5, ..nodes() };
        assert_eq!(failures(&seen, &said), Vec::<String>::new());
    }

    #[test]
    fn a_replay_after_a_restart_is_allowed_for() {
        let said = NodeCounts { enrich_ended: 14, under_limit: 5, published: 7, ..nodes() };
        assert_eq!(failures(&audit(), &said), Vec::<String>::new());
    }

    #[test]
    fn a_node_that_died_took_its_counts_with_it() {
        let said = NodeCounts { enrich_ended: 2, errors_ended: 0, under_limit: 1, published: 1, owner_unknown: 0, ..nodes() };
        assert!(!failures(&audit(), &said).is_empty());
        assert_eq!(failures(&audit(), &NodeCounts { whole: false, ..said }), Vec::<String>::new());
    }

    #[test]
    fn each_loss_names_its_equation() {
        type Loss = (&'static str, fn(&mut Audit));
        let losses: [Loss; 7] = [
            ("readings == events in", |audit| audit.in_stream.events -= 1),
            ("persisted == violations", |audit| audit.speeding = Stored { stored: 4, events: 4 }),
            ("published + owner unknown", |audit| audit.out_stream.events = 3),
            ("texts + dead letters of notify", |audit| audit.texts.distinct = 2),
            ("texts == alerts marked", |audit| audit.alerts.sent = 2),
            ("archived lines", |audit| audit.archive.events = 4),
            ("dead letters of input (tries)", |audit| {
                audit.letters.remove("errors");
            }),
        ];
        for (equation, lose) in losses {
            let mut seen = audit();
            lose(&mut seen);
            let failures = failures(&seen, &nodes());
            assert!(failures.iter().any(|failure| failure.starts_with(equation)), "{equation}: {failures:?}");
        }
    }

    #[test]
    fn a_text_sent_twice_must_have_been_counted() {
        let mut seen = audit();
        seen.texts.messages += 1;
        assert_eq!(failures(&seen, &nodes()).len(), 1);
        assert_eq!(failures(&seen, &NodeCounts { possible_repeats: 1, ..nodes() }), Vec::<String>::new());
    }

    #[test]
    fn nodes_that_miscount_are_caught() {
        let said = NodeCounts { under_limit: 4, published: 3, ..nodes() };
        assert_eq!(failures(&audit(), &said).len(), 2);
    }

    #[test]
    fn percentiles_take_the_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99)), (Some(50.0), Some(99.0)));
        assert_eq!((percentile(&[7.0], 50), percentile(&[7.0], 99)), (Some(7.0), Some(7.0)));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn places_are_shown_by_node_and_role() {
        let shards = |shards: &[(&str, u64)]| shards.iter().map(|(role, n)| ((*role).to_owned(), *n)).collect();
        let placement =
            [("node-1".to_owned(), shards(&[("enrich", 2), ("notify", 1)])), ("node-2".to_owned(), shards(&[]))].into();
        let shown = places_table(&placement);
        let numbers = |node: &str| -> Vec<u64> {
            let line = shown.lines().find(|line| line.contains(node)).unwrap();
            line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
        };
        assert_eq!((numbers("node-1"), numbers("node-2")), (vec![3, 2, 1], vec![0, 0, 0]), "{shown}");
    }

    #[test]
    fn report_has_the_keys_of_the_contract() {
        let facts = Facts { acknowledged: 11, drivers: 7, driver_rows: 7, nodes: &nodes(), audit: &audit() };
        let json = serde_json::to_value(reconcile(&facts).0).unwrap();
        let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = vec![
            "readings",
            "events_in",
            "violations",
            "persisted",
            "published",
            "texts",
            "archived_lines",
            "drivers_loaded",
            "dead_letters",
            "duplicates",
            "possible_repeats",
            "publish_to_text_ms",
            "reconciled",
        ];
        let mut found = keys.clone();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
}
