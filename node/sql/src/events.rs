//! From records, items and lines to the cells of their columns.

use std::time::SystemTime;

use speedtrap_actors::domain::{Driver, Reading, ShardId, SpeedEvent};
use speedtrap_actors::ports::Record;
use speedtrap_actors::wire::{RuleError, read_published, read_reading, read_rule_error};
use speedtrap_node::taken_at;

use crate::columns::{Cell, Column, Rows};
use crate::veil::Veil;

/// What the records of a stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Readings,
    Violations,
    RuleErrors,
}

/// A reading that still borrows from its record, or one with texts of its own.
pub(crate) enum Event<'a> {
    Read(Reading<'a>),
    Stored(SpeedEvent),
}

/// What a record turned out to be.
enum Decoded<'a> {
    Event(Event<'a>),
    Violation(Event<'a>, Driver),
    RuleError(RuleError),
    Problem(String),
    /// Nothing was asked for that stands in it.
    Closed,
}

/// Columns that need no look into a record.
const OUTSIDE: [Column; 4] = [Column::Arrived, Column::Shard, Column::Sequence, Column::Sub];

/// Whether these columns need records to be opened.
pub(crate) fn look_inside(columns: &[Column]) -> bool {
    columns.iter().any(|column| !OUTSIDE.contains(column))
}

/// Adds the row of a record. False if it is not what it should be.
pub(crate) fn push_record(rows: &mut Rows, record: &Record, shard: &ShardId, content: Option<Content>, veil: &Veil) -> bool {
    let decoded = content.map_or(Decoded::Closed, |content| decoded(record, content));
    rows.push(|column| match column {
        Column::Arrived => Cell::time(record.arrived.and_then(nanoseconds)),
        Column::Shard => Cell::text(shard.as_str()),
        Column::Sequence => Cell::text(record.position.sequence.as_str()),
        Column::Sub => Cell::Int(i64::try_from(record.position.sub).unwrap_or(i64::MAX)),
        column => match &decoded {
            Decoded::Event(event) => event.cell(column, veil),
            Decoded::Violation(event, driver) => match column {
                Column::FirstName => Cell::text(veil.personal(&driver.first_name)),
                Column::LastName => Cell::text(veil.personal(&driver.last_name)),
                Column::Myphone => Cell::text(veil.personal(&driver.myphone)),
                column => event.cell(column, veil),
            },
            Decoded::RuleError(error) => match column {
                Column::Reason => Cell::text(&*error.reason),
                Column::PayloadBytes => Cell::Int(i64::try_from(error.payload.len()).unwrap_or(i64::MAX)),
                Column::Payload if veil.is_lifted() => Cell::text(String::from_utf8_lossy(&error.payload)),
                Column::Payload => Cell::text("…"),
                _ => Cell::Null,
            },
            Decoded::Problem(problem) if column == Column::Problem => Cell::text(&**problem),
            Decoded::Problem(_) | Decoded::Closed => Cell::Null,
        },
    });
    !matches!(decoded, Decoded::Problem(_))
}

/// Adds the row of a stored event, or of what stands in the place of one. The caller knows the columns that are not the event's.
pub(crate) fn push_event<'a>(
    rows: &mut Rows,
    event: &'a Result<Event<'_>, String>,
    veil: &Veil,
    mut own: impl FnMut(Column) -> Option<Cell<'a>>,
) {
    rows.push(|column| match (own(column), event) {
        (Some(cell), _) => cell,
        (None, Ok(event)) => event.cell(column, veil),
        (None, Err(problem)) if column == Column::Problem => Cell::text(&**problem),
        (None, Err(_)) => Cell::Null,
    });
}

/// A line of the archive, or why it is none.
pub(crate) fn line(data: &[u8]) -> Result<Event<'_>, String> {
    read_reading(data).map(Event::Read).map_err(|error| error.to_string())
}

fn decoded(record: &Record, content: Content) -> Decoded<'_> {
    match content {
        Content::Readings => match read_reading(&record.data) {
            Ok(reading) => Decoded::Event(Event::Read(reading)),
            Err(error) => Decoded::Problem(error.to_string()),
        },
        Content::Violations => match read_published(&record.data) {
            Ok(published) => Decoded::Violation(Event::Stored(published.event), published.driver),
            Err(error) => Decoded::Problem(error.to_string()),
        },
        Content::RuleErrors => Decoded::RuleError(read_rule_error(&record.data)),
    }
}

impl Event<'_> {
    /// The value of one of the event's own columns.
    pub(crate) fn cell<'a>(&'a self, column: Column, veil: &Veil) -> Cell<'a> {
        let nth = |n: usize| match self {
            Self::Read(reading) => &*reading.values[n],
            Self::Stored(event) => {
                [event.iottimestamp(), event.license_plate(), event.longitude(), event.latitude(), event.city(), event.state()][n]
            }
        };
        match column {
            Column::IottimestampText => Cell::text(nth(0)),
            Column::Iottimestamp => Cell::time(taken_at(nth(0)).and_then(nanoseconds)),
            Column::LicensePlate => Cell::Text(veil.plate(nth(1))),
            Column::PlateId => Cell::text(veil.plate_id(nth(1))),
            Column::Longitude => Cell::text(nth(2)),
            Column::Latitude => Cell::text(nth(3)),
            Column::City => Cell::text(nth(4)),
            Column::State => Cell::text(nth(5)),
            Column::Speed => Cell::Int(match self {
                Self::Read(reading) => reading.speed.mph().into(),
                Self::Stored(event) => event.speed().mph().into(),
            }),
            Column::EventId => match self {
                Self::Read(reading) => Cell::text(reading.event_id().as_str().to_owned()),
                Self::Stored(event) => Cell::text(event.event_id()),
            },
            _ => Cell::Null,
        }
    }
}

