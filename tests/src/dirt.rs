//! A drivers file with every kind of dirt that a row can have, and what must become of each.

/// The header of drivers files.
pub const HEADER: &str = "first_name,last_name,licensePlate,email,address,city,state,zipcode,phoneNumber,myphone";

/// One row, or one thing that looks like a row.
pub struct DirtyRow {
    /// What is wrong with it, in words.
    pub kind: String,
    /// The line of the file it begins on.
    pub line: u64,
    /// The bytes before it.
    pub byte: u64,
    pub bytes: Vec<u8>,
    pub end: End,
}

/// What must become of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It is put into the quarantine for this reason, which lies in this column.
    Rejected(&'static str, Option<&'static str>),
    /// It is loaded, with this warning if any.
    Loaded(Option<&'static str>),
    /// It is no row.
    Nothing,
}

/// The whole file.
pub struct DirtyFile {
    pub bytes: Vec<u8>,
    pub rows: Vec<DirtyRow>,
    mark: String,
}

/// Places of columns.
const PLATE: usize = 2;
const EMAIL: usize = 3;
const ADDRESS: usize = 4;
const CITY: usize = 5;
const ZIP: usize = 7;
const PHONE: usize = 8;
const MYPHONE: usize = 9;

impl DirtyFile {
    /// A file with a byte order mark, lines that end with CR LF but for one, and no line end at its end. Before each dirty row
    /// stands a clean one, with quotes that would close any that a dirty row left open. All plates begin with `mark`.
    #[must_use]
    pub fn new(mark: &str) -> Self {
        let mut file = Self { bytes: format!("\u{feff}{HEADER}").into_bytes(), rows: Vec::new(), mark: mark.to_owned() };
        for (n, (kind, bytes, end)) in kinds(mark).into_iter().enumerate() {
            let clean = clean_row(&format!("{mark}CLEAN{n}"));
            file.add(format!("a clean row before {kind}"), clean, End::Loaded(None), "\r\n");
            // Somebody edited this one with another editor.
            file.add(kind.to_owned(), bytes, end, if n == 3 { "\n" } else { "\r\n" });
        }
        file.add("the last row, without a line end".to_owned(), clean_row(&format!("{mark}LAST")), End::Loaded(None), "\r\n");
        file
    }

    fn add(&mut self, kind: String, bytes: Vec<u8>, end: End, line_end_before: &str) {
        self.bytes.extend_from_slice(line_end_before.as_bytes());
        let line = 1 + self.bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.rows.push(DirtyRow { kind, line, byte: self.bytes.len() as u64, bytes: bytes.clone(), end });
        self.bytes.extend(bytes);
    }

    /// The rows that must be rejected.
    pub fn rejected(&self) -> impl Iterator<Item = (&DirtyRow, &'static str, Option<&'static str>)> {
        self.rows.iter().filter_map(|row| match row.end {
            End::Rejected(reason, column) => Some((row, reason, column)),
            _ => None,
        })
    }

    /// How many rows must be loaded.
    #[must_use]
    pub fn n_loaded(&self) -> usize {
        self.rows.iter().filter(|row| matches!(row.end, End::Loaded(_))).count()
    }

    /// A row as its author meant it, for the one on this line.
    #[must_use]
    pub fn mended(&self, line: u64) -> String {
        String::from_utf8_lossy(&clean_row(&format!("{}MENDED{line}", self.mark))).into_owned()
    }
}

/// A row without fault but with a quoted comma.
#[must_use]
pub fn clean_row(plate: &str) -> Vec<u8> {
    row(plate, ADDRESS, b"\"1 Mill Row, Apt 9\"")
}

/// A row in which one column holds something else.
fn row(plate: &str, column: usize, value: &[u8]) -> Vec<u8> {
    let fields =
        ["Ana", "Ink", plate, "ana@example.com", "1 Mill Row", "Foxgallow", "Iowa", "50301", "515-555-0100", "5155550100"];
    let mut fields = fields.map(str::as_bytes);
    fields[column] = value;
    fields.join(&b","[..])
}

