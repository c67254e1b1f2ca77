//! Violations as they are kept: in the DynamoDB table and in the archive.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use futures::StreamExt as _;
use futures::stream;
use jiff::tz::TimeZone;
use speedtrap_actors::adapters::{ArchiveObject, ScanPlace, TraceDesk};
use speedtrap_actors::ports::RemoteFailure;
use speedtrap_node::{Access, Stop, remote_stop};

use crate::bounds::Span;
use crate::columns::{Cell, Column, Rows};
use crate::events::{Event, line, nanoseconds, push_event, system_time};
use crate::feed::BATCH_ROWS;
use crate::tables::{Part, Source};
use crate::veil::Veil;

/// Where the lines of violations are.
const FOLDER: &str = "speeding/";
/// Firehose collects for up to 15 minutes, and names an object for the hour of its first line
/// (<https://docs.aws.amazon.com/firehose/latest/dev/s3-object-name.html>); a minute more for clocks that differ.
const MOST_COLLECTING: Duration = Duration::from_secs(16 * 60);

/// The DynamoDB table.
pub(crate) struct Speeding {
    desk: Arc<TraceDesk>,
    veil: Arc<Veil>,
    place: String,
}

/// The objects in S3.
pub(crate) struct Archive {
    access: Arc<Access>,
    desk: Arc<TraceDesk>,
    veil: Arc<Veil>,
}

/// One reading of the archive: objects are listed a page at a time, and one object is held at a time.
struct Lines {
    desk: Arc<TraceDesk>,
    veil: Arc<Veil>,
    place: String,
    bucket: String,
    columns: Vec<Column>,
    span: Span,
    /// The last key that was listed; `None` when all were.
    listed: Option<String>,
    objects: std::vec::IntoIter<ArchiveObject>,
    object: Option<OpenObject>,
}

struct OpenObject {
    object: ArchiveObject,
    data: Vec<u8>,
    at: usize,
    n_lines: i64,
}

impl Speeding {
    pub(crate) fn new(access: &Access, desk: &Arc<TraceDesk>, veil: &Arc<Veil>) -> Self {
        Self { desk: Arc::clone(desk), veil: Arc::clone(veil), place: access.place().to_owned() }
    }
}

impl Archive {
    pub(crate) fn new(access: &Arc<Access>, desk: &Arc<TraceDesk>, veil: &Arc<Veil>) -> Self {
        Self { access: Arc::clone(access), desk: Arc::clone(desk), veil: Arc::clone(veil) }
    }
}

#[async_trait]
impl Source for Speeding {
    async fn parts(&self, columns: &[Column], _span: Span) -> Result<Vec<Part>, Stop> {
        let (desk, veil, place, columns) = (Arc::clone(&self.desk), Arc::clone(&self.veil), self.place.clone(), columns.to_vec());
        let part: Part = Box::new(move || {
            let (desk, veil, place, columns) = (Arc::clone(&desk), Arc::clone(&veil), place.clone(), columns.clone());
            stream::try_unfold(Some(None), move |from: Option<Option<ScanPlace>>| {
                let (desk, veil, place, columns) = (Arc::clone(&desk), Arc::clone(&veil), place.clone(), columns.clone());
                async move {
                    let Some(from) = from else { return Ok(None) };
                    let page = desk.page(from).await;
                    let (items, next) = page.map_err(|failure| cannot_read("the speeding table", &failure, &place))?;
                    let mut rows = Rows::new(&columns);
                    for item in items {
                        let event = item.map(Event::Stored).ok_or_else(|| "the item is no violation".to_owned());
                        push_event(&mut rows, &event, &veil, |_| None);
                    }
                    Ok(Some((rows.finish(), next.map(Some))))
                }
            })
            .boxed()
        });
        Ok(vec![part])
    }
}

#[async_trait]
impl Source for Archive {
    async fn parts(&self, columns: &[Column], span: Span) -> Result<Vec<Part>, Stop> {
        let bucket = self.access.archive_bucket().await?;
        let (desk, veil, columns) = (Arc::clone(&self.desk), Arc::clone(&self.veil), columns.to_vec());
        let place = self.access.place().to_owned();
        let part: Part = Box::new(move || {
            let lines = Lines {
                desk: Arc::clone(&desk),
                veil: Arc::clone(&veil),
                place: place.clone(),
                bucket: bucket.clone(),
                columns: columns.clone(),
                span,
                listed: Some(first_key(span)),
                objects: Vec::new().into_iter(),
                object: None,
            };
            stream::try_unfold(lines, |mut lines| async move {
                let batch = lines.batch().await.map_err(|failure| cannot_read("the archive", &failure, &lines.place))?;
                Ok(batch.map(|batch| (batch, lines)))
            })
            .boxed()
        });
        Ok(vec![part])
    }
}

