//! What Redshift refuses, and what it takes that PostgreSQL does not, on the level of words.
//!
//! A list, not a grammar: it holds what PostgreSQL would let pass and a cluster would not
//! (<https://docs.aws.amazon.com/redshift/latest/dg/c_redshift-and-postgres-sql.html>).

use sqlparser::dialect::RedshiftSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

/// An error that Redshift answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: &'static str,
    pub message: String,
}

impl Refusal {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Sequences of words that no statement may have, with code and reason.
const REFUSED: [(&[&str], &str, &str); 17] = [
    (&["ON", "CONFLICT"], "42601", "syntax error at or near \"CONFLICT\""),
    (&["RETURNING"], "42601", "syntax error at or near \"RETURNING\""),
    (&["DISTINCT", "ON", "("], "0A000", "SELECT DISTINCT ON is not supported"),
    (&["FROM", "STDIN"], "42601", "syntax error at or near \"STDIN\""),
    (&["ANY", "("], "22P03", "invalid array flags"),
    (&["ARRAY", "["], "0A000", "ARRAY constructors are not supported"),
    (&["UNNEST", "("], "42883", "function unnest does not exist"),
    (&["PG_RANGE"], "42P01", "relation \"pg_range\" does not exist"),
    (&["SERIAL"], "0A000", "column type SERIAL is not supported"),
    (&["BIGSERIAL"], "0A000", "column type BIGSERIAL is not supported"),
    (&["CREATE", "INDEX"], "0A000", "SQL command \"CREATE INDEX\" not supported on Redshift tables"),
    (&["CREATE", "UNIQUE", "INDEX"], "0A000", "SQL command \"CREATE INDEX\" not supported on Redshift tables"),
    (&["SAVEPOINT"], "0A000", "SQL command \"SAVEPOINT\" not supported"),
    (&["ON", "COMMIT"], "42601", "syntax error at or near \"COMMIT\""),
    (&["LATERAL"], "0A000", "LATERAL is not supported"),
    (&["SKIP", "LOCKED"], "42601", "syntax error at or near \"SKIP\""),
    (&["FOR", "UPDATE"], "0A000", "SELECT FOR UPDATE is not supported"),
];

/// The tokens of one or more statements, blanks and comments among them.
pub(super) fn tokens(sql: &str) -> Vec<Token> {
    // What it cannot read, the server behind will not be able to read either.
    Tokenizer::new(&RedshiftSqlDialect {}, sql).with_unescape(false).tokenize().unwrap_or_default()
}

/// Upper-case words and signs, without blanks and comments.
pub(super) fn words(sql: &str) -> Vec<String> {
    let visible = tokens(sql).into_iter().filter(|token| !matches!(token, Token::Whitespace(_)));
    let upper = |token: Token| match token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_uppercase(),
        other => other.to_string(),
    };
    visible.map(upper).collect()
}

/// Why Redshift would refuse this, if it would.
#[must_use]
pub fn refusal(sql: &str) -> Option<Refusal> {
    let words = words(sql);
    let has = |sequence: &[&str]| words.windows(sequence.len()).any(|window| window == sequence);
    if let Some((_, code, message)) = REFUSED.iter().find(|(sequence, ..)| has(sequence)) {
        return Some(Refusal::new(code, *message));
    }
    let statement: Vec<&str> = words.iter().map(String::as_str).collect();
    match statement.as_slice() {
        ["MERGE", "INTO", rest @ ..] => merge_refusal(rest),
        _ => None,
    }
}

/// MERGE takes a table as source, gives the target no alias, and wants both branches
/// (<https://docs.aws.amazon.com/redshift/latest/dg/r_MERGE.html>).
fn merge_refusal(words: &[&str]) -> Option<Refusal> {
    let using = words.iter().position(|word| *word == "USING")?;
    // A name is one word, or three with its schema.
    if using != 1 && using != 3 {
        return Some(Refusal::new("42601", "MERGE takes no alias for its target"));
    }
    if words.get(using + 1) == Some(&"(") {
        return Some(Refusal::new("42601", "MERGE takes a table as its source"));
    }
    let text = words.join(" ");
    let both = text.contains("WHEN MATCHED THEN") && text.contains("WHEN NOT MATCHED THEN INSERT");
    (!both).then(|| Refusal::new("42601", "MERGE wants WHEN MATCHED and WHEN NOT MATCHED"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redshift_lacks_is_refused_and_the_rest_is_not() {
        let code = |sql: &str| refusal(sql).map(|refusal| refusal.code);
        assert_eq!(code("INSERT INTO t VALUES ($1) ON CONFLICT DO NOTHING"), Some("42601"));
        assert_eq!(code("DELETE FROM t returning a"), Some("42601"));
        assert_eq!(code("SELECT a FROM t WHERE a = ANY($1)"), Some("22P03"));
        assert_eq!(code("SELECT 1 FROM pg_catalog.pg_range"), Some("42P01"));
        assert_eq!(code("MERGE INTO t x USING s ON a = b WHEN MATCHED THEN DELETE"), Some("42601"));
        assert_eq!(code("MERGE INTO t USING (SELECT 1) s ON a = b"), Some("42601"));
        assert_eq!(code("MERGE INTO public.t USING s ON a = b WHEN MATCHED THEN UPDATE SET a = 1"), Some("42601"));
        for sql in [
            "SELECT a FROM t WHERE a IN ($1, $2) AND b = 'ON CONFLICT'",
            "-- RETURNING\nSELECT 1",
            "MERGE INTO public.t USING s ON a = b WHEN MATCHED THEN UPDATE SET a = 1 WHEN NOT MATCHED THEN INSERT (a) VALUES (1)",
        ] {
            assert_eq!(refusal(sql), None, "{sql}");
        }
    }
}
