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
    refuse_v3(row)?;
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
/// rules of ownership differ, so whoever follows the older ones must not write there.
pub(super) fn refuse_v3(row: &Row) -> Result<(), LeaseError> {
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
    let (text, sub) = match checkpoint {
        Checkpoint::TrimHorizon => ("TRIM_HORIZON", 0),
        Checkpoint::Latest => ("LATEST", 0),
        Checkpoint::AtTimestamp => ("AT_TIMESTAMP", 0),
        Checkpoint::At(position) => (position.sequence.as_str(), position.sub),
        Checkpoint::ShardEnd => ("SHARD_END", 0),
    };
    (AttributeValue::S(text.to_owned()), AttributeValue::N(sub.to_string()))
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

    fn row(changes: &[(&str, AttributeValue)]) -> Row {
        let new = NewLease {
            shard: ShardId::new("shardId-000000000001"),
            checkpoint: Checkpoint::TrimHorizon,
            parents: vec![ShardId::new("shardId-000000000000")],
            hash_range: Some(("0".to_owned(), "9".to_owned())),
        };
        let mut row = new_row(&new);
        row.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        row
    }

    #[test]
    fn a_new_row_has_the_attributes_of_kcl_and_reads_back() {
        let row = row(&[]);
        let mut names: Vec<_> = row.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "checkpoint",
                "checkpointSubSequenceNumber",
                "endingHashKey",
                "leaseCounter",
                "leaseKey",
                "ownerSwitchesSinceCheckpoint",
                "parentShardId",
                "startingHashKey"
            ]
        );
        let lease = lease(&row).expect("a row KCL writes").expect("a lease");
        assert_eq!((lease.owner, lease.counter, lease.checkpoint), (None, 0, Checkpoint::TrimHorizon));
        assert_eq!(lease.parents, [ShardId::new("shardId-000000000000")]);
    }

    #[test]
    fn checkpoints_keep_digits_and_sub_sequence() {
        let digits = "49600000000000000000000000000000000000000000000000000007";
        let sub = AttributeValue::N("3".to_owned());
        let row = row(&[(CHECKPOINT, AttributeValue::S(digits.to_owned())), (SUB_SEQUENCE, sub)]);
        let at = Checkpoint::At(Position { sequence: SequenceNumber::parse(digits).expect("digits"), sub: 3 });
        assert_eq!(lease(&row).expect("a row KCL writes").expect("a lease").checkpoint, at);
        assert_eq!(checkpoint_values(&at).0, row[CHECKPOINT]);
    }

    #[test]
    fn rows_of_kcl_3_make_the_table_unusable_and_other_rows_are_left_out() {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        assert!(matches!(lease(&row(&[("checkpointOwner", text("w"))])), Err(LeaseError::Unusable(_))));
        assert!(matches!(lease(&row(&[("entityType", text("LEADER"))])), Err(LeaseError::Unusable(_))));
        assert!(matches!(lease(&row(&[("entityType", text("LEASE"))])), Ok(Some(_))));
        assert!(matches!(lease(&row(&[(CHECKPOINT, text("garbage"))])), Err(LeaseError::Unusable(_))));
        assert_eq!(lease(&Row::from([(LEASE_KEY.to_owned(), text("x"))])), Ok(None));
    }
}
