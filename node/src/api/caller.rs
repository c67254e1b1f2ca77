//! Who asks, and what they may do.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::problem::Problem;

/// Header in which somebody whom nobody has to know says who they are.
const WHO: &str = "x-speedtrap-who";
/// Longest such name.
const MOST_NAME_BYTES: usize = 100;

/// What somebody may do; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Sees everything that is masked.
    Viewer,
    /// Moves work, puts letters back, looks at what is masked.
    Operator,
    /// Also does what loses work: kills actors, gives letters up.
    Admin,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// What the audit log calls them: the name of their token. Without tokens, on loopback, what they call themselves.
    pub(super) name: String,
    pub(super) role: Role,
    /// `page` or `command`.
    pub(super) from: &'static str,
}

impl Role {
    /// The name used in files and in the API.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The same in a sentence.
    pub(crate) const fn with_article(self) -> &'static str {
        match self {
            Self::Viewer => "a viewer",
            Self::Operator => "an operator",
            Self::Admin => "an admin",
        }
    }
}

impl Caller {
    /// Somebody on this machine, where there are no tokens.
    pub(super) fn local(headers: &HeaderMap, from: &'static str) -> Self {
        let is_name = |name: &&str| !name.is_empty() && name.len() <= MOST_NAME_BYTES;
        let name = headers.get(WHO).and_then(|name| name.to_str().ok()).map(str::trim).filter(is_name).unwrap_or("local");
        Self { name: name.to_owned(), role: Role::Admin, from }
    }

    /// Refuses those who may do less.
    ///
    /// # Errors
    /// With the answer that says so.
    pub(super) fn must_be(&self, least: Role) -> Result<(), Problem> {
        if self.role >= least {
            return Ok(());
        }
        let detail = format!("`{}` is {}; this takes {}", self.name, self.role.with_article(), least.with_article());
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
            .hint("ask with the token of somebody who may: `speedtrap token new --role` makes one"))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(unauthenticated)
    }
}

/// The answer to somebody who is nobody yet.
pub(super) fn unauthenticated() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", "this node has to know who asks")
        .hint("sign in on the page, or give a command the file of your token: --token-file or SPEEDTRAP_TOKEN_FILE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_do_what_the_lesser_ones_may() {
        let may = |role, least| Caller { name: "desk".into(), role, from: "page" }.must_be(least).is_ok();
        let roles = [Role::Viewer, Role::Operator, Role::Admin];
        for (n, role) in roles.into_iter().enumerate() {
            assert_eq!(roles.map(|least| may(role, least)), [true, n >= 1, n >= 2], "{role:?}");
        }
    }

    #[test]
    fn somebody_on_this_machine_may_say_who_they_are() {
        let named = |name: &str| {
            let headers = [(WHO.parse().expect("a name"), name.parse().expect("a value"))].into_iter().collect();
            Caller::local(&headers, "command").name
        };
        assert_eq!([named("desk-3"), named(" "), named(&"x".repeat(101))], ["desk-3", "local", "local"]);
        assert_eq!(Caller::local(&HeaderMap::new(), "page").name, "local");
    }
}
