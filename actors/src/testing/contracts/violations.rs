//! The contracts of [`ViolationStore`] and [`ViolationStream`].

use std::sync::Arc;

use bytes::Bytes;

use crate::domain::SpeedEvent;
use crate::ports::{OutRecord, ViolationStore, ViolationStream};
use crate::testing::sample_event;

/// Runs against an empty table that refuses `poison`. Returns what must be in the table afterwards, each once.
///
/// # Panics
/// When the contract is broken.
pub async fn violation_store_contract(store: Arc<dyn ViolationStore>, poison: &SpeedEvent) -> Vec<SpeedEvent> {
    let events: Vec<_> = (0..120).map(|n| sample_event(&format!("P-{}", n % 7), &format!("event-{n}"), 76 + n % 20)).collect();
    assert_eq!(store.put(&[]).await, Ok(Vec::new()));
    let mut given: Vec<&SpeedEvent> = events.iter().collect();
    given.extend([&events[0], &events[0], &events[119]]);
    assert_eq!(store.put(&given).await, Ok(Vec::new()), "equal keys are no failure");
    assert_eq!(store.put(&given[..30]).await, Ok(Vec::new()), "repeats are no failure");
    let late = sample_event("P-LATE", "event-late", 99);
    let refused = store.put(&[&events[1], poison, &late]).await.expect("content is no failure");
    assert_eq!(refused.iter().map(|refused| refused.index).collect::<Vec<_>>(), [1]);
    assert!(!refused[0].reason.is_empty());
    events.into_iter().chain([late]).collect()
}

/// Runs against an empty stream that refuses `poison`. Returns what must be in the stream afterwards: of each partition key all,
/// in this order.
///
/// # Panics
/// When the contract is broken.
pub async fn violation_stream_contract(stream: Arc<dyn ViolationStream>, poison: &OutRecord) -> Vec<OutRecord> {
    let record = |n: usize| OutRecord { partition_key: format!("P-{}", n % 50), data: Bytes::from(format!("{{\"n\":{n}}}")) };
    let records: Vec<_> = (0..700).map(record).collect();
    assert_eq!(stream.publish(&[]).await, Ok(Vec::new()));
    assert_eq!(stream.publish(&records).await, Ok(Vec::new()));
    let (before, after) = (record(700), record(701));
    let refused = stream.publish(&[before.clone(), poison.clone(), after.clone()]).await.expect("content is no failure");
    assert_eq!(refused.iter().map(|refused| refused.index).collect::<Vec<_>>(), [1]);
    records.into_iter().chain([before, after]).collect()
}
