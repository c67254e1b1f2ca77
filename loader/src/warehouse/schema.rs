//! What the loader needs of the warehouse's tables, how that differs from what is there, and the DDL that would mend it (pure).

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::server::Server;
use crate::contract::{COLUMNS, Column, PLATE};

/// The table of drivers.
pub(super) const DRIVERS: &str = "rtr_iot_driver_data";

/// The table of loads.
pub(super) const LEDGER: &str = "rtr_iot_load_ledger";

const SCHEMA: &str = include_str!("../../../data/schema/warehouse.sql");

/// What to do where the table differs from the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnDrift {
    /// Load nothing, and say what differs.
    #[default]
    Freeze,
    /// Run the DDL of `plan`, then load.
    Add,
    /// Load only the columns that the table has; values that it cannot hold put their row aside.
    Discard,
}

/// A column as the warehouse's catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableColumn {
    pub(crate) name: String,
    pub(crate) data_type: String,
    /// Bytes on Redshift, characters on PostgreSQL; `None` where there is no limit.
    pub(crate) width: Option<u64>,
}

/// What the loader needs and what the warehouse has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SchemaPlan {
    pub(crate) warehouse: Server,
    pub(crate) differences: Vec<Difference>,
    #[serde(skip)]
    layout: Layout,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    pub(crate) kind: DifferenceKind,
    pub(crate) table: &'static str,
    pub(crate) column: Option<String>,
    /// What the loader needs.
    pub(crate) wanted: String,
    /// What is there.
    pub(crate) found: Option<String>,
    /// What would mend it; `None` where only a person can decide.
    pub(crate) ddl: Option<String>,
}

/// How the warehouse differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DifferenceKind {
    MissingTable,
    MissingColumn,
    TooNarrow,
    OtherType,
}

/// The columns of a load, as the table can take them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    columns: Vec<LoadedColumn>,
    left_out: Vec<String>,
}

/// One column of a load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoadedColumn {
    pub(crate) name: String,
    /// Its place in the contract.
    pub(crate) place: usize,
    /// Most bytes of a value.
    pub(crate) width: usize,
}

impl Layout {
    /// The columns, at least the plate.
    pub(crate) fn columns(&self) -> &[LoadedColumn] {
        &self.columns
    }

    /// All columns of the contract, as wide as it wants them.
    pub(super) fn wanted() -> Self {
        let column = |(place, column): (usize, &Column)| LoadedColumn {
            name: column.warehouse.to_owned(),
            place,
            width: column.max_bytes,
        };
        Self { columns: COLUMNS.iter().enumerate().map(column).collect(), left_out: Vec::new() }
    }

    #[cfg(test)]
    pub(super) fn of<const N: usize>(columns: [(&str, usize, usize); N]) -> Self {
        let columns = columns.map(|(name, place, width)| LoadedColumn { name: name.to_owned(), place, width }).into();
        Self { columns, left_out: Vec::new() }
    }
}

/// A column that the loader needs.
struct Wanted {
    name: String,
    /// `None` for the columns that the loader itself fills.
    place: Option<usize>,
    /// `None` for a point in time.
    width: Option<usize>,
}

impl Wanted {
    fn all() -> Vec<Self> {
        let contract = COLUMNS.iter().enumerate().map(|(place, column)| Self {
            name: column.warehouse.to_owned(),
            place: Some(place),
            width: Some(column.max_bytes),
        });
        let load_id = Self { name: "_load_id".to_owned(), place: None, width: Some(64) };
        let loaded_at = Self { name: "_loaded_at".to_owned(), place: None, width: None };
        contract.chain([load_id, loaded_at]).collect()
    }

    fn sql_type(&self) -> String {
        self.width.map_or_else(|| "TIMESTAMP".to_owned(), |width| format!("VARCHAR({width})"))
    }

    fn is_kind_of(&self, found: &TableColumn) -> bool {
        match self.width {
            Some(_) => matches!(found.data_type.as_str(), "character varying" | "text"),
            None => found.data_type.starts_with("timestamp"),
        }
    }
}

impl SchemaPlan {
    /// Compares what the loader needs with the columns of the two tables; an empty list is a table that does not exist.
    pub(crate) fn compare(server: Server, drivers: &[TableColumn], ledger: &[TableColumn]) -> Self {
        let mut plan = Self { warehouse: server, differences: Vec::new(), layout: Layout::default() };
        let wanted = Wanted::all();
        if drivers.is_empty() {
            plan.differences.push(missing_table(DRIVERS, create_drivers(server, &wanted)));
        }
        for wanted in &wanted {
            let found = drivers.iter().find(|column| column.name == wanted.name);
            if !drivers.is_empty() {
                plan.differences.extend(difference(wanted, found));
            }
            plan.lay_out(wanted, found);
        }
        if ledger.is_empty() {
            plan.differences.push(missing_table(LEDGER, create_ledger()));
        }
        plan
    }

    /// What a warehouse has that needs nothing.
    #[cfg(test)]
    pub(crate) fn fitting() -> Self {
        let server = Server::Postgresql { major: 15 };
        Self::compare(server, &tests::fitting(), &tests::fitting())
    }

