//! An operator at the API of a node: previews, confirms, and waits for what becomes of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::deadline::eventually;
use crate::endpoints::get_json;

/// Somebody with a name, at one node.
#[derive(Clone, Debug)]
pub struct Operator {
    pub url: String,
    pub name: &'static str,
}

/// An answer of the API: its status, and what it says.
pub type Answer = (u16, Value);

impl Operator {
    /// Posts something as JSON.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn post(&self, path: &str, key: Option<&str>, body: Value) -> Result<Answer> {
        let (url, name, key) = (format!("{}{path}", self.url), self.name, key.map(str::to_owned));
        let post = move || {
            let limit = Some(Duration::from_secs(60));
            let config = ureq::Agent::config_builder().timeout_global(limit).http_status_as_error(false).proxy(None).build();
            let agent: ureq::Agent = config.into();
            let request = agent.post(&url).header("content-type", "application/json").header("x-speedtrap-who", name);
            let request = key.iter().fold(request, |request, key| request.header("idempotency-key", key));
            let mut answer = request.send(body.to_string()).with_context(|| format!("{url} does not answer"))?;
            let text = answer.body_mut().read_to_string()?;
            Ok((answer.status().as_u16(), serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))?))
        };
        tokio::task::spawn_blocking(post).await?
    }

    /// Asks what an action would do.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn preview(&self, kind: &str, target: Value, options: Value) -> Result<Answer> {
        self.post("/api/v1/actions/preview", None, json!({"kind": kind, "target": target, "options": options})).await
    }

    /// Confirms a preview by its own text, or by another.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn confirm(&self, preview: &Value, key: &str, text: Option<&str>) -> Result<Answer> {
        let text = text.map_or_else(|| preview["confirm_text"].clone(), Value::from);
        let body = json!({"token": preview["token"], "reason": "a test", "confirm_text": text});
        self.post("/api/v1/actions", Some(key), body).await
    }

    /// Begins an action; gives its id.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn begin(&self, kind: &str, target: Value, options: Value) -> Result<String> {
        let (status, preview) = self.preview(kind, target, options).await?;
        ensure!(status == 200, "{kind} cannot be previewed: {status} {preview}");
        let key = preview["token"].as_str().context("a token")?;
        let (status, begun) = self.confirm(&preview, key, None).await?;
        ensure!(status == 202, "{kind} was refused: {status} {begun}");
        begun["action_id"].as_str().map(str::to_owned).context("an id")
    }

    /// Waits until an action has ended, and gives what is said of it.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ended(&self, id: &str, limit: Duration) -> Result<Value> {
        eventually(&format!("{id} has ended"), limit, || async {
            let page = self.look(id).await?;
            ensure!(!page["outcome"].is_null(), "{page}");
            Ok(page)
        })
        .await
    }

    /// What is said of an action now.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn look(&self, id: &str) -> Result<Value> {
        get_json(format!("{}/api/v1/actions/{id}", self.url)).await
    }

    /// Has an action done, all the way.
    ///
    /// # Errors
    /// When it is not.
    pub async fn act(&self, kind: &str, target: &str, options: Value) -> Result<Value> {
        let id = self.begin(kind, target.into(), options).await?;
        let page = self.ended(&id, Duration::from_secs(70)).await?;
        ensure!(page["state"] == "done", "{kind} of {target}: {page}");
        Ok(page)
    }

    /// The lines of the audit log about one action, by any node.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn audited(&self, id: &str) -> Result<Vec<Value>> {
        let page: Value = get_json(format!("{}/api/v1/audit", self.url)).await?;
        let lines = page["lines"].as_array().context("lines")?;
        Ok(lines.iter().filter(|line| line["action_id"] == id).cloned().collect())
    }
}
