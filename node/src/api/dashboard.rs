//! The files of the dashboard, as they stand in `node/dashboard`: part of the program, so that a node needs nothing beside it.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::problem::Problem;

/// Nothing but our own files runs, and no string is ever taken for HTML or script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// One file.
struct Asset {
    path: &'static str,
    body: &'static str,
    tag: String,
}

/// Lists the files under the paths by which the page asks for them.
macro_rules! assets {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../dashboard/", $path)))),*]
    };
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let files = assets![
        "index.html",
        "tokens.css",
        "style.css",
        "pages.css",
        "us_states.json",
        "action_model.js",
        "actions.js",
        "api.js",
        "app.js",
        "charts.js",
        "dom.js",
        "forest.js",
        "grid.js",
        "history.js",
        "load_model.js",
        "map_model.js",
        "model.js",
        "picture.js",
        "remote.js",
        "stream.js",
        "supervision.js",
        "tree.js",
        "words.js",
        "pages/actors.js",
        "pages/audit.js",
        "pages/dead_letters.js",
        "pages/findings.js",
        "pages/loader.js",
        "pages/map.js",
        "pages/nodes.js",
        "pages/overview.js",
        "pages/pipeline.js",
        "pages/shards.js",
    ];
    files.into_iter().map(|(path, body)| Asset { path, body, tag: tag(body) }).collect()
});

fn tag(body: &str) -> String {
    let digest = Sha256::digest(body.as_bytes());
    digest.iter().take(8).fold(String::from("\""), |text, byte| text + &format!("{byte:02x}")) + "\""
}

/// The page itself.
pub(super) async fn page(headers: HeaderMap) -> Response {
    asset("index.html", &headers)
}

/// A file that the page asks for.
pub(super) async fn file(Path(path): Path<String>, headers: HeaderMap) -> Response {
    asset(&path, &headers)
}

fn asset(path: &str, headers: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == path) else {
        return Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such file").into_response();
    };
    let kind = match asset.path.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        _ => "text/html; charset=utf-8",
    };
    let tagged: [(HeaderName, &str); 2] = [(header::ETAG, &asset.tag), (header::CACHE_CONTROL, "no-cache")];
    // Asked again each time, so that a page never runs with files of an older program.
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == asset.tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, tagged).into_response();
    }
    let mut response = (tagged, [(header::CONTENT_TYPE, kind)], asset.body).into_response();
    let guards = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in guards {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path as FilePath;

    use super::*;

    fn files_in(folder: &FilePath, root: &FilePath) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(folder).expect("the folder of the dashboard") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                if !path.ends_with("tests") {
                    found.extend(files_in(&path, root));
                }
            } else if !path.ends_with("package.json") {
                found.insert(path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned());
            }
        }
        found
    }

    #[test]
    fn every_file_of_the_folder_is_part_of_the_program() {
        let root = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("dashboard");
        let listed: BTreeSet<String> = ASSETS.iter().map(|asset| asset.path.to_owned()).collect();
        assert_eq!(listed, files_in(&root, &root));
    }

    #[test]
    fn no_file_asks_for_anything_of_another_host_or_takes_a_string_for_markup() {
        for asset in ASSETS.iter() {
            let without_svg_name = asset.body.replace("http://www.w3.org/2000/svg", "");
            for word in ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!without_svg_name.contains(word), "{} holds {word}", asset.path);
            }
        }
    }
}
