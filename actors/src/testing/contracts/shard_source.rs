//! The contract of [`ShardSource`].

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::domain::{SequenceNumber, ShardId};
use crate::ports::{Record, ShardSource, SourceError, StartAt};

/// Empty pages tolerated in a row: a service may answer with some before the records.
const MOST_EMPTY_PAGES: usize = 20;

/// Runs against an open shard that holds at least three records; `told` must tell them apart, `expected` is their order.
///
/// # Panics
/// When the contract is broken.
pub async fn shard_source_contract(source: Arc<dyn ShardSource>, expected: &[String], told: impl Fn(&Record) -> String) {
    assert!(!source.stream().is_empty());
    let shards = source.shards().await.expect("shards can be listed");
    assert_eq!(shards.len(), 1, "the stream of a contract has one shard");
    let shard = &shards[0].id;
    assert!(shards[0].parents.is_empty());

    let all = read(&*source, shard, &StartAt::TrimHorizon, expected.len()).await;
    assert_eq!(all.iter().map(&told).collect::<Vec<_>>(), expected);
    assert!(all.windows(2).all(|pair| pair[0].position < pair[1].position), "positions rise");

    let third = StartAt::Sequence(all[2].position.sequence.clone());
    let rest = read(&*source, shard, &third, expected.len() - 2).await;
    assert_eq!(rest.iter().map(&told).collect::<Vec<_>>(), expected[2..], "a sequence number starts at its own record");

    let trimmed = StartAt::Sequence(SequenceNumber::parse("1").expect("a digit"));
    let early = StartAt::Timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
    for oldest in [trimmed, early] {
        let first = read(&*source, shard, &oldest, 1).await;
        assert_eq!(told(&first[0]), expected[0], "{oldest:?} starts at the oldest record");
    }

    let latest = source.iterator(shard, &StartAt::Latest).await.expect("a shard opens at its end");
    let page = source.read(&latest, 10).await.expect("the end can be read");
    assert!(page.records.is_empty());
    assert!(page.next.is_some(), "an open shard goes on");

    let gone = ShardId::new("shardId-000000000000000000099-0000abcd");
    let answer = source.iterator(&gone, &StartAt::TrimHorizon).await;
    assert_eq!(answer, Err(SourceError::Gone(gone)));
}

async fn read(source: &dyn ShardSource, shard: &ShardId, from: &StartAt, n: usize) -> Vec<Record> {
    const LIMIT: usize = 2;
    let mut records = Vec::new();
    let mut iterator = source.iterator(shard, from).await.expect("a shard opens");
    let mut n_empty = 0;
    while records.len() < n {
        let page = source.read(&iterator, LIMIT).await.expect("a shard can be read");
        assert!(page.records.len() <= LIMIT);
        n_empty = if page.records.is_empty() { n_empty + 1 } else { 0 };
        assert!(n_empty <= MOST_EMPTY_PAGES, "only {} of {n} records came", records.len());
        records.extend(page.records);
        iterator = page.next.expect("an open shard goes on");
    }
    records
}
