//! The boot order: the network first, then what was restored, then all else that is there.

use super::number::BootNumber;
use super::state::BootState;

/// The boot order with the entries `restored` behind the network; the present one where it serves, or where nothing was
/// restored. `None` where there is neither an order nor a network entry that could stand first in one.
///
/// Without a network entry the firmware boots the network in a way of its own: what is first stays first, and what was
/// restored is last.
pub fn order(now: &BootState, restored: &[BootNumber]) -> Option<Vec<BootNumber>> {
    if restored.is_empty() || serves(now, restored) {
        return Some(now.order.clone());
    }
    let in_order = || now.order.iter().copied().find(|number| now.is_network(*number));
    let first = now.current.filter(|number| now.is_network(*number)).or_else(in_order);
    let rest = now.order.iter().copied().filter(|n| Some(*n) != first && !restored.contains(n));
    match first {
        Some(first) => Some(std::iter::once(first).chain(restored.iter().copied()).chain(rest).collect()),
        None if now.order.is_empty() => None,
        None => {
            let missing = restored.iter().filter(|number| !now.order.contains(number));
            Some(now.order.iter().chain(missing).copied().collect())
        }
    }
}

/// True where the firmware tries a network entry, and then what was restored in its order, with nothing between them but
/// more of the network. What it does not try (its set-up, entries that are not active or gone) may stand anywhere.
fn serves(now: &BootState, restored: &[BootNumber]) -> bool {
    let mut tried = now.order.iter().copied().filter(|number| now.is_tried(*number)).peekable();
    let is_network_first = tried.peek().is_some_and(|number| now.is_network(*number));
    let mut left = restored.iter().copied().peekable();
    for number in tried {
        let Some(next) = left.peek() else { break };
        if number == *next {
            left.next();
        } else if !now.is_network(number) {
            return false;
        }
    }
    is_network_first && left.peek().is_none()
}
