//! The contract of [`DriverDirectory`].

use std::sync::Arc;

use crate::domain::PlateKey;
use crate::ports::DriverDirectory;

/// Runs against a directory that holds exactly these plates, with the first names of their drivers.
///
/// # Panics
/// When the contract is broken.
pub async fn driver_directory_contract(directory: Arc<dyn DriverDirectory>, known: &[(PlateKey, &str)]) {
    let ask = async |plates: &[PlateKey]| directory.drivers(plates).await.expect("the directory answers");
    assert!(ask(&[]).await.is_empty());
    assert!(ask(&[PlateKey::of("NOBODY'S")]).await.is_empty(), "a plate without a driver is left out");
    for (plate, first_name) in known {
        let found = ask(std::slice::from_ref(plate)).await;
        assert_eq!(found.len(), 1, "{plate:?}");
        assert_eq!(&*found[plate].first_name, *first_name);
    }
    // More plates than any one statement takes, with repeats, the known ones at the end.
    let mut plates: Vec<_> = (0..700).map(|n| PlateKey::of(&format!("NOBODY-{n}"))).collect();
    plates.extend(known.iter().chain(known).map(|(plate, _)| plate.clone()));
    let found = ask(&plates).await;
    assert_eq!(found.len(), known.len());
    assert!(known.iter().all(|(plate, first_name)| &*found[plate].first_name == *first_name));
}
