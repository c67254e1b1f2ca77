//! Brings readings from their source to disk: stamped, numbered, and only then told to the light.

use tracing::debug;

use crate::clock;
use crate::event_ids::EventIds;
use crate::failure::Failure;
use crate::light::{Light, LightState};
use crate::outbox::Outbox;
use crate::reading::{MAX_PAYLOAD_BYTES, Origin, timestamp};
use crate::report::{RejectedRow, Report};
use crate::source::{Item, Source};

/// Readings that come together share one sync of the disk, which takes some milliseconds on an SD card.
const MAX_GROUP: usize = 256;
const MAX_GROUP_BYTES: usize = 512 * 1024;

pub(crate) struct Intake {
    source: Source,
    ids: EventIds,
    ended: bool,
}

impl Intake {
    pub(crate) fn new(source: Source, ids: EventIds) -> Self {
        Self { source, ids, ended: false }
    }

    pub(crate) fn device(&self) -> &str {
        self.ids.device()
    }

    /// The source has no more readings.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether there is still something to take, seen from a device with so many readings on disk. A source that sets no pace
    /// is taken as fast as the broker acknowledges, and not before it can be reached.
    pub(crate) fn is_open(&self, connected: bool, waiting: u64, window: u16) -> bool {
        !self.ended && (!self.source.is_unpaced() || (connected && waiting <= u64::from(window)))
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.source.bytes_read()
    }

    /// The next reading as soon as there is one. The future may be dropped while it waits.
    pub(crate) async fn next(&mut self) -> Result<Option<Item>, Failure> {
        self.source.next().await
    }

    /// Takes `first` and whatever else is there by now to disk, and lights up for each. Gives the sequence number below which
    /// a full outbox has dropped everything to make room.
    pub(crate) async fn take(
        &mut self,
        first: Option<Item>,
        window: u16,
        outbox: &mut Outbox,
        light: &mut dyn Light,
        report: &mut Report,
    ) -> Result<Option<u64>, Failure> {
        let clock_synced = clock::is_synchronised();
        let limit = if self.source.is_unpaced() { 2 * usize::from(window) } else { MAX_GROUP };
        let begin = outbox.next_seq();
        let mut next = first;
        let mut failed = None;
        for n in 1.. {
            let Some(item) = next else {
                self.ended = true;
                break;
            };
            report.rows += 1;
            match item {
                Item::Rejected(row) => report.reject(row),
                Item::Reading { line, reading, pressed_at } => {
                    let seq = outbox.next_seq();
                    let event_id = self.ids.id(seq);
                    let origin = Origin { event_id: &event_id, device_id: self.ids.device(), sequence: seq, clock_synced };
                    match reading.to_json(&timestamp(pressed_at), &origin) {
                        Ok(payload) if payload.len() <= MAX_PAYLOAD_BYTES => outbox.stage(&payload),
                        Ok(payload) => {
                            let reason =
                                format!("the message would have {} bytes, the limit is {MAX_PAYLOAD_BYTES}", payload.len());
                            report.reject(RejectedRow { line, reason });
                        }
                        Err(e) => report.reject(RejectedRow { line, reason: format!("it cannot be written as JSON: {e}") }),
                    }
                }
            }
            if n >= limit || outbox.staged_bytes() >= MAX_GROUP_BYTES {
                break;
            }
            let more = tokio::select! {
                biased;
                item = self.source.next() => item,
                () = std::future::ready(()) => break,
            };
            match more {
                Ok(item) => next = item,
                Err(e) => {
                    // What came before it is kept all the same.
                    failed = Some(e);
                    break;
                }
            }
        }
        let dropped_below = outbox.commit()?;
        for seq in begin..outbox.next_seq() {
            light.show(LightState::Queued);
            report.queued += 1;
            debug!("queued {}", self.ids.id(seq));
        }
        failed.map_or(Ok(dropped_below), Err)
    }
}
