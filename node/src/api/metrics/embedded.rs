//! The metrics as CloudWatch takes them out of logs: one JSON object a line, in its embedded metric format
//! (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>).
//!
//! They are read from the same text that Prometheus gets, so that no name can differ.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::{Api, Detail, text};

const NAMESPACE: &str = "Speedtrap";
/// Labels by which metrics stay apart; over all others they are added up. CloudWatch is paid by the combination, so only labels of
/// a few fixed words may stand here. The node is none: what its lines say of it can be searched in the logs.
const DIMENSIONS: [&str; 5] = ["outcome", "presence", "result", "severity", "state"];
/// Most metrics in one object, by the specification.
const MOST_METRICS: usize = 100;

/// Writes the metrics to standard output as long as it lives, and a last time when it is dropped.
pub(crate) struct EmbeddedMetrics {
    writer: Option<Arc<Writer>>,
    _writing: JoinSet<()>,
}

struct Writer {
    api: Arc<Api>,
    counted: Mutex<Counted>,
}

/// The counters as they were when they were last written.
#[derive(Debug, Default)]
struct Counted(BTreeMap<String, f64>);

impl EmbeddedMetrics {
    /// Writes every so often, never if that is zero.
    pub(crate) fn start(api: &Arc<Api>, every: Duration) -> Self {
        let mut writing = JoinSet::new();
        if every.is_zero() {
            return Self { writer: None, _writing: writing };
        }
        let writer = Arc::new(Writer { api: Arc::clone(api), counted: Mutex::default() });
        let regular = Arc::clone(&writer);
        writing.spawn(async move {
            let mut due = tokio::time::interval(every);
            loop {
                due.tick().await;
                regular.write();
            }
        });
        Self { writer: Some(writer), _writing: writing }
    }
}

impl Drop for EmbeddedMetrics {
    /// What was counted since the last time would be lost.
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            writer.write();
        }
    }
}

impl Writer {
    fn write(&self) {
        let Ok(text) = text(&self.api, Detail::Kinds) else { return };
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = counted.lines(&text, &self.api.node.name, crate::wiring::now_ms());
        // Whole lines in one call, so that none is torn where standard error goes to the same file.
        if let Err(error) = std::io::stdout().lock().write_all(lines.as_bytes()) {
            tracing::warn!(%error, "the metrics cannot be written to standard output");
        }
    }
}

impl Counted {
    /// One object for each combination of dimensions, from a text in the OpenMetrics format.
    fn lines(&mut self, text: &str, node: &str, at_ms: u64) -> String {
        let mut groups: BTreeMap<Vec<(&str, &str)>, BTreeMap<&str, f64>> = BTreeMap::new();
        let mut kind = "";
        for line in text.lines() {
            if let Some(told) = line.strip_prefix("# TYPE ") {
                kind = told.rsplit(' ').next().unwrap_or_default();
            }
            let Some((series, value)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) else { continue };
            let Some(value) = value.parse().ok().filter(|value: &f64| value.is_finite()) else { continue };
            let (name, labels) = name_and_labels(series);
            // Of a histogram CloudWatch gets number and sum: with both it has the mean.
            let value = match kind {
                "gauge" => value,
                "counter" => self.added(series, value),
                "histogram" if !name.ends_with("_bucket") => self.added(series, value),
                _ => continue,
            };
            // The rule `all` is the sum of the others.
            if labels.iter().any(|(label, value)| *label == "rule" && *value != "all") {
                continue;
            }
            let kept = labels.into_iter().filter(|(label, _)| DIMENSIONS.contains(label)).collect();
            let of_all = groups.entry(kept).or_default().entry(name).or_insert(0.0);
            *of_all = if kind == "gauge" && is_of_the_worst(name) { of_all.max(value) } else { *of_all + value };
        }
        let mut out = String::new();
        for (labels, figures) in &groups {
            for figures in figures.iter().collect::<Vec<_>>().chunks(MOST_METRICS) {
                out.push_str(&object(labels, figures, node, at_ms).to_string());
                out.push('\n');
            }
        }
        out
    }