/// Nanoseconds since 1970; `None` for what lies beyond the years 1677 to 2262.
pub(crate) fn nanoseconds(time: SystemTime) -> Option<i64> {
    i64::try_from(jiff::Timestamp::try_from(time).ok()?.as_nanosecond()).ok()
}

/// The other way round.
pub(crate) fn system_time(nanoseconds: i64) -> SystemTime {
    jiff::Timestamp::from_nanosecond(nanoseconds.into()).map_or(SystemTime::UNIX_EPOCH, SystemTime::from)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array as _, AsArray as _, RecordBatch};
    use datafusion::arrow::datatypes::{Int64Type, TimestampNanosecondType};
    use speedtrap_actors::domain::{Position, SequenceNumber};

    use super::*;

    const READING: &str = r#"{"iottimestamp":"2020-07-01 12:00:00.123456","licensePlate":"4-2288B","longitude":"101.7","latitude":"79.6","city":"West Kristopher","state":"Iowa","speed":"80""#;

    fn batch(data: &str, content: Content, columns: &[Column], veil: &Veil) -> (RecordBatch, bool) {
        let sequence = SequenceNumber::parse("49600000000000000000000000000000000000000000000000000007").expect("digits");
        let arrived = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_500);
        let record =
            Record { position: Position { sequence, sub: 3 }, data: data.to_owned().into_bytes().into(), arrived: Some(arrived) };
        let mut rows = Rows::new(columns);
        let good = push_record(&mut rows, &record, &ShardId::new("shardId-1"), look_inside(columns).then_some(content), veil);
        (rows.finish(), good)
    }

    fn texts(batch: &RecordBatch) -> Vec<Option<String>> {
        let text = |column: &dyn datafusion::arrow::array::Array| {
            let column = column.as_string::<i32>();
            column.is_valid(0).then(|| column.value(0).to_owned())
        };
        batch.columns().iter().map(|column| text(column)).collect()
    }

    #[test]
    fn a_reading_has_typed_columns_and_a_masked_plate() {
        let (found, good) = batch(
            &format!("{READING}}}"),
            Content::Readings,
            &[Column::Speed, Column::Iottimestamp, Column::Arrived, Column::Sub],
            &Veil::default(),
        );
        assert!(good);
        let time = |n: usize| found.column(n).as_primitive::<TimestampNanosecondType>().value(0);
        let int = |n: usize| found.column(n).as_primitive::<Int64Type>().value(0);
        assert_eq!((int(0), time(1), time(2), int(3)), (80, 1_593_604_800_123_456_000, 1_500_000_000, 3));
        let columns = [Column::LicensePlate, Column::City, Column::IottimestampText, Column::Problem, Column::Shard];
        let (found, _) = batch(&format!("{READING}}}"), Content::Readings, &columns, &Veil::default());
        let some = |text: &str| Some(text.to_owned());
        let expected = [some("4-2…"), some("West Kristopher"), some("2020-07-01 12:00:00.123456"), None, some("shardId-1")];
        assert_eq!(texts(&found), expected);
    }

    #[test]
    fn a_record_that_is_no_reading_stays_a_row_that_says_why() {
        let (found, good) = batch(r#"{"speed":"75.9"}"#, Content::Readings, &[Column::City, Column::Problem], &Veil::default());
        assert!(!good);
        assert_eq!(texts(&found), [None, Some("member iottimestamp is missing".to_owned())]);
        let (found, good) = batch("nonsense", Content::Readings, &[], &Veil::default());
        assert!(good && found.num_rows() == 1, "a count opens no record");
    }

    #[test]
    fn a_driver_is_shown_to_nobody_who_gave_no_reason() {
        let violation = format!(r#"{READING},"eventId":"e-1","first_name":"Ada","last_name":"Example","myphone":"5155550100"}}"#);
        let columns = [Column::FirstName, Column::LastName, Column::Myphone, Column::LicensePlate, Column::EventId];
        let shown = |veil: &Veil| texts(&batch(&violation, Content::Violations, &columns, veil).0);
        assert_eq!(shown(&Veil::default()), ["…", "…", "…", "4-2…", "e-1"].map(|text| Some(text.to_owned())));
        let lifted = ["Ada", "Example", "5155550100", "4-2288B", "e-1"].map(|text| Some(text.to_owned()));
        assert_eq!(shown(&Veil::lifted()), lifted);
    }

    #[test]
    fn what_a_rule_could_not_deliver_is_masked_too() {
        let record = r#"{"ruleName":"r","base64OriginalPayload":"YWJj","failures":[{"failedAction":"a","errorMessage":"m"}]}"#;
        let columns = [Column::Payload, Column::Reason];
        let shown = |veil: &Veil| texts(&batch(record, Content::RuleErrors, &columns, veil).0);
        assert_eq!(shown(&Veil::default())[0].as_deref(), Some("…"));
        assert_eq!(shown(&Veil::lifted()), ["abc", "IoT rule r failed: a: m"].map(|text| Some(text.to_owned())));
    }
}
