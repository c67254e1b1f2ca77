//! The SQL in `loader/sql` and `data/schema`: what is meant for Redshift must be in its dialect.
//!
//! The parser knows the grammar, but lets much of PostgreSQL's own pass; the list of the Redshift stand-in has that.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use speedtrap_tests::redshift::refusal;
use sqlparser::dialect::RedshiftSqlDialect;
use sqlparser::parser::Parser;

/// What the loader puts into its statements, and the options of COPY that the parser has not heard of.
const FILLED: [(&str, &str); 10] = [
    ("{stage_columns}", "licenseplate VARCHAR(64), city VARCHAR(256)"),
    ("{columns}", "licenseplate, city"),
    ("{values}", "rtr_iot_latest.licenseplate, rtr_iot_latest.city"),
    ("{updates}", "licenseplate = rtr_iot_latest.licenseplate, city = rtr_iot_latest.city"),
    ("{manifest}", "s3://bucket/manifests/1.json"),
    ("{iam_role}", "'arn:aws:iam::123456789012:role/loader'"),
    ("{region}", "REGION 'us-east-2'"),
    ("{noload}", ""),
    ("{schema}", "public"),
    ("MAXERROR 100000", ""),
];

fn statements(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("`{}` cannot be read", file.display()))?;
    Ok(FILLED.iter().fold(text, |text, (place, filled)| text.replace(place, filled)))
}

fn files(folder: &str) -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("no folder `{}`", folder.display()))? {
        files.push(entry?.path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    Ok(files)
}

#[test]
fn sql_meant_for_redshift_is_in_its_dialect() -> Result<()> {
    let mut meant = files("loader/sql/common")?;
    meant.extend(files("loader/sql/redshift")?);
    meant.extend(files("data/schema")?);
    assert!(meant.len() > 15, "{meant:?}");
    for file in meant {
        let sql = statements(&file)?;
        assert!(!sql.contains(['{', '}']), "{}: {sql}", file.display());
        let parsed = Parser::parse_sql(&RedshiftSqlDialect {}, &sql);
        assert!(parsed.is_ok_and(|statements| !statements.is_empty()), "{}: {sql}", file.display());
        assert_eq!(refusal(&sql), None, "{}", file.display());
    }
    Ok(())
}

#[test]
fn what_is_only_for_postgresql_is_kept_apart() -> Result<()> {
    let copy = files("loader/sql/postgresql")?.into_iter().find(|file| file.ends_with("copy.sql")).context("no copy.sql")?;
    assert!(refusal(&statements(&copy)?).is_some(), "Redshift has no COPY FROM STDIN");
    Ok(())
}
