//! A statement from its tables to its rows: once over what is there, or over one window after the other.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use futures::StreamExt as _;
use speedtrap_node::{Access, Exit, Stop, Stream};

use crate::drivers_table::Drivers;
use crate::engine::{Engine, tables_of};
use crate::events::Content;
use crate::feed::Readable;
use crate::kept_tables::{Archive, Speeding};
use crate::output::Output;
use crate::pace::Paces;
use crate::progress::Progress;
use crate::stream_table::StreamTable;
use crate::tables::{Described, Source, TABLES};
use crate::veil::Veil;
use crate::window::Window;

/// A statement that is ready to run.
pub(crate) struct Run {
    engine: Engine,
    plan: LogicalPlan,
    /// The streams that it reads.
    streams: Vec<Arc<StreamTable>>,
    progress: Arc<Progress>,
    first: Option<Window>,
}

/// Windows, if the statement runs over them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    pub(crate) every: Duration,
    pub(crate) from: Option<SystemTime>,
}

impl Run {
    /// Makes the tables and plans the statement over them; nothing is read yet.
    ///
    /// # Errors
    /// When the statement cannot be run.
    pub(crate) async fn plan(
        statement: &str,
        access: &Arc<Access>,
        memory_bytes: usize,
        veil: &Arc<Veil>,
        progress: &Arc<Progress>,
        windows: Option<Windows>,
    ) -> Result<Self, Stop> {
        let began = SystemTime::now();
        let first = windows.map(|windows| Window::around(windows.from.unwrap_or(began), windows.every));
        let desk = Arc::new(access.desk());
        let stream = |name: &'static str, stream, content| {
            let source = Arc::new(access.source(stream));
            let readable = Arc::new(Readable { source, paces: Paces::default(), progress: Arc::clone(progress) });
            Arc::new(match first {
                Some(first) => StreamTable::in_windows(name, readable, content, veil, access.place(), first),
                None => StreamTable::past(name, readable, content, veil, access.place(), began),
            })
        };
        let mut streams = Vec::new();
        let tables = TABLES.iter().map(|described| {
            let source: Arc<dyn Source> = match described.name {
                "speeding" => Arc::new(Speeding::new(access, &desk, veil)),
                "archive" => Arc::new(Archive::new(access, &desk, veil)),
                "drivers" => Arc::new(Drivers::new(access, veil)),
                name => {
                    let table = match name {
                        "readings" => stream(name, Stream::In, Content::Readings),
                        "violations" => stream(name, Stream::Out, Content::Violations),
                        _ => stream(name, Stream::Errors, Content::RuleErrors),
                    };
                    streams.push((name, Arc::clone(&table)));
                    table
                }
            };
            (described, source)
        });
        let engine = Engine::new(memory_bytes, veil, tables.collect::<Vec<_>>())?;
        let plan = engine.plan(statement).await?;
        let named = tables_of(&plan);
        if first.is_some() {
            check_windowed(&named)?;
        }
        streams.retain(|(name, _)| named.iter().any(|table| table == name));
        let streams = streams.into_iter().map(|(_, table)| table).collect();
        Ok(Self { engine, plan, streams, progress: Arc::clone(progress), first })
    }

    /// Runs it to its end, or over so many windows.
    ///
    /// # Errors
    /// When something cannot be read.
    pub(crate) async fn run<W: Write>(&self, output: &mut Output<W>, most_windows: Option<u64>) -> Result<(), Stop> {
        let Some(mut window) = self.first else { return self.once(output).await };
        let mut n = 0;
        while most_windows.is_none_or(|most| n < most) {
            self.progress.begin(window);
            let rows = self.engine.run(&self.plan).await?;
            if self.pass_on(rows, output, Some(window)).await?.is_none() {
                return Ok(());
            }
            for stream in &self.streams {
                stream.close_window().await?;
            }
            let (records, late) = self.progress.of_window();
            if late > 0 {
                self.progress
                    .note(&format!("{late} records arrived before {window} and were seen only now; they are in no window"));
            }
            self.note_bad();
            self.progress.clear();
            if reads(output.end_window(records, late))?.is_none() {
                return Ok(());
            }
            window = window.next();
            n += 1;
        }
        Ok(())
    }

    async fn once<W: Write>(&self, output: &mut Output<W>) -> Result<(), Stop> {
        let rows = self.engine.run(&self.plan).await?;
        if self.pass_on(rows, output, None).await?.is_some() {
            self.progress.clear();
            reads(output.end())?;
            self.note_bad();
        }
        Ok(())
    }

    /// Writes rows as they come; `None` if nobody reads them any more.
    async fn pass_on<W: Write>(
        &self,
        mut rows: SendableRecordBatchStream,
        output: &mut Output<W>,
        window: Option<Window>,
    ) -> Result<Option<()>, Stop> {
        output.begin(&rows.schema(), window);
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(|error| self.engine.stop(&error))?;
            self.progress.clear();
            if reads(output.rows(&batch))?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }

    fn note_bad(&self) {
        let n_bad = self.progress.take_bad();
        if n_bad > 0 {
            self.progress.note(&format!("{n_bad} records are not what their stream should hold; their column problem says why"));
        }
    }
}

/// Windows are of streams, and each stream is read once for all of them.
fn check_windowed(named: &[String]) -> Result<(), Stop> {
    let streams = || TABLES.iter().filter(|table| table.is_stream);
    let times = |table: &&Described| named.iter().filter(|name| *name == table.name).count();
    let names = || streams().map(|table| table.name).collect::<Vec<_>>().join(", ");
    if let Some(table) = streams().find(|table| times(table) > 1) {
        return Err(Stop::new(Exit::Usage, format!("the statement names {} more than once", table.name))
            .why("--every reads each stream once, so that no record is in two windows")
            .next("name it once, or leave --every out and limit `arrived`"));
    }
    if streams().all(|table| times(&table) == 0) {
        return Err(Stop::new(Exit::Usage, "the statement reads no stream")
            .why("--every makes windows of what arrives on one")
            .next(format!("read one of {}, or leave --every out", names())));
    }
    Ok(())
}

/// A reader that went away (`| head`) is no failure.
fn reads(written: io::Result<()>) -> Result<Option<()>, Stop> {
    match written {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        Err(error) => Err(Stop::new(Exit::Failed, "the rows cannot be written").why(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_need_a_stream_and_each_stream_once() {
        let check = |names: &[&str]| check_windowed(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert!(check(&["violations", "drivers", "readings"]).is_ok());
        for names in [&["readings", "readings"][..], &["drivers"], &[]] {
            assert_eq!(check(names).map_err(|stop| stop.exit), Err(Exit::Usage), "{names:?}");
        }
    }
}
