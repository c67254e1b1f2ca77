//! Where a statement comes from, and what of it may stand in the audit log.

use std::io::Read as _;
use std::path::Path;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use speedtrap_node::{Exit, Stop};

/// More is no statement that somebody wrote.
const MOST_BYTES: u64 = 1 << 20;
/// Characters of a statement in the audit log.
const MOST_SHOWN: usize = 500;

/// The statement as it was given, or as it stands in a file; `-` is standard input.
///
/// # Errors
/// When it cannot be read, or is empty.
pub(crate) fn read(given: Option<&str>, file: Option<&Path>) -> Result<String, Stop> {
    let from_file = |path: &Path| match path.as_os_str() == "-" {
        true => text_of(std::io::stdin().lock()),
        false => std::fs::File::open(path).and_then(text_of),
    };
    let path = file.or(given.filter(|given| *given == "-").map(Path::new));
    let text = match (path, given) {
        (Some(path), _) => from_file(path).map_err(|error| {
            Stop::new(Exit::Usage, format!("the statement cannot be read from `{}`", path.display()))
                .why(error)
                .next("name a file that holds one SQL statement, or give it as the argument")
        })?,
        (None, given) => given.unwrap_or_default().to_owned(),
    };
    if text.trim().is_empty() {
        return Err(Stop::new(Exit::Usage, "there is no statement").next("give one, such as \"SELECT count(*) FROM violations\""));
    }
    Ok(text)
}

fn text_of(source: impl std::io::Read) -> std::io::Result<String> {
    let mut text = String::new();
    source.take(MOST_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// The statement without what may be about a person: texts, long numbers and comments.
pub(crate) fn without_persons(statement: &str) -> String {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, statement).tokenize() else { return "a statement".to_owned() };
    let mut shown = String::new();
    for token in tokens {
        let text = token.to_string();
        let is_plain = match &token {
            Token::Word(word) => word.quote_style.is_none(),
            Token::Number(digits, _) => digits.len() <= 4,
            Token::Whitespace(_) => {
                shown.push(' ');
                continue;
            }
            _ => text.chars().all(|c| c.is_ascii_punctuation() && c != '\'' && c != '"'),
        };
        shown.push_str(if is_plain { &text } else { "'…'" });
    }
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(MOST_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_log_learns_what_was_asked_but_not_of_whom() {
        let statement = "SELECT d.last_name, count(*) -- about A. Driver\nFROM drivers d WHERE d.license_plate = '4-2288B' AND myphone <> $$5155550100$$\n AND x = 5155550100 AND speed >= 76 /* 4-2288B */";
        let shown = without_persons(statement);
        assert_eq!(
            shown,
            "SELECT d.last_name, count(*) FROM drivers d WHERE d.license_plate = '…' AND myphone <> '…' AND x = '…' AND speed >= 76"
        );
        assert_eq!(without_persons("SELECT 'torn"), "a statement");
        assert!(without_persons(&"a ".repeat(2_000)).chars().count() <= MOST_SHOWN);
    }

    #[test]
    fn a_statement_comes_from_the_argument_or_from_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("q.sql");
        std::fs::write(&file, "SELECT 1\n").expect("written");
        assert_eq!(read(Some("SELECT 2"), None).as_deref(), Ok("SELECT 2"));
        assert_eq!(read(None, Some(&file)).as_deref(), Ok("SELECT 1\n"));
        for stop in [read(None, Some(&folder.path().join("none"))), read(Some(" "), None)] {
            assert_eq!(stop.map_err(|stop| stop.exit), Err(Exit::Usage));
        }
    }
}
