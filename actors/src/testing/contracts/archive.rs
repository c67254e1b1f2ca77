//! The contract of [`Archive`].

use std::sync::Arc;

use bytes::Bytes;

use crate::ports::Archive;

/// Runs against an empty archive that refuses lines of more than 1,000 KiB. Returns the lines that must be in it afterwards, at
/// least once each.
///
/// # Panics
/// When the contract is broken.
pub async fn archive_contract(archive: Arc<dyn Archive>) -> Vec<Bytes> {
    let line = |n: usize| Bytes::from(format!("{{\"n\":{n},\"filler\":\"{}\"}}\n", "x".repeat(n % 700)));
    assert_eq!(archive.append(&[]).await, Ok(Vec::new()));
    let mut lines: Vec<_> = (0..3000).map(line).collect();
    assert_eq!(archive.append(&lines).await, Ok(Vec::new()));
    let too_long = Bytes::from(vec![b'x'; 1000 * 1024 + 1]);
    let (before, after) = (line(3000), line(3001));
    let refused = archive.append(&[before.clone(), too_long, after.clone()]).await.expect("content is no failure");
    assert_eq!(refused.iter().map(|refused| refused.index).collect::<Vec<_>>(), [1]);
    lines.extend([before, after]);
    lines
}
