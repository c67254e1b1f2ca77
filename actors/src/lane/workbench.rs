//! A stage's slow work: one batch at a time, in arrival order, in a task that ends with its actor.

use std::collections::VecDeque;
use std::future::Future;

use tokio::task::JoinSet;

/// The queue of a stage and the one piece of work that runs. Dropping it ends the work, so a killed lane leaves nothing behind.
/// Work that panics drops its batch's ticket, which the reader hears of. `start` may refuse a piece, which it then has given back.
#[derive(Debug)]
pub(super) struct Workbench<T> {
    queue: VecDeque<T>,
    running: JoinSet<()>,
    busy: bool,
}

impl<T> Workbench<T> {
    pub(super) fn new() -> Self {
        Self { queue: VecDeque::new(), running: JoinSet::new(), busy: false }
    }

    /// Queues a piece of work and starts it if the bench is free.
    pub(super) fn accept<F: Future<Output = ()> + Send + 'static>(&mut self, work: T, start: impl FnMut(T) -> Option<F>) {
        self.queue.push_back(work);
        if !self.busy {
            self.start_next(start);
        }
    }

    /// Notes that the running work is done, and starts the next.
    pub(super) fn done<F: Future<Output = ()> + Send + 'static>(&mut self, start: impl FnMut(T) -> Option<F>) {
        self.busy = false;
        self.start_next(start);
    }

    fn start_next<F: Future<Output = ()> + Send + 'static>(&mut self, mut start: impl FnMut(T) -> Option<F>) {
        // Forgets the finished task; its panic, if any, has shown as a lost ticket.
        while self.running.try_join_next().is_some() {}
        while let Some(work) = self.queue.pop_front() {
            if let Some(job) = start(work) {
                self.busy = true;
                self.running.spawn(job);
                return;
            }
        }
    }
}
