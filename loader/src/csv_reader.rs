//! Reads the drivers file, packs its good rows and puts the bad ones aside.
//!
//! Child of LoadSupervisor. Receives `ReadFile`; sends `Accept` and at last `FileEnded` to FirehoseWriter. The work blocks, so it
//! runs on a thread of its own; the credit it takes for each record comes back when Firehose has accepted the record, which
//! bounds memory however large the file is. A file that cannot be read ends the load.

use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use speedtrap_actors::observe::{Mailbox, Meter};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::csv_rows::{CsvRows, FileFault, Row};
use crate::fault::LoadFault;
use crate::firehose_writer::FirehoseWriterMsg;
use crate::line_set::LineSet;
use crate::load_file::LoadFile;
use crate::pack::{PackedRecord, Packer};
use crate::progress::Progress;
use crate::rejects::RejectsFile;
use crate::staged_row;
use crate::tasks::Tasks;

pub(crate) struct CsvReader;

pub(crate) enum CsvReaderMsg {
    /// Read the file, and send the rows on lines other than these.
    ReadFile(LineSet),
    FileRead(Result<(FileSummary, u64), LoadFault>),
    TaskCrashed(String),
}

impl ractor::Message for CsvReaderMsg {}

/// What a supervisor gives to each reader it starts.
pub(crate) struct CsvReaderArgs {
    pub(crate) file: LoadFile,
    pub(crate) rejects_dir: PathBuf,
    pub(crate) record_bytes: usize,
    /// Records that may be on their way to Firehose at once.
    pub(crate) credit: usize,
    pub(crate) progress: Progress,
    pub(crate) writer: Mailbox<FirehoseWriterMsg>,
    pub(crate) meter: Arc<Meter>,
}

/// A record with the credit it was read for.
pub(crate) struct CreditedRecord {
    pub(crate) record: PackedRecord,
    pub(crate) credit: OwnedSemaphorePermit,
}

/// The file when it has been read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileSummary {
    pub(crate) rows: u64,
    pub(crate) rejected: u64,
    pub(crate) rejects_file: Option<PathBuf>,
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
            CsvReaderMsg::ReadFile(known) => state.read_file(known),
            CsvReaderMsg::FileRead(read) => {
                let (file, known) = read?;
                state.args.writer.cast(FirehoseWriterMsg::FileEnded { file, known })?;
            }
            CsvReaderMsg::TaskCrashed(reason) => return Err(LoadFault::Crashed(reason).into()),
        }
        Ok(())
    }
}

impl CsvReaderState {
    fn read_file(&mut self, known: LineSet) {
        let rejects = RejectsFile::new(&self.args.rejects_dir, &self.args.file.load_id);
        let reading = Reading {
            file: self.args.file.clone(),
            rejects,
            known,
            rows_known: 0,
            packer: Packer::new(self.args.record_bytes),
            progress: self.args.progress.clone(),
            writer: self.args.writer.clone(),
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
    rejects: RejectsFile,
    /// Lines that Firehose accepted, or that lie in the bucket.
    known: LineSet,
    rows_known: u64,
    packer: Packer,
    progress: Progress,
    writer: Mailbox<FirehoseWriterMsg>,
    credit: Arc<Semaphore>,
    runtime: Handle,
}

impl Reading {
    fn run(mut self) -> Result<(FileSummary, u64), LoadFault> {
        let mut source = self.file.read(&self.progress);
        let mut input = BufReader::with_capacity(1 << 18, &mut source);
        let (rows, rejected) = self.read_rows(&mut input)?;
        drop(input);
        // The load id was computed in an earlier pass; rows of other bytes must not be committed under it.
        if source.sha256() != self.file.sha256 {
            return Err(LoadFault::FileChanged { path: self.file.path });
        }
        let path = self.rejects.path().to_owned();
        let rejects_file = self.rejects.finish().map_err(|error| LoadFault::Rejects { path, reason: error.to_string() })?;
        Ok((FileSummary { rows, rejected, rejects_file }, self.rows_known))
    }

    fn read_rows(&mut self, input: &mut impl std::io::BufRead) -> Result<(u64, u64), LoadFault> {
        let path = self.file.path.clone();
        let fault = |cause| LoadFault::File { path: path.clone(), cause };
        let mut csv = CsvRows::open(input).map_err(fault)?;
        let (mut rows, mut rejected) = (0, 0);
        while let Some(row) = csv.next_row().map_err(|error| fault(FileFault::Io(error)))? {
            rows += 1;
            match row {
                Row::Good(row) if self.known.contains(row.line) => self.rows_known += 1,
                Row::Good(row) => {
                    let line =
                        staged_row::to_line(&self.file.load_id, &row).map_err(|error| LoadFault::Crashed(error.to_string()))?;
                    if let Some(record) = self.packer.push(row.line, &line) {
                        self.send(record)?;
                    }
                }
                Row::Bad(reject) => {
                    rejected += 1;
                    let written = self.rejects.write(&self.file.name, &reject);
                    let path = self.rejects.path();
                    written.map_err(|error| LoadFault::Rejects { path: path.to_owned(), reason: error.to_string() })?;
                }
            }
            self.progress.read(rows, rejected);
            self.progress.known(self.rows_known);
        }
        if let Some(record) = self.packer.take() {
            self.send(record)?;
        }
        Ok((rows, rejected))
    }

    /// Waits for credit, then hands a record on. Both fail only when this incarnation of the load has ended.
    fn send(&self, record: PackedRecord) -> Result<(), LoadFault> {
        let ended = || LoadFault::Crashed("the writer is gone".to_owned());
        let credit = self.runtime.block_on(Arc::clone(&self.credit).acquire_owned()).map_err(|_closed| ended())?;
        let record = CreditedRecord { record, credit };
        self.writer.cast(FirehoseWriterMsg::Accept(record)).map_err(|_gone| ended())
    }
}
