//! The API off this machine: TLS and tokens or nothing, each caller by their role, and no secret anywhere.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use speedtrap_tests::certificates::api_certificate;
use speedtrap_tests::commands::{Ended, loader, run};
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::figures::say;
use speedtrap_tests::https::{Answer, ask};
use speedtrap_tests::node::Node;
use speedtrap_tests::process::Process;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::IN_STREAM;
use speedtrap_tests::{letters, programs};
use tokio::time::Instant;

/// What is promised of a node that somebody watches, from the signal to its end.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(30);
/// Connections that never begin their handshake keep nobody out.
const SILENT_CLIENTS: usize = 20;
const JSON: (&str, &str) = ("content-type", "application/json");
const LOAD: &str = r#"{"load_id":"l1"}"#;

/// An address of this machine that others could reach. Nothing is sent: connecting a UDP socket only looks up the way.
fn far_address() -> Result<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect("192.0.2.1:9").context("this machine has no way to other machines, so no address but loopback")?;
    Ok(socket.local_addr()?.ip())
}

fn says(ended: &Ended, code: i32, words: &[&str]) -> Result<()> {
    ensure!(ended.code == Some(code), "not {code}: {ended:?}");
    for word in words {
        ensure!(ended.err.contains(word), "standard error does not say `{word}`: {ended:?}");
    }
    Ok(())
}

/// Makes tokens, and gives the files that hold them.
struct Tokens {
    file: PathBuf,
    folder: PathBuf,
    secrets: Vec<String>,
}

impl Tokens {
    fn none_yet(folder: &Path) -> Self {
        Self { file: folder.join("tokens"), folder: folder.to_owned(), secrets: Vec::new() }
    }

    async fn new_token(&mut self, name: &str, role: &str) -> Result<PathBuf> {
        let mut command = programs::command("speedtrap")?;
        command.args(["token", "new", "--name", name, "--role", role, "--file"]).arg(&self.file);
        let ended = run(command).await?;
        says(&ended, 0, &["only time"])?;
        let token = ended.out.trim().to_owned();
        ensure!(token.starts_with("speedtrap_") && token.len() > 40 && !ended.err.contains(&token), "{ended:?}");
        let file = self.folder.join(format!("{name}.token"));
        std::fs::write(&file, &ended.out)?;
        self.secrets.push(token);
        Ok(file)
    }
}

#[tokio::test]
async fn off_this_machine_a_node_has_tls_and_tokens_or_does_not_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let address = far_address()?;
    let [_, certificate, key] = api_certificate(folder.path(), "api", &address.to_string())?;
    let [_, _, other_key] = api_certificate(folder.path(), "other", "other.example")?;
    let mut tokens = Tokens::none_yet(folder.path());
    tokens.new_token("desk", "operator").await?;
    let open = folder.path().join("open-tokens");
    std::fs::copy(&tokens.file, &open)?;
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644))?;
    let absent = folder.path().join("absent");
    let (certificate, key, file) = (certificate.as_path(), key.as_path(), tokens.file.as_path());
    let nothing = Path::new("");
    for (files, words) in [
        (
            [nothing, nothing, nothing],
            &["dashboard.listen", "dashboard.tls_cert", "dashboard.tls_key", "dashboard.tokens_file"][..],
        ),
        ([certificate, key, nothing], &["dashboard.listen", "set dashboard.tokens_file"]),
        ([nothing, nothing, file], &["dashboard.listen", "set dashboard.tls_cert, dashboard.tls_key"]),
        ([certificate, key, &open], &["dashboard.tokens_file", "0644", "chmod 600"]),
        ([certificate, key, &absent], &["dashboard.tokens_file", "absent", "cannot be read"]),
        ([certificate, key, certificate], &["dashboard.tokens_file", "line 1 is no token"]),
        ([certificate, &other_key, file], &["dashboard.tls_key", "other.key"]),
        ([&absent, key, file], &["dashboard.tls_cert", "absent"]),
    ] {
        let mut command = programs::command("speedtrap")?;
        command.args(["run", "--listen", &format!("{address}:0")]);
        command.env("SPEEDTRAP_WAREHOUSE__URL", "postgresql://nobody@127.0.0.1:1/none");
        for (key, file) in ["TLS_CERT", "TLS_KEY", "TOKENS_FILE"].iter().zip(files) {
            command.env(format!("SPEEDTRAP_DASHBOARD__{key}"), file);
        }
        let ended = run(command).await?;
        says(&ended, 78, words).with_context(|| format!("{files:?}"))?;
        ensure!(!tokens.secrets.iter().any(|secret| ended.err.contains(secret.as_str())), "{ended:?}");
    }
    Ok(())
}

