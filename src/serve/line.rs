//! The line: which machines are at work, and in what order the others come. No clock and no I/O.
//!
//! First come, first served, but for restores: somebody waits for those, and a backup can be made at any hour. So a restore passes
//! whatever else waits; each machine is passed at most [`PASSES`] times, and from then on only by those that came before it.

use std::collections::BTreeSet;
use std::fmt;

/// Machines at work at once, unless the admin says otherwise. A link of 1 Gbit/s leaves each of eight 14 MB/s; more of them at once
/// would end none earlier, and each holds memory of the server.
pub const AT_WORK: usize = 8;
/// Restores that may pass a machine in the line.
pub const PASSES: usize = 8;

/// What a machine comes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It lacks its disk.
    Restore,
    /// Anything that can wait.
    Other,
}

/// Where a machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has a place.
    AtWork,
    /// It waits.
    InLine {
        /// Who would come before it, if nobody else came.
        before: usize,
        /// Who is at work.
        at_work: usize,
        /// How many may be.
        places: usize,
    },
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Standing::InLine { before, at_work, places } = self else { return f.write_str("at work") };
        let nth = before + 1;
        let ending = match (nth % 10, nth % 100) {
            (_, 11..=13) => "th",
            (1, _) => "st",
            (2, _) => "nd",
            (3, _) => "rd",
            _ => "th",
        };
        let behind = match before {
            0 => "behind nobody".to_owned(),
            1 => "behind 1 other".to_owned(),
            _ => format!("behind {before} others"),
        };
        write!(f, "waits in line: {nth}{ending}, {behind} ({at_work} of {places} machines are at work)")
    }
}

#[derive(Debug)]
struct Waiting {
    who: String,
    need: Need,
    passed: usize,
}

impl Waiting {
    fn is_first_class(&self) -> bool {
        self.need == Need::Restore || self.passed >= PASSES
    }
}

/// The line, and who is at work.
#[derive(Debug)]
pub struct Line {
    places: usize,
    at_work: BTreeSet<String>,
    /// In the order in which they came.
    waiting: Vec<Waiting>,
}

impl Line {
    /// Nobody is at work, and so many may be; one at least.
    pub fn new(places: usize) -> Line {
        Line { places: places.max(1), at_work: BTreeSet::new(), waiting: Vec::new() }
    }

    /// How many are at work, and how many wait.
    pub fn counts(&self) -> (usize, usize) {
        (self.at_work.len(), self.waiting.len())
    }

    /// Somebody comes, or asks where he stands.
    pub fn come(&mut self, who: &str, need: Need) -> Standing {
        if !self.at_work.contains(who) && !self.waiting.iter().any(|waiting| waiting.who == who) {
            self.waiting.push(Waiting { who: who.to_owned(), need, passed: 0 });
            self.take();
        }
        self.standing(who)
    }

    /// Somebody who was at work before the server was started again goes on, even where all places are taken.
    pub fn go_on(&mut self, who: &str) {
        self.waiting.retain(|waiting| waiting.who != who);
        self.at_work.insert(who.to_owned());
    }

    /// Somebody leaves, from wherever he is.
    pub fn leave(&mut self, who: &str) {
        self.at_work.remove(who);
        self.waiting.retain(|waiting| waiting.who != who);
        self.take();
    }

    fn standing(&self, who: &str) -> Standing {
        let Some(at) = self.waiting.iter().position(|waiting| waiting.who == who) else {
            return Standing::AtWork;
        };
        let first_class = |of: &[Waiting]| of.iter().filter(|waiting| waiting.is_first_class()).count();
        let (ahead, behind) = self.waiting.split_at(at);
        let before = match behind.first().is_some_and(Waiting::is_first_class) {
            true => first_class(ahead),
            false => ahead.len() + first_class(behind),
        };
        Standing::InLine { before, at_work: self.at_work.len(), places: self.places }
    }

