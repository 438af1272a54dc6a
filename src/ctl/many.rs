//! Work on many things at once, where it waits for a disk and not for the processor.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::{self, Builder};

/// Threads: what an SSD or a file server answers at once.
const THREADS: usize = 16;

/// Does `work` on each, and gives the results in the order of `all`.
pub(super) fn each<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let some = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Relaxed);
            let Some(one) = all.get(number) else { return done };
            done.push((number, work(one)));
        }
    };
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let spawn = |_| Builder::new().name("many".into()).spawn_scoped(scope, some).ok();
        let others: Vec<_> = (1..THREADS.min(all.len())).filter_map(spawn).collect();
        // This thread alone is enough.
        let mut done = some();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_done_once_and_the_order_stays() {
        for length in [0, 1, 2, 17, 1000] {
            let all: Vec<usize> = (0..length).collect();
            assert_eq!(each(&all, |n| n * 2), all.iter().map(|n| n * 2).collect::<Vec<_>>());
        }
    }
}
