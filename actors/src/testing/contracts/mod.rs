//! What every implementation of a port must do, asserted the same way for fakes and adapters, so that fakes cannot lie.
//!
//! A contract panics where it is broken. What only the outside can see, such as the items of a table, it returns for the caller
//! to check.

mod alerts;
mod archive;
mod dead_letters;
mod driver_directory;
mod lease_table;
mod node_table;
mod shard_source;
mod violations;

pub use alerts::{alert_ledger_contract, alert_sender_contract};
pub use archive::archive_contract;
pub use dead_letters::dead_letters_contract;
pub use driver_directory::driver_directory_contract;
pub use lease_table::lease_table_contract;
pub use node_table::node_table_contract;
pub use shard_source::shard_source_contract;
pub use violations::{violation_store_contract, violation_stream_contract};

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::domain::{PhoneNumber, PlateKey};
    use crate::ports::{DeadLetter, OutRecord, ShardSource, SourceError, StartAt};
    use crate::testing::{
        MemoryAlertLedger, MemoryArchive, MemoryDeadLetters, MemoryDriverDirectory, MemoryLeaseTable, MemoryNodeTable,
        MemoryViolationStore, MemoryViolationStream, RecordingAlertSender, ScriptedShard, sample_driver, sample_event,
    };

    #[tokio::test]
    async fn leases_in_memory_keep_the_contract() {
        lease_table_contract(Arc::new(MemoryLeaseTable::default())).await;
    }

    #[tokio::test]
    async fn nodes_in_memory_keep_the_contract() {
        node_table_contract(Arc::new(MemoryNodeTable::default())).await;
    }

    #[tokio::test]
    async fn a_scripted_shard_keeps_the_contract() {
        let shard = ScriptedShard::new("stream", "shardId-000000000000");
        let expected: Vec<_> = (0..7).map(|n| format!("record {n}")).collect();
        for data in &expected {
            shard.push(data.clone());
        }
        shard_source_contract(Arc::new(shard), &expected, |record| String::from_utf8_lossy(&record.data).into_owned()).await;
    }

    #[tokio::test]
    async fn a_scripted_shard_ends_with_its_children_and_forgets_when_told() {
        let source = ScriptedShard::new("stream", "parent");
        source.push(vec![b'x'; 10 * 1024 * 1024]);
        source.push("last");
        let parent = source.shards().await.expect("the script answers")[0].id.clone();
        source.close(&parent, &["left", "right"]);
        let shards = source.shards().await.expect("the script answers");
        assert_eq!(shards.len(), 3);
        assert_eq!(shards[2].parents, std::slice::from_ref(&parent));
        source.trim(1);
        let iterator = source.iterator(&parent, &StartAt::TrimHorizon).await.expect("the script answers");
        let page = source.read(&iterator, 10).await.expect("the script answers");
        assert_eq!(page.records[0].data, "last");
        assert_eq!(page.next, None);
        source.expire_iterators();
        assert_eq!(source.read(&iterator, 10).await.expect_err("it expired"), SourceError::IteratorExpired);
    }

    #[tokio::test]
    async fn drivers_in_memory_keep_the_contract() {
        let directory = MemoryDriverDirectory::default();
        directory.register(" 4-2288b ", sample_driver("Ada"));
        directory.register("95B•140", sample_driver("Grace"));
        let known = [(PlateKey::of("4-2288B"), "Ada"), (PlateKey::of("95B•140"), "Grace")];
        driver_directory_contract(Arc::new(directory), &known).await;
    }

    #[tokio::test]
    async fn violations_in_memory_keep_the_contract() {
        let store = MemoryViolationStore::default();
        store.refuse("poison", "told to refuse");
        let expected = violation_store_contract(Arc::new(store.clone()), &sample_event("P", "poison", 80)).await;
        assert_eq!(store.items().len(), expected.len());
        assert!(expected.iter().all(|event| store.items().contains(event)));
    }

    #[tokio::test]
    async fn the_out_stream_in_memory_keeps_the_contract() {
        let stream = MemoryViolationStream::default();
        stream.refuse("poison", "told to refuse");
        let poison = OutRecord { partition_key: "poison".to_owned(), data: Bytes::from_static(b"{}") };
        let expected = violation_stream_contract(Arc::new(stream.clone()), &poison).await;
        assert_eq!(stream.records(), expected);
    }

    #[tokio::test]
    async fn alerts_in_memory_keep_the_contracts() {
        alert_ledger_contract(Arc::new(MemoryAlertLedger::default())).await;
        let sender = RecordingAlertSender::default();
        let to = PhoneNumber::parse("2025550123").expect("a number");
        alert_sender_contract(Arc::new(sender.clone()), &to, ["one", "two"]).await;
        assert_eq!(sender.texts().iter().map(|sent| sent.text.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    }

    #[tokio::test]
    async fn an_archive_in_memory_keeps_the_contract() {
        let archive = MemoryArchive::default();
        archive.refuse_longer_than(1000 * 1024);
        let expected = archive_contract(Arc::new(archive.clone())).await;
        assert_eq!(archive.lines(), expected);
    }

    #[tokio::test]
    async fn dead_letters_in_memory_keep_the_contract() {
        let letters = MemoryDeadLetters::default();
        let expected = dead_letters_contract(Arc::new(letters.clone())).await;
        assert_eq!(letters.letters().len(), expected.len());
        assert!(expected.iter().all(|(letter, tries): &(DeadLetter, u64)| letters.tries(&letter.id()) == *tries));
    }
}