impl Lines {
    async fn batch(&mut self) -> Result<Option<RecordBatch>, RemoteFailure> {
        loop {
            if let Some(open) = &mut self.object {
                let rows = open.rows(&self.columns, &self.veil);
                if rows.len() > 0 {
                    return Ok(Some(rows.finish()));
                }
                self.object = None;
            }
            if let Some(object) = self.objects.next() {
                if holds(self.span, object.written) {
                    let data = self.desk.object(&self.bucket, &object.key).await?;
                    self.object = Some(OpenObject { object, data: data.into(), at: 0, n_lines: 0 });
                }
                continue;
            }
            let Some(after) = self.listed.take() else { return Ok(None) };
            let (objects, has_more) = self.desk.objects(&self.bucket, FOLDER, &after).await?;
            self.listed = objects.last().filter(|_| has_more).map(|object| object.key.clone());
            self.objects = objects.into_iter();
        }
    }
}

impl OpenObject {
    /// The next lines.
    fn rows(&mut self, columns: &[Column], veil: &Veil) -> Rows {
        let mut rows = Rows::new(columns);
        let written = self.object.written.and_then(nanoseconds);
        while self.at < self.data.len() && rows.len() < BATCH_ROWS {
            let rest = &self.data[self.at..];
            let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            self.at += length + 1;
            self.n_lines += 1;
            if rest[..length].trim_ascii().is_empty() {
                continue;
            }
            let event = line(&rest[..length]);
            push_event(&mut rows, &event, veil, |column| match column {
                Column::Object => Some(Cell::text(self.object.key.as_str())),
                Column::Line => Some(Cell::Int(self.n_lines)),
                Column::Written => Some(Cell::time(written)),
                _ => None,
            });
        }
        rows
    }
}

/// The key after which objects of the span begin.
fn first_key(span: Span) -> String {
    let from = span.from.and_then(|from| system_time(from).checked_sub(MOST_COLLECTING));
    let hour = from.and_then(|from| jiff::Timestamp::try_from(from).ok());
    hour.map(|hour| format!("{FOLDER}{}", hour.to_zoned(TimeZone::UTC).strftime("%Y/%m/%d/%H"))).unwrap_or_default()
}

/// Whether an object of this time may be asked for. S3 tells times in whole seconds.
fn holds(span: Span, written: Option<SystemTime>) -> bool {
    let Some(written) = written.and_then(nanoseconds) else { return true };
    span.from.is_none_or(|from| written >= from) && span.to.is_none_or(|to| written <= to)
}

fn cannot_read(what: &str, failure: &RemoteFailure, place: &str) -> Stop {
    remote_stop(&format!("{what} cannot be read"), failure, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<i64> {
        nanoseconds(text.parse::<jiff::Timestamp>().expect("a time").into())
    }

    #[test]
    fn a_limit_spares_earlier_objects() {
        let span = Span { from: at("2026-01-01T00:10:00Z"), to: at("2026-01-01T01:00:00Z") };
        assert_eq!(first_key(span), "speeding/2025/12/31/23");
        assert_eq!(first_key(Span::default()), "");
        let written = |text| at(text).map(system_time);
        assert!(holds(span, written("2026-01-01T00:10:00Z")) && holds(span, None));
        assert!(!holds(span, written("2026-01-01T00:09:59Z")) && !holds(span, written("2026-01-01T01:00:01Z")));
    }

    #[test]
    fn lines_are_numbered_and_blank_ones_left_out() {
        let good = r#"{"iottimestamp":"t","licensePlate":"A 1","longitude":"1","latitude":"2","city":"c","state":"s","speed":80,"eventId":"e"}"#;
        let data = format!("{good}\n\nnonsense\n{good}");
        let object = ArchiveObject { key: "k".to_owned(), written: None, bytes: 1 };
        let mut open = OpenObject { object, data: data.into_bytes(), at: 0, n_lines: 0 };
        let columns = [Column::Line, Column::Problem, Column::Speed];
        let batch = open.rows(&columns, &Veil::default()).finish();
        use datafusion::arrow::array::{Array as _, AsArray as _};
        let lines = batch.column(0).as_primitive::<datafusion::arrow::datatypes::Int64Type>();
        assert_eq!(lines.values(), &[1, 3, 4]);
        assert_eq!((batch.column(1).is_null(0), batch.column(1).is_null(1), batch.column(2).null_count()), (true, false, 1));
        assert_eq!(open.rows(&columns, &Veil::default()).len(), 0);
    }
}
