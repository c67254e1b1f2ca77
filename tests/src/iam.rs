//! IAM of a local cloud: the roles of the template, roles that lack one of their statements, and credentials of either.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_config::{BehaviorVersion, Region};
use serde_json::{Value, json};

use crate::endpoints::Endpoints;

/// The data part's stack.
pub const STACK: &str = "speedtrap";
const FORM: &str = "application/x-www-form-urlencoded";

/// Asks as the local cloud's root.
pub struct Iam {
    endpoint: String,
    agent: ureq::Agent,
}

/// A statement of one of a role's policies.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The policy's name in the template.
    pub policy: String,
    pub sid: String,
    text: Value,
}

/// Clients that call as one role.
pub struct RoleClients {
    role_arn: String,
    pub dynamodb: aws_sdk_dynamodb::Client,
    pub dynamodb_streams: aws_sdk_dynamodbstreams::Client,
    pub firehose: aws_sdk_firehose::Client,
    pub kinesis: aws_sdk_kinesis::Client,
    pub s3: aws_sdk_s3::Client,
    pub sns: aws_sdk_sns::Client,
}

impl Iam {
    /// Asks this cloud.
    #[must_use]
    pub fn of(endpoints: &Endpoints) -> Self {
        let config =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(30))).http_status_as_error(false).proxy(None);
        Self { endpoint: endpoints.aws_endpoint_url.clone(), agent: config.build().into() }
    }

    /// Asks a service that takes forms and answers in XML.
    ///
    /// # Errors
    /// When it refuses.
    pub fn ask(&self, service: &str, action: &str, parameters: &[(&str, &str)]) -> Result<String> {
        let (status, said) = self.send(service, ("content-type", FORM), form(action, parameters)?)?;
        ensure!(status == 200, "{service}:{action} failed: {said}");
        Ok(said)
    }

    /// Asks a service that takes and gives JSON.
    ///
    /// # Errors
    /// When it refuses.
    pub fn ask_json(&self, service: &str, target: &str, body: &Value) -> Result<Value> {
        let (status, said) = self.send(service, ("x-amz-target", target), body.to_string())?;
        ensure!(status == 200, "{target} failed: {said}");
        Ok(serde_json::from_str(&said)?)
    }

    /// The root's signature is not looked at.
    fn send(&self, service: &str, header: (&str, &str), body: String) -> Result<(u16, String)> {
        let credential = format!("test/20260101/us-east-1/{service}/aws4_request");
        let authorization = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0");
        let mut request = self.agent.post(&self.endpoint).header("authorization", authorization).header(header.0, header.1);
        if header.0 == "x-amz-target" {
            request = request.header("content-type", "application/x-amz-json-1.1");
        }
        let mut answer = request.send(body).with_context(|| format!("{service} does not answer"))?;
        Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
    }

    /// What the data part's stack says of itself.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn outputs(&self) -> Result<BTreeMap<String, String>> {
        let said = self.ask("cloudformation", "DescribeStacks", &[("StackName", STACK)])?;
        let (keys, values) = (texts(&said, "OutputKey"), texts(&said, "OutputValue"));
        ensure!(keys.len() == values.len() && !keys.is_empty(), "no outputs in {said}");
        Ok(keys.into_iter().map(str::to_owned).zip(values.into_iter().map(str::to_owned)).collect())
    }

    /// The name that a resource of a stack got.
    ///
    /// # Errors
    /// When the stack has none of that name.
    pub fn physical(&self, stack: &str, resource: &str) -> Result<String> {
        let asked = [("StackName", stack), ("LogicalResourceId", resource)];
        let said = self.ask("cloudformation", "DescribeStackResources", &asked)?;
        let name = texts(&said, "PhysicalResourceId").first().map(|name| (*name).to_owned());
        name.with_context(|| format!("{stack} has no {resource}"))
    }

    /// The statements that stand in a role itself.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn own_statements(&self, role: &str, resource: &str) -> Result<Vec<Statement>> {
        let listed = self.ask("iam", "ListRolePolicies", &[("RoleName", role)])?;
        let mut all = Vec::new();
        for policy in texts(&listed, "member") {
            let said = self.ask("iam", "GetRolePolicy", &[("RoleName", role), ("PolicyName", policy)])?;
            all.extend(statements_of(&said, "PolicyDocument", resource)?);
        }
        Ok(all)
    }

    /// The document that says who may take a role on.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn trust(&self, role: &str) -> Result<String> {
        let said = self.ask("iam", "GetRole", &[("RoleName", role)])?;
        decoded(texts(&said, "AssumeRolePolicyDocument").first().context("the role trusts nobody")?)
    }

    /// Sets that document.
    ///
    /// # Errors
    /// When it is refused.
    pub fn set_trust(&self, role: &str, document: &str) -> Result<()> {
        self.ask("iam", "UpdateAssumeRolePolicy", &[("RoleName", role), ("PolicyDocument", document)]).map(drop)
    }

    /// All statements of a role's managed policies.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn statements(&self, role_arn: &str) -> Result<Vec<Statement>> {
        let name = name_of(role_arn)?;
        let attached = self.ask("iam", "ListAttachedRolePolicies", &[("RoleName", name)])?;
        let mut all = Vec::new();
        for arn in texts(&attached, "PolicyArn") {
            let said = self.ask("iam", "GetPolicyVersion", &[("PolicyArn", arn), ("VersionId", "v1")])?;
            let policy = name_of(arn)?.split('-').nth(1).with_context(|| format!("`{arn}` is not of the stack"))?;
            all.extend(statements_of(&said, "Document", policy)?);
        }
        Ok(all)
    }

    /// Makes a role of these statements; gives its ARN.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_role(&self, name: &str, statements: &[&Statement]) -> Result<String> {
        let trust = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]});
        let made = self.ask("iam", "CreateRole", &[("RoleName", name), ("AssumeRolePolicyDocument", &trust.to_string())])?;
        // Sids of several policies may be alike; within one document they may not.
        let texts_of: Vec<Value> = statements
            .iter()
            .map(|statement| {
                let mut text = statement.text.clone();
                text["Sid"] = Value::from(format!("{}{}", statement.policy, statement.sid));
                text
            })
            .collect();
        let document = json!({"Version": "2012-10-17", "Statement": texts_of}).to_string();
        if !statements.is_empty() {
            self.ask("iam", "PutRolePolicy", &[("RoleName", name), ("PolicyName", "all"), ("PolicyDocument", &document)])?;
        }
        texts(&made, "Arn").first().map(|arn| (*arn).to_owned()).context("the role has no ARN")
    }

    /// What IAM says a role may do, for services that these tests have no client of.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn may(&self, role: &RoleClients, action: &str, resource: &str) -> Result<bool> {
        let parameters =
            [("PolicySourceArn", role.role_arn.as_str()), ("ActionNames.member.1", action), ("ResourceArns.member.1", resource)];
        let said = self.ask("iam", "SimulatePrincipalPolicy", &parameters)?;
        Ok(texts(&said, "EvalDecision").first().copied().context("no decision")? == "allowed")
    }

    /// Clients with a session of a role.
    ///
    /// # Errors
    /// When the role cannot be taken on.
    pub async fn clients(&self, role_arn: &str) -> Result<RoleClients> {
        let said = self.ask("sts", "AssumeRole", &[("RoleArn", role_arn), ("RoleSessionName", "test")])?;
        let part = |tag| texts(&said, tag).first().copied().with_context(|| format!("no {tag} for {role_arn}"));
        let credentials = aws_sdk_kinesis::config::Credentials::new(
            part("AccessKeyId")?,
            part("SecretAccessKey")?,
            Some(part("SessionToken")?.to_owned()),
            None,
            "role",
        );
        let sdk = aws_config::defaults(BehaviorVersion::latest())
            .endpoint_url(&self.endpoint)
            .region(Region::new("us-east-1"))
            .credentials_provider(credentials)
            .load()
            .await;
        let s3 = aws_sdk_s3::config::Builder::from(&sdk).force_path_style(true).build();
        Ok(RoleClients {
            role_arn: role_arn.to_owned(),
            dynamodb: aws_sdk_dynamodb::Client::new(&sdk),
            dynamodb_streams: aws_sdk_dynamodbstreams::Client::new(&sdk),
            firehose: aws_sdk_firehose::Client::new(&sdk),
            kinesis: aws_sdk_kinesis::Client::new(&sdk),
            s3: aws_sdk_s3::Client::from_conf(s3),
            sns: aws_sdk_sns::Client::new(&sdk),
        })
    }
}

