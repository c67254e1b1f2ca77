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
    a_lease_lost_and_regained_is_not_the_old_holders(&*table).await;
    released_leases_have_no_owner(&*table).await;
    leases_are_handed_over(&*table).await;
    shards_are_noted_without_a_fence(&*table).await;
    rows_are_deleted_as_they_were_read(&*table).await;
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

/// The same worker holds it again, but whoever held it before must not write: it would put back an older checkpoint.
async fn a_lease_lost_and_regained_is_not_the_old_holders(table: &dyn LeaseTable) {
    let free = made(table, "shard-5").await;
    let old = table.take(&free, "node-1").await.expect("a free lease can be taken");
    let theirs = table.take(&old, "node-2").await.expect("a lease nobody wrote since can be taken");
    let theirs = table.checkpoint(&theirs, &at("20", 0)).await.expect("its owner moves it");
    let regained = table.assign(&theirs, "node-1").await.expect("an owner hands it over");
    assert_lost(table.checkpoint(&old, &at("10", 0)).await, "shard-5");
    assert_lost(table.renew(&old).await, "shard-5");
    assert_eq!(listed(table, "shard-5").await, regained);
    table.renew(&regained).await.expect("the new holder goes on");
}

async fn leases_are_handed_over(table: &dyn LeaseTable) {
    let free = made(table, "shard-6").await;
    let mine = table.take(&free, "node-1").await.expect("a free lease can be taken");
    let mine = table.checkpoint(&mine, &at("30", 1)).await.expect("an owner moves the checkpoint");
    table.renew(&mine).await.expect("an owner renews");
    let handed = table.assign(&mine, "node-2").await.expect("a hand-over after an unseen renewal is written");
    assert_eq!((handed.owner.as_deref(), handed.counter), (Some("node-2"), mine.counter + 2));
    assert_eq!(handed.checkpoint, at("30", 1));
    assert_lost(table.renew(&mine).await, "shard-6");
    let again = table.take(&handed, "node-2").await.expect("the new owner takes what is its own");
    assert_eq!(again.counter, handed.counter + 1);
    assert_lost(table.assign(&mine, "node-3").await, "shard-6");
    assert_eq!(table.get(&ShardId::new("shard-6")).await, Ok(Some(again)));
    assert_eq!(table.get(&ShardId::new("shard-none")).await, Ok(None));
}

async fn shards_are_noted_without_a_fence(table: &dyn LeaseTable) {
    let shard = ShardId::new("shard-7");
    let new = NewLease { shard: shard.clone(), checkpoint: Checkpoint::Latest, parents: Vec::new(), hash_range: None };
    assert_eq!(table.create(&new).await, Ok(true));
    let bare = listed(table, "shard-7").await;
    assert_eq!((bare.has_hash_range, &bare.checkpoint, &bare.parents), (false, &Checkpoint::Latest, &Vec::new()));
    let range = ("0".to_owned(), "7".to_owned());
    assert_eq!(table.note_hash_range(&shard, &range).await, Ok(()));
    assert_eq!(table.note_hash_range(&shard, &range).await, Ok(()), "a repeat changes nothing");
    let children = [ShardId::new("child-a"), ShardId::new("child-b")];
    assert_eq!(table.note_children(&shard, &children).await, Ok(()));
    let mut noted = listed(table, "shard-7").await;
    noted.children.sort();
    assert_eq!(noted, Lease { has_hash_range: true, children: children.to_vec(), ..bare.clone() }, "the counter stays");
    table.take(&bare, "node-1").await.expect("what was noted is no write of the lease");
    assert_lost(table.note_hash_range(&ShardId::new("shard-none"), &range).await, "shard-none");
    assert_lost(table.note_children(&ShardId::new("shard-none"), &children).await, "shard-none");
}

async fn rows_are_deleted_as_they_were_read(table: &dyn LeaseTable) {
    let free = made(table, "shard-8").await;
    let mine = table.take(&free, "node-1").await.expect("a free lease can be taken");
    assert_lost(table.delete(&free).await, "shard-8");
    assert_eq!(table.delete(&mine).await, Ok(()));
    assert_eq!(table.delete(&mine).await, Ok(()), "a row that is gone is no failure");
    assert_eq!(table.get(&mine.shard).await, Ok(None));
    assert_lost(table.renew(&mine).await, "shard-8");
}
