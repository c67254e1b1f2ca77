//! The warehouse's table of drivers.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream;
use speedtrap_actors::adapters::DriverRows;
use speedtrap_node::{Access, Stop, warehouse_stop};

use crate::bounds::Span;
use crate::columns::{Cell, Column, Rows};
use crate::tables::{Part, Source};
use crate::veil::Veil;

/// The table.
pub(crate) struct Drivers {
    access: Arc<Access>,
    veil: Arc<Veil>,
}

impl Drivers {
    pub(crate) fn new(access: &Arc<Access>, veil: &Arc<Veil>) -> Self {
        Self { access: Arc::clone(access), veil: Arc::clone(veil) }
    }
}

#[async_trait]
impl Source for Drivers {
    async fn parts(&self, columns: &[Column], _span: Span) -> Result<Vec<Part>, Stop> {
        let (access, veil, columns) = (Arc::clone(&self.access), Arc::clone(&self.veil), columns.to_vec());
        let part: Part = Box::new(move || {
            let (access, veil, columns) = (Arc::clone(&access), Arc::clone(&veil), columns.clone());
            stream::try_unfold(None, move |open: Option<DriverRows>| {
                let (access, veil, columns) = (Arc::clone(&access), Arc::clone(&veil), columns.clone());
                async move {
                    let mut cursor = match open {
                        Some(cursor) => cursor,
                        None => access.driver_rows(&columns.iter().map(|column| kept_in(*column)).collect::<Vec<_>>()).await?,
                    };
                    let found = cursor.next().await.map_err(|failure| warehouse_stop(&failure))?;
                    if found.is_empty() {
                        return Ok(None);
                    }
                    let mut rows = Rows::new(&columns);
                    for row in &found {
                        push(&mut rows, &columns, row, &veil);
                    }
                    Ok(Some((rows.finish(), Some(cursor))))
                }
            })
            .boxed()
        });
        Ok(vec![part])
    }
}

fn push(rows: &mut Rows, columns: &[Column], row: &[Option<String>], veil: &Veil) {
    let mut texts = columns.iter().zip(row);
    rows.push(|_| match texts.next() {
        Some((column, Some(text))) => shown(*column, text, veil),
        _ => Cell::Null,
    });
}

/// Of a driver's row only the state is nobody's in particular.
fn shown<'a>(column: Column, text: &'a str, veil: &Veil) -> Cell<'a> {
    match column {
        Column::PlateId => Cell::text(veil.plate_id(text)),
        Column::LicensePlate => Cell::Text(veil.plate(text)),
        Column::State => Cell::text(text),
        _ => Cell::Text(veil.personal(text)),
    }
}

/// The warehouse's name of a column.
fn kept_in(column: Column) -> &'static str {
    match column {
        Column::PlateId | Column::LicensePlate => "licenseplate",
        Column::PhoneNumber => "phonenumber",
        column => column.name(),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::AsArray as _;

    use super::*;
    use crate::tables::TABLES;

    #[test]
    fn everything_of_a_driver_but_the_state_is_masked() {
        let columns = TABLES.iter().find(|table| table.name == "drivers").expect("it is a table").columns;
        let row: Vec<_> = columns.iter().map(|column| Some(format!("secret of {}", column.name()))).collect();
        let shown = |veil: &Veil| {
            let mut rows = Rows::new(columns);
            push(&mut rows, columns, &row, veil);
            let batch = rows.finish();
            batch.columns().iter().map(|column| column.as_string::<i32>().value(0).to_owned()).collect::<Vec<_>>()
        };
        for (column, text) in columns.iter().zip(shown(&Veil::default())) {
            assert_eq!(text.contains("secret of"), *column == Column::State, "{column:?}: {text}");
        }
        let bare = shown(&Veil::lifted());
        assert_eq!(bare.iter().filter(|text| text.starts_with("secret of")).count(), columns.len() - 1, "all but plate_id");
    }
}
