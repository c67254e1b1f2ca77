//! Reads the drivers file row by row and hands its rows on in chunks.
//!
//! Child of LoadSupervisor. Receives `ReadFile`; sends `Begin`, `Judge` and at last `FileEnded` to Validator. The work blocks, so
//! it runs on a thread of its own. The credit it takes for each chunk goes with its rows and comes back when Firehose has accepted
//! them, which bounds memory however large the file is. A file that cannot be read ends the load.

use std::io::{BufRead, BufReader};
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use speedtrap_actors::observe::{Mailbox, Meter};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::csv_rows::Row;
use crate::fault::LoadFault;
use crate::line_set::LineSet;
use crate::load_file::LoadFile;
use crate::progress::Progress;
use crate::tasks::Tasks;
use crate::validator::ValidatorMsg;

/// What a row gains on its way from CSV to JSON: the keys, their quotes, and the marks by which it is found again.
const GROWTH: usize = 280;

pub(crate) struct CsvReader;

pub(crate) enum CsvReaderMsg {
    /// Read the file, and have the rows on lines other than these sent.
    ReadFile(LineSet),
    FileRead(Result<u64, LoadFault>),
    TaskCrashed(String),
}

impl ractor::Message for CsvReaderMsg {}

/// What a supervisor gives to each reader it starts.
pub(crate) struct CsvReaderArgs {
    pub(crate) file: LoadFile,
    /// Rows of one chunk become about this many bytes, which is one Firehose record.
    pub(crate) record_bytes: usize,
    /// Chunks that may be on their way to Firehose at once.
    pub(crate) credit: usize,
    pub(crate) progress: Progress,
    pub(crate) validator: Mailbox<ValidatorMsg>,
    pub(crate) meter: Arc<Meter>,
}

/// Rows in the order of the file, with the credit they travel on. It comes back when the last clone is dropped.
pub(crate) struct RowChunk {
    pub(crate) rows: Vec<Row>,
    pub(crate) credit: Arc<OwnedSemaphorePermit>,
}

pub(crate) struct CsvReaderState {
    args: CsvReaderArgs,
    credit: Arc<Semaphore>,
    tasks: Tasks<CsvReaderMsg>,
}

impl Actor for CsvReader {
    type Msg = CsvReaderMsg;
    type State = CsvReaderState;
    type Arguments = CsvReaderArgs;

    async fn pre_start(&self, myself: ActorRef<CsvReaderMsg>, args: CsvReaderArgs) -> Result<CsvReaderState, ActorProcessingErr> {
        let mailbox = Mailbox::new(myself, Arc::clone(&args.meter));
        let credit = Arc::new(Semaphore::new(args.credit));
        Ok(CsvReaderState { args, credit, tasks: Tasks::new(mailbox, CsvReaderMsg::TaskCrashed) })
    }

    async fn handle(
        &self,
        _myself: ActorRef<CsvReaderMsg>,
        message: CsvReaderMsg,
        state: &mut CsvReaderState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CsvReaderMsg::ReadFile(known) => {
                state.args.validator.cast(ValidatorMsg::Begin(known))?;
                state.read_file();
            }
            CsvReaderMsg::FileRead(rows) => state.args.validator.cast(ValidatorMsg::FileEnded { rows: rows? })?,
            CsvReaderMsg::TaskCrashed(reason) => return Err(LoadFault::Crashed(reason).into()),
        }
        Ok(())
    }
}

impl CsvReaderState {
    fn read_file(&mut self) {
        let reading = Reading {
            file: self.args.file.clone(),
            chunk_bytes: self.args.record_bytes,
            progress: self.args.progress.clone(),
            validator: self.args.validator.clone(),
            credit: Arc::clone(&self.credit),
            runtime: Handle::current(),
        };
        self.tasks.run(async move {
            match tokio::task::spawn_blocking(move || reading.run()).await {
                Ok(result) => CsvReaderMsg::FileRead(result),
                Err(error) => CsvReaderMsg::TaskCrashed(error.to_string()),
            }
        });
    }
}

impl Drop for CsvReaderState {
    /// A blocked thread cannot be aborted; without credit to wait for it ends by itself.
    fn drop(&mut self) {
        self.credit.close();
    }
}

/// The blocking part.
struct Reading {
    file: LoadFile,
    chunk_bytes: usize,
    progress: Progress,
    validator: Mailbox<ValidatorMsg>,
    credit: Arc<Semaphore>,
    runtime: Handle,
}

impl Reading {
    /// Gives how many rows the file has.
    fn run(self) -> Result<u64, LoadFault> {
        let mut source = self.file.read(&self.progress);
        let mut input = BufReader::with_capacity(1 << 18, &mut source);
        let rows = self.read_rows(&mut input)?;
        drop(input);
        // The load id was computed in an earlier pass; rows of other bytes must not be committed under it.
        if source.sha256() != self.file.sha256 {
            return Err(LoadFault::FileChanged { path: self.file.path });
        }
        Ok(rows)
    }

    fn read_rows(&self, input: &mut impl BufRead) -> Result<u64, LoadFault> {
        let fault = |cause| LoadFault::File { path: self.file.path.clone(), cause };
        let mut source = self.file.rows(input).map_err(fault)?;
        let (mut n_rows, mut chunk, mut bytes) = (0, Vec::new(), 0);
        while let Some(row) = source.next_row().map_err(fault)? {
            n_rows += 1;
            let row_bytes = row.raw_len() + GROWTH;
            if bytes + row_bytes > self.chunk_bytes && !chunk.is_empty() {
                self.send(std::mem::take(&mut chunk))?;
                bytes = 0;
            }
            bytes += row_bytes;
            chunk.push(row);
        }
        if !chunk.is_empty() {
            self.send(chunk)?;
        }
        Ok(n_rows)
    }

    /// Waits for credit, then hands rows on. Both fail only when this incarnation of the load has ended.
    fn send(&self, rows: Vec<Row>) -> Result<(), LoadFault> {
        let ended = || LoadFault::Crashed("the validator is gone".to_owned());
        let credit = self.runtime.block_on(Arc::clone(&self.credit).acquire_owned()).map_err(|_closed| ended())?;
        self.validator.cast(ValidatorMsg::Judge(RowChunk { rows, credit: Arc::new(credit) })).map_err(|_gone| ended())
    }
}
