//! The engine that runs statements: Apache DataFusion, with a bound on its memory and without a way to write anything.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray as _, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::{SQLOptions, SessionContext};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{ColumnarValue, LogicalPlan, Volatility, create_udf};
use datafusion::prelude::SessionConfig;
use speedtrap_node::{Exit, Stop};

use crate::feed::BATCH_ROWS;
use crate::tables::{Described, Source, Table};
use crate::veil::Veil;

const CANNOT_RUN: &str = "the statement cannot be run";
const LOOK_UP: &str = "`speedtrap-sql --tables` lists tables and columns";

/// Where statements run.
pub(crate) struct Engine {
    context: SessionContext,
    memory: String,
}

impl Engine {
    /// An engine with these tables, whose operators may keep so many bytes.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub(crate) fn new(
        memory_bytes: usize,
        veil: &Arc<Veil>,
        tables: impl IntoIterator<Item = (&'static Described, Arc<dyn Source>)>,
    ) -> Result<Self, Stop> {
        let memory = speedtrap_node::ByteSize(memory_bytes as u64).to_string();
        // Nothing is spilled: rows may hold personal data, which belongs in no temporary file.
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes)))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc()
            .map_err(|error| stop(&error, &memory))?;
        let config = SessionConfig::new().with_batch_size(BATCH_ROWS).with_information_schema(true);
        let context = SessionContext::new_with_config_rt(config, runtime);
        for (described, source) in tables {
            let table = Arc::new(Table::new(described, source));
            context.register_table(described.name, table).map_err(|error| stop(&error, &memory))?;
        }
        let veil = Arc::clone(veil);
        let plate_id = move |arguments: &[ColumnarValue]| {
            let arrays = ColumnarValue::values_to_arrays(arguments)?;
            let plates = arrays[0].as_string::<i32>().iter();
            let ids: StringArray = plates.map(|plate| plate.map(|plate| veil.plate_id(plate))).collect();
            Ok(ColumnarValue::Array(Arc::new(ids) as ArrayRef))
        };
        let text = DataType::Utf8;
        context.register_udf(create_udf("plate_id", vec![text.clone()], text, Volatility::Stable, Arc::new(plate_id)));
        Ok(Self { context, memory })
    }

    /// Makes a plan of a statement that reads.
    ///
    /// # Errors
    /// When the statement cannot be understood, or does anything but read.
    pub(crate) async fn plan(&self, statement: &str) -> Result<LogicalPlan, Stop> {
        let plan = self.context.state().create_logical_plan(statement).await;
        let plan = plan.map_err(|error| stop(&error, &self.memory))?;
        let reads_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reads_only.verify_plan(&plan).map_err(|error| {
            Stop::new(Exit::Usage, "only statements that read are run")
                .why(error.strip_backtrace())
                .next("write SELECT, EXPLAIN, DESCRIBE or SHOW TABLES")
        })?;
        Ok(plan)
    }

    /// Runs a plan; rows come as they are found.
    ///
    /// # Errors
    /// When a table cannot be reached.
    pub(crate) async fn run(&self, plan: &LogicalPlan) -> Result<SendableRecordBatchStream, Stop> {
        // What fails before there are rows is the statement's own fault, unless a table cannot be reached.
        let before_rows = |error| match self.stop(&error) {
            stop if stop.exit == Exit::Failed && stop.next.is_none() => {
                Stop { exit: Exit::Usage, what: CANNOT_RUN.to_owned(), ..stop }.next(LOOK_UP)
            }
            stop => stop,
        };
        let frame = self.context.execute_logical_plan(plan.clone()).await.map_err(before_rows)?;
        frame.execute_stream().await.map_err(before_rows)
    }

    /// What an error means to whoever wrote the statement.
    pub(crate) fn stop(&self, error: &DataFusionError) -> Stop {
        stop(error, &self.memory)
    }
}

/// The tables that a plan reads, as often as it does.
///
/// # Errors
/// Never: nothing in it fails.
pub(crate) fn tables_of(plan: &LogicalPlan) -> Vec<String> {
    let mut names = Vec::new();
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            names.push(scan.table_name.table().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "nothing in it fails");
    names
}

