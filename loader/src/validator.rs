//! Judges rows by the contract, packs the good ones into records and puts the bad ones aside.
//!
//! Child of LoadSupervisor. Receives `Begin`, `Judge` and at last `FileEnded` from CsvReader; sends `Accept` and at last
//! `FileEnded` to FirehoseWriter. It judges one chunk at a time, in the order of the file, on a thread of its own, since telephone
//! numbers take long. A quarantine that cannot be written ends the load.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use speedtrap_actors::observe::{Mailbox, Meter};
use tokio::sync::OwnedSemaphorePermit;

use crate::csv_reader::RowChunk;
use crate::csv_rows::Row;
use crate::fault::LoadFault;
use crate::finding::Finding;
use crate::firehose_writer::FirehoseWriterMsg;
use crate::judge::{Judge, Verdict};
use crate::line_set::LineSet;
use crate::load_file::LoadFile;
use crate::pack::{PackedRecord, Packer};
use crate::progress::Progress;
use crate::rejects::{Origin, RejectPaths, RejectsFile};
use crate::staged_row;
use crate::tasks::Tasks;

pub(crate) struct Validator;

pub(crate) enum ValidatorMsg {
    /// Rows follow; those on these lines need not be sent.
    Begin(LineSet),
    Judge(RowChunk),
    FileEnded {
        rows: u64,
    },
    /// A chunk was judged, on the way out to where it is needed next.
    Judged(Result<Box<Judged>, LoadFault>),
    Finished(Result<(FileSummary, u64), LoadFault>),
    TaskCrashed(String),
}

impl ractor::Message for ValidatorMsg {}

/// What a supervisor gives to each validator it starts.
pub(crate) struct ValidatorArgs {
    pub(crate) file: LoadFile,
    pub(crate) rejects_dir: PathBuf,
    pub(crate) record_bytes: usize,
    pub(crate) progress: Progress,
    pub(crate) writer: Mailbox<FirehoseWriterMsg>,
    pub(crate) meter: Arc<Meter>,
}

/// A record that gives its credit back when it and the others of its chunk are dropped.
pub(crate) struct CreditedRecord {
    pub(crate) record: PackedRecord,
    pub(crate) credit: Arc<OwnedSemaphorePermit>,
}

/// The file when it has been read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileSummary {
    pub(crate) rows: u64,
    pub(crate) rejected: u64,
    pub(crate) rejects: Option<RejectPaths>,
    /// Rows that are loaded with at least one warning.
    pub(crate) warned: u64,
    /// How often each warning was given.
    pub(crate) warnings: BTreeMap<Finding, u64>,
}

pub(crate) struct ValidatorState {
    args: ValidatorArgs,
    tasks: Tasks<ValidatorMsg>,
    work: Work,
    chunks: VecDeque<RowChunk>,
    /// Rows of the file, once it has been read.
    rows: Option<u64>,
}

/// Where the judging is done.
enum Work {
    /// Nothing has begun, or all has ended.
    None,
    Here(Box<Validation>),
    /// On its thread.
    Away,
}

/// A judged chunk and what judges the next one.
pub(crate) struct Judged {
    validation: Box<Validation>,
    records: Vec<CreditedRecord>,
}

impl Actor for Validator {
    type Msg = ValidatorMsg;
    type State = ValidatorState;
    type Arguments = ValidatorArgs;

    async fn pre_start(&self, myself: ActorRef<ValidatorMsg>, args: ValidatorArgs) -> Result<ValidatorState, ActorProcessingErr> {
        let tasks = Tasks::new(Mailbox::new(myself, Arc::clone(&args.meter)), ValidatorMsg::TaskCrashed);
        Ok(ValidatorState { args, tasks, work: Work::None, chunks: VecDeque::new(), rows: None })
    }

    async fn handle(
        &self,
        _myself: ActorRef<ValidatorMsg>,
        message: ValidatorMsg,
        state: &mut ValidatorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ValidatorMsg::Begin(known) => state.work = Work::Here(Box::new(Validation::new(&state.args, known))),
            ValidatorMsg::Judge(chunk) => state.chunks.push_back(chunk),
            ValidatorMsg::FileEnded { rows } => state.rows = Some(rows),
            ValidatorMsg::Judged(judged) => {
                let Judged { validation, records } = *judged?;
                state.args.progress.read(validation.judged, validation.rejected);
                state.args.progress.known(validation.rows_known);
                state.work = Work::Here(validation);
                for record in records {
                    state.args.writer.cast(FirehoseWriterMsg::Accept(record))?;
                }
            }
            ValidatorMsg::Finished(summary) => {
                let (file, known) = summary?;
                state.args.writer.cast(FirehoseWriterMsg::FileEnded { file, known })?;
            }
            ValidatorMsg::TaskCrashed(reason) => return Err(LoadFault::Crashed(reason).into()),
        }
        state.go_on();
        Ok(())
    }
}