    /// Gives the places that are free.
    fn take(&mut self) {
        while self.at_work.len() < self.places && !self.waiting.is_empty() {
            let next = self.waiting.iter().position(Waiting::is_first_class).unwrap_or(0);
            let taken = self.waiting.remove(next);
            self.waiting.iter_mut().take(next).for_each(|passed| passed.passed += 1);
            self.at_work.insert(taken.who);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn in_line(line: &mut Line, who: &str, need: Need) -> String {
        line.come(who, need).to_string()
    }

    #[test]
    fn restores_come_before_backups_and_each_is_told_its_place() {
        let mut line = Line::new(2);
        for who in ["a", "b"] {
            assert_eq!(line.come(who, Need::Other), Standing::AtWork);
        }
        assert_eq!(
            in_line(&mut line, "c", Need::Other),
            "waits in line: 1st, behind nobody (2 of 2 machines are at work)"
        );
        assert_eq!(
            in_line(&mut line, "d", Need::Other),
            "waits in line: 2nd, behind 1 other (2 of 2 machines are at work)"
        );
        assert!(in_line(&mut line, "e", Need::Restore).contains("1st, behind nobody"));
        assert!(in_line(&mut line, "f", Need::Restore).contains("2nd, behind 1 other"));
        assert!(in_line(&mut line, "d", Need::Other).contains("4th, behind 3 others"));
        line.leave("a");
        assert_eq!(line.come("e", Need::Restore), Standing::AtWork);
        assert!(in_line(&mut line, "c", Need::Other).contains("2nd, behind 1 other"));
        line.leave("f");
        line.leave("b");
        assert_eq!(line.come("c", Need::Other), Standing::AtWork, "who has left holds up nobody");
    }

    #[test]
    fn who_was_at_work_before_a_restart_goes_on_beside_all_others() {
        let mut line = Line::new(1);
        line.come("a", Need::Restore);
        line.go_on("b");
        line.leave("a");
        assert!(
            matches!(line.come("c", Need::Restore), Standing::InLine { .. }),
            "both places are one too many"
        );
        line.leave("b");
        assert_eq!(line.come("c", Need::Restore), Standing::AtWork);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Come(Need),
        Leave(usize),
        Vanish(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Come(Need::Restore)),
            2 => Just(Step::Come(Need::Other)),
            4 => (0..100usize).prop_map(Step::Leave),
            1 => (0..100usize).prop_map(Step::Vanish),
        ];
        proptest::collection::vec(step, 1..300)
    }

    proptest! {
        /// None starves: whoever waits is taken after those that came before and [`PASSES`] others at most. No more are at work
        /// than may be, and no place is free while somebody waits.
        #[test]
        fn each_is_taken_after_those_before_and_a_few_others(places in 1..5usize, steps in steps()) {
            let mut line = Line::new(places);
            // Who, how many are still before him, and how many came later and were taken first.
            let mut waiting: Vec<(String, usize)> = Vec::new();
            let mut at_work: Vec<String> = Vec::new();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Come(need) => {
                        let who = n.to_string();
                        line.come(&who, need);
                        waiting.push((who, 0));
                    }
                    Step::Leave(n) if !at_work.is_empty() => {
                        let who = at_work.remove(n % at_work.len());
                        line.leave(&who);
                    }
                    Step::Vanish(n) if !waiting.is_empty() => {
                        let (who, _) = waiting.remove(n % waiting.len());
                        line.leave(&who);
                    }
                    _ => {}
                }
                let taken: Vec<usize> = (0..waiting.len()).filter(|n| line.standing(&waiting[*n].0) == Standing::AtWork).collect();
                for n in taken.into_iter().rev() {
                    let (who, passes) = waiting.remove(n);
                    prop_assert!(passes <= PASSES, "{who} was passed {passes} times");
                    waiting[..n].iter_mut().for_each(|(_, passes)| *passes += 1);
                    at_work.push(who);
                }
                prop_assert!(at_work.len() <= places);
                prop_assert!(waiting.is_empty() || at_work.len() == places);
                prop_assert!(waiting.iter().all(|(_, passes)| *passes <= PASSES));
                let mut places: Vec<usize> = waiting.iter().map(|(who, _)| match line.standing(who) {
                    Standing::InLine { before, .. } => before,
                    Standing::AtWork => usize::MAX,
                }).collect();
                places.sort_unstable();
                prop_assert_eq!(places, (0..waiting.len()).collect::<Vec<_>>());
            }
        }
    }
}
