//! What a drivers file must look like (pure): its columns, and how many bytes each may have.

/// Part of every load id: a file read under other rules is another load.
pub(crate) const VERSION: &str = "drivers-1";

/// Place of the licence plate in [`COLUMNS`].
pub(crate) const PLATE: usize = 2;

/// One column of a drivers file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its name in the header, exactly.
    pub(crate) name: &'static str,
    /// The longest value in bytes. Redshift counts bytes in `VARCHAR(n)` where PostgreSQL counts characters, so the loader counts.
    pub(crate) max_bytes: usize,
}

const fn column(name: &'static str, max_bytes: usize) -> Column {
    Column { name, max_bytes }
}

/// The columns in the order of the header. Their names in the warehouse are the same in lower case.
pub(crate) const COLUMNS: [Column; 10] = [
    column("first_name", 256),
    column("last_name", 256),
    column("licensePlate", 64),
    column("email", 320),
    column("address", 512),
    column("city", 256),
    column("state", 256),
    column("zipcode", 16),
    column("phoneNumber", 64),
    column("myphone", 64),
];

/// The header as one line, for messages.
pub(crate) fn header() -> String {
    COLUMNS.map(|column| column.name).join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_warehouse_schema() {
        let schema = include_str!("../../data/schema/warehouse.sql");
        for column in COLUMNS {
            let name = column.name.to_lowercase();
            let line =
                schema.lines().find(|line| line.trim_start().starts_with(&format!("{name} "))).expect("a column of the table");
            assert!(line.contains(&format!("VARCHAR({})", column.max_bytes)), "{line}");
        }
    }

    #[test]
    fn the_header_is_the_contract_of_drivers_files() {
        assert_eq!(header(), "first_name,last_name,licensePlate,email,address,city,state,zipcode,phoneNumber,myphone");
        assert_eq!(COLUMNS[PLATE].name, "licensePlate");
    }
}