    /// What a counter has grown by. Some count only actors that run now; where one has gone, the sum falls and nothing was added.
    fn added(&mut self, series: &str, value: f64) -> f64 {
        let before = self.0.insert(series.to_owned(), value).unwrap_or_default();
        (value - before).max(0.0)
    }
}

/// Times cannot be added up: the longest counts.
fn is_of_the_worst(name: &str) -> bool {
    name.ends_with("_seconds") || name.ends_with("_max")
}

fn unit(name: &str) -> &'static str {
    let name = ["_total", "_sum", "_max"].into_iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    match name {
        name if name.ends_with("_seconds") => "Seconds",
        name if name.ends_with("_bytes") => "Bytes",
        _ => "Count",
    }
}

fn object(labels: &[(&str, &str)], figures: &[(&&str, &f64)], node: &str, at_ms: u64) -> Value {
    let dimensions: Vec<&str> = labels.iter().map(|(label, _)| *label).collect();
    let metrics: Vec<Value> = figures.iter().map(|(name, _)| json!({"Name": name, "Unit": unit(name)})).collect();
    let directive = json!({"Namespace": NAMESPACE, "Dimensions": [dimensions], "Metrics": metrics});
    let mut all = Map::from_iter([
        ("_aws".to_owned(), json!({"Timestamp": at_ms, "CloudWatchMetrics": [directive]})),
        ("node".to_owned(), Value::from(node)),
    ]);
    all.extend(labels.iter().map(|(label, value)| ((*label).to_owned(), Value::from(*value))));
    all.extend(figures.iter().map(|(name, value)| ((**name).to_owned(), Value::from(**value))));
    Value::Object(all)
}

