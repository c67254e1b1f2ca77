//! Signing in on the page, and what it is good for.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::json;
use speedtrap_tests::browser::{Browser, hook};
use speedtrap_tests::evidence::items;
use speedtrap_tests::node::Node;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::IN_STREAM;
use speedtrap_tests::{commands, letters, programs};

use crate::LIMIT;

/// Nothing without a token, everything to look at with a viewer's, and nothing to do with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_asks_for_a_token_and_a_viewer_can_only_look() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let file = sandbox.folder().join("tokens");
    let [viewer, operator] = [new_token(&file, "viewer").await?, new_token(&file, "operator").await?];
    let record = br#"{"licensePlate":"4-2288B","speed":"fast"}"#;
    let id = letters::id_of("enrich", record);
    letters::store(&sandbox.clients.dynamodb, &id, "enrich", IN_STREAM, record).await?;
    let node = Node::start_with(&sandbox.endpoints, sandbox.folder(), "node-1", |command| {
        command.args(["--roles", "errors"]).env("SPEEDTRAP_DASHBOARD__TOKENS_FILE", &file);
    })
    .await?;
    let browser = Browser::start().await?;
    sign_in(&browser, &node.url, &[("speedtrap_wrong", ""), (&viewer, "viewer")]).await?;
    only_looks(&browser, &id).await?;
    browser.click(&hook("sign-out")).await?;
    sign_in(&browser, &node.url, &[(&operator, "operator")]).await?;
    ensure!(!actions_offered(&browser).await?.is_empty(), "an operator is offered nothing");
    browser.is_clean_but_for(|line| [401, 403].iter().any(|status| line.contains(&format!("status of {status}")))).await?;
    browser.end().await?;
    let letter = letters::Letter::read(&stored(&sandbox, &id).await?)?;
    ensure!(letter.state == "open", "the letter is {}", letter.state);
    ensure!(![viewer, operator].iter().any(|token| node.process.log().contains(token.as_str())), "a token stands in the log");
    node.stop().await?;
    sandbox.end().await
}

async fn new_token(file: &Path, role: &str) -> Result<String> {
    let mut command = programs::command("speedtrap")?;
    command.args(["token", "new", "--name", role, "--role", role, "--file"]).arg(file);
    let ended = commands::run(command).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    Ok(ended.out.trim().to_owned())
}

/// Tries tokens; with each comes the role that it gives, or nothing if it is refused.
async fn sign_in(browser: &Browser, url: &str, tokens: &[(&str, &str)]) -> Result<()> {
    browser.open(url).await?;
    for (token, role) in tokens {
        browser.until("the page asks who looks", LIMIT, r#"return !!document.querySelector('[data-testid="sign-in"]')"#).await?;
        browser.fill(&hook("sign-in-token"), token).await?;
        browser.click(&hook("sign-in-run")).await?;
        let shown = match *role {
            "" => r#"return document.querySelector('[data-testid="sign-in-said"]').textContent.includes('not good here')"#
                .to_owned(),
            role => format!(
                r#"return document.querySelector('[data-testid="user"]').dataset.role === '{role}'
                  && document.querySelector('[data-testid="live-state"]').dataset.value === 'live'"#
            ),
        };
        browser.until("the token is judged", LIMIT, &shown).await?;
    }
    Ok(())
}

/// What may be clicked on to act, on any page.
async fn actions_offered(browser: &Browser) -> Result<Vec<String>> {
    let mut offered = Vec::new();
    for page in ["overview", "actors", "shards", "nodes", "dead-letters"] {
        browser.click(&hook(&format!("nav-{page}"))).await?;
        let opened = format!(
            "return document.querySelector('main').className.includes('{page}') && document.querySelector('main').innerText.length > 50"
        );
        browser.until("the page is open", LIMIT, &opened).await?;
        let found = r#"return [...document.querySelectorAll('[data-testid^="do-"]')].filter((it) => it.offsetParent).map((it) => it.dataset.testid)"#;
        offered.extend(browser.script::<Vec<String>>(found, Vec::new()).await?);
    }
    Ok(offered)
}

async fn only_looks(browser: &Browser, letter: &str) -> Result<()> {
    let offered = actions_offered(browser).await?;
    ensure!(offered.is_empty(), "a viewer is offered {offered:?}");
    // As if somebody had put the buttons back: the session and its proof are there.
    let order = json!({"ids": [letter], "reason": "a test", "who": "reader", "from": "page"});
    for (path, body) in [
        ("/api/v1/nodes/node-1/drain", json!({})),
        ("/api/v1/dead-letters/redrive", order.clone()),
        ("/api/v1/dead-letters/discard", order),
        ("/api/v1/reveal", json!({"kind": "dead-letter", "id": letter, "reason": "a test"})),
        ("/api/v1/loads", json!({"load_id": "l1"})),
    ] {
        let post = "const { csrf } = await (await fetch('/api/v1/session')).json();
            const headers = { 'content-type': 'application/json', 'x-speedtrap-csrf': csrf };
            const answer = await fetch(arguments[0], { method: 'POST', headers, body: arguments[1] });
            return [answer.status, (await answer.json()).code];";
        let answer: (u16, String) = browser.script(post, vec![json!(path), json!(body.to_string())]).await?;
        ensure!(answer == (403, "forbidden".to_owned()), "POST {path}: {answer:?}");
    }
    Ok(())
}

async fn stored(sandbox: &Sandbox, id: &str) -> Result<HashMap<String, AttributeValue>> {
    let items = items(&sandbox.clients.dynamodb, letters::TABLE).await?;
    let is_it = |item: &HashMap<String, AttributeValue>| item.get("letterId") == Some(&AttributeValue::S(id.to_owned()));
    items.into_iter().find(is_it).context("the letter is gone")
}
