//! Ports that panic when told to: the faults of stages.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use speedtrap_actors::domain::{Driver, PlateKey, ShardId, SpeedEvent};
use speedtrap_actors::ports::{
    DeadLetter, DeadLetters, DriverDirectory, OutRecord, Page, Refused, RemoteFailure, Shard, ShardIterator, ShardSource,
    SourceError, StartAt, ViolationStore, ViolationStream,
};

#[derive(Clone, Default)]
pub(crate) struct Bombs(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    armed: HashMap<&'static str, usize>,
    exploded: HashMap<&'static str, usize>,
    poison: Option<String>,
    frozen: bool,
}

/// A port behind the bombs.
struct Mined<P> {
    port: P,
    bombs: Bombs,
}

impl Bombs {
    /// Lets the next `n` calls at a stage panic.
    pub(crate) fn arm(&self, stage: &'static str, n: usize) {
        self.0.lock().expect("not poisoned").armed.insert(stage, n);
    }

    /// Lets the table panic whenever it meets this plate.
    pub(crate) fn poison(&self, plate: &str) {
        self.0.lock().expect("not poisoned").poison = Some(plate.to_owned());
    }

    /// Lets no call to the table end from now on, or lets the next ones end again.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.0.lock().expect("not poisoned").frozen = frozen;
    }

    pub(crate) fn exploded(&self, stage: &'static str) -> usize {
        self.0.lock().expect("not poisoned").exploded.get(stage).copied().unwrap_or(0)
    }

    fn tread(&self, stage: &'static str) {
        let explodes = {
            let mut inner = self.0.lock().expect("not poisoned");
            let explodes = inner.armed.get_mut(stage).is_some_and(|left| {
                let armed = *left > 0;
                *left = left.saturating_sub(1);
                armed
            });
            if explodes {
                *inner.exploded.entry(stage).or_default() += 1;
            }
            explodes
        };
        assert!(!explodes, "a fault that the test planted at {stage}");
    }

    fn poisoned(&self, plate: &str) {
        let hit = self.0.lock().expect("not poisoned").poison.as_deref() == Some(plate);
        assert!(!hit, "a fault that the test planted in a record");
    }

    pub(crate) fn drivers(&self, port: impl DriverDirectory + 'static) -> Arc<dyn DriverDirectory> {
        Arc::new(Mined { port, bombs: self.clone() })
    }

    pub(crate) fn store(&self, port: impl ViolationStore + 'static) -> Arc<dyn ViolationStore> {
        Arc::new(Mined { port, bombs: self.clone() })
    }

    pub(crate) fn stream(&self, port: impl ViolationStream + 'static) -> Arc<dyn ViolationStream> {
        Arc::new(Mined { port, bombs: self.clone() })
    }

    pub(crate) fn source(&self, port: impl ShardSource + 'static) -> Arc<dyn ShardSource> {
        Arc::new(Mined { port, bombs: self.clone() })
    }

    pub(crate) fn letters(&self, port: impl DeadLetters + 'static) -> Arc<dyn DeadLetters> {
        Arc::new(Mined { port, bombs: self.clone() })
    }
}

#[async_trait]
impl<P: DriverDirectory> DriverDirectory for Mined<P> {
    async fn drivers(&self, plates: &[PlateKey]) -> Result<HashMap<PlateKey, Driver>, RemoteFailure> {
        self.bombs.tread("drivers");
        self.port.drivers(plates).await
    }
}

#[async_trait]
impl<P: ViolationStore> ViolationStore for Mined<P> {
    async fn put(&self, events: &[&SpeedEvent]) -> Result<Vec<Refused>, RemoteFailure> {
        self.bombs.tread("store");
        let frozen = self.bombs.0.lock().expect("not poisoned").frozen;
        if frozen {
            std::future::pending::<()>().await;
        }
        for event in events {
            self.bombs.poisoned(event.license_plate());
        }
        self.port.put(events).await
    }
}

#[async_trait]
impl<P: ViolationStream> ViolationStream for Mined<P> {
    async fn publish(&self, records: &[OutRecord]) -> Result<Vec<Refused>, RemoteFailure> {
        self.bombs.tread("stream");
        self.port.publish(records).await
    }
}

#[async_trait]
impl<P: ShardSource> ShardSource for Mined<P> {
    fn stream(&self) -> &str {
        self.port.stream()
    }

    fn most_bytes_per_second(&self) -> f64 {
        self.port.most_bytes_per_second()
    }

    async fn shards(&self) -> Result<Vec<Shard>, SourceError> {
        self.bombs.tread("shards");
        self.port.shards().await
    }

    async fn iterator(&self, shard: &ShardId, from: &StartAt) -> Result<ShardIterator, SourceError> {
        self.port.iterator(shard, from).await
    }

    async fn read(&self, iterator: &ShardIterator, limit: usize) -> Result<Page, SourceError> {
        self.port.read(iterator, limit).await
    }
}

#[async_trait]
impl<P: DeadLetters> DeadLetters for Mined<P> {
    async fn put(&self, letter: &DeadLetter) -> Result<(), RemoteFailure> {
        self.bombs.tread("letters");
        self.port.put(letter).await
    }
}
