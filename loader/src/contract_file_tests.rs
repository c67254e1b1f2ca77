//! Contracts as people write them, and what is said about wrong ones.

use super::*;

fn parse(text: &str) -> Result<Contract, ContractError> {
    Contract::parse(Path::new("mine.toml"), text)
}

fn keys_of(text: &str) -> Vec<String> {
    match parse(text) {
        Err(ContractError::Faults { faults, .. }) => faults.into_iter().map(|fault| fault.key).collect(),
        other => panic!("no faults: {other:?}"),
    }
}

const PLATE_ONLY: &str =
    "[[column]]\nname = \"plate\"\nwarehouse = \"licenseplate\"\ntype = \"varchar\"\nbytes = 16\ncheck = \"plate\"\n";

#[test]
fn format_and_comments_do_not_change_what_a_contract_means() {
    let built_in = Contract::built_in().canonical();
    let table: Table = BUILT_IN.parse().unwrap();
    let columns = Table::from_iter([("column".to_owned(), table["column"].clone())]);
    let text = columns.to_string();
    assert!(!text.contains("findings") && !text.contains('#'));
    assert_eq!(parse(&text).unwrap().canonical(), built_in);

    for (from, to) in [("bytes = 16", "bytes = 12"), ("short_zip = \"warn\"", "short_zip = \"error\""), ("= \",\"", "= \";\"")] {
        let other = BUILT_IN.replacen(from, to, 1);
        assert_ne!(parse(&other).unwrap().canonical(), built_in, "{to}");
    }
}

#[test]
fn every_optional_key_is_read() {
    let text = format!(
        "delimiter = \"\\t\"\n{PLATE_ONLY}trim = true\n[[column]]\nname = \"Postal code\"\nwarehouse = \"zipcode\"\ntype = \"varchar\"\n\
         bytes = 10\ncheck = \"zip\"\nrequired = true\npad = 5\n[[column]]\nname = \"note\"\ntype = \"varchar\"\nbytes = 4000\n\
         [findings]\nempty_value = \"warn\"\n"
    );
    let contract = parse(&text).unwrap();
    assert_eq!((contract.delimiter, contract.header().as_str()), (b'\t', "plate\tPostal code\tnote"));
    let [plate, zip, note] = &contract.columns[..] else { panic!("three columns") };
    assert_eq!((plate.place, plate.trim, plate.bytes), (Some(PLATE), true, 16));
    assert_eq!((zip.check, zip.required, zip.pad), (Check::Zip, true, Some(5)));
    assert_eq!((note.place, note.check, note.bytes), (None, Check::Text, 4_000));
    assert_eq!(contract.severity(Finding::EmptyValue), Severity::Warn);
}

#[test]
fn all_faults_are_reported_together_with_value_and_what_is_allowed() {
    let text = format!(
        "delimiter = \"::\"\nsurprise = 1\n{PLATE_ONLY}colour = \"red\"\n[[column]]\nname = \"plate\"\nwarehouse = \"licenseplate\"\n\
         type = \"int\"\nbytes = 65\ncheck = \"number\"\nrequired = \"yes\"\npad = 0\n[findings]\nragged = \"warn\"\nbad_hair = \"warn\"\n\
         short_zip = 3\n"
    );
    let expected = [
        "surprise",
        "delimiter",
        "column[0].colour",
        "column[1].type",
        "column[1].bytes",
        "column[1].check",
        "column[1].required",
        "column[1].pad",
        "column[1].check",
        "column[1].name",
        "column[1].warehouse",
        "findings.bad_hair",
        "findings.ragged",
        "findings.short_zip",
    ];
    let mut keys = keys_of(&text);
    let mut expected = expected.map(str::to_owned).to_vec();
    keys.sort();
    expected.sort();
    assert_eq!(keys, expected);
    let said = parse(&text).unwrap_err().to_string();
    assert!(said.contains("column[1].bytes = 65, allowed: 1 to 64"), "{said}");
    assert!(said.contains("findings.ragged = \"warn\", allowed: \"error\""), "{said}");
}

#[test]
fn a_contract_without_columns_or_plate_is_refused() {
    assert_eq!(keys_of(""), ["column"]);
    let said = parse(&PLATE_ONLY.replace("licenseplate", "city").replace("\"plate\"\n", "\"text\"\n")).unwrap_err().to_string();
    assert!(said.contains("by which drivers are known"), "{said}");
}

#[test]
fn broken_toml_is_shown_with_its_line() {
    let said = parse("delimiter = \",\"\n[[column]\n").unwrap_err().to_string();
    assert!(said.contains("line 2"), "{said}");
    let missing = Contract::chosen(Some(Path::new("/nowhere/mine.toml"))).unwrap_err().to_string();
    assert!(missing.contains("/nowhere/mine.toml"), "{missing}");
}
