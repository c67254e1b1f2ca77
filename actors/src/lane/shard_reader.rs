//! Lets records into a lane: the only actor that does, against the ledger's credit.
//!
//! Child of `LaneSupervisor`, the first actor of a generation and the last one spawned. Reads the shard once per poll interval,
//! faster while it is behind, and only once everything read before is let in and half of the credit is free; so a lane holds at
//! most its credit and one answer. Lets nothing in while the tenure does not hold. Sends batches to the first stage, hears of
//! their end through their tickets, and asks `LeaseKeeper` to write the checkpoint. An old iterator is opened again at the last
//! record; a source that stays unavailable past its budget ends the lane, and so does a shard that is gone, once everything read
//! from it has ended.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::LaneSettings;
use super::isolation::Admission;
use super::lease_keeper::LeaseKeeperMsg;
use super::supervisor::LaneNews;
use crate::domain::{OutcomeCounts, Position, ShardId};
use crate::flow::{Batch, DrainGate, GivenBack, Item, LaneFailure, Ledger, Leftovers, Reject, Report, Tenure, Ticket, Unread};
use crate::observe::{ActorGone, LaneStats, Mailbox, Meter, Outlet, TrafficMark};
use crate::ports::{Checkpoint, Page, Record, ShardIterator, ShardSource, SourceError, StartAt};

/// A dropped ticket waits this long before it ends the lane, so that the failure that dropped it is heard first.
const LOST_GRACE: Duration = Duration::from_millis(100);
/// Pause before the tenure is looked at again.
const TENURE_LOOK: Duration = Duration::from_millis(100);
/// Shortest time between two reads of a shard: all its readers share five reads a second
/// (<https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html>).
const READ_GAP: Duration = Duration::from_millis(200);
/// An iterator older than this is opened anew rather than used: Kinesis lets them expire after five minutes.
const ITERATOR_AGE: Duration = Duration::from_secs(240);

pub(super) struct ShardReader;

#[derive(Debug)]
pub(super) enum ShardReaderMsg {
    PollDue,
    Opened(Result<ShardIterator, SourceError>),
    Read(Result<Page, SourceError>),
    Report(Report),
    LostDue(usize),
    TenureDue,
    CheckpointDue,
    Checkpointed(Checkpoint),
    Drain,
}

pub(super) struct ShardReaderArgs {
    pub(super) meter: Arc<Meter>,
    pub(super) shard: ShardId,
    pub(super) source: Arc<dyn ShardSource>,
    pub(super) settings: LaneSettings,
    pub(super) start: StartAt,
    /// Records up to and including this one are done.
    pub(super) done_to: Option<Position>,
    pub(super) admission: Admission,
    pub(super) tenure: Tenure,
    pub(super) stats: LaneStats,
    pub(super) first_stage: Outlet<Batch<Unread>>,
    pub(super) lane_end: Outlet<Leftovers>,
    pub(super) keeper: Mailbox<LeaseKeeperMsg>,
    pub(super) news: Outlet<LaneNews>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// A timer or freed credit will start the next read.
    Idle,
    /// The shard is being opened or read.
    Asking,
    /// The shard is closed and read to its end.
    AtEnd,
    /// The shard does not answer to its name any more.
    Gone,
}

pub(super) struct ShardReaderState {
    myself: Mailbox<ShardReaderMsg>,
    args: ShardReaderArgs,
    ledger: Ledger,
    reading: Reading,
    iterator: Option<ShardIterator>,
    iterator_since: Instant,
    /// Read and not let in yet: at most one answer of the source.
    fetched: VecDeque<Record>,
    /// The last record read, or the checkpoint that the lane started from.
    read_to: Option<Position>,
    read_began: Instant,
    next_poll: Instant,
    tenure_awaited: bool,
    gate: DrainGate,
    draining: bool,
    passed_alone: usize,
    asked_checkpoint: Option<Checkpoint>,
    written_checkpoint: Option<Checkpoint>,
    /// How finished batches ended that no written checkpoint covers yet, with the place of their last event.
    unsettled: Vec<(Position, OutcomeCounts, Vec<TrafficMark>)>,
    said_done: bool,
    running: JoinSet<()>,
}

impl ractor::Message for ShardReaderMsg {}

