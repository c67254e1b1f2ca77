//! The audit's own grammar of a reading, held against the golden records and against values that must be refused.
#![allow(clippy::unwrap_used)]

use std::{path::Path, process::Command};

const SCRIPT: &str = r#"
import json, sys
from input_grammar import Rejected, parse_event

golden = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
assert golden
for one in golden:
    found = parse_event(one["json"].encode())
    assert found.event_id == one["eventId"], (one, found)

good = json.loads(golden[0]["json"])
def record(**changes):
    members = {**good, **changes}
    return json.dumps({name: value for name, value in members.items() if value is not ...}).encode()

for text, speed in {"068": 68, " 68 ": 68, "68.0": 68, "68.000": 68, "0": 0, "000999": 999, 76: 76, 76.0: 76}.items():
    assert parse_event(record(speed=text)).speed == speed, text
assert parse_event(record(eventId="pi-1_2.3")).event_id == "pi-1_2.3"
assert parse_event(record(eventId=7)).event_id == "7"
assert parse_event(record(licensePlate=" x ", topic="t")).plate == "x"

refused = [b"", b"{", b"[]", b"\xff", b'{"a":1,"a":1}', b"[" * 100000]
refused += [record(speed=bad) for bad in ("75.9", "-1", "", "1000", "1e2", "68.", ".5", "0x10", True, None, [], {}, ...)]
refused += [record(licensePlate=bad) for bad in ("", "  ", "x" * 65, None, True, ["x"], {"x": 1}, ...)]
refused += [record(city="x" * 257), record(eventId=""), record(eventId="a b"), record(eventId=None), record(eventId="x" * 65)]
refused += [record(more="x" * 131072), record(speed=68).replace(b"68", b"NaN"), record(city="\ud800")]
for bad in refused:
    try:
        parse_event(bad)
    except Rejected:
        continue
    raise AssertionError(bad[:200])
"#;

#[test]
fn grammar_agrees_with_the_golden_records_and_refuses_what_is_none() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let answer = Command::new("python3")
        .args(["-B", "-c", SCRIPT])
        .arg(here.join("../../data/golden/readings.ndjson"))
        .env("PYTHONPATH", here.join("cloud"))
        .output()
        .unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
}
