//! Which kind of server the warehouse is (pure). The server is asked; nobody has to configure it, so nobody can get it wrong.

use serde::{Serialize, Serializer};

/// The kind of server behind the warehouse's URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Redshift,
    Postgresql { major: u32 },
}

impl Server {
    /// Reads the answer to `SELECT version()`. Redshift's begins like one of PostgreSQL 8.0.2 and names itself further on.
    pub(crate) fn parse(version: &str) -> Self {
        if version.contains("Redshift") {
            return Self::Redshift;
        }
        let digits = version.split_whitespace().nth(1).and_then(|number| number.split(|c: char| !c.is_ascii_digit()).next());
        Self::Postgresql { major: digits.and_then(|digits| digits.parse().ok()).unwrap_or_default() }
    }

    /// As reports name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Redshift => "redshift",
            Self::Postgresql { .. } => "postgresql",
        }
    }

    /// MERGE is in PostgreSQL since 15, in all of Redshift.
    pub(crate) fn has_merge(self) -> bool {
        !matches!(self, Self::Postgresql { major } if major < 15)
    }
}

impl Serialize for Server {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_apart_by_what_they_say() {
        let redshift = "PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017, Redshift 1.0.77467";
        assert_eq!(Server::parse(redshift), Server::Redshift);
        assert!(Server::Redshift.has_merge());
        for (version, major, has_merge) in [
            ("PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu", 15, true),
            ("PostgreSQL 14.9", 14, false),
            ("PostgreSQL 18devel", 18, true),
            ("something else", 0, false),
        ] {
            let server = Server::parse(version);
            assert_eq!((server, server.has_merge()), (Server::Postgresql { major }, has_merge), "{version}");
        }
    }
}
