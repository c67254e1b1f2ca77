//! What stands in the CloudFormation templates, as far as tests ask for it: their form is ours, so lines are enough.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

use crate::programs;

/// The text of a template in deploy/aws.
///
/// # Errors
/// When it cannot be read.
pub fn read(name: &str) -> Result<String> {
    let path = programs::workspace().join("deploy/aws").join(name);
    std::fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))
}

/// The lines of each resource, by its name.
///
/// # Errors
/// When there are none.
pub fn resources(template: &str) -> Result<BTreeMap<&str, Vec<&str>>> {
    let section = template.split_once("\nResources:\n").context("no section of resources")?.1;
    let section = section.split("\nOutputs:").next().unwrap_or_default();
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut last = None;
    for line in section.lines() {
        let name = line.strip_prefix("  ").and_then(|line| line.strip_suffix(':')).filter(|name| !name.starts_with([' ', '#']));
        last = name.or(last);
        if let Some(resource) = last {
            all.entry(resource).or_default().push(line);
        }
    }
    ensure!(!all.is_empty(), "no resources");
    Ok(all)
}

/// Every statement of every policy, as `Resource.Sid`, or `Resource.Action` where it has no Sid.
///
/// # Errors
/// When one has neither, or two have the same name.
pub fn statements(template: &str) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for (resource, lines) in resources(template)? {
        for (at, line) in lines.iter().enumerate() {
            let Some(effect) = line.trim_start().trim_start_matches("- ").strip_prefix("Effect: ") else { continue };
            ensure!(["Allow", "Deny"].contains(&effect), "{resource}: `{line}`");
            let before = at.checked_sub(1).map(|before| lines[before].trim_start());
            let sid = before.and_then(|line| line.strip_prefix("- Sid: "));
            let action = lines[at..].iter().find_map(|line| line.trim_start().strip_prefix("Action: "));
            let name = sid.or(action).with_context(|| format!("a statement of {resource} has neither Sid nor one action"))?;
            ensure!(found.insert(format!("{resource}.{name}")), "{resource}.{name} is there twice");
        }
    }
    Ok(found)
}
