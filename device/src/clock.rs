//! Whether the wall clock can be believed: a Pi has no battery-backed clock and starts with the time it last knew.

/// What the kernel says of its clock; any time service that disciplines it (timesyncd, chrony, ntpd) clears the flag.
pub(crate) fn is_synchronised() -> bool {
    // SAFETY: an all-zero `timex` is a valid one and asks to change nothing; the call writes into it and nowhere else.
    unsafe {
        let mut state: libc::timex = std::mem::zeroed();
        libc::adjtimex(&raw mut state) >= 0 && state.status & libc::STA_UNSYNC == 0
    }
}
