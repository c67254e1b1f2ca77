//! Rules about the services that lanes call. What a lane waits for is told here at once, long before its retries are used up.

use std::time::Duration;

use super::facts::CallFact;
use super::{Scene, Severity, Suspicion};

/// One failure is what retries are for.
const STREAK: u32 = 2;
const FAILING_MS: u64 = 1_000;
/// Whoever calls tries again within 2 s, or backs off, which the lane says.
const FRESH_MS: u64 = 8_000;
/// A service that fails now and then: so many failures of late, and so large a share of all calls.
const OFTEN: u64 = 3;
const OFTEN_SHARE: u64 = 5;
const OFTEN_FRESH_MS: u64 = 3_000;
/// The warehouse that has just answered at once hangs if a query takes so much longer. One that wakes up may take its time.
const HANGS_MS: u64 = 1_500;
const AT_ONCE_MS: f64 = 250.0;
/// Answers of which a percentile says something.
const ENOUGH: u64 = 3;

/// Services by what an operator does about them.
struct Service {
    failing: &'static str,
    slow: &'static str,
    /// An answer that takes longer is slow.
    limit: Duration,
    next: &'static str,
}

const WAREHOUSE: Service = Service {
    failing: "warehouse-failing",
    slow: "warehouse-slow",
    limit: Duration::from_millis(2_500),
    next: "violations wait and nothing is lost; check the warehouse, warehouse.* of the configuration and its pool",
};
const TEXTS: Service = Service {
    failing: "sms-failing",
    slow: "sms-slow",
    limit: Duration::from_millis(2_000),
    next: "texts wait in the out-stream and enrichment goes on; check SNS, its spend limit and its rate",
};
const OTHER: Service = Service {
    failing: "service-failing",
    slow: "service-slow",
    limit: Duration::from_millis(3_000),
    next: "the lane waits and nothing is lost; check the service, the node's permissions and its network",
};

pub(super) fn suspicions(scene: &Scene<'_>) -> Vec<Suspicion> {
    let mut found = Vec::new();
    for node in &scene.nodes {
        let calls = node.status.iter().flat_map(|status| &status.facts.calls);
        // What an operator asks for fails before his eyes.
        found.extend(calls.filter(|call| call.user != "letter_desk").filter_map(|call| suspicion(node.name, call)));
    }
    found
}

fn suspicion(node: &str, call: &CallFact) -> Option<Suspicion> {
    let service = match call.resource.as_str() {
        "warehouse" => &WAREHOUSE,
        "SMS" => &TEXTS,
        _ => &OTHER,
    };
    let (name, user) = (&call.call, &call.user);
    let told = |rule, severity, text| {
        Suspicion::new(rule, severity, format!("{user}: {name}"), text)
            .on(node)
            .link(format!("#/actors?filter=node:{node}%20name:{user}"))
            .next(service.next)
    };
    if is_failing(call) {
        let why = call.last_failure.as_deref().unwrap_or("for an unknown reason");
        let since = call.failing_ms.map_or_else(|| "now and then".to_owned(), |ms| format!("for {} s", ms.div_ceil(1_000)));
        let text = format!("{user} on {node} has had trouble {since}: {why}");
        return Some(told(service.failing, Severity::Critical, text));
    }
    let answers_at_once = call.answered_of_late >= ENOUGH && call.p95_ms.is_some_and(|p95| p95 <= AT_ONCE_MS);
    let limit = Duration::from_millis(HANGS_MS);
    let limit = if call.resource == "warehouse" && answers_at_once { limit } else { service.limit };
    if let Some(lasts) = call.unanswered_ms.filter(|lasts| u128::from(*lasts) >= limit.as_millis()) {
        let text = format!("{name} of `{}` for {user} on {node} has not answered for {} s", call.resource, lasts / 1_000);
        return Some(told(service.slow, Severity::Warning, text));
    }
    let p95 = call.p95_ms.filter(|p95| *p95 >= service.limit.as_secs_f64() * 1_000.0 && call.answered_of_late >= ENOUGH)?;
    let text = format!("{name} of `{}` for {user} on {node} is slow: p95 {:.1} s", call.resource, p95 / 1_000.0);
    Some(told(service.slow, Severity::Warning, text))
}

