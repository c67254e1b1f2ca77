//! Warehouses that differ from the contract, each in one way.

use super::*;

const SERVER: Server = Server::Postgresql { major: 15 };

pub(super) fn fitting() -> Vec<TableColumn> {
    let column = |wanted: Wanted| TableColumn {
        name: wanted.name,
        data_type: if wanted.width.is_some() { "character varying" } else { "timestamp without time zone" }.to_owned(),
        width: wanted.width.map(|width| width as u64),
    };
    Wanted::all().into_iter().map(column).collect()
}

fn plan(change: impl FnOnce(&mut Vec<TableColumn>)) -> SchemaPlan {
    let mut drivers = fitting();
    change(&mut drivers);
    SchemaPlan::compare(SERVER, &drivers, &fitting())
}

#[test]
fn a_warehouse_that_fits_needs_nothing() {
    let plan = plan(|_| {});
    assert_eq!(plan.ddl().count(), 0);
    let layout = plan.layout(OnDrift::Freeze).unwrap();
    assert_eq!((layout.columns().len(), plan.left_out().len()), (COLUMNS.len(), 0));
    assert!(plan.text().contains("nothing to do"), "{}", plan.text());
}

#[test]
fn wider_and_further_columns_are_no_difference() {
    let plan = plan(|columns| {
        columns[5].width = Some(4_000);
        columns[6] = TableColumn { name: "state".into(), data_type: "text".into(), width: None };
        columns.push(TableColumn { name: "remarks".into(), data_type: "integer".into(), width: None });
    });
    assert_eq!(plan.differences, []);
    assert_eq!(plan.layout(OnDrift::Freeze).unwrap().columns()[5].width, COLUMNS[5].max_bytes, "never wider than the contract");
}

#[test]
fn a_missing_column_is_added_or_left_out() {
    let plan = plan(|columns| columns.retain(|column| column.name != "email"));
    assert_eq!(plan.ddl().collect::<Vec<_>>(), ["ALTER TABLE public.rtr_iot_driver_data ADD COLUMN email VARCHAR(320)"]);
    assert_eq!((plan.layout(OnDrift::Freeze), plan.layout(OnDrift::Add)), (None, None));
    let layout = plan.layout(OnDrift::Discard).unwrap();
    assert_eq!((layout.columns().len(), plan.left_out()), (COLUMNS.len() - 1, ["email".to_owned()].as_slice()));
}

#[test]
fn a_narrow_column_is_widened_or_takes_what_fits() {
    let plan = plan(|columns| columns[5].width = Some(8));
    assert_eq!(plan.ddl().collect::<Vec<_>>(), ["ALTER TABLE public.rtr_iot_driver_data ALTER COLUMN city TYPE VARCHAR(256)"]);
    let layout = plan.layout(OnDrift::Discard).unwrap();
    assert_eq!((layout.columns()[5].width, plan.left_out().len()), (8, 0));
    assert!(plan.text().contains("public.rtr_iot_driver_data.city: the column is character varying(8)"), "{}", plan.text());
}

#[test]
fn a_column_of_another_type_is_for_a_person_to_decide() {
    let plan = plan(|columns| columns[7] = TableColumn { name: "zipcode".into(), data_type: "integer".into(), width: None });
    assert!(!plan.can_be_mended());
    assert!(plan.layout(OnDrift::Discard).is_some());
    assert_eq!(plan.left_out(), ["zipcode"]);
}

#[test]
fn without_plate_or_marks_nothing_is_loaded() {
    for name in ["licenseplate", "_load_id", "_loaded_at"] {
        let plan = plan(|columns| columns.retain(|column| column.name != name));
        assert_eq!(plan.layout(OnDrift::Discard), None, "{name}");
        assert!(plan.can_be_mended());
    }
}

#[test]
fn missing_tables_are_made_as_the_schema_file_has_them() {
    let plan = SchemaPlan::compare(SERVER, &[], &[]);
    let ddl: Vec<&str> = plan.ddl().collect();
    assert_eq!((ddl.len(), plan.layout(OnDrift::Discard)), (2, None));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").replace("( ", "(").replace(" )", ")");
    let schema: String = SCHEMA.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
    for (made, written) in ddl.iter().zip(schema.split(';')) {
        assert_eq!(words(made), words(written));
    }
    let on_redshift = SchemaPlan::compare(Server::Redshift, &[], &[]);
    assert!(on_redshift.ddl().next().unwrap().ends_with("DISTKEY (licenseplate)"));
}

#[test]
fn plans_are_json_for_scripts() {
    let json = serde_json::to_value(plan(|columns| columns[5].width = Some(8))).unwrap();
    assert_eq!((json["warehouse"].as_str(), json["differences"][0]["kind"].as_str()), (Some("postgresql"), Some("too_narrow")));
}
