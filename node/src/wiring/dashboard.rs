//! What the API is served with: its certificate, its tokens, and the names it goes by.

use std::net::SocketAddr;

use super::bad;
use crate::api::{ApiTls, Gate, TlsFault};
use crate::config::DashboardConfig;
use crate::exit::Stop;
use crate::tokens::TokenFile;

/// What the files of `[dashboard]` hold.
pub(crate) struct DashboardParts {
    pub(crate) tls: Option<ApiTls>,
    users: Option<TokenFile>,
    names: Vec<String>,
}

/// Reads the files, before anything is listened on.
pub(crate) fn dashboard_parts(config: &DashboardConfig) -> Result<DashboardParts, Stop> {
    let tls = config.tls_files().map(|(certificate, key)| {
        ApiTls::from_files(certificate, key).map_err(|TlsFault { file, what }| {
            let at_fault = if file == key { "dashboard.tls_key" } else { "dashboard.tls_cert" };
            bad(at_fault, &format_args!("`{}`: {what}", file.display()))
        })
    });
    let users = config.tokens_file().map(|file| {
        let users = TokenFile::open(file).map_err(|fault| bad("dashboard.tokens_file", &fault))?;
        if users.current().is_ok_and(|tokens| tokens.entries().is_empty()) {
            tracing::warn!(file = %file.display(), "there is no token yet; `speedtrap token new` makes one");
        }
        Ok(users)
    });
    let names = config.hosts.iter().map(String::as_str).chain(config.url_host()).map(str::to_owned).collect();
    Ok(DashboardParts { tls: tls.transpose()?, users: users.transpose()?, names })
}

impl DashboardParts {
    /// Where people and other nodes reach the API.
    pub(crate) fn url(&self, config: &DashboardConfig, address: SocketAddr) -> String {
        match config.url.trim_end_matches('/') {
            "" => format!("{}://{address}", if self.tls.is_some() { "https" } else { "http" }),
            url => url.to_owned(),
        }
    }

    /// The gate of the API, and what it is served over TLS with.
    pub(crate) fn gate(self, address: SocketAddr, url: &str) -> (Gate, Option<ApiTls>) {
        (Gate::new(address, self.names, self.users, url.starts_with("https://")), self.tls)
    }
}
