//! What survives cuts and damage at every byte, and that nothing but what is promised is lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::*;

const MIB: u64 = 1024 * 1024;

/// In memory where there is such a place: thousands of syncs would wear a disk and test nothing more.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn payload(seq: u64) -> Vec<u8> {
    format!(r#"{{"licensePlate":"ß-{seq}","n":"{}"}}"#, "x".repeat(usize::try_from(seq % 17).unwrap())).into_bytes()
}

fn add(outbox: &mut Outbox, n: u64) {
    for _ in 0..n {
        let payload = payload(outbox.next_seq());
        outbox.stage(&payload);
    }
    assert_eq!(outbox.commit().unwrap(), None);
}

fn take_all(outbox: &mut Outbox) -> Vec<u64> {
    std::iter::from_fn(|| outbox.next_unsent().unwrap())
        .map(|(seq, found)| {
            assert_eq!(found, payload(seq));
            seq
        })
        .collect()
}

fn log(folder: &Path) -> std::path::PathBuf {
    folder.join(format!("{:020}.log", 1))
}

/// Twelve readings, of which the first `done` are acknowledged, in one segment; gives its bytes and where records end.
fn twelve(folder: &Path, done: u64) -> (Vec<u8>, Vec<usize>) {
    let mut outbox = Outbox::open(folder, MIB).unwrap();
    for _ in 0..4 {
        add(&mut outbox, 3);
    }
    assert_eq!(take_all(&mut outbox), Vec::from_iter(1..=12));
    for seq in 1..=done {
        outbox.acknowledged(seq).unwrap();
    }
    drop(outbox);
    let bytes = fs::read(log(folder)).unwrap();
    let mut ends = vec![0];
    while let Some(record) = record::find(&bytes, ends[ends.len() - 1]) {
        ends.push(record.payload.end);
    }
    assert_eq!((ends.len(), ends[12]), (13, bytes.len()));
    (bytes, ends)
}

#[test]
fn a_cut_at_any_byte_loses_at_most_the_record_it_tears() {
    for done in [0, 5] {
        let folder = folder();
        let (bytes, ends) = twelve(folder.path(), done);
        for cut in 0..=bytes.len() {
            fs::write(log(folder.path()), &bytes[..cut]).unwrap();
            let whole = ends.iter().rposition(|end| *end <= cut).unwrap() as u64;
            let mut outbox = Outbox::open(folder.path(), MIB).unwrap();
            assert_eq!(take_all(&mut outbox), Vec::from_iter(done + 1..=whole), "cut at {cut}");
            // It goes on at once, without a gap and without using a number twice that was done with.
            let next = whole.max(done + u64::from(done > 0)) + u64::from(whole >= done + u64::from(done > 0));
            assert_eq!(outbox.next_seq(), next, "cut at {cut}");
            add(&mut outbox, 2);
            drop(outbox);
            let mut outbox = Outbox::open(folder.path(), MIB).unwrap();
            assert_eq!(take_all(&mut outbox), Vec::from_iter((done + 1..=whole).chain([next, next + 1])), "cut at {cut}");
            drop(outbox);
            drop(fs::remove_file(folder.path().join(format!("{next:020}.log"))));
        }
    }
}

#[test]
fn a_flipped_byte_anywhere_loses_at_most_the_record_it_lies_in() {
    let folder = folder();
    let (bytes, ends) = twelve(folder.path(), 0);
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xFF] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            fs::write(log(folder.path()), &damaged).unwrap();
            fs::write(folder.path().join("done"), []).unwrap();
            let hit = ends.iter().position(|end| *end > at).unwrap() as u64;
            let mut outbox = Outbox::open(folder.path(), MIB).unwrap();
            assert_eq!(take_all(&mut outbox), Vec::from_iter((1..=12).filter(|seq| *seq != hit)), "byte {at}");
            // The last record looks like an unfinished write, all others like what they are.
            assert_eq!(outbox.damaged(), u64::from(hit < 12), "byte {at}");
            assert_eq!(outbox.waiting(), 11);
        }
    }
}

#[test]
fn a_damaged_cursor_costs_repeats_and_no_reading() {
    let folder = folder();
    twelve(folder.path(), 7);
    let cursor = folder.path().join("done");
    let bytes = fs::read(&cursor).unwrap();
    let mut broken: Vec<Vec<u8>> = (0..bytes.len()).map(|n| bytes[..n].to_vec()).collect();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        broken.push(flipped);
    }
    for wrong in broken {
        fs::write(&cursor, wrong).unwrap();
        assert_eq!(take_all(&mut Outbox::open(folder.path(), MIB).unwrap()), Vec::from_iter(1..=12));
    }
}

