//! The tables that a statement may name, and their way into the engine.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use speedtrap_node::Stop;

use crate::bounds::{Span, span_of};
use crate::columns::{Column, schema};

/// A table as users know it.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) columns: &'static [Column],
    /// Whether it is a stream, whose rows come in windows.
    pub(crate) is_stream: bool,
}

use Column as C;

/// All of them.
pub(crate) const TABLES: [Described; 6] = [
    Described {
        name: "readings",
        what: "the in-stream: every reading that came",
        columns: &[
            C::Arrived,
            C::Shard,
            C::Sequence,
            C::Sub,
            C::EventId,
            C::PlateId,
            C::LicensePlate,
            C::Iottimestamp,
            C::IottimestampText,
            C::Longitude,
            C::Latitude,
            C::City,
            C::State,
            C::Speed,
            C::Problem,
        ],
        is_stream: true,
    },
    Described {
        name: "violations",
        what: "the out-stream: readings above the limit, with their drivers; may repeat, count distinct event_id",
        columns: &[
            C::Arrived,
            C::Shard,
            C::Sequence,
            C::Sub,
            C::EventId,
            C::PlateId,
            C::LicensePlate,
            C::Iottimestamp,
            C::IottimestampText,
            C::Longitude,
            C::Latitude,
            C::City,
            C::State,
            C::Speed,
            C::FirstName,
            C::LastName,
            C::Myphone,
            C::Problem,
        ],
        is_stream: true,
    },
    Described {
        name: "errors",
        what: "the error stream: what the IoT rule could not deliver",
        columns: &[C::Arrived, C::Shard, C::Sequence, C::Sub, C::Reason, C::PayloadBytes, C::Payload],
        is_stream: true,
    },
    Described {
        name: "speeding",
        what: "the DynamoDB table of violations, read whole by one scan",
        columns: &[
            C::EventId,
            C::PlateId,
            C::LicensePlate,
            C::Iottimestamp,
            C::IottimestampText,
            C::Longitude,
            C::Latitude,
            C::City,
            C::State,
            C::Speed,
            C::Problem,
        ],
        is_stream: false,
    },
    Described {
        name: "archive",
        what: "the archive's lines in S3; may repeat, count distinct event_id",
        columns: &[
            C::Object,
            C::Line,
            C::Written,
            C::EventId,
            C::PlateId,
            C::LicensePlate,
            C::Iottimestamp,
            C::IottimestampText,
            C::Longitude,
            C::Latitude,
            C::City,
            C::State,
            C::Speed,
            C::Problem,
        ],
        is_stream: false,
    },
    Described {
        name: "drivers",
        what: "the warehouse's table of registered drivers",
        columns: &[
            C::PlateId,
            C::LicensePlate,
            C::FirstName,
            C::LastName,
            C::Email,
            C::Address,
            C::City,
            C::State,
            C::Zipcode,
            C::PhoneNumber,
            C::Myphone,
        ],
        is_stream: false,
    },
];

/// Where a table's rows come from.
#[async_trait]
pub(crate) trait Source: Send + Sync {
    /// Ways to its rows, to be gone at the same time. A span limits the table's column of time; more than it may be given.
    async fn parts(&self, columns: &[Column], span: Span) -> Result<Vec<Part>, Stop>;
}

/// One way to some of the rows. It is gone once.
pub(crate) type Part = Box<dyn Fn() -> BoxStream<'static, Result<RecordBatch, Stop>> + Send + Sync>;

/// A table as the engine knows it.
pub(crate) struct Table {
    described: &'static Described,
    schema: SchemaRef,
    source: Arc<dyn Source>,
}

/// A part as the engine knows it.
struct Partition {
    schema: SchemaRef,
    part: Part,
}

impl Described {
    /// The column whose limits spare reading.
    fn time_column(&self) -> Option<Column> {
        self.columns.iter().copied().find(|column| matches!(column, C::Arrived | C::Written))
    }
}

impl Table {
    pub(crate) fn new(described: &'static Described, source: Arc<dyn Source>) -> Self {
        Self { described, schema: schema(described.columns), source }
    }

    fn span(&self, conditions: &[Expr]) -> Span {
        let column = self.described.time_column();
        column.map(|column| Span::of_all(conditions, column.name())).unwrap_or_default()
    }
}

#[async_trait]
impl TableProvider for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, conditions: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let limits =
            |condition: &&Expr| self.described.time_column().is_some_and(|column| span_of(condition, column.name()).is_some());
        let answer = |condition| match limits(condition) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(conditions.iter().map(answer).collect())
    }

    async fn scan(
        &self,
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        conditions: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = self.described.columns;
        let columns = projection.map_or_else(|| all.to_vec(), |wanted| wanted.iter().map(|n| all[*n]).collect());
        let parts = self.source.parts(&columns, self.span(conditions)).await.map_err(external)?;
        let schema = schema(&columns);
        if parts.is_empty() {
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let partition = |part| Arc::new(Partition { schema: Arc::clone(&schema), part }) as Arc<dyn PartitionStream>;
        let partitions = parts.into_iter().map(partition).collect();
        Ok(Arc::new(StreamingTableExec::try_new(Arc::clone(&schema), partitions, None, None, false, limit)?))
    }
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), (self.part)().map_err(external)))
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Table").field(&self.described.name).finish()
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Partition").field(&self.schema).finish()
    }
}

fn external(stop: Stop) -> DataFusionError {
    DataFusionError::External(Box::new(stop))
}
