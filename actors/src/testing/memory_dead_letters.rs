//! A dead letter table in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::Outage;
use crate::ports::{DeadLetter, DeadLetters, RemoteFailure};

/// The fake [`DeadLetters`]. Clones share the letters.
#[derive(Clone, Default)]
pub struct MemoryDeadLetters {
    /// How its calls fail.
    pub outage: Outage,
    letters: Arc<Mutex<BTreeMap<String, (DeadLetter, u64)>>>,
}

impl MemoryDeadLetters {
    /// All letters, by id, as they were put last.
    #[must_use]
    pub fn letters(&self) -> Vec<DeadLetter> {
        self.with(|letters| letters.values().map(|(letter, _)| letter.clone()).collect())
    }

    /// How often a letter was put.
    #[must_use]
    pub fn tries(&self, id: &str) -> u64 {
        self.with(|letters| letters.get(id).map_or(0, |(_, tries)| *tries))
    }

    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<String, (DeadLetter, u64)>) -> T) -> T {
        change(&mut self.letters.lock().expect("no fake panics with its letters locked"))
    }
}

#[async_trait]
impl DeadLetters for MemoryDeadLetters {
    async fn put(&self, letter: &DeadLetter) -> Result<(), RemoteFailure> {
        self.outage
            .call(|| {
                self.with(|letters| {
                    let tries = letters.get(&letter.id()).map_or(0, |(_, tries)| *tries);
                    letters.insert(letter.id(), (letter.clone(), tries + 1));
                });
            })
            .await
    }
}
