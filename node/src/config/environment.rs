//! The only place that reads the environment.

use std::path::PathBuf;

use super::ConfigFault;

const PREFIX: &str = "SPEEDTRAP_";

/// The variables that set keys: section, key, text and the variable's name. Those without `__`, such as `SPEEDTRAP_NODE_URL`,
/// belong to single commands.
pub(super) fn settings(variables: impl IntoIterator<Item = (String, String)>) -> Vec<(String, String, String, String)> {
    let setting = |(name, text): (String, String)| {
        let (section, key) = name.strip_prefix(PREFIX)?.split_once("__")?;
        Some((section.to_lowercase(), key.to_lowercase(), text, name))
    };
    variables.into_iter().filter_map(setting).collect()
}

/// The variables of this process, without those that are not UTF-8.
pub(super) fn variables() -> Vec<(String, String)> {
    std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?))).collect()
}

/// Finds endpoint variables of the AWS SDK that are no URLs. The SDK panics at an empty one, long after it was read.
pub(crate) fn aws_endpoint_faults() -> Vec<ConfigFault> {
    endpoint_faults(variables())
}

/// Whether AWS is reached under an address of one's own, such as a local cloud, where buckets have no host names.
pub(crate) fn has_own_aws_endpoint() -> bool {
    variables().iter().any(|(name, _)| name == "AWS_ENDPOINT_URL" || name == "AWS_ENDPOINT_URL_S3")
}

/// Whether the user wants no colours (<https://no-color.org>).
pub(crate) fn no_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Where what outlives a process is kept, unless a file is named: systemd's `StateDirectory=`, else the user's state folder.
pub(super) fn state_folder() -> PathBuf {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // Of several state directories systemd gives the first one first.
    let given = named("STATE_DIRECTORY").map(|all| PathBuf::from(all.to_string_lossy().split(':').next().unwrap_or_default()));
    let user = || named("XDG_STATE_HOME").or_else(|| named("HOME").map(|home| home.join(".local/state")));
    given.or_else(|| user().map(|folder| folder.join("speedtrap"))).unwrap_or_else(|| PathBuf::from("."))
}

/// Who works here, as the system calls them.
pub(crate) fn user() -> String {
    ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()))
        .unwrap_or_else(|| "unknown".to_owned())
}

fn endpoint_faults(variables: Vec<(String, String)>) -> Vec<ConfigFault> {
    let is_endpoint = |name: &str| name == "AWS_ENDPOINT_URL" || name.starts_with("AWS_ENDPOINT_URL_");
    let is_url = |text: &str| {
        text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).is_some_and(|rest| !rest.is_empty())
            && !text.contains(char::is_whitespace)
    };
    let fault = |(name, text): (String, String)| {
        (is_endpoint(&name) && !is_url(&text))
            .then(|| ConfigFault::new(name, format!("`{text}` is no http:// or https:// URL; unset it to use AWS")))
    };
    variables.into_iter().filter_map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, text: &str) -> (String, String) {
        (name.to_owned(), text.to_owned())
    }

    #[test]
    fn variables_without_a_section_set_nothing() {
        let found = settings([pair("SPEEDTRAP_NODE_URL", "x"), pair("HOME", "/"), pair("SPEEDTRAP_RULE__LIMIT_MPH", "60")]);
        let expected = ["rule", "limit_mph", "60", "SPEEDTRAP_RULE__LIMIT_MPH"].map(str::to_owned);
        assert_eq!(found, [<(String, String, String, String)>::from(expected)]);
    }

    #[test]
    fn an_endpoint_that_is_no_url_is_found_before_the_sdk_panics() {
        let found = endpoint_faults(vec![
            pair("AWS_ENDPOINT_URL", ""),
            pair("AWS_ENDPOINT_URL_S3", "localhost:4566"),
            pair("AWS_ENDPOINT_URL_SNS", "http://127.0.0.1:4566"),
        ]);
        let keys: Vec<_> = found.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"]);
    }
}
