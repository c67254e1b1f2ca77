//! Text messages by SNS, to one telephone number each.

use async_trait::async_trait;
use aws_sdk_sns::Client;
use aws_sdk_sns::operation::publish::PublishError;
use aws_sdk_sns::types::MessageAttributeValue;

use super::failure::{CallLimits, Caller, Failed, without_sdk_retries};
use crate::domain::PhoneNumber;
use crate::ports::{AlertSender, FailureKind, RemoteFailure, SendError};

/// Publishes to telephone numbers, never to a topic: a topic's text goes to every number subscribed to it.
pub struct SnsAlertSender {
    client: Client,
    caller: Caller,
}

impl SnsAlertSender {
    /// Sends with this client, each text tried once within the timeout of `limits`.
    #[must_use]
    pub fn new(client: &Client, limits: CallLimits) -> Self {
        let client = without_sdk_retries!(aws_sdk_sns, client);
        Self { client, caller: Caller::new("SMS".to_owned(), limits) }
    }
}

/// SNS has no idempotency key, so what may have been sent must be told apart from what certainly was not.
fn send_error(failed: Failed<PublishError>) -> SendError {
    let content = failed.blames_content() || failed.code == "OptedOutException" || failed.code == "OptedOut";
    match failed.failure.kind {
        FailureKind::Refused if content => SendError::Refused(failed.failure.detail),
        FailureKind::Refused | FailureKind::Throttled => SendError::NotSent(failed.failure),
        _ if failed.never_sent => SendError::NotSent(failed.failure),
        FailureKind::TimedOut | FailureKind::Unreachable | FailureKind::ServerError => SendError::Unknown(failed.failure),
    }
}

#[async_trait]
impl AlertSender for SnsAlertSender {
    async fn send(&self, to: &PhoneNumber, text: &str) -> Result<String, SendError> {
        let call = "sns Publish";
        // Transactional texts are delivered first and may be sent at night, unlike promotional ones.
        let transactional = MessageAttributeValue::builder().data_type("String").string_value("Transactional").build();
        let transactional = transactional.expect("the type is given");
        let request = self
            .client
            .publish()
            .phone_number(to.as_e164())
            .message(text)
            .message_attributes("AWS.SNS.SMS.SMSType", transactional)
            .send();
        let answer = self.caller.once(call, request).await.map_err(send_error)?;
        answer.message_id.ok_or_else(|| {
            let detail = "the answer has no message id".to_owned();
            SendError::Unknown(RemoteFailure { call, kind: FailureKind::ServerError, detail })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: &str, kind: FailureKind, never_sent: bool) -> Failed<PublishError> {
        let failure = RemoteFailure { call: "sns Publish", kind, detail: String::new() };
        Failed { failure, service: None, code: code.to_owned(), never_sent }
    }

    #[test]
    fn only_what_was_certainly_not_sent_may_be_sent_again() {
        assert!(matches!(send_error(failed("InvalidParameter", FailureKind::Refused, false)), SendError::Refused(_)));
        assert!(matches!(send_error(failed("OptedOutException", FailureKind::Refused, false)), SendError::Refused(_)));
        assert!(matches!(send_error(failed("AuthorizationError", FailureKind::Refused, false)), SendError::NotSent(_)));
        assert!(matches!(send_error(failed("Throttling", FailureKind::Throttled, false)), SendError::NotSent(_)));
        assert!(matches!(send_error(failed("", FailureKind::Unreachable, true)), SendError::NotSent(_)));
        assert!(matches!(send_error(failed("", FailureKind::Unreachable, false)), SendError::Unknown(_)));
        assert!(matches!(send_error(failed("", FailureKind::TimedOut, false)), SendError::Unknown(_)));
        assert!(matches!(send_error(failed("InternalError", FailureKind::ServerError, false)), SendError::Unknown(_)));
    }
}