impl Actor for ShardReader {
    type Msg = ShardReaderMsg;
    type State = ShardReaderState;
    type Arguments = ShardReaderArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<ShardReaderMsg>,
        args: ShardReaderArgs,
    ) -> Result<ShardReaderState, ActorProcessingErr> {
        let myself = Mailbox::new(myself, Arc::clone(&args.meter));
        myself.cast(ShardReaderMsg::PollDue)?;
        myself.cast_after(args.settings.checkpoint_interval, || ShardReaderMsg::CheckpointDue);
        Ok(ShardReaderState {
            myself,
            ledger: Ledger::new(args.settings.credit_events, args.settings.credit_bytes),
            reading: Reading::Idle,
            iterator: None,
            iterator_since: Instant::now(),
            fetched: VecDeque::new(),
            read_to: args.done_to.clone(),
            read_began: Instant::now(),
            next_poll: Instant::now(),
            tenure_awaited: false,
            gate: DrainGate::default(),
            draining: false,
            passed_alone: 0,
            asked_checkpoint: None,
            written_checkpoint: None,
            unsettled: Vec::new(),
            said_done: false,
            running: JoinSet::new(),
            args,
        })
    }

    async fn handle(
        &self,
        _: ActorRef<ShardReaderMsg>,
        message: ShardReaderMsg,
        state: &mut ShardReaderState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ShardReaderMsg::PollDue => state.poll(),
            ShardReaderMsg::Opened(Ok(iterator)) => state.opened(iterator),
            ShardReaderMsg::Read(Ok(page)) => state.take_in(page)?,
            ShardReaderMsg::Read(Err(SourceError::IteratorExpired)) => {
                state.iterator = None;
                state.reading = Reading::Idle;
                state.poll_after(READ_GAP);
            }
            ShardReaderMsg::Opened(Err(SourceError::Gone(_))) | ShardReaderMsg::Read(Err(SourceError::Gone(_))) => {
                state.reading = Reading::Gone;
            }
            ShardReaderMsg::Opened(Err(error)) | ShardReaderMsg::Read(Err(error)) => return Err(LaneFailure::from(error).into()),
            ShardReaderMsg::Report(report) => state.settle(report)?,
            ShardReaderMsg::LostDue(open) => return Err(LaneFailure::TicketLost { open }.into()),
            ShardReaderMsg::TenureDue => {
                state.tenure_awaited = false;
                state.admit()?;
                state.poll();
            }
            ShardReaderMsg::CheckpointDue => {
                state.myself.cast_after(state.args.settings.checkpoint_interval, || ShardReaderMsg::CheckpointDue);
                // Here, since a read that is held back does not end for a while.
                state.args.stats.throttles(&state.args.shard, state.args.source.throttles(&state.args.shard));
                state.ask_checkpoint()?;
            }
            ShardReaderMsg::Checkpointed(checkpoint) => state.checkpointed(checkpoint)?,
            ShardReaderMsg::Drain => {
                state.draining = true;
                state.gate.close();
                state.fetched.clear();
            }
        }
        if state.reading == Reading::Gone && state.has_ended_everything() && !state.draining {
            state.ask_checkpoint()?;
            if state.written_checkpoint == state.asked_checkpoint {
                return Err(LaneFailure::ShardGone.into());
            }
        }
        Ok(state.finish_if_done()?)
    }
}

impl ShardReaderState {
    /// Starts the next read if everything allows it; else the event that will allow it calls again.
    fn poll(&mut self) {
        if self.reading != Reading::Idle || self.draining || !self.fetched.is_empty() || !self.ledger.worth_reading() {
            return;
        }
        if Instant::now() < self.next_poll {
            return;
        }
        self.reading = Reading::Asking;
        while self.running.try_join_next().is_some() {}
        let (source, myself) = (Arc::clone(&self.args.source), self.myself.clone());
        let waiting = self.args.meter.wait();
        if self.iterator_since.elapsed() > ITERATOR_AGE {
            self.iterator = None;
        }
        if let Some(iterator) = self.iterator.clone() {
            self.read_began = Instant::now();
            let limit = self.args.settings.read_limit;
            self.running.spawn(async move {
                let page = source.read(&iterator, limit).await;
                drop(waiting);
                // When the actor is gone there is nobody left to tell.
                let _gone = myself.cast(ShardReaderMsg::Read(page));
            });
        } else {
            let (shard, start) = (self.args.shard.clone(), self.start());
            self.running.spawn(async move {
                let iterator = source.iterator(&shard, &start).await;
                drop(waiting);
                // When the actor is gone there is nobody left to tell.
                let _gone = myself.cast(ShardReaderMsg::Opened(iterator));
            });
        }
    }

