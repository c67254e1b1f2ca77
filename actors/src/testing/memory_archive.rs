//! An archive in memory.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use super::Outage;
use crate::ports::{Archive, Refused, RemoteFailure};

/// The fake [`Archive`]. Clones share the lines.
#[derive(Clone, Default)]
pub struct MemoryArchive {
    /// How its calls fail.
    pub outage: Outage,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    lines: Vec<Bytes>,
    most_bytes: Option<usize>,
}

impl MemoryArchive {
    /// All lines, in the order of their arrival.
    #[must_use]
    pub fn lines(&self) -> Vec<Bytes> {
        self.with(|inner| inner.lines.clone())
    }

    /// Refuses longer lines from now on.
    pub fn refuse_longer_than(&self, bytes: usize) {
        self.with(|inner| inner.most_bytes = Some(bytes));
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().expect("no fake panics with its lines locked"))
    }
}

#[async_trait]
impl Archive for MemoryArchive {
    async fn append(&self, lines: &[Bytes]) -> Result<Vec<Refused>, RemoteFailure> {
        self.outage
            .call(|| {
                self.with(|inner| {
                    let mut refused = Vec::new();
                    for (index, line) in lines.iter().enumerate() {
                        if inner.most_bytes.is_some_and(|most| line.len() > most) {
                            refused.push(Refused { index, reason: format!("a line of {} bytes is too long", line.len()) });
                        } else {
                            inner.lines.push(line.clone());
                        }
                    }
                    refused
                })
            })
            .await
    }
}