impl ValidatorState {
    fn go_on(&mut self) {
        let validation = match std::mem::replace(&mut self.work, Work::Away) {
            Work::Here(validation) => validation,
            other => {
                self.work = other;
                return;
            }
        };
        if let Some(chunk) = self.chunks.pop_front() {
            self.run(move || ValidatorMsg::Judged(validation.judge(chunk).map(Box::new)));
        } else if let Some(rows) = self.rows.take() {
            self.run(move || ValidatorMsg::Finished(validation.finish(rows)));
        } else {
            self.work = Work::Here(validation);
        }
    }

    fn run(&mut self, work: impl FnOnce() -> ValidatorMsg + Send + 'static) {
        self.tasks.run(async move {
            match tokio::task::spawn_blocking(work).await {
                Ok(message) => message,
                Err(error) => ValidatorMsg::TaskCrashed(error.to_string()),
            }
        });
    }
}

/// The blocking part.
struct Validation {
    judge: Judge,
    progress: Progress,
    load_id: String,
    origin: Origin,
    /// Lines that Firehose accepted, or that lie in the bucket.
    known: LineSet,
    rows_known: u64,
    packer: Packer,
    rejects: RejectsFile,
    judged: u64,
    rejected: u64,
    warned: u64,
    warnings: BTreeMap<Finding, u64>,
}

impl Validation {
    fn new(args: &ValidatorArgs, known: LineSet) -> Self {
        let file = &args.file;
        Self {
            judge: Judge::new(Arc::clone(&file.contract)),
            progress: args.progress.clone(),
            load_id: file.load_id.clone(),
            origin: Origin { load_id: file.completes.clone().unwrap_or_else(|| file.load_id.clone()), file: file.name.clone() },
            known,
            rows_known: 0,
            packer: Packer::new(args.record_bytes),
            rejects: RejectsFile::new(&args.rejects_dir, &file.load_id),
            judged: 0,
            rejected: 0,
            warned: 0,
            warnings: BTreeMap::new(),
        }
    }

    fn judge(mut self: Box<Self>, chunk: RowChunk) -> Result<Judged, LoadFault> {
        let mut records = Vec::new();
        for row in chunk.rows {
            self.judged += 1;
            records.extend(self.record_of(row)?);
        }
        // A chunk is about one record: none of its rows waits for those of the next one without its credit.
        records.extend(self.packer.take());
        let records = records.into_iter().map(|record| CreditedRecord { record, credit: Arc::clone(&chunk.credit) }).collect();
        Ok(Judged { validation: self, records })
    }

    /// The record that is full now, if one is.
    fn record_of(&mut self, row: Row) -> Result<Option<PackedRecord>, LoadFault> {
        match self.judge.judge(row) {
            Verdict::Reject(reject) => {
                self.rejected += 1;
                self.progress.rejected(&reject);
                let written = self.rejects.write(&self.origin, &reject);
                written.map_err(|error| rejects_fault(self.rejects.path().to_owned(), &error))?;
                Ok(None)
            }
            Verdict::Load { row, warnings } => {
                self.warned += u64::from(!warnings.is_empty());
                for warning in warnings {
                    *self.warnings.entry(warning.finding).or_default() += 1;
                }
                if self.known.contains(row.line) {
                    self.rows_known += 1;
                    return Ok(None);
                }
                let json = staged_row::to_line(&self.load_id, &row).map_err(|error| LoadFault::Crashed(error.to_string()))?;
                Ok(self.packer.push(row.line, &json))
            }
        }
    }

    /// Gives also how many rows were known.
    fn finish(self, rows: u64) -> Result<(FileSummary, u64), LoadFault> {
        if self.judged != rows {
            return Err(LoadFault::Crashed(format!("{} of {rows} rows were judged", self.judged)));
        }
        let path = self.rejects.path().to_owned();
        let rejects = self.rejects.finish().map_err(|error| rejects_fault(path, &error))?;
        let Self { rejected, warned, warnings, rows_known, .. } = self;
        Ok((FileSummary { rows, rejected, rejects, warned, warnings }, rows_known))
    }
}

fn rejects_fault(path: PathBuf, error: &std::io::Error) -> LoadFault {
    LoadFault::Rejects { path, reason: error.to_string() }
}