    fn poll_after(&mut self, delay: Duration) {
        self.next_poll = Instant::now() + delay;
        self.myself.cast_after(delay, || ShardReaderMsg::PollDue);
    }

    fn opened(&mut self, iterator: ShardIterator) {
        self.iterator = Some(iterator);
        self.iterator_since = Instant::now();
        self.reading = Reading::Idle;
        self.poll();
    }

    /// Opens at the last record rather than after it, as the Kinesis Client Library does, and drops what is done: a record may
    /// hold several user records of which only some are done.
    fn start(&self) -> StartAt {
        match &self.read_to {
            Some(position) => StartAt::Sequence(position.sequence.clone()),
            None => self.args.start.clone(),
        }
    }

    fn take_in(&mut self, page: Page) -> Result<(), ActorGone> {
        self.args.stats.lag(&self.args.shard, page.millis_behind_latest);
        if let Some(arrived) = page.records.last().and_then(|record| record.arrived) {
            self.args.stats.read_to(&self.args.shard, arrived);
        }
        self.reading = if page.next.is_some() { Reading::Idle } else { Reading::AtEnd };
        self.iterator = page.next;
        self.iterator_since = Instant::now();
        if self.draining {
            return Ok(());
        }
        let is_behind = page.millis_behind_latest.map_or(!page.records.is_empty(), |millis| millis > 0);
        let bytes: usize = page.records.iter().map(|record| record.data.len()).sum();
        let pause = self.pause(is_behind, bytes).saturating_sub(self.read_began.elapsed());
        self.poll_after(pause);
        // Only the head of an answer can hold what was read before: records come in order.
        let is_old = |record: &Record| self.read_to.as_ref().is_some_and(|read_to| record.position <= *read_to);
        let n_old = page.records.iter().take_while(|record| is_old(record)).count();
        self.fetched.extend(page.records.into_iter().skip(n_old));
        if let Some(last) = self.fetched.back() {
            self.read_to = Some(last.position.clone());
        }
        self.admit()?;
        self.poll();
        Ok(())
    }

    /// Time from the beginning of one read to that of the next.
    fn pause(&self, is_behind: bool, bytes: usize) -> Duration {
        let interval = self.args.settings.poll_interval;
        let gap = if is_behind { READ_GAP.min(interval) } else { interval };
        gap.max(Duration::from_secs_f64(bytes as f64 / self.args.source.most_bytes_per_second()))
    }

    /// Lets in what the credit and the tenure allow.
    fn admit(&mut self) -> Result<(), ActorGone> {
        while let Some(first) = self.fetched.front() {
            if !self.args.tenure.holds() {
                if !self.tenure_awaited {
                    self.tenure_awaited = true;
                    self.myself.cast_after(TENURE_LOOK, || ShardReaderMsg::TenureDue);
                }
                return Ok(());
            }
            let alone = match &self.args.admission {
                Admission::Batches => false,
                Admission::Alone { .. } if self.ledger.is_empty() => true,
                Admission::Alone { .. } => return Ok(()),
            };
            if !self.ledger.admits(first.data.len()) {
                return Ok(());
            }
            let n_events = self.next_batch(alone);
            self.send(n_events, alone)?;
        }
        Ok(())
    }

    /// How many of the fetched records go into the next batch: at least one.
    fn next_batch(&self, alone: bool) -> usize {
        let settings = &self.args.settings;
        let most_events = if alone { 1 } else { settings.batch_events.min(self.ledger.credit_events()).max(1) };
        let mut bytes = 0;
        let fits = |record: &&Record| {
            bytes += record.data.len();
            bytes <= settings.batch_bytes && self.ledger.admits(bytes)
        };
        self.fetched.iter().take(most_events).take_while(fits).count().max(1)
    }

    fn send(&mut self, n_events: usize, alone: bool) -> Result<(), ActorGone> {
        let mut bytes = 0;
        let (mut positions, mut items) = (Vec::with_capacity(n_events), Vec::with_capacity(n_events));
        for (index, Record { position, data, .. }) in self.fetched.drain(..n_events).enumerate() {
            bytes += data.len();
            positions.push(position);
            items.push(Item { index: u16::try_from(index).expect("a batch holds few events"), record: data, event: Unread });
        }
        let positions: Arc<[Position]> = positions.into();
        let number = self.ledger.issue(Arc::clone(&positions), bytes);
        self.args.stats.admitted(&self.args.shard, positions.len());
        let condemned = match &self.args.admission {
            Admission::Alone { condemned: Some(condemned) } => positions.first() == Some(condemned),
            _ => false,
        };
        if alone {
            self.args.news.send(LaneNews::Alone(positions[0].clone()))?;
        }
        let ticket = Ticket::new(number, positions, self.myself.outlet(ShardReaderMsg::Report), self.gate.clone());
        if condemned {
            let reason = "it ended the lane several times while it was alone in it";
            let reject = |item: Item<Unread>| Reject { index: item.index, reason: reason.to_owned(), payload: item.record };
            return Leftovers { ticket, rejects: items.into_iter().map(reject).collect() }.settle(&self.args.lane_end);
        }
        self.args.first_stage.send(Batch { ticket, items, rejects: Vec::new() })
    }