    fn lay_out(&mut self, wanted: &Wanted, found: Option<&TableColumn>) {
        let (Some(place), Some(width)) = (wanted.place, wanted.width) else { return };
        let name = wanted.name.clone();
        match found {
            Some(found) if wanted.is_kind_of(found) => {
                let width = found.width.and_then(|found| usize::try_from(found).ok()).map_or(width, |found| found.min(width));
                self.layout.columns.push(LoadedColumn { name, place, width });
            }
            _ => self.layout.left_out.push(name),
        }
    }

    /// The statements that would make the warehouse fit, in order.
    pub(crate) fn ddl(&self) -> impl Iterator<Item = &str> {
        self.differences.iter().filter_map(|difference| difference.ddl.as_deref())
    }

    /// Whether the DDL mends all.
    pub(crate) fn can_be_mended(&self) -> bool {
        self.differences.iter().all(|difference| difference.ddl.is_some())
    }

    /// The columns to load, if the warehouse may be as it is.
    pub(crate) fn layout(&self, on_drift: OnDrift) -> Option<&Layout> {
        let fits = self.differences.is_empty() || on_drift == OnDrift::Discard && self.can_be_discarded();
        fits.then_some(&self.layout)
    }

    /// Without its tables, the plate, and the columns by which a load is found again, nothing can be loaded.
    fn can_be_discarded(&self) -> bool {
        let plate = COLUMNS[PLATE].warehouse;
        self.differences.iter().all(|difference| match &difference.column {
            Some(column) => difference.kind == DifferenceKind::TooNarrow || !column.starts_with('_') && column != plate,
            None => false,
        })
    }

    /// Columns of the contract that the table cannot take.
    pub(crate) fn left_out(&self) -> &[String] {
        &self.layout.left_out
    }

    /// The plan in words.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("warehouse: {}\n", self.warehouse.name());
        if self.differences.is_empty() {
            text.push_str("its tables fit the contract: nothing to do");
            return text;
        }
        for Difference { kind, table, column, wanted, found, .. } in &self.differences {
            let name = column.as_ref().map_or_else(|| format!("public.{table}"), |column| format!("public.{table}.{column}"));
            let found = found.as_deref().unwrap_or("nothing");
            let what = match kind {
                DifferenceKind::MissingTable => "a table is missing".to_owned(),
                DifferenceKind::MissingColumn => format!("the column is missing, it should be {wanted}"),
                DifferenceKind::TooNarrow => format!("the column is {found}, too narrow for {wanted}"),
                DifferenceKind::OtherType => format!("the column is {found}, it should be {wanted}; no DDL is proposed for that"),
            };
            let _infallible = writeln!(text, "{name}: {what}");
        }
        text.push_str("DDL that `load --on-drift add` would run:");
        for ddl in self.ddl() {
            let _infallible = write!(text, "\n{ddl};");
        }
        text
    }
}

fn difference(wanted: &Wanted, found: Option<&TableColumn>) -> Option<Difference> {
    let (sql_type, column) = (wanted.sql_type(), Some(wanted.name.clone()));
    let Some(found) = found else {
        let ddl = Some(format!("ALTER TABLE public.{DRIVERS} ADD COLUMN {} {sql_type}", wanted.name));
        return Some(Difference {
            kind: DifferenceKind::MissingColumn,
            table: DRIVERS,
            column,
            wanted: sql_type,
            found: None,
            ddl,
        });
    };
    let described = match found.width {
        Some(width) => format!("{}({width})", found.data_type),
        None => found.data_type.clone(),
    };
    let narrower = wanted.width.zip(found.width).is_some_and(|(wanted, found)| found < wanted as u64);
    let (kind, ddl) = if !wanted.is_kind_of(found) {
        (DifferenceKind::OtherType, None)
    } else if narrower {
        let ddl = format!("ALTER TABLE public.{DRIVERS} ALTER COLUMN {} TYPE {sql_type}", wanted.name);
        (DifferenceKind::TooNarrow, Some(ddl))
    } else {
        return None;
    };
    Some(Difference { kind, table: DRIVERS, column, wanted: sql_type, found: Some(described), ddl })
}

fn missing_table(table: &'static str, ddl: String) -> Difference {
    let wanted = "a table".to_owned();
    Difference { kind: DifferenceKind::MissingTable, table, column: None, wanted, found: None, ddl: Some(ddl) }
}

/// Redshift keeps rows of one plate on one node then, where MERGE finds them without moving the table.
fn create_drivers(server: Server, wanted: &[Wanted]) -> String {
    let plate = COLUMNS[PLATE].warehouse;
    let columns: Vec<String> = wanted
        .iter()
        .map(|column| {
            let not_null = if column.name == plate { " NOT NULL" } else { "" };
            format!("    {} {}{not_null}", column.name, column.sql_type())
        })
        .collect();
    let distribution = if server == Server::Redshift { format!(" DISTSTYLE KEY DISTKEY ({plate})") } else { String::new() };
    format!("CREATE TABLE IF NOT EXISTS public.{DRIVERS} (\n{}\n){distribution}", columns.join(",\n"))
}

fn create_ledger() -> String {
    let without_comments: Vec<&str> = SCHEMA.lines().map(|line| line.split("--").next().unwrap_or_default().trim_end()).collect();
    let without_comments = without_comments.join("\n");
    let statement = without_comments.split(';').find(|statement| statement.contains(LEDGER)).expect("the schema has a ledger");
    statement.trim().to_owned()
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
