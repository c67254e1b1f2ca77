//! Staging on PostgreSQL: the rows pass through the loader into COPY … FROM STDIN.

use bytes::{Bytes, BytesMut};
use futures::SinkExt as _;
use tokio::sync::mpsc;

use super::refused::RefusedRow;
use super::schema::Layout;
use super::session::{Session, answered, sql_error};
use super::sql;
use crate::csv_rows::DriverRow;
use crate::ports::PortError;

/// Copies rows into the stage until the channel closes; gives back those that the table cannot hold. PostgreSQL would end the
/// whole COPY at the first of them, so they are taken out here.
pub(super) async fn stage(
    session: &Session<'_>,
    layout: &Layout,
    load_id: &str,
    mut rows: mpsc::Receiver<Vec<DriverRow>>,
) -> Result<Vec<RefusedRow>, PortError> {
    session.run(&sql::for_columns(sql::CREATE_STAGE, layout)).await?;
    let copy = sql::for_columns(sql::POSTGRESQL_COPY, layout);
    let sink = answered(session.timeout, session.transaction.copy_in::<_, Bytes>(copy.trim())).await?;
    let mut sink = std::pin::pin!(sink);
    let mut refused = Vec::new();
    let mut data = BytesMut::new();
    while let Some(chunk) = rows.recv().await {
        for row in chunk {
            match too_wide(layout, &row) {
                Some((column, detail)) => refused.push(RefusedRow { row, column: Some(column), detail }),
                None => append(&mut data, layout, load_id, &row),
            }
        }
        answered(session.timeout, sink.send(data.split().freeze())).await?;
    }
    sink.finish().await.map_err(|error| sql_error(&error))?;
    Ok(refused)
}

fn too_wide(layout: &Layout, row: &DriverRow) -> Option<(String, String)> {
    let column = layout.columns().iter().find(|column| row.values[column.place].len() > column.width)?;
    let length = row.values[column.place].len();
    Some((column.name.clone(), format!("{length} bytes, the warehouse's column takes {}", column.width)))
}

/// One line in the text format of COPY (<https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2>).
fn append(data: &mut BytesMut, layout: &Layout, load_id: &str, row: &DriverRow) {
    for column in layout.columns() {
        for byte in row.values[column.place].bytes() {
            match byte {
                b'\\' => data.extend_from_slice(b"\\\\"),
                b'\t' => data.extend_from_slice(b"\\t"),
                b'\n' => data.extend_from_slice(b"\\n"),
                b'\r' => data.extend_from_slice(b"\\r"),
                _ => data.extend_from_slice(&[byte]),
            }
        }
        data.extend_from_slice(b"\t");
    }
    data.extend_from_slice(format!("{load_id}\t{}\n", row.line).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_look_like_copys_own_marks_are_escaped() {
        let layout = Layout::of([("licenseplate", 2, 64), ("city", 5, 8)]);
        let mut row = DriverRow { line: 7, values: Default::default() };
        row.values[2] = "A\tB\\N".to_owned();
        row.values[5] = "\\.\r\n".to_owned();
        let mut data = BytesMut::new();
        append(&mut data, &layout, "l1", &row);
        assert_eq!(data, "A\\tB\\\\N\t\\\\.\\r\\n\tl1\t7\n");
        assert_eq!(too_wide(&layout, &row), None);
        row.values[5] = "Peñas—Sur".to_owned();
        assert_eq!(too_wide(&layout, &row).unwrap().1, "12 bytes, the warehouse's column takes 8");
    }
}