/// More than forty kinds of dirt.
#[allow(clippy::too_many_lines, reason = "it is one table")]
fn kinds(mark: &str) -> Vec<(&'static str, Vec<u8>, End)> {
    let plate = |n: usize| format!("{mark}{n}");
    let with = |n: usize, column: usize, value: &str| row(&plate(n), column, value.as_bytes());
    let text = |text: String| text.into_bytes();
    let good = |n: usize| String::from_utf8_lossy(&with(n, CITY, "Foxgallow")).into_owned();
    let ragged = End::Rejected("ragged", None);
    let rejected = |reason, column| End::Rejected(reason, Some(column));
    let warned = |warning| End::Loaded(Some(warning));
    vec![
        ("a row of two fields", b"a,b".to_vec(), ragged.clone()),
        ("a row without its last field", text(good(1).replace(",5155550100", "")), ragged.clone()),
        ("a row with a field too many", text(format!("{},surplus", good(2))), ragged.clone()),
        ("a line without a comma", b"end of export".to_vec(), ragged.clone()),
        ("a line of blanks", b"   ".to_vec(), ragged.clone()),
        ("the end-of-file character of DOS", b"\x1a".to_vec(), ragged.clone()),
        ("a row with semicolons", text(good(3).replace(',', ";")), ragged.clone()),
        ("a row with tabs", text(good(4).replace(',', "\t")), ragged.clone()),
        ("a row of JSON", b"{\"first_name\":\"Ana\",\"last_name\":\"Ink\"}".to_vec(), End::Rejected("text_after_quote", None)),
        ("an unquoted comma in an address", with(5, ADDRESS, "1 Mill Row, Apt 9"), ragged),
        ("the header once more", text(HEADER.to_owned()), End::Rejected("repeated_header", None)),
        ("a quote that is not closed", with(6, ADDRESS, "\"1 Mill Row"), End::Rejected("unclosed_quote", None)),
        ("a quote that is not closed in the last field", with(7, MYPHONE, "\"5155550100"), End::Rejected("unclosed_quote", None)),
        ("text behind a closing quote", with(8, ADDRESS, "\"1 Mill\" Row"), End::Rejected("text_after_quote", None)),
        ("a line of 70,000 bytes", with(9, ADDRESS, &"x".repeat(70_000)), End::Rejected("line_too_long", None)),
        ("a city in Latin-1", row(&plate(10), CITY, b"Pe\xf1a"), rejected("undecodable", "city")),
        ("quotes of Windows-1252", row(&plate(11), ADDRESS, b"\x93Mill\x94 Row"), rejected("undecodable", "address")),
        ("a character cut in two", row("95B\u{2022}", PLATE, b"95B\xe2\x80"), rejected("undecodable", "licensePlate")),
        ("an overlong encoding", row(&plate(12), 0, b"A\xc0\xafna"), rejected("undecodable", "first_name")),
        ("half a surrogate pair", row(&plate(13), 1, b"\xed\xa0\x80"), rejected("undecodable", "last_name")),
        ("a NUL byte", with(14, 0, "A\0na"), rejected("nul_byte", "first_name")),
        ("a field in UTF-16", with(15, CITY, "F\0o\0x\0"), rejected("nul_byte", "city")),
        ("no plate", row("", PLATE, b""), rejected("empty_plate", "licensePlate")),
        ("a plate of blanks", row("", PLATE, b"   "), rejected("empty_plate", "licensePlate")),
        ("a plate of blanks that cannot be seen", row("", PLATE, "\u{a0}\t".as_bytes()), rejected("empty_plate", "licensePlate")),
        ("a plate of 65 characters", row("", PLATE, &[b'P'; 65]), rejected("too_long", "licensePlate")),
        (
            "a plate of 22 characters and 66 bytes",
            row("", PLATE, "\u{2022}".repeat(22).as_bytes()),
            rejected("too_long", "licensePlate"),
        ),
        ("a name that is too long", with(16, 0, &"n".repeat(257)), rejected("too_long", "first_name")),
        (
            "an e-mail address that is too long",
            with(17, EMAIL, &format!("{}@example.com", "m".repeat(310))),
            rejected("too_long", "email"),
        ),
        ("a city that is too long in bytes", with(18, CITY, &"\u{e9}".repeat(129)), rejected("too_long", "city")),
        ("a zip code that is too long", with(19, ZIP, "50301-1234-5678-90"), rejected("too_long", "zipcode")),
        ("a phone number that is too long", with(20, PHONE, &"5".repeat(65)), rejected("too_long", "phoneNumber")),
        ("two faults in one row", row("", CITY, b"Pe\xf1a"), rejected("empty_plate", "licensePlate")),
        ("a bad e-mail address", with(21, EMAIL, "ana at example.com"), warned("bad_email")),
        ("a bad phone number", with(22, PHONE, "001-515-555-0100x123"), warned("bad_phone_number")),
        ("a number that cannot be texted", with(23, MYPHONE, "n/a"), warned("invalid_myphone")),
        ("no number to text", with(24, MYPHONE, ""), warned("invalid_myphone")),
        ("a zip code that lost its zeros", with(25, ZIP, "501"), warned("short_zip")),
        ("a plate that a spreadsheet took for a number", row("", PLATE, b"6.00E+272"), warned("excel_damage")),
        ("a plate that a spreadsheet took for a date", row("", PLATE, b"3-Mar"), warned("excel_damage")),
        ("an error of a spreadsheet", with(26, CITY, "#REF!"), warned("excel_damage")),
        ("a control character", with(27, 0, "A\u{7}na"), warned("control_character")),
        ("a character lost before", with(28, CITY, "Pe\u{fffd}a"), warned("replacement_character")),
        ("an empty line", Vec::new(), End::Nothing),
        ("a line break in quotes", with(29, ADDRESS, "\"1 Mill Row\r\nApt 9\""), End::Loaded(None)),
        ("quotes in quotes", with(30, ADDRESS, "\"1 \"\"Mill\"\" Row\""), End::Loaded(None)),
        ("quotes where none are needed", with(31, CITY, "\"Foxgallow\""), End::Loaded(None)),
        ("a plate with a character of three bytes", row("", PLATE, format!("{mark}\u{2022}140").as_bytes()), End::Loaded(None)),
        ("blanks around a plate", row("", PLATE, format!(" {mark}B ").as_bytes()), End::Loaded(None)),
    ]
}
