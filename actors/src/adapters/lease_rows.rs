//! Lease rows as the Kinesis Client Library writes them, to values and back.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::domain::{Position, SequenceNumber, ShardId};
use crate::ports::{Checkpoint, Lease, LeaseError, NewLease};

pub(super) type Row = HashMap<String, AttributeValue>;

pub(super) const LEASE_KEY: &str = "leaseKey";
const LEASE_OWNER: &str = "leaseOwner";
const LEASE_COUNTER: &str = "leaseCounter";
const CHECKPOINT: &str = "checkpoint";
const SUB_SEQUENCE: &str = "checkpointSubSequenceNumber";

/// Reads one row. `None` for a row without counter, which is no lease.
///
/// # Errors
/// [`LeaseError::Unusable`] when the row shows that workers of KCL 3.x use the table, or holds what no KCL writes.
pub(super) fn lease(row: &Row) -> Result<Option<Lease>, LeaseError> {
    refuse_foreign(row)?;
    let (Some(key), Some(counter)) = (text(row, LEASE_KEY), number(row, LEASE_COUNTER)) else { return Ok(None) };
    let counter = counter.parse().map_err(|_| LeaseError::Unusable(format!("row `{key}` has leaseCounter `{counter}`")))?;
    Ok(Some(Lease {
        shard: ShardId::new(key),
        owner: text(row, LEASE_OWNER).map(ToOwned::to_owned),
        counter,
        checkpoint: checkpoint(row, key)?,
        parents: shards(row, "parentShardId"),
        children: shards(row, "childShardIds"),
        has_hash_range: row.contains_key("startingHashKey") && row.contains_key("endingHashKey"),
    }))
}

/// Workers of KCL 3.x hand leases over by `checkpointOwner`, and from 3.5 keep rows of other kinds in the same table. Their
/// rules of ownership differ, so whoever follows the older ones must not write there. Nor may who reads one stream where leases
/// of several streams stand side by side: the others' would look like leases of shards that are gone.
pub(super) fn refuse_foreign(row: &Row) -> Result<(), LeaseError> {
    if text(row, LEASE_KEY) == Some("Migration3.0") {
        return Err(LeaseError::Unusable("it holds the row `Migration3.0` of KCL 3.x".to_owned()));
    }
    if let Some(stream) = text(row, "streamName") {
        return Err(LeaseError::Unusable(format!("it holds leases of several streams (streamName `{stream}`)")));
    }
    if let Some(owner) = text(row, "checkpointOwner") {
        return Err(LeaseError::Unusable(format!("a hand-over of KCL 3.x is going on (checkpointOwner `{owner}`)")));
    }
    match text(row, "entityType") {
        Some(kind) if kind != "LEASE" => Err(LeaseError::Unusable(format!("it holds KCL 3.x rows of entityType `{kind}`"))),
        _ => Ok(()),
    }
}

/// The row of a new lease.
pub(super) fn new_row(lease: &NewLease) -> Row {
    let (checkpoint, sub) = checkpoint_values(&lease.checkpoint);
    let mut row = Row::from([
        (LEASE_KEY.to_owned(), AttributeValue::S(lease.shard.as_str().to_owned())),
        (LEASE_COUNTER.to_owned(), AttributeValue::N("0".to_owned())),
        (CHECKPOINT.to_owned(), checkpoint),
        (SUB_SEQUENCE.to_owned(), sub),
        ("ownerSwitchesSinceCheckpoint".to_owned(), AttributeValue::N("0".to_owned())),
    ]);
    // An empty set cannot be stored; KCL leaves the attribute out too.
    if !lease.parents.is_empty() {
        let parents = lease.parents.iter().map(|id| id.as_str().to_owned()).collect();
        row.insert("parentShardId".to_owned(), AttributeValue::Ss(parents));
    }
    if let Some((start, end)) = &lease.hash_range {
        row.insert("startingHashKey".to_owned(), AttributeValue::S(start.clone()));
        row.insert("endingHashKey".to_owned(), AttributeValue::S(end.clone()));
    }
    row
}

/// `checkpoint` and `checkpointSubSequenceNumber`; sentinels have the sub-sequence number 0.
pub(super) fn checkpoint_values(checkpoint: &Checkpoint) -> (AttributeValue, AttributeValue) {
    let sub = if let Checkpoint::At(position) = checkpoint { position.sub } else { 0 };
    (AttributeValue::S(checkpoint.to_string()), AttributeValue::N(sub.to_string()))
}

