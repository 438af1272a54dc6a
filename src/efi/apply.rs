//! Writes the changes of a plan, one variable after the other.

use super::number::BootNumber;
use super::plan::Change;
use super::variables::Variables;
use crate::sys::errno_words;
use std::io;

/// The firmware did not take a change. Those before it are in place.
#[derive(Debug, thiserror::Error)]
#[error("the firmware does not take {change}: {why}")]
pub struct Refused {
    change: String,
    why: String,
}

/// Writes the changes in their order, each at once, and reads each back. An entry that no order names yet changes nothing,
/// so the firmware boots as before until the last one, the order, is written.
///
/// # Errors
/// The first change that the firmware refuses or does not keep.
pub fn apply(variables: &dyn Variables, changes: &[Change]) -> Result<(), Refused> {
    changes.iter().try_for_each(|change| {
        write(variables, change).map_err(|why| Refused { change: change.to_string(), why })
    })
}

fn write(variables: &dyn Variables, change: &Change) -> Result<(), String> {
    let (name, value) = match change {
        Change::Entry(number, option) => (number.variable(), option.to_bytes().ok_or("it is too long")?),
        Change::Order(order) => {
            let bytes = |number: &BootNumber| number.0.to_le_bytes();
            ("BootOrder".into(), order.iter().flat_map(bytes).collect())
        }
    };
    keep(variables, &name, &value)
}

/// Has the firmware try this entry at the next boot, once, before all others.
///
/// # Errors
/// The firmware refuses it or does not keep it.
pub fn set_next(variables: &dyn Variables, number: BootNumber) -> Result<(), Refused> {
    let kept = keep(variables, "BootNext", &number.0.to_le_bytes());
    kept.map_err(|why| Refused { change: format!("BootNext {number}"), why })
}

/// Writes a value, and reads it back.
fn keep(variables: &dyn Variables, name: &str, value: &[u8]) -> Result<(), String> {
    let said = |e: io::Error| errno_words(&e);
    variables.write(name, value).map_err(said)?;
    match variables.read(name).map_err(said)? {
        Some(found) if found == value => Ok(()),
        Some(_) => Err("another value is read back".into()),
        None => Err("it is not there when it is read back".into()),
    }
}