    fn settle(&mut self, report: Report) -> Result<(), ActorGone> {
        self.args.stats.ended(&self.args.shard, report.outcomes.total());
        if let GivenBack::Lost { open } = report.how {
            self.myself.cast_after(LOST_GRACE, move || ShardReaderMsg::LostDue(open));
            return Ok(());
        }
        self.unsettled.extend(report.prefix.map(|(last, outcomes)| (last, outcomes, report.marks)));
        if self.ledger.resolve(report.number, report.ended_prefix).is_some() {
            self.args.news.send(LaneNews::Progress)?;
        }
        if matches!(self.args.admission, Admission::Alone { .. }) {
            self.passed_alone += 1;
            if self.passed_alone > self.args.settings.credit_events {
                self.args.admission = Admission::Batches;
                self.args.news.send(LaneNews::Cleared)?;
            }
        }
        if !self.draining {
            self.admit()?;
            self.poll();
        }
        Ok(())
    }

    fn ask_checkpoint(&mut self) -> Result<(), ActorGone> {
        let Some(watermark) = self.ledger.watermark() else { return Ok(()) };
        let checkpoint = Checkpoint::At(watermark.clone());
        if self.asked_checkpoint.as_ref() == Some(&checkpoint) {
            return Ok(());
        }
        self.write(checkpoint)
    }

    fn write(&mut self, checkpoint: Checkpoint) -> Result<(), ActorGone> {
        self.asked_checkpoint = Some(checkpoint.clone());
        self.args.keeper.cast(LeaseKeeperMsg::Checkpoint(checkpoint, self.myself.outlet(ShardReaderMsg::Checkpointed)))
    }

    fn checkpointed(&mut self, checkpoint: Checkpoint) -> Result<(), ActorGone> {
        for (_, outcomes, marks) in self.unsettled.extract_if(.., |(last, ..)| is_settled(last, &checkpoint)) {
            self.args.stats.settled(&self.args.shard, &outcomes);
            self.args.stats.traffic().settle(SystemTime::now(), &marks);
        }
        if let Checkpoint::At(position) = &checkpoint {
            self.args.stats.checkpointed(&self.args.shard, position);
            self.args.news.send(LaneNews::Checkpointed(position.clone()))?;
        }
        self.written_checkpoint = Some(checkpoint);
        Ok(())
    }

    fn has_ended_everything(&self) -> bool {
        self.fetched.is_empty() && self.ledger.is_empty()
    }

    /// At the end of the shard, or when draining, and with everything ended that began: writes the last checkpoint, then says so.
    fn finish_if_done(&mut self) -> Result<(), ActorGone> {
        let is_ending = self.asked_checkpoint == Some(Checkpoint::ShardEnd);
        let at_end = is_ending || (self.reading == Reading::AtEnd && self.has_ended_everything() && !self.draining);
        // A read that goes on brings nothing that is let in, so nobody waits for it.
        let drained = self.draining && self.ledger.is_quiet();
        if self.said_done || !(at_end || drained) {
            return Ok(());
        }
        let last = if at_end { Some(Checkpoint::ShardEnd) } else { self.ledger.watermark().cloned().map(Checkpoint::At) };
        match last {
            Some(last) if self.written_checkpoint.as_ref() != Some(&last) => {
                if self.asked_checkpoint.as_ref() == Some(&last) {
                    Ok(())
                } else {
                    self.write(last)
                }
            }
            _ => {
                self.said_done = true;
                self.args.news.send(if at_end { LaneNews::ShardEnded } else { LaneNews::Drained })
            }
        }
    }
}

fn is_settled(last: &Position, checkpoint: &Checkpoint) -> bool {
    match checkpoint {
        Checkpoint::At(position) => last <= position,
        Checkpoint::ShardEnd => true,
        Checkpoint::TrimHorizon | Checkpoint::Latest | Checkpoint::AtTimestamp => false,
    }
}
