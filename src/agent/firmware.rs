//! Asking the firmware, which may take its time.

use crate::efi::{BootNumber, BootState, Platform, set_next as set};
use crate::sys::{errno_words, with_deadline};
use std::time::Duration;

/// How long the firmware may take for all that is asked of it at once.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What the firmware has now.
///
/// # Errors
/// Why it cannot be read.
pub fn state(platform: &Platform) -> Result<BootState, String> {
    let variables = platform.variables.clone()?;
    with_deadline(LIMIT, move || BootState::read(&*variables)).map_err(|e| errno_words(&e))
}

/// Has it try this entry at the next boot, once.
///
/// # Errors
/// Why it does not.
pub fn set_next(platform: &Platform, number: BootNumber) -> Result<(), String> {
    let variables = platform.variables.clone()?;
    let done = with_deadline(LIMIT, move || Ok(set(&*variables, number).map_err(|e| e.to_string())));
    done.unwrap_or_else(|e| Err(e.to_string()))
}
