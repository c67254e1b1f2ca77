//! The list of objects that one COPY reads (pure). A list, because a prefix would take in whatever else Firehose has delivered
//! meanwhile; and every object is mandatory, so that none can be left out silently.
//! <https://docs.aws.amazon.com/redshift/latest/dg/loading-data-files-using-manifest.html>

use serde::Serialize;

#[derive(Serialize)]
struct Manifest {
    entries: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    url: String,
    mandatory: bool,
}

/// Manifests lie outside the prefix that Firehose delivers to, and stay there to show what was copied.
pub(super) fn key(load_id: &str, unix_ms: i64) -> String {
    format!("manifests/{load_id}/{unix_ms}.json")
}

/// The manifest's content.
pub(super) fn content(urls: impl Iterator<Item = String>) -> Vec<u8> {
    let manifest = Manifest { entries: urls.map(|url| Entry { url, mandatory: true }).collect() };
    serde_json::to_vec(&manifest).expect("texts and booleans are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_is_listed_and_mandatory() {
        let content = content(["s3://b/drivers/1", "s3://b/drivers/2"].map(str::to_owned).into_iter());
        let json: serde_json::Value = serde_json::from_slice(&content).unwrap();
        assert_eq!(json["entries"][1], serde_json::json!({"url": "s3://b/drivers/2", "mandatory": true}));
        assert_eq!(json["entries"].as_array().unwrap().len(), 2);
        assert_eq!(key("l1", 7), "manifests/l1/7.json");
    }
}
