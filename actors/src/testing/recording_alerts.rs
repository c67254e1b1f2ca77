//! A text message service that keeps what it is given.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::Outage;
use crate::domain::PhoneNumber;
use crate::ports::{AlertSender, RemoteFailure, SendError};

/// The fake [`AlertSender`]. Clones share the texts. Failures of its outage are answered as [`SendError::NotSent`].
#[derive(Clone, Default)]
pub struct RecordingAlertSender {
    /// How its calls fail before anything is sent.
    pub outage: Outage,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    texts: Vec<SentText>,
    script: VecDeque<ScriptedSend>,
}

/// A text that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentText {
    /// To whom.
    pub to: PhoneNumber,
    /// What.
    pub text: String,
}

/// What happens with one send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptedSend {
    /// It is sent.
    Sent,
    /// It is refused for its content.
    Refused(String),
    /// It is certainly not sent.
    NotSent(RemoteFailure),
    /// It is sent, but the answer gets lost.
    LostAfterSending(RemoteFailure),
    /// It is not sent, but the sender cannot know.
    LostBeforeSending(RemoteFailure),
}

impl RecordingAlertSender {
    /// Every text sent, in order.
    #[must_use]
    pub fn texts(&self) -> Vec<SentText> {
        self.with(|inner| inner.texts.clone())
    }

    /// Settles what happens with the next sends; those after them are sent.
    pub fn script(&self, sends: impl IntoIterator<Item = ScriptedSend>) {
        self.with(|inner| inner.script.extend(sends));
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().expect("no fake panics with its texts locked"))
    }
}

impl Inner {
    fn send(&mut self, to: &PhoneNumber, text: &str) -> String {
        self.texts.push(SentText { to: to.clone(), text: text.to_owned() });
        format!("message-{}", self.texts.len())
    }
}

#[async_trait]
impl AlertSender for RecordingAlertSender {
    async fn send(&self, to: &PhoneNumber, text: &str) -> Result<String, SendError> {
        self.outage
            .call(|| {
                self.with(|inner| match inner.script.pop_front().unwrap_or(ScriptedSend::Sent) {
                    ScriptedSend::Sent => Ok(inner.send(to, text)),
                    ScriptedSend::Refused(reason) => Err(SendError::Refused(reason)),
                    ScriptedSend::NotSent(failure) => Err(SendError::NotSent(failure)),
                    ScriptedSend::LostAfterSending(failure) => {
                        inner.send(to, text);
                        Err(SendError::Unknown(failure))
                    }
                    ScriptedSend::LostBeforeSending(failure) => Err(SendError::Unknown(failure)),
                })
            })
            .await
            .map_err(SendError::NotSent)?
    }
}
