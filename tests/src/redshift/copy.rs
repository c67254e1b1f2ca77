//! COPY … FROM 's3://…' MANIFEST FORMAT JSON 'auto': which rows of the objects fit a table (pure but for reading the bucket).

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::dialect::{Refusal, words};

/// A COPY from the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) table: String,
    pub(super) columns: Vec<String>,
    manifest: String,
    pub(super) most_errors: usize,
    pub(super) noload: bool,
}

/// A column of the table that is copied into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// Bytes of a VARCHAR; `None` for a number.
    pub(super) width: Option<usize>,
}

/// A row that was refused, as SYS_LOAD_ERROR_DETAIL tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoadError {
    pub(super) file: String,
    pub(super) line: i64,
    pub(super) column: String,
    pub(super) code: i32,
    pub(super) message: String,
}

/// Rows in the text form of PostgreSQL's own COPY, and those that were refused.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pub(super) rows: Vec<u8>,
    pub(super) n_rows: u64,
    pub(super) errors: Vec<LoadError>,
}

/// Reads a COPY from the bucket. `None` if the statement is something else.
pub(super) fn parsed(sql: &str) -> Option<Result<Copy, Refusal>> {
    let words = words(sql);
    let from = words.iter().position(|word| word == "FROM")?;
    let url = words.get(from + 1)?.trim_matches('\'').to_owned();
    (words.first()? == "COPY" && url.starts_with("s3://")).then(|| options(&words, from, url))
}

fn options(words: &[String], from: usize, manifest: String) -> Result<Copy, Refusal> {
    let behind = |word: &str| words.iter().position(|found| found == word).and_then(|place| words.get(place + 1));
    let has = |word: &str| words[from..].iter().any(|found| found == word);
    let refused = |message: &str| Err(Refusal::new("42601", message));
    match behind("IAM_ROLE").map(String::as_str) {
        Some("DEFAULT") => {}
        Some(role) if role.starts_with("'arn:aws") => {}
        _ => return refused("COPY wants IAM_ROLE default or an ARN"),
    }
    if behind("JSON").map(String::as_str) != Some("'auto'") || !has("MANIFEST") {
        return refused("this stand-in copies only MANIFEST FORMAT JSON 'auto'");
    }
    let most_errors = behind("MAXERROR").map_or(Some(0), |number| number.parse().ok());
    let Some(most_errors) = most_errors.filter(|most| *most <= 100_000) else {
        return refused("MAXERROR must be between 0 and 100000");
    };
    let columns = words[2..from].iter().filter(|word| !["(", ")", ","].contains(&word.as_str()));
    Ok(Copy {
        table: words[1].to_lowercase(),
        columns: columns.map(|column| column.to_lowercase()).collect(),
        manifest,
        most_errors,
        noload: has("NOLOAD"),
    })
}

/// Reads all objects of the manifest.
///
/// # Errors
/// When a mandatory object is missing, as Redshift fails then.
pub(super) async fn read(s3: &aws_sdk_s3::Client, copy: &Copy, columns: &[Column]) -> Result<Copied> {
    let manifest: Value = serde_json::from_slice(&object(s3, &copy.manifest).await?).context("the manifest is not JSON")?;
    let mut copied = Copied::default();
    for entry in manifest["entries"].as_array().context("the manifest has no entries")? {
        let url = entry["url"].as_str().context("an entry has no url")?;
        let content = match object(s3, url).await {
            Err(_) if entry["mandatory"] != true => continue,
            content => content?,
        };
        for (at, line) in content.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            match row_of(line, columns) {
                Ok(row) => {
                    copied.rows.extend(row.into_bytes());
                    copied.n_rows += 1;
                }
                Err((column, code, message)) => {
                    let line = i64::try_from(at + 1)?;
                    copied.errors.push(LoadError { file: url.to_owned(), line, column, code, message });
                }
            }
        }
    }
    Ok(copied)
}

async fn object(s3: &aws_sdk_s3::Client, url: &str) -> Result<Vec<u8>> {
    let path = url.strip_prefix("s3://").with_context(|| format!("`{url}` is not in S3"))?;
    let (bucket, key) = path.split_once('/').with_context(|| format!("`{url}` names no object"))?;
    ensure!(!key.is_empty(), "`{url}` names no object");
    let object = s3.get_object().bucket(bucket).key(key).send().await;
    let object = object.with_context(|| format!("the object `{url}` cannot be read"))?;
    Ok(object.body.collect().await?.to_vec())
}

/// One line. Keys are compared with the names of columns by case; a key that is not there loads NULL.
fn row_of(line: &[u8], columns: &[Column]) -> Result<String, (String, i32, String)> {
    let Ok(Value::Object(object)) = serde_json::from_slice(line) else {
        return Err((String::new(), 1202, "Invalid JSON object".to_owned()));
    };
    let mut values = Vec::with_capacity(columns.len());
    for Column { name, width } in columns {
        let value = match object.get(name) {
            None | Some(Value::Null) => {
                values.push("\\N".to_owned());
                continue;
            }
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        match width {
            Some(width) if value.len() > *width => {
                return Err((name.clone(), 1204, "String length exceeds DDL length".to_owned()));
            }
            None if value.parse::<i64>().is_err() => {
                return Err((name.clone(), 1207, "Invalid digit, Value '?', Pos 0, Type: Long".to_owned()));
            }
            _ => values.push(escaped(&value)),
        }
    }
    Ok(values.join("\t") + "\n")
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COPY: &str =
        "COPY stage (a, _src_line)\nFROM 's3://b/m.json'\nIAM_ROLE default MANIFEST FORMAT JSON 'auto' MAXERROR 7 NOLOAD";

    #[test]
    fn a_copy_is_read_with_its_options() {
        let copy = parsed(COPY).expect("a COPY").expect("a good one");
        assert_eq!(
            (copy.table.as_str(), copy.columns.as_slice()),
            ("stage", ["a".to_owned(), "_src_line".to_owned()].as_slice())
        );
        assert_eq!((copy.most_errors, copy.noload, copy.manifest.as_str()), (7, true, "s3://b/m.json"));
        assert_eq!(parsed("COPY stage (a) FROM STDIN"), None);
        assert_eq!(parsed("SELECT a FROM s3"), None);
        assert!(parsed(&COPY.replace("IAM_ROLE default", "")).expect("a COPY").is_err());
        assert!(parsed(&COPY.replace("MAXERROR 7", "MAXERROR 100001")).expect("a COPY").is_err());
    }

    #[test]
    fn bytes_and_cases_count() {
        let columns = [Column { name: "a".into(), width: Some(4) }, Column { name: "n".into(), width: None }];
        assert_eq!(row_of(br#"{"a":"x\ty","n":3,"other":1}"#, &columns), Ok("x\\ty\t3\n".to_owned()));
        assert_eq!(row_of(br#"{"A":"x","n":3}"#, &columns), Ok("\\N\t3\n".to_owned()), "a key of another case is no key");
        let code = |line: &str| row_of(line.as_bytes(), &columns).map_err(|(column, code, _)| (column, code));
        assert_eq!(code(r#"{"a":"é•","n":3}"#), Err(("a".into(), 1204)), "two characters, five bytes");
        assert_eq!(code(r#"{"a":"x","n":"y"}"#), Err(("n".into(), 1207)));
        assert_eq!(code("{"), Err((String::new(), 1202)));
    }
}