/// A node that others can reach, and what it takes to ask it.
struct Far {
    sandbox: Sandbox,
    node: Node,
    tokens: Tokens,
    ca: PathBuf,
}

impl Far {
    async fn start() -> Result<Self> {
        let sandbox = Sandbox::up().await?;
        let address = far_address()?;
        let [ca, certificate, key] = api_certificate(sandbox.folder(), "api", &address.to_string())?;
        let mut tokens = Tokens::none_yet(sandbox.folder());
        for role in ["viewer", "operator", "admin"] {
            tokens.new_token(role, role).await?;
        }
        let node = Node::start_with(&sandbox.endpoints, sandbox.folder(), "node-1", |command| {
            command.args(["--roles", "errors", "--listen", &format!("{address}:0")]).envs([
                ("SPEEDTRAP_DASHBOARD__TLS_CERT", &certificate),
                ("SPEEDTRAP_DASHBOARD__TLS_KEY", &key),
                ("SPEEDTRAP_DASHBOARD__TOKENS_FILE", &tokens.file),
            ]);
        })
        .await?;
        ensure!(node.url.starts_with(&format!("https://{address}:")), "{}", node.url);
        Ok(Self { sandbox, node, tokens, ca })
    }

    /// Runs a command as the holder of a role's token, or as nobody.
    async fn command(&self, role: &str, arguments: &[&str]) -> Result<Ended> {
        let mut command = programs::command("speedtrap")?;
        command.args(arguments).args(["--node", &self.node.url, "--ca"]).arg(&self.ca);
        if !role.is_empty() {
            command.env("SPEEDTRAP_TOKEN_FILE", self.sandbox.folder().join(format!("{role}.token")));
        }
        run(command).await
    }