fn stop(error: &DataFusionError, memory: &str) -> Stop {
    let root = error.find_root();
    let why = root.strip_backtrace();
    match root {
        DataFusionError::External(ours) => match ours.downcast_ref::<Stop>() {
            Some(stop) => stop.clone(),
            None => Stop::new(Exit::Failed, "the statement failed").why(why),
        },
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Diagnostic(..)
        | DataFusionError::Collection(_) => Stop::new(Exit::Usage, CANNOT_RUN).why(why).next(LOOK_UP),
        DataFusionError::ResourcesExhausted(_) => {
            Stop::new(Exit::Failed, format!("the statement needs more memory than {memory}"))
                .why(why)
                .next("limit `arrived`, group or sort by less, or allow more with --memory; nothing is spilled to disk")
        }
        _ => Stop::new(Exit::Failed, "the statement failed").why(why),
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use datafusion::arrow::array::RecordBatch;
    use futures::{StreamExt as _, TryStreamExt as _, stream};

    use super::*;
    use crate::bounds::Span;
    use crate::columns::{Cell, Column, Rows};
    use crate::tables::{Part, TABLES};

    /// A million plates, a batch at a time.
    struct Plates(std::sync::Mutex<Vec<Span>>);

    #[async_trait]
    impl Source for Plates {
        async fn parts(&self, columns: &[Column], span: Span) -> Result<Vec<Part>, Stop> {
            self.0.lock().expect("no test panics with it").push(span);
            let columns = columns.to_vec();
            Ok(vec![Box::new(move || {
                let columns = columns.clone();
                let batch = move |n: i64| {
                    let mut rows = Rows::new(&columns);
                    for plate in n * 8_000..(n + 1) * 8_000 {
                        rows.push(|column| match column {
                            Column::Speed => Cell::Int(plate % 100),
                            Column::Arrived => Cell::Time(plate),
                            _ => Cell::text(format!("plate {plate} with a name that takes some memory")),
                        });
                    }
                    Ok(rows.finish())
                };
                stream::iter(0..25).map(batch).boxed()
            })])
        }
    }

    fn engine(memory: usize) -> (Engine, Arc<Plates>) {
        let plates = Arc::new(Plates(std::sync::Mutex::default()));
        let tables = TABLES.iter().map(|described| (described, Arc::clone(&plates) as Arc<dyn Source>));
        (Engine::new(memory, &Arc::default(), tables).expect("an engine"), plates)
    }

    async fn run(engine: &Engine, statement: &str) -> Result<Vec<RecordBatch>, Stop> {
        let stream = engine.run(&engine.plan(statement).await?).await?;
        stream.try_collect().await.map_err(|error| engine.stop(&error))
    }

    #[tokio::test]
    async fn what_does_not_read_is_refused_before_anything_is_touched() {
        let (engine, plates) = engine(64 << 20);
        for statement in [
            "INSERT INTO readings (city) VALUES ('x')",
            "DELETE FROM readings",
            "UPDATE readings SET city = 'x'",
            "CREATE TABLE t AS SELECT * FROM readings",
            "CREATE VIEW v AS SELECT 1",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "DROP TABLE readings",
            "COPY readings TO '/tmp/x.csv'",
            "SET datafusion.execution.batch_size = 1",
            "EXPLAIN INSERT INTO readings (city) VALUES ('x')",
            "SELECT * FROM '/etc/passwd'",
            "SELECT 1; SELECT 2",
            "SELECT nothing FROM readings",
            "SELECT FROM WHERE",
            "",
        ] {
            let stop = engine.plan(statement).await.expect_err(statement);
            assert_eq!(stop.exit, Exit::Usage, "{statement}: {stop}");
            assert!(stop.why.is_some() && stop.next.is_some(), "{statement}: {stop}");
        }
        assert!(plates.0.lock().expect("no test panics with it").is_empty());
    }

    #[tokio::test]
    async fn limits_of_a_statement_reach_its_table() {
        let (engine, plates) = engine(64 << 20);
        let before = jiff::Timestamp::now().as_nanosecond();
        let statement =
            "SELECT city, count(*) FROM readings WHERE arrived > now() - interval '15 minutes' AND speed > 75 GROUP BY city";
        run(&engine, statement).await.expect("it runs");
        run(&engine, "SELECT count(*) FROM readings WHERE arrived BETWEEN '2026-01-01' AND '2026-01-02T03:00:00Z'")
            .await
            .expect("it runs");
        run(&engine, "SELECT max(speed) FROM archive WHERE written >= timestamp '2026-01-01 00:00:00'").await.expect("it runs");
        run(&engine, "SELECT max(speed) FROM readings").await.expect("it runs");
        let spans = plates.0.lock().expect("no test panics with it").clone();
        let from = i128::from(spans[0].from.expect("limited"));
        let quarter = 900_000_000_000;
        assert!((before - quarter..=before - quarter + 60_000_000_000).contains(&from), "{from}");
        let day =
            |text: &str| Some(i64::try_from(text.parse::<jiff::Timestamp>().expect("a time").as_nanosecond()).expect("fits"));
        assert_eq!(spans[1], Span { from: day("2026-01-01T00:00:00Z"), to: day("2026-01-02T03:00:00Z") });
        assert_eq!(spans[2], Span { from: day("2026-01-01T00:00:00Z"), to: None });
        assert_eq!(spans[3], Span::default());
    }

    #[tokio::test]
    async fn memory_has_a_bound_that_is_told_with_what_to_do() {
        let (engine, _) = engine(4 << 20);
        let stop = run(&engine, "SELECT license_plate, count(*) FROM readings GROUP BY license_plate").await;
        let stop = stop.expect_err("200,000 groups do not fit");
        assert_eq!(stop.exit, Exit::Failed);
        assert!(stop.what.contains("4.0 MiB") && stop.next.is_some_and(|next| next.contains("--memory")), "{}", stop.what);
        let batches = run(&engine, "SELECT speed, count(*) FROM readings GROUP BY speed").await.expect("100 groups fit");
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 100);
    }

    #[tokio::test]
    async fn tables_are_found_wherever_a_statement_names_them() {
        let (engine, _) = engine(64 << 20);
        let statement = "SELECT (SELECT max(speed) FROM readings), v.city FROM violations v JOIN drivers d ON v.plate_id = d.plate_id \
                         WHERE v.event_id IN (SELECT event_id FROM archive)";
        let mut tables = tables_of(&engine.plan(statement).await.expect("a plan"));
        tables.sort();
        assert_eq!(tables, ["archive", "drivers", "readings", "violations"]);
        assert!(engine.plan("SHOW TABLES").await.is_ok() && engine.plan("DESCRIBE drivers").await.is_ok());
        assert!(engine.plan("EXPLAIN SELECT 1").await.is_ok());
    }

    #[tokio::test]
    async fn a_value_that_is_none_is_the_statements_fault_before_there_are_rows() {
        let (engine, _) = engine(64 << 20);
        for (statement, exit) in [
            ("SELECT 1 FROM readings WHERE arrived > 'yesterday'", Exit::Usage),
            ("SELECT speed / (speed - speed) FROM readings", Exit::Failed),
        ] {
            let stop = run(&engine, statement).await.expect_err(statement);
            assert_eq!(stop.exit, exit, "{statement}: {stop}");
        }
    }

    #[tokio::test]
    async fn a_known_plate_is_found_by_its_stand_in() {
        let (engine, _) = engine(64 << 20);
        let batches = run(&engine, "SELECT plate_id(' ab-1') = plate_id('AB-1'), plate_id('AB-1') = plate_id('AB-2')").await;
        let batches = batches.expect("it runs");
        let truth = |n: usize| batches[0].column(n).as_boolean().value(0);
        assert_eq!((truth(0), truth(1)), (true, false));
    }
}
