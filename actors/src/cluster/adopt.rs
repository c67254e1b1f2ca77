//! Takes over the lease table of a stopped application that ran on the Kinesis Client Library, such as a Spark job.
//!
//! Without this, leases of such workers are shared by the library's rules like those of any other. Adoption first makes sure that
//! nobody works on them any more, then makes them this node's, each at its exact checkpoint or, if asked, at an earlier one: a
//! Spark job writes checkpoints on a timer, also for records that it had not finished when it was stopped.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::domain::ShardId;
use crate::lane::last_before;
use crate::ports::{Checkpoint, Lease, LeaseError, LeaseTable, ShardSource, SourceError};

/// Shards that are searched at once for where to go back to.
const MOST_SEARCHES: usize = 8;

/// Who adopts, and how.
#[derive(Debug, Clone)]
pub struct Adoption {
    /// The adopting worker, `<node>#<boot>`.
    pub worker: String,
    /// How long the table is watched for signs of life; a lease that stood still for so long has expired.
    pub expires_after: Duration,
    /// Checkpoints beyond the last record that arrived before this time go back to it.
    pub rewind_to: Option<SystemTime>,
}

/// Why a table was not adopted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// A worker of the application is at work.
    #[error("worker `{worker}` wrote the lease of {shard} while it was watched")]
    StillRunning {
        /// `leaseOwner`.
        worker: String,
        /// The lease that it wrote.
        shard: ShardId,
    },
    /// The lease table did not answer, or must not be written.
    #[error(transparent)]
    Leases(#[from] LeaseError),
    /// The stream did not answer, so that it is not known where to go back to.
    #[error(transparent)]
    Shards(#[from] SourceError),
}

/// Makes every lease that a foreign worker left this worker's. Returns how many; none is no failure, since the table may have
/// been adopted before. Leases of closed and finished shards stay as they are.
///
/// # Errors
/// [`AdoptError::StillRunning`] when a foreign worker still writes its leases; nothing is written then.
pub async fn adopt(leases: &dyn LeaseTable, source: &dyn ShardSource, adoption: &Adoption) -> Result<usize, AdoptError> {
    let before = leases.list().await?;
    if !before.iter().any(is_left) {
        return Ok(0);
    }
    tokio::time::sleep(adoption.expires_after).await;
    let now = leases.list().await?;
    if let Some(lease) = moved(&before, &now) {
        return Err(still_running(lease));
    }
    for lease in before.iter().filter(|lease| is_left(lease)) {
        let owner = now.iter().find(|row| row.shard == lease.shard).and_then(|row| row.owner.as_deref());
        if owner.is_some() && !now.iter().any(|row| row.shard == lease.shard && is_foreign(row)) {
            tracing::warn!(shard = %lease.shard, owner, "another node took this lease while it was watched; it is not rewound");
        }
    }
    let left: Vec<&Lease> = now.iter().filter(|lease| is_left(lease)).collect();
    // All are found before the first is written, so that a stream that does not answer leaves everything as it was.
    let found: Vec<_> = stream::iter(left)
        .map(async |lease| Ok::<_, AdoptError>((lease, earlier(source, lease, adoption.rewind_to).await?)))
        .buffered(MOST_SEARCHES)
        .try_collect()
        .await?;
    let mut n_taken = 0;
    for (lease, earlier) in found {
        n_taken += usize::from(take(leases, lease, earlier, &adoption.worker).await?);
    }
    Ok(n_taken)
}

/// Whether another kind of worker owns the lease: ours are called `<node>#<boot>`.
fn is_foreign(lease: &Lease) -> bool {
    let is_ours = |owner: &str| {
        let boot = owner.rsplit_once('#').map_or("", |(_, boot)| boot);
        !boot.is_empty() && boot.bytes().all(|byte| byte.is_ascii_digit())
    };
    lease.owner.as_deref().is_some_and(|owner| !is_ours(owner))
}

/// Whether there is something of a foreign worker's to go on with.
fn is_left(lease: &Lease) -> bool {
    is_foreign(lease) && lease.checkpoint != Checkpoint::ShardEnd
}

/// A lease that a foreign worker wrote between two looks.
fn moved<'a>(before: &[Lease], now: &'a [Lease]) -> Option<&'a Lease> {
    let before: HashMap<_, _> = before.iter().map(|lease| (&lease.shard, (lease.counter, &lease.owner))).collect();
    now.iter().filter(|lease| is_foreign(lease)).find(|lease| before.get(&lease.shard) != Some(&(lease.counter, &lease.owner)))
}

fn still_running(lease: &Lease) -> AdoptError {
    AdoptError::StillRunning { worker: lease.owner.clone().unwrap_or_default(), shard: lease.shard.clone() }
}

