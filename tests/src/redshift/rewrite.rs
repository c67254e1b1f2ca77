//! Turns Redshift's SQL into what PostgreSQL runs with the same effect.

use sqlparser::tokenizer::Token;

use super::dialect::{tokens, words};

/// What a cluster answers to `version()`.
const VERSION: &str =
    "'PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017 (Red Hat 3.4.2-6.fc3), Redshift 1.0.77467'";

/// One or more statements for PostgreSQL. Schema `public` becomes `schema`, so that stand-ins beside each other do not meet.
pub(super) fn rewritten(sql: &str, schema: &str) -> String {
    let mut tokens = tokens(sql);
    rename_public(&mut tokens, schema);
    tell_version(&mut tokens);
    let words = words(sql);
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["CREATE", "TABLE", ..] | ["CREATE", "TEMP" | "TEMPORARY", "TABLE", ..] => {
            strip_distribution(&mut tokens);
            limit_bytes(&mut tokens);
            joined(&tokens)
        }
        ["ALTER", "TABLE", .., "TYPE", "VARCHAR", "(", _, ")"] => widened(&tokens),
        ["ALTER", "TABLE", ..] => {
            limit_bytes(&mut tokens);
            joined(&tokens)
        }
        // It commits what was done so far.
        ["TRUNCATE", ..] => format!("{}; COMMIT", joined(&tokens)),
        _ => joined(&tokens),
    }
}

fn joined(tokens: &[Token]) -> String {
    tokens.iter().map(ToString::to_string).collect()
}

fn is_word(token: Option<&Token>, wanted: &str) -> bool {
    matches!(token, Some(Token::Word(word)) if word.value.eq_ignore_ascii_case(wanted))
}

fn rename_public(tokens: &mut [Token], schema: &str) {
    for token in tokens {
        match token {
            Token::SingleQuotedString(text) if text == "public" => schema.clone_into(text),
            Token::Word(word) if word.value == "public" => schema.clone_into(&mut word.value),
            _ => {}
        }
    }
}

fn tell_version(tokens: &mut Vec<Token>) {
    while let Some(place) = (0..tokens.len()).find(|place| {
        is_word(tokens.get(*place), "version")
            && tokens.get(place + 1) == Some(&Token::LParen)
            && tokens.get(place + 2) == Some(&Token::RParen)
    }) {
        tokens.splice(place..place + 3, [Token::SingleQuotedString(VERSION.trim_matches('\'').to_owned())]);
    }
}

/// The next place at or behind `from` that holds no blank.
fn visible(tokens: &[Token], from: usize) -> usize {
    (from..tokens.len()).find(|place| !matches!(tokens[*place], Token::Whitespace(_))).unwrap_or(tokens.len())
}

/// Takes away DISTSTYLE, DISTKEY, SORTKEY and ENCODE with what belongs to them.
fn strip_distribution(tokens: &mut Vec<Token>) {
    let mut place = 0;
    while place < tokens.len() {
        let is = |word| is_word(tokens.get(place), word);
        if is("DISTSTYLE") || is("ENCODE") {
            let value = visible(tokens, place + 1);
            tokens.drain(place..=value.min(tokens.len() - 1));
        } else if is("DISTKEY") || is("SORTKEY") {
            let open = visible(tokens, place + 1);
            let end = match tokens.get(open) {
                Some(Token::LParen) => (open..tokens.len()).find(|end| tokens[*end] == Token::RParen).unwrap_or(tokens.len() - 1),
                _ => place,
            };
            tokens.drain(place..=end);
        } else if is("COMPOUND") || is("INTERLEAVED") {
            tokens.remove(place);
        } else {
            place += 1;
        }
    }
}

/// VARCHAR(n) has room for n bytes: `name VARCHAR(n)` gets a check behind it.
fn limit_bytes(tokens: &mut Vec<Token>) {
    let mut place = 0;
    while place < tokens.len() {
        if let Some((name, end, bytes)) = varchar_at(tokens, place) {
            let check = format!(" CHECK (octet_length({name}) <= {bytes})");
            // The words that may still stand behind it, such as NOT NULL, go in any order.
            tokens.insert(end + 1, Token::make_word(&check, None));
            place = end;
        }
        place += 1;
    }
}

/// `name VARCHAR ( n )` at a place: the name, where it ends, and n.
fn varchar_at(tokens: &[Token], place: usize) -> Option<(String, usize, String)> {
    let Some(Token::Word(name)) = tokens.get(place) else { return None };
    let varchar = visible(tokens, place + 1);
    if !is_word(tokens.get(varchar), "VARCHAR") {
        return None;
    }
    let open = visible(tokens, varchar + 1);
    let number = visible(tokens, open + 1);
    let close = visible(tokens, number + 1);
    match (tokens.get(open), tokens.get(number), tokens.get(close)) {
        (Some(Token::LParen), Some(Token::Number(bytes, _)), Some(Token::RParen)) => {
            Some((name.value.clone(), close, bytes.clone()))
        }
        _ => None,
    }
}

/// `ALTER TABLE t ALTER COLUMN c TYPE VARCHAR(n)`: the check of the old width must go.
fn widened(tokens: &[Token]) -> String {
    let shown: Vec<String> =
        tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).map(ToString::to_string).collect();
    let alter = shown.iter().rposition(|word| word.eq_ignore_ascii_case("ALTER")).unwrap_or_default();
    let table = shown[2..alter].concat();
    let (column, bytes) = (&shown[alter + 2], &shown[shown.len() - 2]);
    let check = format!("{}_{column}_check", table.rsplit('.').next().unwrap_or(&table));
    format!(
        "ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {check}, ALTER COLUMN {column} TYPE VARCHAR({bytes}), \
         ADD CONSTRAINT {check} CHECK (octet_length({column}) <= {bytes})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_lose_their_distribution_and_count_bytes() {
        let sql = "CREATE TABLE public.t (a VARCHAR(8) ENCODE zstd NOT NULL, b BIGINT) DISTSTYLE KEY DISTKEY (a) SORTKEY(a, b)";
        let made = rewritten(sql, "s1");
        let words: Vec<&str> = made.split_whitespace().collect();
        assert_eq!(words.join(" "), "CREATE TABLE s1.t (a VARCHAR(8) CHECK (octet_length(a) <= 8) NOT NULL, b BIGINT)");
    }

    #[test]
    fn widened_columns_get_the_check_of_their_new_width() {
        let made = rewritten("ALTER TABLE public.t ALTER COLUMN a TYPE VARCHAR(16)", "s1");
        assert!(
            made.starts_with("ALTER TABLE s1.t DROP CONSTRAINT IF EXISTS t_a_check, ALTER COLUMN a TYPE VARCHAR(16), "),
            "{made}"
        );
        let made = rewritten("ALTER TABLE public.t ADD COLUMN b VARCHAR(4)", "s1");
        assert_eq!(made, "ALTER TABLE s1.t ADD COLUMN b VARCHAR(4) CHECK (octet_length(b) <= 4)");
    }

    #[test]
    fn other_statements_keep_their_text() {
        let sql = "/* why */ SELECT 'it''s', $1 FROM t WHERE a <> 'x' AND table_schema = 'public'";
        assert_eq!(rewritten(sql, "s1"), sql.replace("public", "s1"));
        assert!(rewritten("SELECT CAST(version() AS VARCHAR)", "s1").contains("CAST('PostgreSQL 8.0.2 on "));
        assert_eq!(rewritten("TRUNCATE public.t", "s1"), "TRUNCATE s1.t; COMMIT");
    }
}
