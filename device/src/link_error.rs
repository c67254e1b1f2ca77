//! What a failed connection means: try again, or tell the user what to change.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use rumqttc::{ClientError, ConnectReturnCode, ConnectionError, StateError};
use rustls::{AlertDescription, CertificateError};

use crate::config::ConnectionArgs;
use crate::failure::Failure;

#[derive(Debug)]
pub(crate) struct LinkError {
    kind: Kind,
    what: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// May be over at the next attempt.
    Passing,
    /// The broker hung up during or right after the TLS handshake and gave no reason.
    HungUpAtStart,
    /// The broker ended the connection after it had accepted the client.
    HungUpAtWork,
    /// The broker named our certificate as the reason.
    CertificateRefused,
    /// We do not trust the broker's certificate.
    BrokerNotTrusted,
    /// The broker took the connection and refused the client.
    ClientRefused,
}

impl LinkError {
    pub(crate) fn no_acknowledgement(limit: Duration) -> Self {
        Self { kind: Kind::Passing, what: format!("no acknowledgement for {} s", limit.as_secs()) }
    }

    pub(crate) fn not_taken(error: &ClientError) -> Self {
        Self { kind: Kind::Passing, what: format!("the MQTT library did not take a reading ({error})") }
    }

    pub(crate) fn no_answer() -> Self {
        Self { kind: Kind::Passing, what: "no answer".to_owned() }
    }

    /// The broker ended a working connection by itself.
    pub(crate) fn is_hang_up(&self) -> bool {
        self.kind == Kind::HungUpAtWork
    }

    /// The failure to end with, if another attempt cannot help.
    pub(crate) fn fatal(&self, to: &ConnectionArgs) -> Option<Failure> {
        let (endpoint, port, what) = (&to.endpoint, to.port, &self.what);
        match self.kind {
            Kind::Passing | Kind::HungUpAtStart | Kind::HungUpAtWork => None,
            Kind::CertificateRefused => Some(Failure::BadCredentials {
                what: format!(
                    "{endpoint}:{port} refused this device's certificate ({what}). Check that `{}` is registered and active at this \
                     broker, or signed by an authority it trusts",
                    to.cert.display()
                ),
            }),
            Kind::BrokerNotTrusted => Some(Failure::BadCredentials {
                what: format!(
                    "the certificate of {endpoint}:{port} is not accepted ({what}). Check that --root-ca `{}` is the authority of this \
                     broker and that --endpoint is the name in its certificate",
                    to.root_ca.display()
                ),
            }),
            Kind::ClientRefused => Some(Failure::Refused {
                what: format!(
                    "{endpoint}:{port} refused client `{}` ({what}). Check that its policy allows this client id to connect",
                    to.client_id
                ),
            }),
        }
    }

    /// What to say when time is up.
    pub(crate) fn gave_up(&self, to: &ConnectionArgs, ever_connected: bool, limit: Duration, unacknowledged: u64) -> String {
        let (endpoint, port, what) = (&to.endpoint, to.port, &self.what);
        let hint = match self.kind {
            Kind::HungUpAtStart => {
                "A broker that hangs up at once usually knows no such certificate, does not allow this client id, or speaks no TLS on \
                 this port"
            }
            _ => "Check --endpoint and --port, and that the broker runs and can be reached from here",
        };
        if ever_connected {
            format!(
                "lost {endpoint}:{port} and could not reach it again within {} s ({what}); {unacknowledged} readings are \
                 unacknowledged. {hint}",
                limit.as_secs()
            )
        } else {
            format!("cannot reach {endpoint}:{port} within {} s ({what}); nothing was sent. {hint}", limit.as_secs())
        }
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

pub(crate) fn judge(error: &ConnectionError, connected: bool) -> LinkError {
    if let ConnectionError::ConnectionRefused(code) = error {
        let kind = match code {
            ConnectReturnCode::ServiceUnavailable => Kind::Passing,
            _ => Kind::ClientRefused,
        };
        return LinkError { kind, what: format!("{code:?}") };
    }
    if let Some(tls) = find_tls_error(error) {
        return judge_tls(tls);
    }
    let io_kind = find_io_error(error).map(io::Error::kind);
    let hung_up = matches!(error, ConnectionError::MqttState(StateError::ConnectionAborted))
        || matches!(
            io_kind,
            Some(
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
            )
        );
    let what = match find_io_error(error) {
        Some(e) => e.to_string(),
        None => error.to_string(),
    };
    let kind = match (hung_up, connected) {
        (true, false) => Kind::HungUpAtStart,
        (true, true) => Kind::HungUpAtWork,
        (false, _) => Kind::Passing,
    };
    LinkError { kind, what }
}

fn judge_tls(error: &rustls::Error) -> LinkError {
    use AlertDescription as Alert;
    let kind = match error {
        rustls::Error::AlertReceived(
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError,
        ) => Kind::CertificateRefused,
        // A Pi has no clock of its own and starts in the past: this passes when a time service has answered.
        rustls::Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            Kind::Passing
        }
        rustls::Error::InvalidCertificate(_) => Kind::BrokerNotTrusted,
        _ => Kind::HungUpAtStart,
    };
    let what = match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => "signed by an unknown authority".to_owned(),
        rustls::Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "the broker's certificate is not good yet; is the clock of this device late?".to_owned()
        }
        rustls::Error::AlertReceived(alert) => format!("TLS alert {alert:?}"),
        other => other.to_string(),
    };
    LinkError { kind, what }
}

fn find_io_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e io::Error> {
    causes(error).find_map(|cause| cause.downcast_ref::<io::Error>())
}

/// The TLS library's error travels inside an I/O error, which does not name it as its source.
fn find_tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    causes(error).find_map(|cause| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref).map(|inner| inner as &(dyn Error + 'static));
        inner.unwrap_or(cause).downcast_ref::<rustls::Error>()
    })
}

fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause: &&'e (dyn Error + 'static)| (*cause).source())
}
