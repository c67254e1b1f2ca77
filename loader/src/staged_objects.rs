//! Reads the objects that Firehose delivered, line by line, so that their size does not matter.

use std::collections::BTreeSet;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};
use tokio::sync::mpsc;

use crate::csv_rows::DriverRow;
use crate::fault::{LoadFault, Remote};
use crate::line_set::LineSet;
use crate::ports::{ObjectStore, PortError};
use crate::staged_row;

/// Rows handed to the warehouse at once.
const ROWS_PER_CHUNK: usize = 500;

/// A delivered object and the lines of this load in it.
#[derive(Debug)]
pub(crate) struct StagedObject {
    pub(crate) key: String,
    pub(crate) lines: LineSet,
}

/// Reads which lines of a load are in an object.
pub(crate) async fn read_marks(objects: &dyn ObjectStore, key: &str, load_id: &str) -> Result<StagedObject, PortError> {
    let mut lines = LineSet::default();
    let mut content = Lines::open(objects, key).await?;
    while let Some(line) = content.next().await? {
        if let Some(marks) = staged_row::marks(line).filter(|marks| marks.load_id == load_id) {
            lines.insert(marks.src_line);
        }
    }
    Ok(StagedObject { key: key.to_owned(), lines })
}

/// Sends each row of the load once, however often Firehose delivered it. Ends early if nobody wants more.
pub(crate) async fn copy_rows(
    objects: &dyn ObjectStore,
    keys: &[String],
    load_id: &str,
    rows: mpsc::Sender<Vec<DriverRow>>,
) -> Result<(), LoadFault> {
    let mut copied = LineSet::default();
    let mut chunk = Vec::with_capacity(ROWS_PER_CHUNK);
    for key in keys {
        let mut content = Lines::open(objects, key).await.map_err(bucket)?;
        while let Some(line) = content.next().await.map_err(bucket)? {
            let Some(row) = staged_row::from_line(load_id, line) else { continue };
            let row = row?;
            if !copied.insert(row.line) {
                continue;
            }
            chunk.push(row);
            if chunk.len() == ROWS_PER_CHUNK && rows.send(std::mem::take(&mut chunk)).await.is_err() {
                return Ok(());
            }
        }
    }
    if !chunk.is_empty() {
        // The warehouse has ended by itself and says why.
        let _ended = rows.send(chunk).await;
    }
    Ok(())
}

/// The rows of the load that stand on these lines of an object, each with its line there; the first line is 1.
pub(crate) async fn rows_at(
    objects: &dyn ObjectStore,
    key: &str,
    load_id: &str,
    lines: &BTreeSet<u64>,
) -> Result<Vec<(u64, DriverRow)>, LoadFault> {
    let mut rows = Vec::new();
    let mut content = Lines::open(objects, key).await.map_err(bucket)?;
    let mut at = 0;
    while let Some(line) = content.next().await.map_err(bucket)? {
        at += 1;
        if lines.contains(&at)
            && let Some(row) = staged_row::from_line(load_id, line)
        {
            rows.push((at, row?));
        }
    }
    Ok(rows)
}

fn bucket(error: PortError) -> LoadFault {
    Remote::Bucket.fault(error)
}

struct Lines {
    content: Box<dyn AsyncBufRead + Send + Unpin>,
    line: Vec<u8>,
}

impl Lines {
    async fn open(objects: &dyn ObjectStore, key: &str) -> Result<Self, PortError> {
        Ok(Self { content: objects.open(key).await?, line: Vec::new() })
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, PortError> {
        self.line.clear();
        let read = self.content.read_until(b'\n', &mut self.line).await;
        let n = read.map_err(|error| PortError::Unavailable(format!("reading an object stopped: {error}")))?;
        Ok((n > 0).then_some(self.line.as_slice()))
    }
}
