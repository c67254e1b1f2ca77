//! What a journal still says after a crash.

use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn mark() -> FileMark {
    FileMark { path: "/in/drivers.csv".into(), inode: 7, size: 100, modified: 5 }
}

fn begun(load_id: &str) -> What {
    What::Begun { load_id: load_id.into(), target: "t".into(), file: mark(), since: None, pid: 1 }
}

fn text(entries: Vec<What>) -> Vec<u8> {
    let lines = (0..).zip(entries).map(|(second, what)| serde_json::to_string(&Entry { at: at(second), what }).unwrap() + "\n");
    lines.collect::<String>().into_bytes()
}

fn whole_load() -> Vec<What> {
    let waiting = Some(Waiting { remote: Remote::Warehouse, reason: "connection refused".into(), since: at(3) });
    let sample = Sample { stage: Stage::Committing, rows: 9, sent: 9, staged: 9, waiting, ..Sample::default() };
    vec![
        begun("l1"),
        What::Accepted { lines: vec![(2, 4), (6, 7)], rows: 5 },
        What::Accepted { lines: vec![(8, 11)], rows: 4 },
        What::Seen(sample),
        What::Committed { rows: 9, merged: 9, superseded: 0, rejected: 0, to_tell: true },
        What::Told { node: "http://a".into() },
    ]
}

#[test]
fn entries_add_up() {
    let entries = text(whole_load());
    let (state, whole) = JournalState::read(&entries);
    assert_eq!((whole, state.accepted.len(), state.accepted.contains(5)), (entries.len(), 9, false));
    assert_eq!((state.load_id.as_str(), state.begun_at, state.stage_since), ("l1", Some(at(0)), Some(at(3))));
    assert!(state.committed.is_some() && !state.is_to_be_told() && state.sample.waiting.is_none());
    let (untold, _) = JournalState::read(&text(whole_load()[..5].to_vec()));
    assert!(untold.is_to_be_told());
}

#[test]
fn a_load_that_begins_again_owes_nothing_to_the_earlier_one() {
    let mut entries = whole_load();
    entries.push(begun("l1"));
    let (state, _) = JournalState::read(&text(entries));
    assert_eq!((state.accepted.len(), state.committed, state.told, state.begun_at), (0, None, None, Some(at(6))));
}

#[test]
fn rows_that_did_not_arrive_are_no_longer_taken_as_sent() {
    let (state, _) = JournalState::read(&text(vec![begun("l1"), whole_load().swap_remove(1), What::Forgotten]));
    assert_eq!(state.accepted.len(), 0);
}

proptest! {
    #[test]
    fn a_torn_tail_costs_the_torn_entry_only(cut in 0_usize..2_000, junk in prop::collection::vec(any::<u8>(), 0..20)) {
        let entries = text(whole_load());
        let mut torn = entries[..cut.min(entries.len())].to_vec();
        let n_whole = torn.iter().filter(|byte| **byte == b'\n').count();
        torn.extend(junk.into_iter().map(|byte| if byte == b'\n' { 0 } else { byte }));
        let (state, whole) = JournalState::read(&torn);
        prop_assert_eq!(torn[..whole].iter().filter(|byte| **byte == b'\n').count(), n_whole);
        let accepted = [0, 0, 5, 9, 9, 9, 9][n_whole];
        prop_assert_eq!(state.accepted.len(), accepted);
    }
}
