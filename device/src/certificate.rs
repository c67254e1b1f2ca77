//! What a certificate says of itself. Whether the other side trusts it is the TLS library's business.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use x509_cert::der::Decode;
use x509_cert::time::Time;

/// Renewing takes somebody who walks to the roadside, so the warning comes well ahead.
const WARN_AHEAD: SignedDuration = SignedDuration::from_hours(30 * 24);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

/// Where a certificate's time stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    NotYet,
    Valid,
    EndsSoon { days: i64 },
    Expired,
}

impl Certificate {
    /// Reads one certificate in DER form; the error says what is wrong with it.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, String> {
        let certificate = x509_cert::Certificate::from_der(der).map_err(|e| format!("it is no X.509 certificate ({e})"))?;
        let body = certificate.tbs_certificate();
        Ok(Self { not_before: timestamp(body.validity().not_before), not_after: timestamp(body.validity().not_after) })
    }

    pub(crate) fn validity(&self, now: Timestamp) -> Validity {
        let left = self.not_after.duration_since(now);
        if now < self.not_before {
            Validity::NotYet
        } else if left.is_negative() {
            Validity::Expired
        } else if left < WARN_AHEAD {
            Validity::EndsSoon { days: left.as_hours() / 24 }
        } else {
            Validity::Valid
        }
    }
}

/// Certificates may end in the year 9999 or begin before 1970; both are in range here.
fn timestamp(time: Time) -> Timestamp {
    let since_epoch: Duration = time.to_unix_duration();
    i64::try_from(since_epoch.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate() -> Certificate {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2024, 1, 1);
        params.not_after = date_time_ymd(2050, 6, 1);
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        Certificate::from_der(&der).unwrap()
    }

    #[test]
    fn its_times_are_read() {
        let certificate = certificate();
        assert_eq!(certificate.not_before.to_string(), "2024-01-01T00:00:00Z");
        assert_eq!(certificate.not_after.to_string(), "2050-06-01T00:00:00Z");
        assert!(Certificate::from_der(b"nonsense").is_err());
    }

    #[test]
    fn the_end_is_told_thirty_days_ahead() {
        let certificate = certificate();
        let at = |text: &str| certificate.validity(text.parse().unwrap());
        assert_eq!(at("2023-12-31T23:59:59Z"), Validity::NotYet);
        assert_eq!(at("2024-01-01T00:00:00Z"), Validity::Valid);
        assert_eq!(at("2050-05-01T00:00:00Z"), Validity::Valid);
        assert_eq!(at("2050-05-03T12:00:00Z"), Validity::EndsSoon { days: 28 });
        assert_eq!(at("2050-05-31T23:59:59Z"), Validity::EndsSoon { days: 0 });
        assert_eq!(at("2050-06-01T00:00:01Z"), Validity::Expired);
    }
}
