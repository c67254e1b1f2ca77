//! Remote calls of all adapters: a timeout on each try, one retry loop, and one reading of what went wrong.

use std::error::Error;
use std::future::Future;
use std::io;
use std::time::Duration;

use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use tokio::time::Instant;

use crate::flow::RetryBudget;
use crate::observe::{CallGuard, Calls};
use crate::ports::{FailureKind, RemoteFailure};

/// How long one call of an adapter may last, and where it is noted how calls fare.
#[derive(Debug, Clone)]
pub struct CallLimits {
    /// For one try.
    pub timeout: Duration,
    /// For its repetition.
    pub budget: RetryBudget,
    /// Each try is noted here.
    pub calls: Calls,
}

/// Builds a client that leaves retries to the adapter, so that its budget is the only one. The connections stay shared.
macro_rules! without_sdk_retries {
    ($sdk:ident, $client:expr) => {
        $sdk::Client::from_conf($client.config().to_builder().retry_config($sdk::config::retry::RetryConfig::disabled()).build())
    };
}
pub(super) use without_sdk_retries;

/// How an adapter calls its service.
pub(super) struct Caller {
    /// Named in failures, because AWS answers often leave out what was not found.
    resource: String,
    limits: CallLimits,
}

/// A call that failed, with what the service said about it.
pub(super) struct Failed<E> {
    pub(super) failure: RemoteFailure,
    /// The service's own error, if it answered.
    pub(super) service: Option<Box<E>>,
    /// The service's error code, or nothing.
    pub(super) code: String,
    /// The request certainly never left.
    pub(super) never_sent: bool,
}

/// Delays between tries of one call, up to the end of its budget.
pub(super) struct Retries {
    budget: RetryBudget,
    started: Instant,
    n: u32,
}

impl Caller {
    pub(super) fn new(resource: String, limits: CallLimits) -> Self {
        Self { resource, limits }
    }

    /// Tries once.
    pub(super) async fn once<T, E>(
        &self,
        call: &'static str,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Failed<E>>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let noted = self.note(call);
        match tokio::time::timeout(self.limits.timeout, request).await {
            Ok(Ok(answer)) => {
                noted.answered();
                Ok(answer)
            }
            Ok(Err(error)) => {
                let failed = self.read(call, error);
                if failed.is_trouble() {
                    noted.failed(&failed.failure)
                } else {
                    noted.answered()
                }
                Err(failed)
            }
            Err(_) => {
                let detail = format!("`{}`: no answer within {:?}", self.resource, self.limits.timeout);
                let failure = RemoteFailure { call, kind: FailureKind::TimedOut, detail };
                noted.failed(&failure);
                Err(Failed { failure, service: None, code: String::new(), never_sent: false })
            }
        }
    }

    /// Notes that a call begins.
    pub(super) fn note(&self, call: &'static str) -> CallGuard {
        self.limits.calls.begin(call, &self.resource)
    }

    /// Tries until it succeeds, is refused, or the budget is used up.
    pub(super) async fn retried<T, E, F>(&self, call: &'static str, mut request: impl FnMut() -> F + Send) -> Result<T, Failed<E>>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
        E: ProvideErrorMetadata + Error + 'static,
    {
        let mut retries = self.retries();
        loop {
            let failed = match self.once(call, request()).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if failed.failure.kind == FailureKind::Refused || !retries.wait().await {
                return Err(failed);
            }
        }
    }

    pub(super) fn retries(&self) -> Retries {
        Retries { budget: self.limits.budget, started: Instant::now(), n: 0 }
    }

    /// The failure of records that a partly successful call left out.
    pub(super) fn left_out(&self, call: &'static str, code: &str) -> RemoteFailure {
        let kind = if code.is_empty() { FailureKind::Throttled } else { kind_of(code, 500) };
        RemoteFailure { call, kind, detail: format!("`{}`: some records were not accepted: {code}", self.resource) }
    }

    fn read<E>(&self, call: &'static str, error: SdkError<E, HttpResponse>) -> Failed<E>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let resource = &self.resource;
        if let SdkError::ServiceError(context) = error {
            let status = context.raw().status().as_u16();
            let service = context.into_err();
            let code = service.code().unwrap_or_default().to_owned();
            let said = scrubbed(service.message().unwrap_or_default());
            let detail = match (code.as_str(), said.as_str()) {
                ("", "") => format!("`{resource}`: HTTP {status}"),
                ("", said) => format!("`{resource}`: HTTP {status}: {said}"),
                (code, "") => format!("`{resource}`: {code}"),
                (code, said) => format!("`{resource}`: {code}: {said}"),
            };
            let failure = RemoteFailure { call, kind: kind_of(&code, status), detail };
            return Failed { failure, service: Some(Box::new(service)), code, never_sent: false };
        }
        let chain = chain(&error);
        let no_credentials = chain.to_ascii_lowercase().contains("credential");
        let never_connected = refused_before_sending(&error) || chain.contains("dns error") || chain.contains("HTTP connect");
        let kind = match &error {
            _ if no_credentials => FailureKind::Refused,
            SdkError::ConstructionFailure(_) => FailureKind::Refused,
            SdkError::TimeoutError(_) => FailureKind::TimedOut,
            SdkError::DispatchFailure(failure) if failure.is_timeout() && !never_connected => FailureKind::TimedOut,
            SdkError::DispatchFailure(_) => FailureKind::Unreachable,
            _ => FailureKind::ServerError,
        };
        let never_sent = no_credentials || never_connected || matches!(error, SdkError::ConstructionFailure(_));
        let failure = RemoteFailure { call, kind, detail: format!("`{resource}`: {}", scrubbed(&chain)) };
        Failed { failure, service: None, code: String::new(), never_sent }
    }
}

impl<E> Failed<E> {
    /// Whether somebody has to do something about it. A refusal is mostly an answer: of a condition, a claim, or a record.
    fn is_trouble(&self) -> bool {
        self.failure.kind != FailureKind::Refused || self.service.is_none() || is_forbidden(&self.code)
    }

