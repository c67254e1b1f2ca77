//! The contract of [`NodeTable`].

use std::sync::Arc;

use crate::ports::{NodeRow, NodeTable, NodeTableError};

/// Runs against a table that is empty.
///
/// # Panics
/// When the contract is broken.
pub async fn node_table_contract(table: Arc<dyn NodeTable>) {
    let listed = async || {
        let mut rows = table.list().await.expect("the table can be read");
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    };
    let superseded = || Err(NodeTableError::Superseded("node-1".to_owned()));
    assert_eq!(listed().await, []);
    let bare = NodeRow {
        name: "node-1".into(),
        boot: 1_000,
        address: None,
        dashboard: None,
        roles: Vec::new(),
        heartbeat: 0,
        draining: false,
    };
    assert_eq!(table.beat(&bare).await, superseded(), "a row that is not there is not beaten");
    assert_eq!(table.register(&bare).await, Ok(()));
    assert_eq!(listed().await, std::slice::from_ref(&bare));
    let full = NodeRow {
        address: Some("127.0.0.1:7301".into()),
        dashboard: Some("http://127.0.0.1:7300".into()),
        roles: vec!["enrich".into(), "notify".into()],
        heartbeat: 7,
        draining: true,
        ..bare.clone()
    };
    assert_eq!(table.register(&full).await, Ok(()), "the same boot may register again, as after a lost answer");
    let beaten = NodeRow { heartbeat: 8, ..full.clone() };
    assert_eq!(table.beat(&beaten).await, Ok(()));
    let other = NodeRow { name: "node-2".into(), ..full.clone() };
    assert_eq!(table.register(&other).await, Ok(()));
    assert_eq!(listed().await, [beaten.clone(), other.clone()]);

    let later = NodeRow { boot: 1_001, ..bare.clone() };
    assert_eq!(table.beat(&later).await, superseded(), "each boot beats its own row");
    assert_eq!(table.register(&later).await, Ok(()));
    assert_eq!(table.beat(&beaten).await, superseded());
    assert_eq!(table.register(&beaten).await, superseded());
    assert_eq!(listed().await, [later.clone(), other.clone()], "the earlier boot changed nothing");

    assert_eq!(table.remove("node-1", 1_000).await, Ok(()), "a row that is another boot's stays");
    assert_eq!(listed().await, [later, other.clone()]);
    assert_eq!(table.remove("node-1", 1_001).await, Ok(()));
    assert_eq!(table.remove("node-1", 1_001).await, Ok(()));
    assert_eq!(listed().await, [other]);
    assert_eq!(table.register(&bare).await, Ok(()), "nobody remembers the later boot");
}