/// The checkpoint to go back to, if that is behind the one in the row.
async fn earlier(
    source: &dyn ShardSource,
    lease: &Lease,
    rewind_to: Option<SystemTime>,
) -> Result<Option<Checkpoint>, SourceError> {
    let Some(time) = rewind_to else { return Ok(None) };
    let has_begun = match &lease.checkpoint {
        Checkpoint::At(_) | Checkpoint::Latest => true,
        // The time that AT_TIMESTAMP stands for is told by whoever starts the lane.
        Checkpoint::TrimHorizon | Checkpoint::AtTimestamp | Checkpoint::ShardEnd => false,
    };
    if !has_begun {
        return Ok(None);
    }
    match last_before(source, &lease.shard, time).await {
        Ok(Some(found)) if matches!(&lease.checkpoint, Checkpoint::At(done) if found >= *done) => Ok(None),
        Ok(found) => Ok(Some(found.map_or(Checkpoint::TrimHorizon, Checkpoint::At))),
        // Its records are gone, so there is nothing to go back to.
        Err(SourceError::Gone(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// False when another node that adopts the same table was faster.
///
/// A lease to be rewound is taken under a name that counts as foreign until its checkpoint is back: whoever dies in between left
/// a lease that the next adoption rewinds.
async fn take(leases: &dyn LeaseTable, lease: &Lease, earlier: Option<Checkpoint>, worker: &str) -> Result<bool, AdoptError> {
    let taker = if earlier.is_some() { format!("{worker}-adopting") } else { worker.to_owned() };
    let taken = match leases.take(lease, &taker).await {
        Ok(taken) => taken,
        Err(LeaseError::Lost(shard)) => {
            return match leases.get(&shard).await? {
                Some(now) if is_foreign(&now) => Err(still_running(&now)),
                _ => Ok(false),
            };
        }
        Err(error) => return Err(error.into()),
    };
    let (shard, from, checkpoint) = (&taken.shard, lease.owner.as_deref().unwrap_or_default(), &taken.checkpoint);
    tracing::info!(%shard, from, %checkpoint, "lease adopted");
    if let Some(earlier) = earlier {
        let rewound = leases.checkpoint(&taken, &earlier).await?;
        leases.assign(&rewound, worker).await?;
        tracing::info!(%shard, from = %checkpoint, to = %earlier, "checkpoint rewound");
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Position;
    use crate::ports::NewLease;
    use crate::testing::{MemoryLeaseTable, ScriptedShard};

    const SPARK: &str = "ip-10-0-3-7.ec2.internal:8d5fe9a1-6c3b-4d0e-9a55-0c1f2b7e4d11";
    const WATCH: Duration = Duration::from_secs(10);

    fn row(shard: &str, owner: Option<&str>, checkpoint: Checkpoint) -> Lease {
        Lease {
            shard: ShardId::new(shard),
            owner: owner.map(str::to_owned),
            counter: 7,
            checkpoint,
            parents: Vec::new(),
            children: Vec::new(),
            has_hash_range: false,
        }
    }

    fn by(rewind_to: Option<SystemTime>) -> Adoption {
        Adoption { worker: "node-1#5".to_owned(), expires_after: WATCH, rewind_to }
    }

    /// A shard whose records arrived so many seconds ago.
    fn shard_of(ages: &[u64]) -> (ScriptedShard, Vec<Position>) {
        let source = ScriptedShard::new("stream", "a");
        let now = SystemTime::now();
        let push = |age: &u64| source.push_at(&ShardId::new("a"), "record", now - Duration::from_secs(*age));
        let positions = ages.iter().map(push).collect();
        (source, positions)
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_stopped_application_left_is_taken_at_its_checkpoints() {
        let (source, records) = shard_of(&[30, 20, 10]);
        let table = MemoryLeaseTable::default();
        let untouched = [
            row("ended", Some(SPARK), Checkpoint::ShardEnd),
            row("free", None, Checkpoint::TrimHorizon),
            row("ours", Some("node-2#17"), Checkpoint::TrimHorizon),
        ];
        for lease in &untouched {
            table.overwrite(lease.clone());
        }
        table.overwrite(row("a", Some(SPARK), Checkpoint::At(records[1].clone())));
        table.overwrite(row("b", Some("a#name#with-hashes"), Checkpoint::TrimHorizon));
        let started = tokio::time::Instant::now();
        assert_eq!(adopt(&table, &source, &by(None)).await, Ok(2));
        assert_eq!(started.elapsed(), WATCH, "it watched");
        for lease in &untouched {
            assert_eq!(table.lease(&lease.shard).as_ref(), Some(lease));
        }
        let a = table.lease(&ShardId::new("a")).expect("a row");
        assert_eq!((a.owner.as_deref(), a.counter), (Some("node-1#5"), 8));
        assert_eq!(a.checkpoint, Checkpoint::At(records[1].clone()));
        let started = tokio::time::Instant::now();
        assert_eq!(adopt(&table, &source, &by(None)).await, Ok(0), "a second start finds nothing to adopt");
        assert_eq!(started.elapsed(), Duration::ZERO, "and waits for nobody");
    }

    #[tokio::test(start_paused = true)]
    async fn an_application_that_works_is_left_alone() {
        let (source, records) = shard_of(&[30]);
        let table = MemoryLeaseTable::default();
        table.overwrite(row("a", Some(SPARK), Checkpoint::At(records[0].clone())));
        let held = row("b", Some(SPARK), Checkpoint::Latest);
        table.overwrite(held.clone());
        let adoption = by(Some(SystemTime::now()));
        let renewing = async {
            tokio::time::sleep(WATCH / 3).await;
            table.renew(&held).await.expect("its owner renews")
        };
        let (adopted, renewed) = tokio::join!(adopt(&table, &source, &adoption), renewing);
        let running = AdoptError::StillRunning { worker: SPARK.to_owned(), shard: ShardId::new("b") };
        assert_eq!(adopted, Err(running));
        assert_eq!(table.lease(&held.shard), Some(renewed));
        assert_eq!(table.lease(&ShardId::new("a")).map(|lease| lease.counter), Some(7), "nothing was written");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_appears_while_it_is_watched_is_a_sign_of_life_and_one_given_up_is_none() {
        let (source, _) = shard_of(&[]);
        let table = MemoryLeaseTable::default();
        let held = row("a", Some(SPARK), Checkpoint::TrimHorizon);
        table.overwrite(held.clone());
        let release = async {
            tokio::time::sleep(WATCH / 2).await;
            table.release(&held).await.expect("its owner gives it up");
        };
        let adoption = by(None);
        let (adopted, ()) = tokio::join!(adopt(&table, &source, &adoption), release);
        assert_eq!(adopted, Ok(0), "who stops in good order holds nothing to adopt");
        table.overwrite(held);
        let shard = ShardId::new("new");
        let new = NewLease { shard: shard.clone(), checkpoint: Checkpoint::TrimHorizon, parents: vec![], hash_range: None };
        let take = async {
            tokio::time::sleep(WATCH / 2).await;
            table.create(&new).await.expect("a row is made");
            let lease = table.lease(&shard).expect("a row");
            table.take(&lease, SPARK).await.expect("a free lease can be taken");
        };
        let (adopted, ()) = tokio::join!(adopt(&table, &source, &adoption), take);
        assert_eq!(adopted, Err(AdoptError::StillRunning { worker: SPARK.to_owned(), shard }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rewind_goes_back_to_the_last_record_before_that_time_and_never_forward() {
        let seconds_ago = |n: u64| Some(SystemTime::now() - Duration::from_secs(n));
        let (_, records) = shard_of(&[90, 60, 30, 10]);
        let at = |n: usize| Checkpoint::At(records[n].clone());
        for (left_at, rewind_to, expected) in [
            (at(3), seconds_ago(45), at(1)),
            (at(3), seconds_ago(300), Checkpoint::TrimHorizon),
            (Checkpoint::Latest, seconds_ago(45), at(1)),
            (at(0), seconds_ago(45), at(0)),
            (at(1), seconds_ago(45), at(1)),
            (Checkpoint::TrimHorizon, seconds_ago(45), Checkpoint::TrimHorizon),
            (Checkpoint::AtTimestamp, seconds_ago(45), Checkpoint::AtTimestamp),
            (Checkpoint::ShardEnd, seconds_ago(45), Checkpoint::ShardEnd),
            (at(3), None, at(3)),
        ] {
            let (source, _) = shard_of(&[90, 60, 30, 10]);
            let table = MemoryLeaseTable::default();
            table.overwrite(row("a", Some(SPARK), left_at.clone()));
            adopt(&table, &source, &by(rewind_to)).await.expect("it is adopted");
            let found = table.lease(&ShardId::new("a")).expect("a row").checkpoint;
            assert_eq!(found, expected, "left at {left_at}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rewind_that_was_cut_short_at_any_moment_is_made_good_by_the_next() {
        for moment in (500..16_000).step_by(500) {
            let (source, records) = shard_of(&[90, 60, 30, 10]);
            let table = MemoryLeaseTable::default();
            table.overwrite(row("a", Some(SPARK), Checkpoint::At(records[3].clone())));
            let adoption = by(Some(SystemTime::now() - Duration::from_secs(45)));
            table.outage.delay(Duration::from_secs(1));
            let _cut_short = tokio::time::timeout(Duration::from_millis(moment), adopt(&table, &source, &adoption)).await;
            table.outage.delay(Duration::ZERO);
            adopt(&table, &source, &adoption).await.expect("it is adopted");
            let found = table.lease(&ShardId::new("a")).expect("a row");
            let expected = (Some("node-1#5"), Checkpoint::At(records[1].clone()));
            assert_eq!((found.owner.as_deref(), found.checkpoint), expected, "cut short after {moment} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_does_not_answer_leaves_the_table_as_it_was() {
        let (source, records) = shard_of(&[30]);
        let table = MemoryLeaseTable::default();
        let left = row("a", Some(SPARK), Checkpoint::At(records[0].clone()));
        table.overwrite(left.clone());
        source.fail_reads([SourceError::IteratorExpired]);
        let adopted = adopt(&table, &source, &by(Some(SystemTime::now()))).await;
        assert_eq!(adopted, Err(AdoptError::Shards(SourceError::IteratorExpired)));
        assert_eq!(table.lease(&left.shard), Some(left));
    }
}
