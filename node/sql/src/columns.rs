//! The columns of all tables, and batches of rows made of those that a statement asks for.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Int64Builder, RecordBatch, RecordBatchOptions, StringBuilder, TimestampNanosecondBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Arrived,
    Shard,
    Sequence,
    Sub,
    EventId,
    PlateId,
    LicensePlate,
    Iottimestamp,
    IottimestampText,
    Longitude,
    Latitude,
    City,
    State,
    Speed,
    FirstName,
    LastName,
    Myphone,
    Email,
    Address,
    Zipcode,
    PhoneNumber,
    Problem,
    Reason,
    Payload,
    PayloadBytes,
    Object,
    Line,
    Written,
}

/// One value. Texts are borrowed from the record that they stand in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell<'a> {
    Null,
    Text(Cow<'a, str>),
    Int(i64),
    /// Nanoseconds since 1970, in UTC.
    Time(i64),
}

/// Rows on their way into a batch.
pub(crate) struct Rows {
    schema: SchemaRef,
    columns: Vec<Column>,
    builders: Vec<Builder>,
    n_rows: usize,
}

enum Builder {
    Text(StringBuilder),
    Int(Int64Builder),
    Time(TimestampNanosecondBuilder),
}

impl Column {
    /// Its name, and what it holds.
    pub(crate) const fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::Arrived => ("arrived", "when the stream accepted the record, UTC"),
            Self::Shard => ("shard", "the shard that it is on"),
            Self::Sequence => ("sequence", "its sequence number"),
            Self::Sub => ("sub", "its place in a record that the producer library aggregated, else 0"),
            Self::EventId => ("event_id", "the event's id: given by the device, or derived from the reading"),
            Self::PlateId => ("plate_id", "stands for the plate, alike in all tables of one run: to count, group and join"),
            Self::LicensePlate => ("license_plate", "the plate as received; masked"),
            Self::Iottimestamp => {
                ("iottimestamp", "when the reading was taken by the device's clock, UTC; null if it is no time")
            }
            Self::IottimestampText => ("iottimestamp_text", "the same as received"),
            Self::Longitude => ("longitude", "as received"),
            Self::Latitude => ("latitude", "as received"),
            Self::City => ("city", "as received; masked in drivers"),
            Self::State => ("state", "as received"),
            Self::Speed => ("speed", "in miles an hour"),
            Self::FirstName => ("first_name", "of the driver; masked"),
            Self::LastName => ("last_name", "of the driver; masked"),
            Self::Myphone => ("myphone", "the number that is texted; masked"),
            Self::Email => ("email", "masked"),
            Self::Address => ("address", "masked"),
            Self::Zipcode => ("zipcode", "masked"),
            Self::PhoneNumber => ("phone_number", "masked"),
            Self::Problem => ("problem", "why it is none; null if it is one"),
            Self::Reason => ("reason", "why the IoT rule could not deliver the message"),
            Self::Payload => ("payload", "the message; masked"),
            Self::PayloadBytes => ("payload_bytes", "its length"),
            Self::Object => ("object", "the object's key"),
            Self::Line => ("line", "the line in it, from 1"),
            Self::Written => ("written", "when the object was written, UTC"),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        self.described().0
    }

    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::Arrived | Self::Iottimestamp | Self::Written => DataType::Timestamp(TimeUnit::Nanosecond, None),
            Self::Sub | Self::Speed | Self::Line | Self::PayloadBytes => DataType::Int64,
            _ => DataType::Utf8,
        }
    }
}

/// The schema of these columns.
pub(crate) fn schema(columns: &[Column]) -> SchemaRef {
    let field = |column: &Column| Field::new(column.name(), column.data_type(), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

impl Rows {
    /// No rows of these columns.
    pub(crate) fn new(columns: &[Column]) -> Self {
        let builder = |column: &Column| match column.data_type() {
            DataType::Int64 => Builder::Int(Int64Builder::new()),
            DataType::Timestamp(..) => Builder::Time(TimestampNanosecondBuilder::new()),
            _ => Builder::Text(StringBuilder::new()),
        };
        Self { schema: schema(columns), builders: columns.iter().map(builder).collect(), columns: columns.to_vec(), n_rows: 0 }
    }

    /// Adds a row.
    pub(crate) fn push<'a>(&mut self, mut cell: impl FnMut(Column) -> Cell<'a>) {
        for (column, builder) in self.columns.iter().zip(&mut self.builders) {
            match (builder, cell(*column)) {
                (Builder::Text(builder), Cell::Text(text)) => builder.append_value(text),
                (Builder::Int(builder), Cell::Int(number)) => builder.append_value(number),
                (Builder::Time(builder), Cell::Time(time)) => builder.append_value(time),
                // A table that gives a column another type than its own is caught by the tests of the tables.
                (Builder::Text(builder), _) => builder.append_null(),
                (Builder::Int(builder), _) => builder.append_null(),
                (Builder::Time(builder), _) => builder.append_null(),
            }
        }
        self.n_rows += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.n_rows
    }

    /// The rows.
    pub(crate) fn finish(mut self) -> RecordBatch {
        let arrays = self.builders.iter_mut().map(|builder| match builder {
            Builder::Text(builder) => Arc::new(builder.finish()) as ArrayRef,
            Builder::Int(builder) => Arc::new(builder.finish()),
            Builder::Time(builder) => Arc::new(builder.finish()),
        });
        // A count of all rows asks for no column.
        let options = RecordBatchOptions::new().with_row_count(Some(self.n_rows));
        RecordBatch::try_new_with_options(self.schema, arrays.collect(), &options).expect("the builders are the schema's")
    }
}

impl<'a> Cell<'a> {
    /// A text of one's own or a borrowed one.
    pub(crate) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    /// A time that may be missing.
    pub(crate) fn time(time: Option<i64>) -> Self {
        time.map_or(Self::Null, Self::Time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_columns_still_counts() {
        let mut rows = Rows::new(&[]);
        rows.push(|_| Cell::Null);
        rows.push(|_| Cell::Null);
        let batch = rows.finish();
        assert_eq!((batch.num_rows(), batch.num_columns()), (2, 0));
    }

    #[test]
    fn a_batch_holds_what_was_asked_for_in_its_order() {
        let mut rows = Rows::new(&[Column::Speed, Column::City]);
        rows.push(|column| if column == Column::Speed { Cell::Int(80) } else { Cell::text("Ames") });
        rows.push(|_| Cell::Null);
        let batch = rows.finish();
        assert_eq!(batch.schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["speed", "city"]);
        assert_eq!((batch.column(0).null_count(), batch.column(1).null_count()), (1, 1));
    }
}