fn checkpoint(row: &Row, key: &str) -> Result<Checkpoint, LeaseError> {
    match text(row, CHECKPOINT) {
        None | Some("TRIM_HORIZON") => Ok(Checkpoint::TrimHorizon),
        Some("LATEST") => Ok(Checkpoint::Latest),
        Some("AT_TIMESTAMP") => Ok(Checkpoint::AtTimestamp),
        Some("SHARD_END") => Ok(Checkpoint::ShardEnd),
        Some(digits) => {
            let sub = number(row, SUB_SEQUENCE).unwrap_or("0");
            let unreadable = || LeaseError::Unusable(format!("row `{key}` has checkpoint `{digits}`, `{sub}`"));
            let sequence = SequenceNumber::parse(digits).map_err(|_| unreadable())?;
            Ok(Checkpoint::At(Position { sequence, sub: sub.parse().map_err(|_| unreadable())? }))
        }
    }
}

fn shards(row: &Row, name: &str) -> Vec<ShardId> {
    match row.get(name) {
        Some(AttributeValue::Ss(ids)) => ids.iter().map(|id| ShardId::new(id)).collect(),
        _ => Vec::new(),
    }
}

fn text<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    row.get(name).and_then(|value| value.as_s().ok()).map(String::as_str)
}

fn number<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    row.get(name).and_then(|value| value.as_n().ok()).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{dumped_kcl_2_5_8, golden_kcl_1_12, golden_kcl_2_5, golden_writes, item_json, lease_json};

    fn row(changes: &[(&str, AttributeValue)]) -> Row {
        let mut row = golden_kcl_1_12().remove(1).row;
        row.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        row
    }

    #[test]
    fn rows_of_kcl_1_12_and_2_5_are_read_exactly() {
        let (one, two, dumped) = (golden_kcl_1_12(), golden_kcl_2_5(), dumped_kcl_2_5_8());
        assert!(one.len() >= 7 && two.len() >= 6 && dumped.len() == 8);
        for golden in one.into_iter().chain(two).chain(dumped) {
            let lease = lease(&golden.row).expect("a row KCL writes").expect("a lease");
            assert_eq!(lease_json(&lease), golden.lease);
            let (checkpoint, sub) = checkpoint_values(&lease.checkpoint);
            assert_eq!((&golden.row[CHECKPOINT], &golden.row[SUB_SEQUENCE]), (&checkpoint, &sub), "written as it was read");
        }
    }

    #[test]
    fn a_new_row_has_the_attributes_of_kcl() {
        let new = NewLease {
            shard: ShardId::new("shardId-000000000009"),
            checkpoint: Checkpoint::TrimHorizon,
            parents: ["shardId-000000000003", "shardId-000000000004"].map(ShardId::new).to_vec(),
            hash_range: None,
        };
        assert_eq!(item_json(&new_row(&new)), golden_writes()[0].row);
        let hash_range = Some(("0".to_owned(), u128::MAX.to_string()));
        assert_eq!(item_json(&new_row(&NewLease { hash_range, ..new })), golden_writes()[1].row);
    }

    #[test]
    fn rows_of_kcl_3_make_the_table_unusable_and_other_rows_are_left_out() {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        assert!(matches!(lease(&row(&[("checkpointOwner", text("w"))])), Err(LeaseError::Unusable(_))));
        assert!(matches!(lease(&row(&[("entityType", text("LEADER"))])), Err(LeaseError::Unusable(_))));
        assert!(matches!(lease(&row(&[("entityType", text("LEASE"))])), Ok(Some(_))));
        assert!(matches!(lease(&row(&[(LEASE_KEY, text("Migration3.0"))])), Err(LeaseError::Unusable(_))));
        assert!(matches!(lease(&row(&[("streamName", text("1:stream:2"))])), Err(LeaseError::Unusable(_))));
        assert!(matches!(lease(&row(&[(CHECKPOINT, text("garbage"))])), Err(LeaseError::Unusable(_))));
        assert_eq!(lease(&Row::from([(LEASE_KEY.to_owned(), text("x"))])), Ok(None));
    }
}