    /// Asks as a browser does, with whatever it is to send.
    async fn browser(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer> {
        let (ca, url) = (self.ca.clone(), self.node.url.clone());
        let (method, path, body) = (method.to_owned(), path.to_owned(), body.to_owned());
        let headers: Vec<(String, String)> = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let asked = move || {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            ask(&ca, &url, &method, &path, &headers, &body)
        };
        tokio::task::spawn_blocking(asked).await?
    }
}

#[tokio::test]
async fn over_tls_each_may_do_what_their_token_says_and_no_secret_is_told() -> Result<()> {
    let far = Far::start().await?;
    commands_know_whom_they_ask_and_are_known(&far).await?;
    a_loader_tells_nobody_but_whom_it_trusts(&far).await?;
    a_record_is_shown_whole_to_those_who_may_and_say_why(&far).await?;
    let cookie = the_page_is_signed_in_to_by_cookie_alone(&far).await?;
    what_is_no_request_of_our_page_is_refused(&far, &cookie).await?;
    a_revoked_token_is_good_for_nothing(&far).await?;
    it_ends_in_time_though_somebody_watches(far).await
}

async fn commands_know_whom_they_ask_and_are_known(far: &Far) -> Result<()> {
    let socket: SocketAddr = far.node.url.trim_start_matches("https://").parse()?;
    let _silent: Vec<TcpStream> = (0..SILENT_CLIENTS).map(|_| TcpStream::connect(socket)).collect::<Result<_, _>>()?;
    let status = far.command("viewer", &["status", "--local", "--json"]).await?;
    says(&status, 0, &[])?;
    ensure!(status.json()?["node"] == "node-1", "{status:?}");
    says(&far.command("", &["nodes"]).await?, 5, &["has to know who asks", "--token-file"])?;
    says(&far.command("viewer", &["drain", "node-1"]).await?, 5, &["`viewer` is a viewer", "operator"])?;
    says(&far.command("operator", &["drain", "node-9"]).await?, 4, &["node-9"])?;
    let discard = ["dead-letters", "discard", "00", "--reason", "a test", "--yes"];
    says(&far.command("operator", &discard).await?, 5, &["`operator` is an operator", "admin"])?;
    says(&far.command("admin", &discard).await?, 4, &[])?;

    let mut untrusting = programs::command("speedtrap")?;
    untrusting.args(["nodes", "--node", &far.node.url, "--ca"]).arg(far.sandbox.folder().join("other.ca.pem"));
    api_certificate(far.sandbox.folder(), "other", "other.example")?;
    says(&run(untrusting).await?, 5, &["no certificate that can be trusted", "--ca"])?;
    let mut plain = programs::command("speedtrap")?;
    plain.args(["nodes", "--node", &far.node.url.replace("https://", "http://"), "--token-file"]);
    plain.arg(far.sandbox.folder().join("viewer.token"));
    says(&run(plain).await?, 1, &["the token is not sent there"])
}

async fn a_loader_tells_nobody_but_whom_it_trusts(far: &Far) -> Result<()> {
    let folder = far.sandbox.folder();
    let bearer = format!("Bearer {}", std::fs::read_to_string(folder.join("viewer.token"))?.trim());
    let headers = [("authorization", bearer.as_str())];
    let loads = async || anyhow::Ok(far.browser("GET", "/api/v1/loads", &headers, "").await?.json()?["loads"].clone());
    let (drivers, _) = far.sandbox.make_files(&["--rows", "20"], &["--rows", "1"]).await?;
    let telling = |ca: &Path| {
        let mut command = loader(&far.sandbox.endpoints, &drivers, &folder.join("rejects"))?;
        command.args(["--node-url", &far.node.url, "--node-token-file"]).arg(folder.join("operator.token"));
        command.arg("--node-ca-file").arg(ca);
        anyhow::Ok(command)
    };
    let mut untrusting = Process::start("untrusting-loader", telling(&folder.join("other.ca.pem"))?, folder)?;
    eventually("the loader does not trust the node", LIMIT, || async {
        let said = untrusting.log();
        ensure!(said.contains("could not be told of the load") && said.contains("certificate"), "{said}");
        Ok(())
    })
    .await?;
    untrusting.kill().await?;
    ensure!(loads().await? == json!([]), "{}", loads().await?);

    // The next start tells of the load that is committed already.
    let loaded = run(telling(&far.ca)?).await?;
    ensure!(loaded.code == Some(0), "{loaded:?}");
    let told = loads().await?;
    ensure!(told.as_array().is_some_and(|loads| loads.len() == 1) && told[0]["merged"] == 20, "{told}\n{loaded:?}");
    Ok(())
}

async fn a_record_is_shown_whole_to_those_who_may_and_say_why(far: &Far) -> Result<()> {
    let record = json!({"licensePlate": "4-2288B", "speed": "fast", "city": "Foxgallow"}).to_string();
    let id = letters::id_of("enrich", record.as_bytes());
    letters::store(&far.sandbox.clients.dynamodb, &id, "enrich", IN_STREAM, record.as_bytes()).await?;
    let masked = far.command("operator", &["dead-letters", "show", &id]).await?;
    says(&masked, 0, &[])?;
    ensure!(masked.out.contains("4-2…") && !masked.out.contains("4-2288B"), "{masked:?}");
    let reveal = ["dead-letters", "show", &id, "--reveal", "--reason", "the driver objects"];
    says(&far.command("viewer", &reveal).await?, 5, &["`viewer` is a viewer"])?;
    says(&far.command("operator", &reveal[..4]).await?, 2, &["--reason"])?;
    let whole = far.command("operator", &reveal).await?;
    says(&whole, 0, &["audit log"])?;
    ensure!(whole.out.contains("4-2288B"), "{whole:?}");
    let audit = far.command("viewer", &["audit", "--json"]).await?.json()?;
    let lines = audit["lines"].as_array().context("lines")?;
    let reveals: Vec<_> = lines.iter().filter(|line| line["action"] == "reveal").collect();
    let phases: Vec<_> = reveals.iter().filter_map(|line| line["phase"].as_str()).collect();
    ensure!(phases == ["intent", "done"], "{audit}");
    ensure!(reveals.iter().all(|line| line["who"] == "operator" && line["from"] == "command"), "{audit}");
    ensure!(reveals[0]["reason"] == "the driver objects" && reveals[0]["target"] == format!("dead-letter {id}"), "{audit}");
    ensure!(!audit.to_string().contains("4-2288B"), "{audit}");
    Ok(())
}

/// Gives the cookie of an operator.
async fn the_page_is_signed_in_to_by_cookie_alone(far: &Far) -> Result<String> {
    let origin = ("origin", far.node.url.as_str());
    ensure!(far.browser("GET", "/", &[], "").await?.status == 200, "the page itself is no secret");
    ensure!(far.browser("GET", "/api/v1/stream", &[], "").await?.status == 401);
    let before = far.browser("GET", "/api/v1/session", &[], "").await?.json()?;
    ensure!(before["users"] == true && before["name"].is_null() && before["role"].is_null(), "{before}");
    let csrf = before["csrf"].as_str().context("csrf")?;
    let token = std::fs::read_to_string(far.sandbox.folder().join("operator.token"))?;
    let body = json!({"token": token.trim()}).to_string();
    let signed_in = far.browser("POST", "/api/v1/session", &[JSON, origin, ("x-speedtrap-csrf", csrf)], &body).await?;
    ensure!(signed_in.status == 200, "{}", signed_in.status);
    let set = signed_in.header("set-cookie").to_owned();
    for word in ["__Host-speedtrap-", "HttpOnly", "SameSite=Strict", "Secure", "Path=/", "Max-Age=43200"] {
        ensure!(set.contains(word), "no {word} in the cookie's attributes");
    }
    let page = signed_in.json()?;
    ensure!(page["name"] == "operator" && page["role"] == "operator" && page["csrf"] != before["csrf"], "who is it?");
    Ok(set.split(';').next().unwrap_or_default().to_owned())
}

async fn what_is_no_request_of_our_page_is_refused(far: &Far, cookie: &str) -> Result<()> {
    let cookie = ("cookie", cookie);
    let csrf = far.browser("GET", "/api/v1/session", &[cookie], "").await?.json()?["csrf"].as_str().map(str::to_owned);
    let csrf = csrf.context("csrf")?;
    let (csrf, origin) = (("x-speedtrap-csrf", csrf.as_str()), ("origin", far.node.url.as_str()));
    let evil = ("origin", "https://evil.example");
    let long = format!(r#"{{"load_id":"{}"}}"#, "x".repeat(32 << 10));
    for (headers, body, status) in [
        (vec![JSON, cookie, csrf, origin], LOAD, 202),
        (vec![JSON, cookie, csrf], LOAD, 403),
        (vec![JSON, cookie, csrf, evil], LOAD, 403),
        (vec![JSON, cookie, csrf, origin, ("sec-fetch-site", "cross-site")], LOAD, 403),
        (vec![JSON, cookie, origin], LOAD, 403),
        (vec![("content-type", "text/plain"), cookie, csrf, origin], LOAD, 415),
        (vec![JSON, csrf, origin], LOAD, 401),
        (vec![JSON, cookie, csrf, origin, ("host", "evil.example")], LOAD, 403),
        (vec![JSON, cookie, csrf, origin], "{", 400),
        (vec![JSON, cookie, csrf, origin], long.as_str(), 413),
    ] {
        let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
        let answer = far.browser("POST", "/api/v1/loads", &headers, body).await?;
        ensure!(answer.status == status, "{} and not {status} for {names:?} {body:.20}", answer.status);
        if status >= 400 {
            ensure!(answer.header("content-type") == "application/problem+json", "{names:?}");
            let problem = answer.json()?;
            ensure!(problem["code"].is_string() && problem["hint"].is_string(), "{problem}");
        }
    }
    Ok(())
}

async fn a_revoked_token_is_good_for_nothing(far: &Far) -> Result<()> {
    let mut revoke = programs::command("speedtrap")?;
    revoke.args(["token", "revoke", "viewer", "--file"]).arg(&far.tokens.file);
    says(&run(revoke).await?, 0, &[])?;
    eventually("the revoked token is refused", LIMIT, || async {
        says(&far.command("viewer", &["nodes"]).await?, 5, &["not good here"])
    })
    .await?;
    says(&far.command("operator", &["nodes"]).await?, 0, &[])
}

async fn it_ends_in_time_though_somebody_watches(far: Far) -> Result<()> {
    let token = std::fs::read_to_string(far.sandbox.folder().join("admin.token"))?;
    let bearer = format!("Bearer {}", token.trim());
    let mut stream = far.browser("GET", "/api/v1/stream", &[("authorization", &bearer)], "").await?;
    ensure!(stream.status == 200, "{}", stream.status);
    let first = tokio::task::spawn_blocking(move || stream.line().map(|line| (line, stream))).await?;
    let (line, mut stream) = first?;
    ensure!(line.is_some(), "the stream says nothing");
    let Far { sandbox, mut node, tokens, .. } = far;
    let started = Instant::now();
    node.process.signal(libc::SIGTERM)?;
    let ended = node.process.ended(LIMIT).await?;
    let took = started.elapsed();
    ensure!(ended.code() == Some(0), "{ended}\n{}", node.process.log_tail());
    say("security", &format!("a node with an open stream over TLS ended {:.2} s after SIGTERM", took.as_secs_f64()));
    ensure!(took <= ENDS_WITHIN, "it took {took:?}\n{}", node.process.log_tail());
    let rest = tokio::task::spawn_blocking(move || {
        while stream.line()?.is_some() {}
        anyhow::Ok(())
    });
    rest.await?.context("the stream has no end")?;

    let audit = std::fs::read_to_string(sandbox.folder().join("audit-node-1.ndjson"))?;
    let kept = std::fs::read_to_string(&tokens.file)?;
    for secret in &tokens.secrets {
        for (name, text) in [("log", node.process.log()), ("audit log", audit.clone()), ("file of tokens", kept.clone())] {
            ensure!(!text.contains(secret.as_str()), "a token stands in the {name}");
        }
    }
    ensure!(node.process.log().contains("certificate"), "the certificate's dates are logged");
    sandbox.end().await
}

#[tokio::test]
async fn a_loader_tells_a_node_that_wants_a_token() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let mut tokens = Tokens::none_yet(sandbox.folder());
    let [loads, views] = [tokens.new_token("loader", "operator").await?, tokens.new_token("reader", "viewer").await?];
    let node = Node::start_with(&sandbox.endpoints, sandbox.folder(), "node-1", |command| {
        command.args(["--roles", "errors"]).env("SPEEDTRAP_DASHBOARD__TOKENS_FILE", &tokens.file);
    })
    .await?;
    let (drivers, _) = sandbox.make_files(&["--rows", "20"], &["--rows", "1"]).await?;
    let mut command = loader(&sandbox.endpoints, &drivers, &sandbox.folder().join("rejects"))?;
    command.args(["--node-url", &node.url, "--node-token-file"]).arg(&loads);
    let loaded = run(command).await?;
    ensure!(loaded.code == Some(0), "{loaded:?}");
    let (url, token) = (format!("{}/api/v1/loads", node.url), std::fs::read_to_string(&views)?);
    let asked = tokio::task::spawn_blocking(move || {
        let request = ureq::get(&url).header("authorization", format!("Bearer {}", token.trim()));
        anyhow::Ok(request.call()?.body_mut().read_to_string()?)
    });
    let page: Value = serde_json::from_str(&asked.await??)?;
    ensure!(page["loads"].as_array().is_some_and(|loads| loads.len() == 1) && page["loads"][0]["merged"] == 20, "{page}");
    for secret in &tokens.secrets {
        for text in [node.process.log(), loaded.out.clone(), loaded.err.clone()] {
            ensure!(!text.contains(secret.as_str()), "a token stands in a log");
        }
    }
    node.stop().await?;
    sandbox.end().await
}
