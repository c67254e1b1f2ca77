//! Lanes that begin at the newest record, on the streams and the lease table of the local cloud.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_kinesis::primitives::Blob;
use speedtrap_actors::adapters::{DynamoLeaseTable, DynamoStreamSource, KinesisSource, violation_item};
use speedtrap_actors::cluster::{Application, Cluster, NodeSupervisorMsg, start_node};
use speedtrap_actors::flow::Backoff;
use speedtrap_actors::lane::{ArchiveStages, LaneSettings, LeaseTiming, Stages};
use speedtrap_actors::observe::{ActorTable, LaneStats, LeaseBoard, Mailbox};
use speedtrap_actors::ports::{Checkpoint, LeaseTable, ShardSource, StartAt};
use speedtrap_actors::testing::{MemoryArchive, MemoryDeadLetters, sample_event};
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::ports_cloud::{Cloud, LIMITS, unique};

const LIMIT: Duration = Duration::from_secs(60);
const N_OLD: usize = 3;

/// An archive application that keeps what it archives, and what it cannot archive, in memory.
struct Scene {
    source: Arc<dyn ShardSource>,
    leases: Arc<DynamoLeaseTable>,
    archive: MemoryArchive,
    letters: MemoryDeadLetters,
}

impl Scene {
    fn of(cloud: &Cloud, source: impl ShardSource + 'static) -> Self {
        let leases = Arc::new(DynamoLeaseTable::new(&cloud.dynamodb, &unique("leases"), LIMITS));
        Self { source: Arc::new(source), leases, archive: MemoryArchive::default(), letters: MemoryDeadLetters::default() }
    }

    async fn start(&self, worker: &str) -> Result<Mailbox<NodeSupervisorMsg>> {
        let application = Application {
            name: "app".to_owned(),
            source: Arc::clone(&self.source),
            leases: Arc::clone(&self.leases) as _,
            letters: Arc::new(self.letters.clone()),
            stages: Stages::Archive(ArchiveStages { archive: Arc::new(self.archive.clone()) }),
            settings: LaneSettings {
                credit_events: 2_000,
                credit_bytes: 2 << 20,
                batch_events: 500,
                batch_bytes: 512 << 10,
                poll_interval: Duration::from_millis(400),
                read_limit: 1_000,
                // The node is gone before it writes a checkpoint of its own.
                checkpoint_interval: Duration::from_secs(3_600),
                backoff: Backoff { first: Duration::from_millis(200), most: Duration::from_secs(5) },
                stall_after: Duration::from_secs(30),
                longest_call: Duration::from_secs(60),
            },
            start: StartAt::Latest,
            stats: LaneStats::default(),
            board: LeaseBoard::default(),
            timing: LeaseTiming {
                renew_every: Duration::from_secs(3),
                expires_after: Duration::from_secs(10),
                sync_every: Duration::from_secs(1),
            },
        };
        Ok(start_node(worker, &ActorTable::default(), vec![application], Cluster::alone()).await?)
    }

    async fn begun(&self) -> Result<()> {
        eventually("the lease says where the lane begins", LIMIT, || async {
            let leases = self.leases.list().await?;
            let has_begun = |checkpoint: &Checkpoint| matches!(checkpoint, Checkpoint::At(_));
            ensure!(leases.len() == 1 && has_begun(&leases[0].checkpoint), "{leases:?}");
            Ok(())
        })
        .await
    }

    /// What came through, as text.
    fn seen(&self) -> Vec<String> {
        let lines = self.archive.lines().into_iter();
        let payloads = lines.chain(self.letters.letters().into_iter().map(|letter| letter.payload));
        payloads.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
    }
}

async fn stop(node: &Mailbox<NodeSupervisorMsg>) -> Result<()> {
    let drain = |done| NodeSupervisorMsg::Drain { patience: Duration::from_secs(10), done };
    let drained = node.actor().call(drain, Some(LIMIT)).await.context("the node does not drain")?;
    ensure!(drained.is_success(), "the node did not drain");
    Ok(())
}

#[tokio::test]
async fn nothing_is_skipped_when_the_owner_changes_before_the_first_checkpoint() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let (stream, table) = (cloud.stream(1).await?, cloud.table(&["licensePlate", "eventId"]).await?);
    let put_both = async |id: String| -> Result<()> {
        let item = violation_item(&sample_event("P", &id, 80));
        cloud.dynamodb.put_item().table_name(&table).set_item(Some(item)).send().await?;
        let data = Blob::new(id.into_bytes());
        cloud.kinesis.put_record().stream_name(&stream).partition_key("plate").data(data).send().await?;
        Ok(())
    };
    let kinesis = Scene::of(&cloud, KinesisSource::new(&cloud.kinesis, &stream, LIMITS));
    let changes = DynamoStreamSource::new(&cloud.dynamodb, &cloud.dynamodb_streams, &table, LIMITS);
    let changes = Scene::of(&cloud, changes);
    for n in 0..N_OLD {
        put_both(format!("old-{n}")).await?;
    }
    for scene in [&kinesis, &changes] {
        let node = scene.start("n1#1").await?;
        scene.begun().await?;
        stop(&node).await?;
    }
    put_both("new-1".to_owned()).await?;
    for scene in [&kinesis, &changes] {
        let node = scene.start("n2#1").await?;
        eventually("the new record comes through", LIMIT, || async {
            ensure!(!scene.seen().is_empty(), "nothing came");
            Ok(())
        })
        .await?;
        stop(&node).await?;
        let seen = scene.seen();
        ensure!(seen.len() == 1 && seen[0].contains("new-1"), "{}: {seen:?}", scene.source.stream());
    }
    Ok(())
}