/// Writes a file for `AWS_CONFIG_FILE` with which a program takes a role on.
///
/// # Errors
/// When it cannot be written.
pub fn profile(endpoints: &Endpoints, folder: &Path, name: &str, role_arn: &str) -> Result<PathBuf> {
    let path = folder.join(format!("{name}.aws"));
    let text = format!(
        "[profile root]\naws_access_key_id = {}\naws_secret_access_key = {}\n\n\
         [default]\nrole_arn = {role_arn}\nrole_session_name = {name}\nsource_profile = root\n",
        endpoints.access_key_id, endpoints.secret_access_key
    );
    std::fs::write(&path, text)?;
    Ok(path)
}

fn form(action: &str, parameters: &[(&str, &str)]) -> Result<String> {
    let mut form = format!("Action={action}");
    for (name, value) in parameters {
        write!(form, "&{name}={}", encoded(value))?;
    }
    Ok(form)
}

/// The statements of the document in an answer.
fn statements_of(said: &str, tag: &str, policy: &str) -> Result<Vec<Statement>> {
    let document = texts(said, tag).first().copied().with_context(|| format!("{policy} has no document"))?;
    let document: Value = serde_json::from_str(&decoded(document)?)?;
    let statement = |text: &Value| {
        let sid = text["Sid"].as_str().with_context(|| format!("a statement of {policy} has no Sid"))?;
        Ok(Statement { policy: policy.to_owned(), sid: sid.to_owned(), text: text.clone() })
    };
    document["Statement"].as_array().into_iter().flatten().map(statement).collect()
}

fn name_of(arn: &str) -> Result<&str> {
    arn.rsplit('/').next().filter(|name| !name.is_empty()).with_context(|| format!("`{arn}` has no name"))
}

/// The texts of all elements of one name that hold nothing but text.
#[must_use]
pub fn texts<'a>(xml: &'a str, tag: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    xml.split(&open).skip(1).filter_map(|rest| rest.split_once(&close)).map(|(text, _)| text).collect()
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            all.push(char::from(byte));
        } else {
            all.push_str(&format!("%{byte:02X}"));
        }
        all
    })
}

fn decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        let (byte, after) = match (first, others) {
            (b'%', [high, low, after @ ..]) => (u8::from_str_radix(std::str::from_utf8(&[*high, *low])?, 16)?, after),
            _ => (first, others),
        };
        bytes.push(byte);
        rest = after;
    }
    Ok(String::from_utf8(bytes)?)
}
