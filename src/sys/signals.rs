//! Signals that a process leaves to the one that has started it.

/// SIGTERM, SIGINT and SIGHUP do nothing from now on: service managers and terminals send them to every process of a
/// service, and who has started this one ends it.
pub fn ignore_ending_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: to ignore a signal installs no code; nothing else in this process handles these.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}