    /// Whether the service names the content of the request as the reason, not its circumstances.
    pub(super) fn blames_content(&self) -> bool {
        matches!(
            self.code.as_str(),
            "ValidationException"
                | "ValidationError"
                | "InvalidArgumentException"
                | "InvalidParameter"
                | "InvalidParameterException"
                | "InvalidParameterValue"
                | "ParameterValueInvalid"
                | "ItemCollectionSizeLimitExceededException"
                | "SerializationException"
        )
    }
}

impl Retries {
    /// Waits before the next try. False when the budget has no room for one.
    pub(super) async fn wait(&mut self) -> bool {
        let Some(delay) = self.budget.next_delay(self.n, self.started.elapsed(), rand::random()) else { return false };
        self.n += 1;
        tokio::time::sleep(delay).await;
        true
    }
}

/// Whether the service does not know the caller, or does not let it do what it asks.
fn is_forbidden(code: &str) -> bool {
    matches!(
        code,
        "AccessDenied"
            | "AccessDeniedException"
            | "AuthorizationError"
            | "AuthorizationErrorException"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidClientTokenId"
            | "InvalidSecurity"
            | "NotAuthorized"
            | "SignatureDoesNotMatch"
            | "UnrecognizedClientException"
    ) || code.starts_with("KMS")
}

/// Whether the service had no room for the call.
pub(super) fn is_throttled<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let SdkError::ServiceError(context) = error else { return false };
    kind_of(context.err().code().unwrap_or_default(), context.raw().status().as_u16()) == FailureKind::Throttled
}

fn kind_of(code: &str, status: u16) -> FailureKind {
    match code {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "ThrottledException"
        | "Throttling"
        | "Throttled"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "KMSThrottlingException"
        | "KMSThrottling"
        | "TooManyRequestsException"
        | "SlowDown" => FailureKind::Throttled,
        "RequestTimeout" | "RequestTimeoutException" => FailureKind::TimedOut,
        // These name a collision with another write or a short outage, though some come with status 400.
        "ReplicatedWriteConflictException"
        | "TransactionConflictException"
        | "ServiceUnavailableException"
        | "InternalFailure" => FailureKind::ServerError,
        _ if status == 429 => FailureKind::Throttled,
        _ if status >= 500 => FailureKind::ServerError,
        _ => FailureKind::Refused,
    }
}

fn refused_before_sending(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return matches!(io.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable);
        }
        cause = error.source();
    }
    false
}

/// The messages of an error and its causes, one after the other.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// A message fit for logs: AWS quotes rejected values, which may be plates, and SNS writes out the number it rejects.
pub(super) fn scrubbed(message: &str) -> String {
    const MOST_CHARS: usize = 300;
    let mut text = String::new();
    let mut rest = message;
    while let Some(start) = rest.find("Value '") {
        let (before, value) = rest.split_at(start + "Value '".len());
        text.push_str(before);
        text.push('…');
        rest = value.find('\'').map_or("", |end| &value[end..]);
    }
    text.push_str(rest);
    let mut out = String::new();
    let mut digits = String::new();
    for c in text.chars().take(MOST_CHARS).chain(['\0']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        // Telephone numbers have at least seven digits.
        out.push_str(if digits.len() >= 7 { "…" } else { &digits });
        digits.clear();
        out.push(c);
    }
    out.pop();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lose_numbers_and_quoted_values() {
        assert_eq!(
            scrubbed("Invalid parameter: PhoneNumber Reason: +12025550123 is not valid"),
            "Invalid parameter: PhoneNumber Reason: +… is not valid"
        );
        assert_eq!(scrubbed("1 error: Value '4-2288B' at 'partitionKey' failed"), "1 error: Value '…' at 'partitionKey' failed");
        assert_eq!(scrubbed("Value 'cut off"), "Value '…");
        assert_eq!(scrubbed("at most 400 KB"), "at most 400 KB");
    }

    #[test]
    fn codes_say_what_to_do() {
        assert_eq!(kind_of("ProvisionedThroughputExceededException", 400), FailureKind::Throttled);
        assert_eq!(kind_of("ResourceNotFoundException", 400), FailureKind::Refused);
        assert_eq!(kind_of("", 503), FailureKind::ServerError);
        assert_eq!(kind_of("AccessDeniedException", 403), FailureKind::Refused);
        assert_eq!(kind_of("", 429), FailureKind::Throttled);
    }

    #[tokio::test(start_paused = true)]
    async fn retries_end_with_their_budget() {
        let backoff = crate::flow::Backoff { first: Duration::from_millis(100), most: Duration::from_secs(1) };
        let limits = CallLimits {
            timeout: Duration::from_secs(1),
            budget: RetryBudget { backoff, most_elapsed: Duration::from_secs(5) },
            calls: Calls::unwatched(),
        };
        let mut retries = Caller::new("x".to_owned(), limits).retries();
        let started = Instant::now();
        let mut n = 0;
        while retries.wait().await {
            n += 1;
        }
        assert!(n >= 5, "{n} tries");
        assert!(started.elapsed() <= Duration::from_secs(5));
    }
}
