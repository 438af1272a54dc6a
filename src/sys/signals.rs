//! Signals that a process leaves to the one that has started it, or notes for the work that it does.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// SIGTERM, SIGINT and SIGHUP do nothing from now on: service managers and terminals send them to every process of a
/// service, and who has started this one ends it.
pub fn ignore_ending_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: to ignore a signal installs no code; nothing else in this process handles these.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

static IS_ENDING: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: libc::c_int) {
    IS_ENDING.store(true, Relaxed);
}

/// The first SIGTERM, SIGINT or SIGHUP is only noted from now on ([`is_ending`]), so that work can be ended in order; the
/// second one ends the process.
pub fn note_ending_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            // SAFETY: all zeros is a valid `sigaction`: an empty mask and no flags.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
            action.sa_flags = libc::SA_RESETHAND;
            // SAFETY: the handler does nothing but store an atomic, which is allowed at any moment (signal-safety(7)).
            unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
        }
    });
}

/// True once a signal has come that [`note_ending_signals`] notes.
pub fn is_ending() -> bool {
    IS_ENDING.load(Relaxed)
}
