//! From an item's image in the DynamoDB stream to its line in the archive.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One change of the speeding table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamImage {
    /// An item was put: its line is archived.
    Put(ArchiveLine),
    /// An item was removed, which is not archived.
    Removed,
}

/// The members of an archive line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchiveLine {
    iottimestamp: String,
    #[serde(rename = "licensePlate")]
    license_plate: String,
    longitude: String,
    latitude: String,
    city: String,
    state: String,
    speed: u64,
    #[serde(rename = "eventId")]
    event_id: String,
}

/// Why an image is no violation's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the item in the DynamoDB stream is no violation: {0}")]
pub struct ImageError(String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change<'a> {
    event_name: String,
    #[serde(borrow)]
    new_image: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    iottimestamp: S,
    license_plate: S,
    longitude: S,
    latitude: S,
    city: S,
    state: S,
    speed: N,
    event_id: S,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE", deny_unknown_fields)]
struct S {
    s: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE", deny_unknown_fields)]
struct N {
    n: String,
}

/// Reads a change as the source writes it: `{"eventName":"INSERT","newImage":{…DynamoDB JSON…}}`.
///
/// # Errors
/// When it is an INSERT or MODIFY whose image is not an item of the speeding table.
pub fn read_stream_image(data: &[u8]) -> Result<StreamImage, ImageError> {
    let change: Change = serde_json::from_slice(data).map_err(|e| ImageError(e.to_string()))?;
    if change.event_name == "REMOVE" {
        return Ok(StreamImage::Removed);
    }
    let image = change.new_image.ok_or_else(|| ImageError(format!("{} without an image", change.event_name)))?;
    let image: Image = serde_json::from_str(image.get()).map_err(|e| ImageError(e.to_string()))?;
    let speed = image.speed.n.parse().map_err(|_| ImageError("speed is not a whole number".to_owned()))?;
    Ok(StreamImage::Put(ArchiveLine {
        iottimestamp: image.iottimestamp.s,
        license_plate: image.license_plate.s,
        longitude: image.longitude.s,
        latitude: image.latitude.s,
        city: image.city.s,
        state: image.state.s,
        speed,
        event_id: image.event_id.s,
    }))
}

/// Writes an archive line with its line feed: the same bytes at every delivery of one violation.
#[must_use]
pub fn write_archive_line(line: &ArchiveLine) -> Vec<u8> {
    let mut json = Vec::with_capacity(256);
    serde_json::to_writer(&mut json, line).expect("texts and numbers always serialize");
    json.push(b'\n');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = r#"{"eventName":"INSERT","newImage":{"iottimestamp":{"S":"t"},"licensePlate":{"S":"95B•140"},"longitude":{"S":"1"},"latitude":{"S":"2"},"city":{"S":"c"},"state":{"S":"Iowa"},"speed":{"N":"76"},"eventId":{"S":"e-1"}}}"#;

    #[test]
    fn a_put_becomes_one_line_with_speed_as_a_number() {
        for name in ["INSERT", "MODIFY"] {
            let StreamImage::Put(line) = read_stream_image(IMAGE.replace("INSERT", name).as_bytes()).expect("an image") else {
                panic!("{name} is a put");
            };
            let text = String::from_utf8(write_archive_line(&line)).expect("UTF-8");
            assert_eq!(
                text,
                "{\"iottimestamp\":\"t\",\"licensePlate\":\"95B•140\",\"longitude\":\"1\",\"latitude\":\"2\",\"city\":\"c\",\"state\":\"Iowa\",\"speed\":76,\"eventId\":\"e-1\"}\n"
            );
        }
    }

    #[test]
    fn a_removal_is_told_apart_and_a_foreign_item_refused() {
        assert_eq!(read_stream_image(br#"{"eventName":"REMOVE"}"#), Ok(StreamImage::Removed));
        assert!(read_stream_image(br#"{"eventName":"INSERT"}"#).is_err());
        assert!(read_stream_image(IMAGE.replace("{\"N\":\"76\"}", "{\"N\":\"7.5\"}").as_bytes()).is_err());
        assert!(read_stream_image(IMAGE.replace("city", "town").as_bytes()).is_err());
    }
}
