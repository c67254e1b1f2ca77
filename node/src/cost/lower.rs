//! What would lower a bill, with how much it saves: each idea is the same arithmetic on a changed load.

use serde::Serialize;

use super::{Load, Prices, bill, least_shards};

/// One idea.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Advice {
    pub(crate) what: String,
    /// Dollars a month.
    pub(crate) saves: f64,
}

/// Less than this is not worth a change.
const WORTH_IT: f64 = 1.0;

/// Whatever saves at least a dollar, the most first.
pub(crate) fn advice(load: &Load, prices: &Prices) -> Vec<Advice> {
    let now = bill(load, prices).dollars;
    let least = least_shards(load.events_per_second);
    let mut ideas = vec![
        (
            format!("{least} shards carry this load, with nothing to spare for peaks (a shard takes 1,000 readings a second)"),
            Load { shards: least.min(load.shards), ..load.clone() },
        ),
        ("polling instead of enhanced fan-out; it costs up to 200 ms a hop".to_owned(), Load { fan_out: false, ..load.clone() }),
        (
            "a retention of 24 h; a longer outage of a node then loses readings".to_owned(),
            Load { retention_hours: load.retention_hours.min(24), ..load.clone() },
        ),
        (
            "a text of at most 160 characters (notify.template); it is then one part".to_owned(),
            Load { text_characters: load.text_characters.min(160), ..load.clone() },
        ),
        ("no table of every event (persist.raw_table)".to_owned(), Load { raw_table: false, ..load.clone() }),
        ("one node; nobody takes over while it is restarted".to_owned(), Load { nodes: load.nodes.min(1), ..load.clone() }),
        (
            "a broker of your own and the ingest lane, instead of IoT Core; the broker costs what it runs on".to_owned(),
            Load { devices: 0, ..load.clone() },
        ),
    ];
    let mut all: Vec<_> =
        ideas.drain(..).map(|(what, changed)| Advice { what, saves: now - bill(&changed, prices).dollars }).collect();
    all.retain(|idea| idea.saves >= WORTH_IT);
    all.sort_by(|one, other| other.saves.total_cmp(&one.saves));
    all
}

#[cfg(test)]
mod tests {
    use super::super::tests::{load, prices};
    use super::*;

    #[test]
    fn the_greatest_saving_comes_first_and_is_what_the_bill_would_lose() {
        let ideas = advice(&load(), &prices());
        assert!(ideas[0].what.contains("160 characters"), "{ideas:?}");
        let short = bill(&Load { text_characters: 160, ..load() }, &prices()).dollars;
        assert!((ideas[0].saves - (bill(&load(), &prices()).dollars - short)).abs() < 0.005);
        assert!(ideas.is_sorted_by(|one, other| one.saves >= other.saves));
        assert!(ideas.iter().any(|idea| idea.what.contains("1 shards")), "{ideas:?}");
    }

    #[test]
    fn what_is_lean_already_gets_no_advice() {
        let lean = Load { shards: 1, nodes: 1, devices: 0, text_characters: 100, ..load() };
        assert_eq!(advice(&lean, &prices()), []);
    }
}
