//! Holding what was found against what must be there.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

use crate::evidence::Evidence;
use crate::oracle::{self, Expected, Violation};

/// Differences shown of each kind.
const SHOWN: usize = 3;

/// Compares everything but the number of dead letters of the input; that of texts may only be too high.
///
/// # Errors
/// With every difference.
pub fn reconcile(expected: &Expected, found: &Evidence) -> Result<()> {
    let mut differences = Vec::new();
    let plates: BTreeSet<String> = expected.drivers.keys().cloned().collect();
    if found.plates != plates || found.driver_rows != plates.len() {
        differences.push(format!("the warehouse has {} rows for {} drivers", found.driver_rows, plates.len()));
    }

    let stored: Vec<&Violation> = found.stored.values().map(|event| &event.violation).collect();
    differences.extend(unlike("items", expected.violations.iter().collect(), stored));

    let known = expected.violations.iter().filter(|violation| expected.driver(&violation[0]).is_some()).collect();
    differences.extend(unlike("published", known, found.published.values().map(|event| &event.event.violation).collect()));
    for (id, published) in &found.published {
        if found.stored.get(id) != Some(&published.event) {
            differences.push(format!("{id} was published otherwise than it is stored"));
        }
        let driver = expected.driver(&published.event.violation[0]);
        let told = (&published.first_name, &published.last_name, &published.myphone);
        if driver.is_none_or(|driver| told != (&driver.first_name, &driver.last_name, &driver.myphone)) {
            differences.push(format!("{id} was published with another driver than its plate's"));
        }
    }

    differences.extend(text_differences(expected, found));
    if found.archived != found.stored {
        differences.push(format!(
            "{} events are archived and {} stored, or they differ",
            found.archived.len(),
            found.stored.len()
        ));
    }
    if !found.archived_unlike.is_empty() {
        differences.push(format!("archived lines differ between deliveries: {:?}", found.archived_unlike));
    }
    let untextable = expected.known() - expected.textable();
    let letters = found.letters_of("notify").count();
    if letters != untextable {
        differences.push(format!("{letters} dead letters of notify for {untextable} numbers that are none"));
    }
    if differences.is_empty() { Ok(()) } else { bail!("{}", differences.join("\n")) }
}

fn text_differences(expected: &Expected, found: &Evidence) -> Vec<String> {
    let mut owed = BTreeSet::new();
    for event in found.stored.values() {
        if let Some(driver) = expected.driver(&event.violation[0])
            && let Some(number) = driver.e164()
        {
            owed.insert((number, oracle::text(driver, &event.violation, &event.iottimestamp)));
        }
    }
    let sent: BTreeSet<(String, String)> = found.texts.keys().cloned().collect();
    if owed == sent && owed.len() == expected.textable() {
        return Vec::new();
    }
    let missing: Vec<_> = owed.difference(&sent).take(SHOWN).collect();
    let surplus: Vec<_> = sent.difference(&owed).take(SHOWN).collect();
    vec![format!("{} texts for {}; missing {missing:?}, surplus {surplus:?}", sent.len(), expected.textable())]
}

fn unlike(what: &str, owed: Vec<&Violation>, found: Vec<&Violation>) -> Option<String> {
    let mut balance: BTreeMap<&Violation, i64> = BTreeMap::new();
    let counts = (owed.len(), found.len());
    owed.into_iter().for_each(|violation| *balance.entry(violation).or_default() += 1);
    found.into_iter().for_each(|violation| *balance.entry(violation).or_default() -= 1);
    balance.retain(|_, n| *n != 0);
    let shown: Vec<_> = balance.iter().take(SHOWN).collect();
    (!balance.is_empty()).then(|| format!("{} {what} for {} violations; first differences {shown:?}", counts.1, counts.0))
}
