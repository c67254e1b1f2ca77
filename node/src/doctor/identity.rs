//! Who calls AWS, and what its clock says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_sdk_sts::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_sts::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sts::error::BoxError;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use jiff::fmt::rfc2822;

use super::aws::Told;
use super::report::Finding;
use super::{Check, Group, Place};

/// The header has whole seconds, and the answer was on its way for a while.
const CLOSE_ENOUGH: Duration = Duration::from_secs(2);

/// Who calls, and when: asked once for all that need it.
pub(super) type Caller = Shared<BoxFuture<'static, Arc<Answer>>>;

/// What STS said.
pub(super) struct Answer {
    told: Told,
    arn: String,
    /// The account, if it is known.
    pub(super) account: Option<String>,
    clock: Option<Clock>,
}

/// Two clocks at one moment.
#[derive(Debug, Clone, Copy)]
struct Clock {
    here: SystemTime,
    there: SystemTime,
}

/// Reads the `Date` of every answer, also of one that refuses.
#[derive(Debug)]
struct DateReader(Arc<Mutex<Option<Clock>>>);

impl Intercept for DateReader {
    fn name(&self) -> &'static str {
        "DateReader"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(parsed);
        let clock = date.map(|there| Clock { here: SystemTime::now(), there });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = clock;
        Ok(())
    }
}

fn parsed(date: &str) -> Option<SystemTime> {
    Some(rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?.into())
}

/// Asks STS once, for two lines and for the name of the archive bucket.
pub(super) fn checks(place: &Arc<Place>, sdk: &SdkConfig) -> (Caller, Vec<Check>) {
    let clock = Arc::new(Mutex::new(None));
    let config = aws_sdk_sts::config::Builder::from(sdk).interceptor(DateReader(Arc::clone(&clock))).build();
    let sts = aws_sdk_sts::Client::from_conf(config);
    let caller = async move {
        // Needs no permission, and changes nothing.
        let answer = sts.get_caller_identity().send().await;
        let told = Told::of(&answer);
        let identity = answer.ok();
        let clock = *clock.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::new(Answer {
            told,
            arn: identity.as_ref().and_then(|identity| identity.arn().map(str::to_owned)).unwrap_or_default(),
            account: identity.and_then(|identity| identity.account),
            clock,
        })
    }
    .boxed()
    .shared();
    let (who, when, at) = (caller.clone(), caller.clone(), Arc::clone(place));
    let claim_expiry = place.config.notify.claim_expiry;
    let all = vec![
        Check::remote(Group::Aws, "aws.identity", async move { identity(&*who.await, &at.clients.place) }),
        Check::remote(Group::Aws, "aws.clock", async move { judge_clock(&*when.await, claim_expiry) }),
    ];
    (caller, all)
}

fn identity(answer: &Answer, place: &str) -> Finding {
    match &answer.told {
        Told::Done => Finding::ok(format!("{}, {place}", answer.arn)),
        Told::Silent(why) if why.to_ascii_lowercase().contains("credential") => Finding::fail(
            format!("no credentials: {why}"),
            "give some: AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role of this machine",
        ),
        told => told
            .clone()
            .finding("sts:GetCallerIdentity", || Finding::fail("STS does not know the caller", "check the credentials")),
    }
}

/// Claims carry wall-clock times: a node whose clock is ahead takes over claims that are still being worked on, and texts twice.
fn judge_clock(answer: &Answer, claim_expiry: Duration) -> Finding {
    let Some(Clock { here, there }) = answer.clock else {
        return match &answer.told {
            Told::Silent(why) => Finding::no_answer(why),
            _ => Finding::skip("not known here: the answer of STS has no date"),
        };
    };
    let (off, word) = match here.duration_since(there) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    let seen = format!("{:.1} s {word} the clock of AWS", off.as_secs_f64());
    let next = "let the machine keep time (chrony, systemd-timesyncd); AWS refuses calls that are 5 minutes off, and claims of texts expire \
                by the clock";
    if off <= CLOSE_ENOUGH {
        Finding::ok(format!("within {} s of the clock of AWS", CLOSE_ENOUGH.as_secs()))
    } else if off < claim_expiry {
        Finding::warn(seen, next)
    } else {
        Finding::fail(seen, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off_by(seconds: i64) -> Answer {
        let there = parsed("Tue, 15 Nov 1994 08:12:31 GMT").expect("a date as HTTP writes it");
        let off = Duration::from_secs(seconds.unsigned_abs());
        let here = if seconds < 0 { there - off } else { there + off };
        Answer { told: Told::Done, arn: String::new(), account: None, clock: Some(Clock { here, there }) }
    }

    #[test]
    fn a_clock_is_judged_by_what_it_would_do_to_claims() {
        let judged = |seconds| judge_clock(&off_by(seconds), Duration::from_secs(10));
        assert_eq!(judged(1), Finding::ok("within 2 s of the clock of AWS"));
        assert_ne!(judged(5), judged(11));
        assert!(format!("{:?}", judged(5)).contains("Warn"));
        assert!(format!("{:?}", judged(-11)).contains("11.0 s behind the clock of AWS"));
        assert!(format!("{:?}", judged(3_600)).contains("Fail"));
    }
}