#[test]
fn numbers_go_on_after_everything_was_acknowledged_and_the_folder_is_small() {
    let folder = folder();
    twelve(folder.path(), 12);
    let outbox = Outbox::open(folder.path(), MIB).unwrap();
    assert_eq!((outbox.waiting(), outbox.next_seq()), (0, 13));
    outbox.close().unwrap();
    let mut outbox = Outbox::open(folder.path(), MIB).unwrap();
    assert_eq!((outbox.waiting(), outbox.next_seq(), outbox.bytes()), (0, 13, 0));
    add(&mut outbox, 1);
    assert_eq!(take_all(&mut outbox), [13]);
}

#[test]
fn a_second_process_is_refused() {
    let folder = folder();
    let first = Outbox::open(folder.path(), MIB).unwrap();
    assert!(matches!(Outbox::open(folder.path(), MIB), Err(OutboxError::InUse { .. })));
    drop(first);
    Outbox::open(folder.path(), MIB).unwrap();
}

#[test]
fn a_full_outbox_drops_the_oldest_and_counts_them() {
    let folder = folder();
    let mut outbox = Outbox::open(folder.path(), MIB).unwrap();
    let big = vec![b'x'; 10_000];
    let mut below = 1;
    for n in 0..400 {
        outbox.stage(&big);
        if let Some(dropped_below) = outbox.commit().unwrap() {
            assert!(dropped_below > below);
            below = dropped_below;
        }
        // Some are in the hands of a connection when their segment goes.
        if n % 3 == 0 && n < 60 {
            outbox.next_unsent().unwrap().unwrap();
        }
        assert!(outbox.bytes() <= MIB);
    }
    assert_eq!(outbox.dropped(), below - 1);
    assert_eq!(outbox.waiting(), 400 - outbox.dropped());
    let (first, _) = outbox.next_unsent().unwrap().unwrap();
    assert_eq!(first, below);
    // At least seven eighths of what it may hold are still there.
    assert!(outbox.waiting() * 10_018 > MIB * 3 / 4, "{}", outbox.waiting());
    drop(outbox);
    let on_disk: u64 = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(on_disk <= MIB + 12, "{on_disk}");
    assert_eq!(Outbox::open(folder.path(), MIB).unwrap().waiting(), 400 - (below - 1));
}

/// Presses, sends, acknowledges in any order, crashes and starts again, at random, against a plain list.
#[test]
fn any_history_hands_out_every_reading_until_it_is_acknowledged() {
    for seed in 1..=40_u64 {
        let mut random = seed;
        let mut pick = move |n: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % n
        };
        let folder = folder();
        // Small segments, so that many begin and end.
        let max_bytes = 64 * 1024;
        let mut outbox = Outbox::open(folder.path(), max_bytes).unwrap();
        let mut open: BTreeMap<u64, bool> = BTreeMap::new();
        for _ in 0..400 {
            match pick(10) {
                0..4 => {
                    for _ in 0..=pick(8) {
                        open.insert(outbox.next_seq(), false);
                        let payload = payload(outbox.next_seq());
                        outbox.stage(&payload);
                    }
                    assert_eq!(outbox.commit().unwrap(), None);
                }
                4..6 => {
                    if let Some((seq, found)) = outbox.next_unsent().unwrap() {
                        assert_eq!(found, payload(seq));
                        assert_eq!(open.insert(seq, true), Some(false), "seed {seed}: {seq} was handed out twice, or done with");
                    }
                }
                6..9 => {
                    let sent: Vec<u64> = open.iter().filter(|(_, sent)| **sent).map(|(seq, _)| *seq).collect();
                    if !sent.is_empty() {
                        let seq = sent[usize::try_from(pick(sent.len() as u64)).unwrap()];
                        outbox.acknowledged(seq).unwrap();
                        open.remove(&seq);
                    }
                }
                _ => {
                    // A crash: what was acknowledged behind an open one may come again, and nothing else.
                    drop(outbox);
                    outbox = Outbox::open(folder.path(), max_bytes).unwrap();
                    let oldest = open.keys().next().copied().unwrap_or(outbox.next_seq());
                    open = (oldest..outbox.next_seq()).map(|seq| (seq, false)).collect();
                }
            }
            assert_eq!(outbox.waiting(), open.len() as u64, "seed {seed}");
        }
        let unsent: Vec<u64> = open.iter().filter(|(_, sent)| !**sent).map(|(seq, _)| *seq).collect();
        assert_eq!(take_all(&mut outbox), unsent, "seed {seed}");
    }
}
