//! What was found, as people and programs read it.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::config::NodeConfig;
use crate::exit::Exit;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and may bite.
    Warn,
    /// It keeps a node from its work.
    Fail,
    /// It could not be looked at, or does not apply; nothing is known.
    Skip,
}

/// What belongs together in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Aws,
    Streams,
    Tables,
    Leases,
    Permissions,
    Quotas,
    Warehouse,
    Files,
    Ports,
}

/// What one check came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    verdict: Verdict,
    seen: String,
    next: Option<String>,
    answered: bool,
}

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) group: Group,
    pub(crate) verdict: Verdict,
    /// What was seen.
    pub(crate) seen: String,
    /// What to do next.
    pub(crate) next: Option<String>,
    /// Whether a service answered; `None` for what needs none.
    #[serde(skip)]
    answered: Option<bool>,
}

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: u32,
    pub(crate) node: String,
    roles: Vec<&'static str>,
    /// Where AWS was asked.
    pub(crate) place: String,
    pub(crate) healthy: bool,
    pub(crate) ok: usize,
    pub(crate) warn: usize,
    pub(crate) fail: usize,
    pub(crate) skip: usize,
    pub(crate) took_ms: u64,
    pub(crate) lines: Vec<Line>,
}

impl Finding {
    pub(super) fn ok(seen: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, seen: seen.into(), next: None, answered: true }
    }

    pub(super) fn warn(seen: impl Into<String>, next: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, seen: seen.into(), next: Some(next.into()), answered: true }
    }

    pub(super) fn fail(seen: impl Into<String>, next: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, seen: seen.into(), next: Some(next.into()), answered: true }
    }

    /// Nothing is known, for a reason.
    pub(super) fn skip(why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skip, seen: why.into(), next: None, answered: true }
    }

    /// Whoever should have answered did not.
    pub(super) fn no_answer(why: impl std::fmt::Display) -> Self {
        let next = "check AWS_ENDPOINT_URL, AWS_REGION, the network, and the VPC's endpoints and security groups";
        Self { answered: false, ..Self::fail(format!("no answer: {why}"), next) }
    }

    /// The same, with something else to do next.
    pub(super) fn next(self, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..self }
    }
}

impl Line {
    pub(super) fn new(group: Group, id: String, finding: Finding, is_remote: bool) -> Self {
        let Finding { verdict, seen, next, answered } = finding;
        // A skip proves nothing about the network.
        let answered = (is_remote && verdict != Verdict::Skip).then_some(answered);
        Self { id, group, verdict, seen, next, answered }
    }
}

impl Report {
    pub(super) fn new(config: &NodeConfig, place: String, lines: Vec<Line>, took: Duration) -> Self {
        let n = |verdict| lines.iter().filter(|line| line.verdict == verdict).count();
        Self {
            schema: 1,
            node: config.node.name.clone(),
            roles: config.node.roles.iter().map(|role| role.label()).collect(),
            place,
            healthy: n(Verdict::Fail) == 0,
            ok: n(Verdict::Ok),
            warn: n(Verdict::Warn),
            fail: n(Verdict::Fail),
            skip: n(Verdict::Skip),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            lines,
        }
    }

    /// Warnings are allowed; where no service answered at all, nothing is known about them.
    pub(crate) fn exit(&self) -> Exit {
        let answered: Vec<bool> = self.lines.iter().filter_map(|line| line.answered).collect();
        if !answered.is_empty() && !answered.contains(&true) {
            return Exit::Unreachable;
        }
        if self.healthy { Exit::Ok } else { Exit::Unhealthy }
    }
}

impl Verdict {
    /// As it is shown.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        }
    }
}

impl Group {
    /// Its heading.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Streams => "streams",
            Self::Tables => "tables",
            Self::Leases => "leases",
            Self::Permissions => "permissions",
            Self::Quotas => "quotas",
            Self::Warehouse => "warehouse",
            Self::Files => "files",
            Self::Ports => "ports",
        }
    }
}

impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(findings: Vec<(Finding, bool)>) -> Report {
        let line = |(finding, is_remote)| Line::new(Group::Aws, "aws.identity".to_owned(), finding, is_remote);
        let lines = findings.into_iter().map(line).collect();
        Report::new(&NodeConfig::default(), String::new(), lines, Duration::from_millis(3))
    }

    #[test]
    fn warnings_are_healthy_and_failures_are_not() {
        let fine = report(vec![(Finding::ok("there"), true), (Finding::warn("small", "raise it"), true)]);
        assert_eq!((fine.exit(), fine.ok, fine.warn), (Exit::Ok, 1, 1));
        let bad = report(vec![(Finding::ok("there"), true), (Finding::fail("gone", "make it"), true)]);
        assert_eq!(bad.exit(), Exit::Unhealthy);
    }

    #[test]
    fn where_no_service_answers_nothing_is_known() {
        let silent = || (Finding::no_answer("refused"), true);
        let local = (Finding::fail("readable by others", "chmod 600"), false);
        let skipped = (Finding::skip("not known here"), true);
        assert_eq!(report(vec![silent(), silent(), local.clone(), skipped]).exit(), Exit::Unreachable);
        assert_eq!(report(vec![silent(), (Finding::ok("there"), true)]).exit(), Exit::Unhealthy);
        assert_eq!(report(vec![local]).exit(), Exit::Unhealthy, "a check of the machine alone needs no service");
    }
}
