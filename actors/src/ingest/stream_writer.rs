//! Puts readings on the in-stream, many in one call, and everything else among the dead letters.
//!
//! Child of `IngestSupervisor`. Receives `Accept` from `MqttReader` and tells it what is stored. One batch at a time is written, so
//! readings of one plate keep their order; a batch is what came within `linger`, or while the one before was written. A stream or
//! table that does not answer is asked again for as long as it takes: nothing is given up, and since nothing is acknowledged either,
//! the broker sends no more. A panic in the writing task ends this actor.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use super::IngestSettings;
use super::intake::{Piece, STAGE};
use super::mqtt_reader::Stamp;
use crate::domain::{Position, SequenceNumber, ShardId};
use crate::flow::Backoff;
use crate::observe::{Mailbox, Meter, Outlet, Pause};
use crate::ports::{DeadLetter, OutRecord, RemoteFailure};

/// Most records of one call (<https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html>).
const MOST_PIECES: usize = 500;
/// Most bytes of one batch; the adapter keeps each call within the limit of 5 MiB.
const MOST_BYTES: usize = 4_500 * 1024;
/// Delays before a batch is written again, when the adapter has used up its own budget.
const AGAIN: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(30) };

pub(super) struct StreamWriter;

#[derive(Debug)]
pub(super) enum StreamWriterMsg {
    /// Tells this one what is stored.
    Serve(Outlet<Vec<Stamp>>),
    Accept(Piece, Stamp),
    /// The oldest waiting piece has waited long enough; void if another batch was begun since.
    FlushDue(u64),
    Written(Vec<Stamp>),
}

pub(super) struct StreamWriterArgs {
    pub(super) meter: Arc<Meter>,
    pub(super) settings: IngestSettings,
}

pub(super) struct StreamWriterState {
    myself: Mailbox<StreamWriterMsg>,
    settings: IngestSettings,
    reader: Option<Outlet<Vec<Stamp>>>,
    waiting: VecDeque<(Piece, Stamp)>,
    bytes: usize,
    /// Batches begun.
    batches: u64,
    is_writing: bool,
    running: JoinSet<()>,
}

impl ractor::Message for StreamWriterMsg {}

impl Actor for StreamWriter {
    type Msg = StreamWriterMsg;
    type State = StreamWriterState;
    type Arguments = StreamWriterArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<StreamWriterMsg>,
        args: StreamWriterArgs,
    ) -> Result<StreamWriterState, ActorProcessingErr> {
        Ok(StreamWriterState {
            myself: Mailbox::new(myself, args.meter),
            settings: args.settings,
            reader: None,
            waiting: VecDeque::new(),
            bytes: 0,
            batches: 0,
            is_writing: false,
            running: JoinSet::new(),
        })
    }

    async fn handle(
        &self,
        _: ActorRef<StreamWriterMsg>,
        message: StreamWriterMsg,
        state: &mut StreamWriterState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            StreamWriterMsg::Serve(reader) => state.reader = Some(reader),
            StreamWriterMsg::Accept(piece, stamp) => state.accept(piece, stamp),
            StreamWriterMsg::FlushDue(batch) => {
                if batch == state.batches && !state.is_writing {
                    state.write();
                }
            }
            StreamWriterMsg::Written(stamps) => {
                state.is_writing = false;
                if let Some(reader) = &state.reader {
                    reader.send(stamps)?;
                }
                // What came meanwhile has waited already.
                state.write();
            }
        }
        while let Some(ended) = state.running.try_join_next() {
            ended?;
        }
        Ok(())
    }
}

impl StreamWriterState {
    fn accept(&mut self, piece: Piece, stamp: Stamp) {
        self.bytes += piece.bytes();
        self.waiting.push_back((piece, stamp));
        if self.is_writing {
            return;
        }
        if self.waiting.len() >= MOST_PIECES || self.bytes >= MOST_BYTES {
            self.write();
        } else if self.waiting.len() == 1 {
            let batch = self.batches;
            self.myself.cast_after(self.settings.linger, move || StreamWriterMsg::FlushDue(batch));
        }
    }

    fn write(&mut self) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < MOST_PIECES
            && let Some((piece, _)) = self.waiting.front()
            && (batch.is_empty() || bytes + piece.bytes() <= MOST_BYTES)
        {
            bytes += piece.bytes();
            batch.extend(self.waiting.pop_front());
        }
        if batch.is_empty() {
            return;
        }
        self.bytes -= bytes;
        self.batches += 1;
        self.is_writing = true;
        let (settings, myself) = (self.settings.clone(), self.myself.clone());
        self.running.spawn(async move {
            let _waiting = myself.meter().wait();
            let stamps = store(&settings, myself.meter(), batch).await;
            // When the actor is gone there is nobody left to tell.
            let _gone = myself.cast(StreamWriterMsg::Written(stamps));
        });
    }
}

/// Stores everything, however long it takes.
async fn store(settings: &IngestSettings, meter: &Arc<Meter>, batch: Vec<(Piece, Stamp)>) -> Vec<Stamp> {
    let (mut records, mut letters, mut stamps): (Vec<OutRecord>, Vec<DeadLetter>, Vec<Stamp>) = Default::default();
    for (piece, stamp) in batch {
        stamps.push(stamp);
        match piece {
            Piece::Record(record) => records.push(record),
            Piece::Letter(letter) => letters.push(letter),
        }
    }
    let mut tries = 0;
    let refused = loop {
        if records.is_empty() {
            break Vec::new();
        }
        match settings.stream.publish(&records).await {
            Ok(refused) => break refused,
            Err(failure) => pause(meter, &mut tries, &failure).await,
        }
    };
    let stored = records.len() - refused.len();
    letters.extend(refused.into_iter().map(|refused| letter_of(settings, &records[refused.index], refused.reason)));
    for letter in &letters {
        let mut tries = 0;
        while let Err(failure) = settings.letters.put(letter).await {
            pause(meter, &mut tries, &failure).await;
        }
    }
    settings.stats.stored(stored, letters.len());
    stamps
}

async fn pause(meter: &Arc<Meter>, tries: &mut u32, failure: &RemoteFailure) {
    let delay = AGAIN.delay(*tries, rand::random());
    *tries += 1;
    tracing::warn!(%failure, delay_ms = delay.as_millis(), "messages of the broker are not stored yet");
    let _pausing = meter.pause(Pause::Retry);
    tokio::time::sleep(delay).await;
}

/// The stream itself refused a reading.
fn letter_of(settings: &IngestSettings, record: &OutRecord, reason: String) -> DeadLetter {
    DeadLetter {
        stage: STAGE,
        reason,
        payload: record.data.clone(),
        stream: format!("mqtt:{}", settings.client_id),
        shard: ShardId::new(&settings.topic_filter),
        position: Position { sequence: SequenceNumber::parse("0").expect("a digit"), sub: 0 },
    }
}
