//! What API and dashboard cost this node: the time for which answering, watching for findings and making frames held a core.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::Api;

/// Adds up over the life of the node.
#[derive(Debug, Default)]
pub(crate) struct Cost(AtomicU64);

impl Cost {
    /// All of it.
    pub(super) fn so_far(&self) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed))
    }

    /// Does something at once, and counts the time it takes.
    pub(super) fn while_doing<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        self.add(begun);
        done
    }

    fn add(&self, begun: Instant) {
        self.0.fetch_add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Runs a future and counts the time it works, not the time it waits.
    pub(super) async fn of<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            let begun = Instant::now();
            let polled = work.as_mut().poll(context);
            self.add(begun);
            polled
        })
        .await
    }
}

/// Counts what every request costs.
pub(super) async fn counted(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    api.node.cost.of(next.run(request)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_costs_and_waiting_does_not() {
        let cost = Cost::default();
        cost.of(tokio::time::sleep(Duration::from_secs(60))).await;
        assert!(cost.so_far() < Duration::from_secs(1), "{:?}", cost.so_far());
        let before = cost.so_far();
        cost.of(async { std::thread::sleep(Duration::from_millis(5)) }).await;
        assert!(cost.so_far() - before >= Duration::from_millis(5), "{:?}", cost.so_far());
        let before = cost.so_far();
        cost.while_doing(|| std::thread::sleep(Duration::from_millis(5)));
        assert!(cost.so_far() - before >= Duration::from_millis(5), "{:?}", cost.so_far());
    }
}