/// `name{label="value",...}` in its parts; values keep their escapes, which no dimension has.
fn name_and_labels(series: &str) -> (&str, Vec<(&str, &str)>) {
    let Some((name, mut rest)) = series.split_once('{') else { return (series, Vec::new()) };
    let mut labels = Vec::new();
    while let Some((label, after)) = rest.split_once("=\"") {
        let mut is_escaped = false;
        let end = after.find(|c| {
            let is_end = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            is_end
        });
        let Some((value, after)) = end.map(|end| after.split_at(end)) else { break };
        labels.push((label.trim_start_matches(','), value));
        rest = &after[1..];
    }
    (name, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP speedtrap_events Events that ended, by how they ended.
# TYPE speedtrap_events counter
speedtrap_events_total{stage="enrich",outcome="rejected"} 3
speedtrap_events_total{stage="notify",outcome="rejected"} 1
speedtrap_events_total{stage="enrich",outcome="published"} 7
# TYPE speedtrap_remote_calls counter
speedtrap_remote_calls_total{call="sns \"Publish\", {a}",result="failed"} 2
# TYPE speedtrap_shard_lag_seconds_max gauge
speedtrap_shard_lag_seconds_max{stage="enrich"} 0.5
speedtrap_shard_lag_seconds_max{stage="notify"} 2.5
# TYPE speedtrap_lanes gauge
speedtrap_lanes{stage="enrich",state="running"} 2
speedtrap_lanes{stage="notify",state="running"} 1
# TYPE speedtrap_findings gauge
speedtrap_findings{severity="critical",rule="all"} 2
speedtrap_findings{severity="critical",rule="lag"} 1
speedtrap_findings{severity="critical",rule="owner"} 1
# TYPE speedtrap_redshift_seconds histogram
# UNIT speedtrap_redshift_seconds seconds
speedtrap_redshift_seconds_sum 1.5
speedtrap_redshift_seconds_count 3
speedtrap_redshift_seconds_bucket{le="0.1"} 2
speedtrap_redshift_seconds_bucket{le="+Inf"} 3
# TYPE speedtrap_build info
speedtrap_build_info{node="node-1",version="0.1.0"} 1
# EOF
"#;

    fn parsed(lines: &str) -> Vec<Value> {
        lines.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
    }

    fn of<'a>(objects: &'a [Value], dimension: Option<(&str, &str)>) -> &'a Value {
        let is_it = |object: &&Value| match dimension {
            None => object["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == json!([[]]),
            Some((name, value)) => object[name] == value,
        };
        objects.iter().find(is_it).expect("an object with that dimension")
    }

    #[test]
    fn an_object_is_as_the_specification_has_it() {
        let objects = parsed(&Counted::default().lines(TEXT, "node-1", 1_795_000_000_000));
        let without = of(&objects, None);
        let expected = json!({
            "_aws": {"Timestamp": 1_795_000_000_000_u64, "CloudWatchMetrics": [{
                "Namespace": "Speedtrap", "Dimensions": [[]], "Metrics": [
                    {"Name": "speedtrap_redshift_seconds_count", "Unit": "Count"},
                    {"Name": "speedtrap_redshift_seconds_sum", "Unit": "Seconds"},
                    {"Name": "speedtrap_shard_lag_seconds_max", "Unit": "Seconds"},
                ]}]},
            "node": "node-1",
            "speedtrap_redshift_seconds_count": 3.0,
            "speedtrap_redshift_seconds_sum": 1.5,
            "speedtrap_shard_lag_seconds_max": 2.5,
        });
        assert_eq!(*without, expected);
        assert_eq!(of(&objects, Some(("outcome", "rejected")))["speedtrap_events_total"], 4.0);
        assert_eq!(of(&objects, Some(("state", "running")))["speedtrap_lanes"], 3.0);
        assert_eq!(of(&objects, Some(("severity", "critical")))["speedtrap_findings"], 2.0, "each finding counts once");
        assert_eq!(of(&objects, Some(("result", "failed")))["speedtrap_remote_calls_total"], 2.0);
        assert_eq!(objects.len(), 6, "{objects:#?}");
    }

    #[test]
    fn counters_tell_what_was_added_and_gauges_what_is() {
        let mut counted = Counted::default();
        counted.lines(TEXT, "node-1", 1);
        let later = TEXT
            .replace("outcome=\"rejected\"} 3", "outcome=\"rejected\"} 5")
            .replace("outcome=\"published\"} 7", "outcome=\"published\"} 6")
            .replace("_sum 1.5", "_sum 1.75");
        let objects = parsed(&counted.lines(&later, "node-1", 2));
        assert_eq!(of(&objects, Some(("outcome", "rejected")))["speedtrap_events_total"], 2.0);
        assert_eq!(of(&objects, Some(("outcome", "published")))["speedtrap_events_total"], 0.0, "a sum that fell adds nothing");
        assert_eq!(of(&objects, None)["speedtrap_redshift_seconds_sum"], 0.25);
        assert_eq!(of(&objects, None)["speedtrap_shard_lag_seconds_max"], 2.5);
    }

    #[test]
    fn no_object_holds_more_metrics_than_cloudwatch_takes() {
        let text: String = (0..250).map(|n| format!("# TYPE m{n} gauge\nm{n} 1\n")).collect();
        let objects = parsed(&Counted::default().lines(&text, "node-1", 1));
        let metrics = |object: &Value| object["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().map_or(0, Vec::len);
        assert_eq!(objects.iter().map(metrics).collect::<Vec<_>>(), [100, 100, 50]);
    }

    #[test]
    fn labels_are_read_whatever_stands_in_them() {
        let series = r#"a{b="x, \"y\" {z}\\",c="d"}"#;
        assert_eq!(name_and_labels(series), ("a", vec![("b", r#"x, \"y\" {z}\\"#), ("c", "d")]));
        assert_eq!(name_and_labels("a"), ("a", vec![]));
    }
}
