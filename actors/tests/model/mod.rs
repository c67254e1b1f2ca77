//! The world of the lease model: rows, workers and what is on its way between them, and the real rules on the model's small rows.

use std::sync::Arc;

use speedtrap_actors::domain::{Position, SequenceNumber, ShardId};
use speedtrap_actors::flow::Ledger;
use speedtrap_actors::ports::{Checkpoint, Lease, LeaseWrite};

pub(crate) const PARENT: usize = 0;
pub(crate) const CHILD: usize = 1;
/// Checkpoints: nothing done, so many events done, shard end.
pub(crate) const SHARD_END: u8 = u8::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) owner: Option<u8>,
    pub(crate) counter: u8,
    pub(crate) checkpoint: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Write {
    Take(u8),
    Renew,
    Checkpoint(u8),
    Release,
    Assign(u8),
}

/// A write on its way. `held` is the row as its worker knows it, `tried` the one that this try went out with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) write: Write,
    pub(crate) held: Row,
    pub(crate) tried: Row,
    pub(crate) phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Sent,
    /// It took effect and its answer got lost.
    Unanswered,
    /// Refused; the row is to be read again.
    Refused,
}

/// What a worker does with one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    Idle,
    Taking(Request),
    Lane(Lane),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    pub(crate) held: Row,
    /// How many events were done when it started.
    pub(crate) start: u8,
    /// The events that it ended, one bit each.
    pub(crate) ended: u8,
    pub(crate) request: Option<Request>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    pub(crate) crashed: bool,
    pub(crate) slots: [Slot; 2],
}

/// How often what could go on for ever may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    pub(crate) crashes: u8,
    pub(crate) lost_answers: u8,
    /// Leases that are taken from workers that live.
    pub(crate) expiries: u8,
    pub(crate) renewals: u8,
    /// Leases that are released or handed over.
    pub(crate) gifts: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) rows: [Option<Row>; 2],
    pub(crate) workers: Vec<Worker>,
    /// Events that ended at least once anywhere, one bit each.
    pub(crate) effects: [u8; 2],
    /// A request that its worker gave up waiting for and that may still arrive.
    pub(crate) late: Option<(usize, Request)>,
    pub(crate) budget: Budget,
    pub(crate) highest: [u8; 2],
    pub(crate) counter_written_twice: bool,
    pub(crate) checkpoint_went_back: bool,
}

pub(crate) fn checkpoint(done: u8) -> Checkpoint {
    match done {
        0 => Checkpoint::TrimHorizon,
        SHARD_END => Checkpoint::ShardEnd,
        done => Checkpoint::At(position(done)),
    }
}

pub(crate) fn position(done: u8) -> Position {
    Position { sequence: SequenceNumber::parse(&done.to_string()).expect("digits"), sub: 0 }
}

pub(crate) fn done(checkpoint: &Checkpoint) -> u8 {
    match checkpoint {
        Checkpoint::At(position) => position.sequence.as_str().parse().expect("made by position"),
        Checkpoint::ShardEnd => SHARD_END,
        Checkpoint::TrimHorizon | Checkpoint::Latest | Checkpoint::AtTimestamp => 0,
    }
}

pub(crate) fn name(worker: u8) -> String {
    format!("node-{worker}#1")
}

pub(crate) fn lease(row: Row) -> Lease {
    Lease {
        shard: ShardId::new("shard"),
        owner: row.owner.map(name),
        counter: row.counter.into(),
        checkpoint: checkpoint(row.checkpoint),
        parents: Vec::new(),
        children: Vec::new(),
        has_hash_range: true,
    }
}

pub(crate) fn row(lease: &Lease) -> Row {
    let worker = |name: &String| name[5..name.len() - 2].parse().expect("made by name");
    Row {
        owner: lease.owner.as_ref().map(worker),
        counter: lease.counter.try_into().expect("few writes"),
        checkpoint: done(&lease.checkpoint),
    }
}

pub(crate) fn real(write: Write) -> LeaseWrite {
    match write {
        Write::Take(worker) => LeaseWrite::Take(name(worker)),
        Write::Renew => LeaseWrite::Renew,
        Write::Checkpoint(done) => LeaseWrite::Checkpoint(checkpoint(done)),
        Write::Release => LeaseWrite::Release,
        Write::Assign(worker) => LeaseWrite::Assign(name(worker)),
    }
}

/// How many events a lane may checkpoint: each event was let in as a batch of its own.
pub(crate) fn watermark(lane: &Lane, n_events: u8) -> u8 {
    let mut ledger = Ledger::new(n_events.into(), n_events.into());
    let numbers: Vec<_> = (lane.start..n_events).map(|event| (event, ledger.issue(Arc::new([position(event + 1)]), 1))).collect();
    for (event, number) in numbers {
        if lane.ended & (1 << event) != 0 {
            ledger.resolve(number, 1);
        }
    }
    ledger.watermark().map_or(lane.start, |position| done(&Checkpoint::At(position.clone())))
}

impl State {
    pub(crate) fn request(&self, worker: usize, shard: usize) -> Option<Request> {
        match self.workers[worker].slots[shard] {
            Slot::Taking(request) => Some(request),
            Slot::Lane(lane) => lane.request,
            Slot::Idle => None,
        }
    }

    pub(crate) fn set_request(&mut self, worker: usize, shard: usize, request: Request) {
        match &mut self.workers[worker].slots[shard] {
            Slot::Lane(lane) => lane.request = Some(request),
            slot => *slot = Slot::Taking(request),
        }
    }

    /// The worker learns that its write took effect.
    pub(crate) fn succeed(&mut self, worker: usize, shard: usize, write: Write, written: Row) {
        let slot = &mut self.workers[worker].slots[shard];
        *slot = match (write, *slot) {
            (Write::Take(_), _) if written.checkpoint != SHARD_END => {
                Slot::Lane(Lane { held: written, start: written.checkpoint, ended: 0, request: None })
            }
            (Write::Renew | Write::Checkpoint(_), Slot::Lane(lane)) if written.checkpoint != SHARD_END => {
                Slot::Lane(Lane { held: written, request: None, ..lane })
            }
            _ => Slot::Idle,
        };
    }

    /// The adapter's budget of retries is used up. Who gave the lease away forgets it, others go on with what they know.
    pub(crate) fn give_up(&mut self, worker: usize, shard: usize) {
        let Some(request) = self.request(worker, shard) else { return };
        if request.phase == Phase::Sent {
            self.budget.lost_answers -= 1;
            self.late = Some((shard, request));
        }
        let slot = &mut self.workers[worker].slots[shard];
        *slot = match (*slot, request.write) {
            (Slot::Lane(lane), Write::Renew | Write::Checkpoint(_)) => Slot::Lane(Lane { request: None, ..lane }),
            _ => Slot::Idle,
        };
    }

    pub(crate) fn crash(&mut self, worker: usize) {
        self.budget.crashes -= 1;
        let worker = &mut self.workers[worker];
        worker.crashed = true;
        for slot in &mut worker.slots {
            let request = match slot {
                Slot::Taking(request) => Some(*request),
                Slot::Lane(lane) => lane.request,
                Slot::Idle => None,
            };
            // What was sent arrives all the same.
            *slot = request.filter(|request| request.phase == Phase::Sent).map_or(Slot::Idle, Slot::Taking);
        }
    }

    pub(crate) fn lanes(&self, shard: usize) -> impl Iterator<Item = &Lane> {
        self.workers.iter().filter_map(move |worker| match &worker.slots[shard] {
            Slot::Lane(lane) => Some(lane),
            _ => None,
        })
    }
}
