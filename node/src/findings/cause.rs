//! What an actor waits for, in words.

use speedtrap_actors::observe::{CallSnapshot, MeterSnapshot, Pause};

/// What a waiting actor waits for; `None` for an answer that is not late.
pub(crate) fn cause_of(role: &str, actor: &str, meter: &MeterSnapshot, calls: &[CallSnapshot]) -> Option<String> {
    meter.waiting_for?;
    let failing = calls.iter().filter(|call| is_for(call.user, role, actor)).max_by_key(|call| call.streak);
    let failure = failing.filter(|call| call.streak > 0).and_then(|call| call.last_failure.clone());
    match (meter.paused, failure) {
        (Some(Pause::Retry) | None, Some(failure)) => Some(failure),
        (Some(pause), _) => Some(pause.label().to_owned()),
        (None, None) => None,
    }
}

/// Whether calls for this user are made for that actor.
fn is_for(user: &str, role: &str, actor: &str) -> bool {
    user == actor || user.split_once('/') == Some((role, actor))
}

#[cfg(test)]
mod tests {
    use speedtrap_actors::observe::{CallLog, Meter};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failing_call_is_named_and_so_is_a_wait_on_purpose() {
        let (log, meter) = (CallLog::default(), Meter::new());
        let cause = |role: &str, actor: &str| cause_of(role, actor, &meter.snapshot(), &log.snapshot());
        log.of("owner_notifier").begin("sns Publish", "SMS").failed(&"sns Publish failed (throttled)");
        log.of("enrich/shard_reader").begin("kinesis GetRecords", "in").failed(&"no records");
        assert_eq!(cause("notify", "owner_notifier"), None, "it does not wait");
        let _waiting = meter.wait();
        assert_eq!(cause("notify", "owner_notifier").as_deref(), Some("sns Publish failed (throttled)"));
        assert_eq!(cause("enrich", "shard_reader").as_deref(), Some("no records"));
        assert_eq!(cause("notify", "shard_reader"), None, "another role's reader fails");
        let turn = meter.pause(Pause::TextRate);
        assert_eq!(cause("notify", "owner_notifier").as_deref(), Some("the rate of texts"));
        let _retry = meter.pause(Pause::Retry);
        assert_eq!(cause("notify", "owner_notifier").as_deref(), Some("sns Publish failed (throttled)"));
        drop(turn);
        log.of("owner_notifier").begin("sns Publish", "SMS").answered();
        assert_eq!(cause("notify", "owner_notifier").as_deref(), Some("the delay before a retry"));
    }
}
