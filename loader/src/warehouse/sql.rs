//! The SQL of a load (pure): statements stand in `loader/sql`, and are made out for the columns that are loaded.

use super::schema::Layout;

/// One file of `loader/sql`.
macro_rules! sql {
    ($file:literal) => {
        include_str!(concat!("../../sql/", $file))
    };
}

pub(super) const VERSION: &str = sql!("common/version.sql");
pub(super) const TABLE_COLUMNS: &str = sql!("common/table_columns.sql");
pub(super) const FIND_LOAD: &str = sql!("common/find_load.sql");
pub(super) const LOCK_LEDGER: &str = sql!("common/lock_ledger.sql");
pub(super) const CREATE_STAGE: &str = sql!("common/create_stage.sql");
pub(super) const CREATE_LATEST: &str = sql!("common/create_latest.sql");
pub(super) const COUNT_STAGED: &str = sql!("common/count_staged.sql");
pub(super) const KEEP_LATEST: &str = sql!("common/keep_latest.sql");
pub(super) const COUNT_LATEST: &str = sql!("common/count_latest.sql");
pub(super) const REMOVE_OTHER_SPELLINGS: &str = sql!("common/remove_other_spellings.sql");
pub(super) const REMOVE_REPEATED: &str = sql!("common/remove_repeated.sql");
pub(super) const COUNT_MATCHED: &str = sql!("common/count_matched.sql");
pub(super) const MERGE: &str = sql!("common/merge.sql");
pub(super) const INSERT_LEDGER: &str = sql!("common/insert_ledger.sql");
pub(super) const DROP_STAGE: &str = sql!("common/drop_stage.sql");
pub(super) const REDSHIFT_COPY: &str = sql!("redshift/copy.sql");
pub(super) const REDSHIFT_LOAD_ERRORS: &str = sql!("redshift/load_errors.sql");
pub(super) const POSTGRESQL_COPY: &str = sql!("postgresql/copy.sql");
pub(super) const POSTGRESQL_ANALYZE: &str = sql!("postgresql/analyze.sql");
pub(super) const POSTGRESQL_DELETE_MATCHED: &str = sql!("postgresql/delete_matched.sql");
pub(super) const POSTGRESQL_INSERT_LATEST: &str = sql!("postgresql/insert_latest.sql");

/// Where a COPY on Redshift takes its rows from, and as whom.
pub(super) struct CopySource<'a> {
    /// `s3://…` of the manifest.
    pub(super) manifest: &'a str,
    /// An ARN, or `default`.
    pub(super) iam_role: &'a str,
    /// The bucket's region, where it is not the cluster's.
    pub(super) region: Option<&'a str>,
    /// Check the rows and load none.
    pub(super) noload: bool,
}

/// A statement for these columns, without the comments of its file.
pub(super) fn for_columns(template: &str, layout: &Layout) -> String {
    let joined = |one: &dyn Fn(&str, usize) -> String| {
        layout.columns().iter().map(|column| one(&column.name, column.width)).collect::<Vec<_>>().join(", ")
    };
    plain(template)
        .replace("{stage_columns}", &joined(&|name, width| format!("{name} VARCHAR({width})")))
        .replace("{columns}", &joined(&|name, _| name.to_owned()))
        .replace("{values}", &joined(&|name, _| format!("rtr_iot_latest.{name}")))
        .replace("{updates}", &joined(&|name, _| format!("{name} = rtr_iot_latest.{name}")))
}

/// The COPY of Redshift. It takes no parameters, so its texts are quoted here.
pub(super) fn redshift_copy(layout: &Layout, source: &CopySource<'_>) -> String {
    let quoted = |text: &str| text.replace('\'', "''");
    let iam_role = match source.iam_role {
        "default" => "default".to_owned(),
        arn => format!("'{}'", quoted(arn)),
    };
    let region = source.region.map(|region| format!("REGION '{}'", quoted(region))).unwrap_or_default();
    for_columns(REDSHIFT_COPY, layout)
        .replace("{manifest}", &quoted(source.manifest))
        .replace("{iam_role}", &iam_role)
        .replace("{region}", &region)
        .replace("{noload}", if source.noload { "NOLOAD" } else { "" })
}

/// A file's statement without its comments.
pub(super) fn plain(file: &str) -> String {
    file.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::of([("licenseplate", 2, 64), ("city", 5, 8)])
    }

    #[test]
    fn statements_are_made_out_for_the_columns_that_are_loaded() {
        let stage = for_columns(CREATE_STAGE, &layout());
        assert!(
            stage.starts_with("CREATE TEMP TABLE") && stage.contains("licenseplate VARCHAR(64), city VARCHAR(8),"),
            "{stage}"
        );
        let merge = for_columns(MERGE, &layout());
        assert!(
            merge.contains("SET licenseplate = rtr_iot_latest.licenseplate, city = rtr_iot_latest.city, _load_id"),
            "{merge}"
        );
        for template in [CREATE_STAGE, CREATE_LATEST, KEEP_LATEST, MERGE, POSTGRESQL_COPY, POSTGRESQL_INSERT_LATEST] {
            assert!(!for_columns(template, &layout()).contains(['{', '}']), "{template}");
        }
    }

    #[test]
    fn a_copy_names_its_manifest_and_role_and_can_leave_the_table_alone() {
        let source = CopySource { manifest: "s3://it's/m.json", iam_role: "default", region: None, noload: false };
        let copy = redshift_copy(&layout(), &source);
        assert!(copy.contains("FROM 's3://it''s/m.json'\nIAM_ROLE default MANIFEST  FORMAT JSON 'auto'"), "{copy}");
        assert!(!copy.contains("NOLOAD") && !copy.contains('{'), "{copy}");
        let role = "arn:aws:iam::123456789012:role/loader";
        let source = CopySource { iam_role: role, region: Some("us-east-2"), noload: true, ..source };
        let copy = redshift_copy(&layout(), &source);
        assert!(copy.contains(&format!("IAM_ROLE '{role}' MANIFEST REGION 'us-east-2'")) && copy.contains("NOLOAD"), "{copy}");
    }
}
