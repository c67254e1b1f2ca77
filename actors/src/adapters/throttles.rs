//! How often a service has held readers of each shard back.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};

use super::failure::is_throttled;
use crate::domain::ShardId;

/// Counts since the source was made.
#[derive(Default)]
pub(super) struct Throttles(Mutex<BTreeMap<ShardId, u64>>);

impl Throttles {
    /// Waits for one try of a call about a shard, and counts it if it was held back.
    pub(super) async fn counted<T, E: ProvideErrorMetadata>(
        &self,
        shard: &ShardId,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, SdkError<E, HttpResponse>> {
        let answer = request.await;
        if answer.as_ref().is_err_and(is_throttled) {
            *self.lock().entry(shard.clone()).or_default() += 1;
        }
        answer
    }

    pub(super) fn of(&self, shard: &ShardId) -> u64 {
        self.lock().get(shard).copied().unwrap_or_default()
    }

    /// The map holds counters only, so a panic while it was locked leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
