//! The contract of [`LeaseTable`].

use std::sync::Arc;

use crate::domain::{Position, SequenceNumber, ShardId};
use crate::ports::{Checkpoint, Lease, LeaseError, LeaseTable, NewLease};

/// Runs against a table that is absent or empty.
///
/// # Panics
/// When the contract is broken.
pub async fn lease_table_contract(table: Arc<dyn LeaseTable>) {
    table.ensure().await.expect("a table can be made");
    table.ensure().await.expect("a table that exists is no failure");
    rows_are_made_once_and_listed(&*table).await;
    writes_are_fenced(&*table).await;
    lost_answers_are_recognised(&*table).await;
    released_leases_have_no_owner(&*table).await;
}

fn at(digits: &str, sub: u64) -> Checkpoint {
    Checkpoint::At(Position { sequence: SequenceNumber::parse(digits).expect("these are digits"), sub })
}

async fn made(table: &dyn LeaseTable, shard: &str) -> Lease {
    let new = NewLease {
        shard: ShardId::new(shard),
        checkpoint: Checkpoint::TrimHorizon,
        parents: vec![ShardId::new("parent-a"), ShardId::new("parent-b")],
        hash_range: Some(("0".to_owned(), "340282366920938463463374607431768211455".to_owned())),
    };
    assert_eq!(table.create(&new).await, Ok(true));
    assert_eq!(table.create(&new).await, Ok(false), "a row is made once");
    listed(table, shard).await
}

async fn listed(table: &dyn LeaseTable, shard: &str) -> Lease {
    let leases = table.list().await.expect("the table can be read");
    leases.into_iter().find(|lease| lease.shard.as_str() == shard).expect("the row is listed")
}

fn assert_lost<T: std::fmt::Debug>(answer: Result<T, LeaseError>, shard: &str) {
    assert_eq!(answer.expect_err("the lease is lost"), LeaseError::Lost(ShardId::new(shard)));
}

async fn rows_are_made_once_and_listed(table: &dyn LeaseTable) {
    let lease = made(table, "shard-1").await;
    assert_eq!((lease.owner, lease.counter, lease.checkpoint), (None, 0, Checkpoint::TrimHorizon));
    let mut parents = lease.parents;
    parents.sort();
    assert_eq!(parents, [ShardId::new("parent-a"), ShardId::new("parent-b")]);
}

async fn writes_are_fenced(table: &dyn LeaseTable) {
    let free = made(table, "shard-2").await;
    let mine = table.take(&free, "node-1").await.expect("a free lease can be taken");
    assert_eq!((mine.owner.as_deref(), mine.counter), (Some("node-1"), 1));
    assert_lost(table.take(&free, "node-2").await, "shard-2");
    let renewed = table.renew(&mine).await.expect("an owner renews");
    assert_eq!(renewed.counter, 2);
    let digits = "49600000000000000000000000000000000000000000000000000000";
    let moved = table.checkpoint(&renewed, &at(digits, 7)).await.expect("an owner moves the checkpoint");
    assert_eq!((moved.counter, &moved.checkpoint), (3, &at(digits, 7)));
    assert_eq!(listed(table, "shard-2").await, moved);
    let stolen = table.take(&moved, "node-2").await.expect("a lease nobody wrote since can be taken");
    assert_eq!(stolen.checkpoint, at(digits, 7), "the checkpoint stays");
    assert_lost(table.renew(&moved).await, "shard-2");
    assert_lost(table.checkpoint(&moved, &Checkpoint::ShardEnd).await, "shard-2");
    assert_lost(table.release(&moved).await, "shard-2");
    assert_eq!(listed(table, "shard-2").await, stolen, "refused writes change nothing");
    let ended = table.checkpoint(&stolen, &Checkpoint::ShardEnd).await.expect("an owner ends a shard");
    assert_eq!(listed(table, "shard-2").await.checkpoint, ended.checkpoint);
    let nobodys = Lease { shard: ShardId::new("shard-none"), ..stolen };
    assert_lost(table.renew(&nobodys).await, "shard-none");
}

async fn lost_answers_are_recognised(table: &dyn LeaseTable) {
    let free = made(table, "shard-3").await;
    let mine = table.take(&free, "node-1").await.expect("a free lease can be taken");
    let again = table.take(&free, "node-1").await.expect("a repeated take is our own");
    assert_eq!(again, mine);
    table.renew(&mine).await.expect("an owner renews");
    let again = table.renew(&mine).await.expect("a repeated renewal is our own");
    let moved = table.checkpoint(&again, &at("12", 0)).await.expect("and the lease goes on");
    table.renew(&moved).await.expect("an owner renews");
    let moved = table.checkpoint(&moved, &at("13", 0)).await.expect("a checkpoint after an unseen renewal is written");
    assert_eq!(listed(table, "shard-3").await.checkpoint, at("13", 0));
    table.renew(&moved).await.expect("and the lease goes on");
}

async fn released_leases_have_no_owner(table: &dyn LeaseTable) {
    let free = made(table, "shard-4").await;
    let mine = table.take(&free, "node-1").await.expect("a free lease can be taken");
    table.release(&mine).await.expect("an owner gives it up");
    table.release(&mine).await.expect("a repeated release is our own");
    let released = listed(table, "shard-4").await;
    assert_eq!(released.owner, None);
    assert!(released.counter > mine.counter);
    assert_lost(table.renew(&mine).await, "shard-4");
    table.take(&released, "node-2").await.expect("a released lease can be taken");
}