fn is_failing(call: &CallFact) -> bool {
    let is_fresh = |ms| call.last_failure_ms.is_some_and(|age| age <= ms);
    let at_all = call.streak >= STREAK && call.failing_ms.is_some_and(|ms| ms >= FAILING_MS);
    // A service that failed and has not been asked since may be well again; one that is being asked is not.
    let is_asked = call.unanswered_ms.is_some();
    let often = call.failed_of_late >= OFTEN
        && call.failed_of_late * OFTEN_SHARE >= call.failed_of_late + call.answered_of_late
        && is_fresh(OFTEN_FRESH_MS);
    (at_all && (is_asked || is_fresh(FRESH_MS))) || often
}

#[cfg(test)]
mod tests {
    use super::super::NodeFacts;
    use super::super::sample::{node, scene};
    use super::*;

    fn call(resource: &str) -> CallFact {
        let failed = CallFact {
            user: "driver_lookup".into(),
            call: "query".into(),
            resource: resource.into(),
            answered: 100,
            failed: 4,
            streak: 4,
            failing_ms: Some(1_500),
            last_failure: Some("query failed (unreachable): connection refused".into()),
            last_failure_ms: Some(300),
            ..CallFact::default()
        };
        CallFact { failed_of_late: 4, answered_of_late: 40, ..failed }
    }

    fn rule(call: CallFact) -> Option<(&'static str, String)> {
        let facts = NodeFacts { calls: vec![call], ..NodeFacts::default() };
        let told = suspicions(&scene(vec![node("n2", "n2#1", &facts)]));
        told.into_iter().next().map(|it| (it.rule, it.text))
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_fails_is_named_with_the_reason() {
        let (told, text) = rule(call("warehouse")).expect("it fails");
        assert_eq!(told, "warehouse-failing");
        assert_eq!(text, "driver_lookup on n2 has had trouble for 2 s: query failed (unreachable): connection refused");
        assert_eq!(rule(call("SMS")).expect("it fails").0, "sms-failing");
        assert_eq!(rule(call("rtr-iot-speeding")).expect("it fails").0, "service-failing");
    }

    #[tokio::test(start_paused = true)]
    async fn one_failure_or_an_old_one_is_none_to_tell_of() {
        assert_eq!(rule(CallFact { streak: 1, failed_of_late: 1, ..call("SMS") }), None);
        assert_eq!(rule(CallFact { failing_ms: Some(900), failed_of_late: 2, ..call("SMS") }), None);
        let old = CallFact { last_failure_ms: Some(8_001), failed_of_late: 0, ..call("SMS") };
        assert_eq!(rule(old.clone()), None);
        assert!(rule(CallFact { unanswered_ms: Some(10), ..old }).is_some(), "it is asked, and has not answered yet");
        assert_eq!(rule(CallFact { user: "letter_desk".into(), ..call("rtr-iot-dead-letters") }), None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_among_answers_count_when_they_are_many() {
        let mixed = |failed_of_late, answered_of_late, last_failure_ms| CallFact {
            streak: 0,
            failing_ms: None,
            failed_of_late,
            answered_of_late,
            last_failure_ms: Some(last_failure_ms),
            ..call("SMS")
        };
        assert!(rule(mixed(3, 12, 1_000)).is_some());
        assert_eq!(rule(mixed(3, 13, 1_000)), None, "less than a fifth");
        assert_eq!(rule(mixed(2, 0, 1_000)), None, "too few");
        assert_eq!(rule(mixed(3, 12, 3_001)), None, "it is over");
    }

    #[tokio::test(start_paused = true)]
    async fn late_answers_are_told_of_before_and_after_they_come() {
        let well = |unanswered_ms, p95_ms, answered_of_late| CallFact {
            streak: 0,
            failing_ms: None,
            failed_of_late: 0,
            unanswered_ms,
            p95_ms,
            answered_of_late,
            ..call("warehouse")
        };
        assert_eq!(rule(well(Some(2_499), Some(2_499.0), 9)), None);
        let (told, text) = rule(well(Some(2_500), None, 0)).expect("it is late");
        assert_eq!(
            (told, text.as_str()),
            ("warehouse-slow", "query of `warehouse` for driver_lookup on n2 has not answered for 2 s")
        );
        assert_eq!(rule(well(Some(1_500), Some(20.0), 3)).expect("it hangs").0, "warehouse-slow");
        assert_eq!(rule(well(Some(1_499), Some(20.0), 3)), None);
        assert_eq!(rule(well(Some(1_500), Some(251.0), 3)), None, "it is never quick");
        assert_eq!(rule(well(None, Some(2_600.0), 3)).expect("it is slow").0, "warehouse-slow");
        assert_eq!(rule(well(None, Some(2_600.0), 2)), None, "two answers are no percentile");
    }
}
