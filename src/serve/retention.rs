//! Which old sets a store removes: by the admin's rules alone, whatever a job asks for. A pure function of what is there.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;

/// The admin's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Proven sets that stay beside the current one, each of another day.
    pub sets: u32,
    /// No set is removed that is younger than this, in seconds.
    pub age: u64,
}

impl Default for Keep {
    /// Three sets of three days, and nothing of the last week.
    fn default() -> Self {
        Keep { sets: 3, age: 7 * 86_400 }
    }
}

/// What is known of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldSet {
    /// Its number in the history.
    pub generation: u64,
    /// When it was finished; a time to come counts as now.
    pub finished: Timestamp,
    /// A store has proven it when it published it, it is complete, and nothing was found damaged since.
    pub is_good: bool,
    /// Somebody has signed it, or pinned it, or a newer testbox has made it.
    pub is_held: bool,
}

/// The numbers of the sets to remove. Of one day all stay while it is among the newest days, and count once; of the oldest day that
/// counts the newest stays. `now` must not be a clock that was set forward. `current_is_good` tells whether the current set counts as one to go back to.
pub fn surplus(rules: &Keep, current: Option<(Timestamp, bool)>, old: &[OldSet], now: Timestamp) -> Vec<u64> {
    let day = |time: Timestamp| time.to_zoned(TimeZone::UTC).date();
    // Whatever the rules say, one good set stays.
    let wanted = if current.is_some_and(|(_, is_good)| is_good) { rules.sets } else { rules.sets.max(1) };
    let mut days = BTreeSet::new();
    let mut newest_first = old.to_vec();
    newest_first.sort_by_key(|set| std::cmp::Reverse(set.generation));
    let mut surplus = Vec::new();
    for set in newest_first {
        let age = now.as_second().saturating_sub(set.finished.as_second());
        let is_young = u64::try_from(age).map_or(true, |age| age < rules.age);
        let enough = days.len() >= wanted as usize;
        if enough && !is_young && !set.is_held {
            surplus.push(set.generation);
        } else if set.is_good {
            days.insert(day(set.finished));
        }
    }
    surplus
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(day * DAY).unwrap()
    }

    fn set(generation: u64, day: i64) -> OldSet {
        OldSet { generation, finished: at(day), is_good: true, is_held: false }
    }

    #[test]
    fn sets_of_one_day_count_once() {
        let rules = Keep { sets: 2, age: 0 };
        let old = [set(1, 1), set(2, 2), set(3, 3), set(4, 3), set(5, 3)];
        // 5, 4 and 3 are of one day: they are one of the two, and 2 is the other.
        assert_eq!(surplus(&rules, Some((at(4), true)), &old, at(9)), [1]);
        // Of the last day that counts the newest stays.
        assert_eq!(surplus(&Keep { sets: 1, age: 0 }, Some((at(4), true)), &old, at(9)), [4, 3, 2, 1]);
    }

    #[test]
    fn what_is_held_or_young_or_the_last_good_one_stays() {
        let rules = Keep { sets: 0, age: 0 };
        let current = Some((at(9), true));
        assert_eq!(surplus(&rules, current, &[set(1, 1), set(2, 2)], at(9)), [2, 1]);
        assert_eq!(surplus(&rules, None, &[set(1, 1), set(2, 2)], at(9)), [1]);
        let held = OldSet { is_held: true, ..set(1, 1) };
        assert_eq!(surplus(&rules, current, &[held, set(2, 2)], at(9)), [2]);
        let rules = Keep { sets: 0, age: 8 * DAY as u64 };
        assert_eq!(surplus(&rules, current, &[set(1, 1), set(2, 2)], at(9)), [1]);
        // A set of tomorrow is young.
        assert_eq!(surplus(&Keep { sets: 0, age: 1 }, current, &[set(1, 30)], at(9)), [0; 0]);
    }

    #[test]
    fn bad_sets_never_push_out_a_good_one() {
        let rules = Keep { sets: 1, age: 0 };
        let bad = |generation, day| OldSet { is_good: false, ..set(generation, day) };
        let flood: Vec<OldSet> = (2..40).map(|n| bad(n, n as i64)).chain([set(1, 1)]).collect();
        let gone = surplus(&rules, Some((at(50), false)), &flood, at(60));
        assert!(!gone.contains(&1), "{gone:?}");
    }

    fn sets() -> impl Strategy<Value = Vec<OldSet>> {
        proptest::collection::vec((0..40i64, any::<bool>(), any::<bool>()), 0..12).prop_map(|sets| {
            let set = |(n, (day, is_good, is_held)): (usize, (i64, bool, bool))| OldSet {
                is_good,
                is_held,
                ..set(n as u64 + 1, day)
            };
            sets.into_iter().enumerate().map(set).collect()
        })
    }

    proptest! {
        /// Armed again and again, at any times: what goes has lived as long as it must, and good sets of as many other days as
        /// count have come since.
        #[test]
        fn only_newer_days_push_a_set_out(
            keep in 0..4u32, age in 0..10i64, steps in proptest::collection::vec((0..40i64, proptest::bool::weighted(0.8)), 1..80)
        ) {
            let rules = Keep { sets: keep, age: (age * DAY) as u64 };
            let (mut old, mut current): (Vec<OldSet>, Option<OldSet>) = (Vec::new(), None);
            let mut now = 0;
            for (n, (hours, is_good)) in steps.into_iter().enumerate() {
                now += hours * 3600;
                let time = Timestamp::from_second(now).unwrap();
                old.extend(current.replace(OldSet { generation: n as u64, finished: time, is_good, is_held: false }));
                let gone = surplus(&rules, Some((time, is_good)), &old, time);
                let (gone, left): (Vec<OldSet>, Vec<OldSet>) = old.iter().partition(|set| gone.contains(&set.generation));
                for set in gone {
                    prop_assert!(now - set.finished.as_second() >= age * DAY);
                    let newer = left.iter().filter(|newer| newer.is_good && newer.generation > set.generation);
                    let days: BTreeSet<i64> = newer.map(|newer| newer.finished.as_second() / DAY).collect();
                    let wanted = if is_good { keep } else { keep.max(1) };
                    prop_assert!(days.len() >= wanted as usize, "{days:?}");
                }
                old = left;
            }
        }

        /// Whatever the rules and the clock say: a good set is left, and of good sets of different days as many as asked for.
        #[test]
        fn a_good_set_is_always_left(
            old in sets(), keep in 0..4u32, age in 0..20u64, now in -10..60i64, current in proptest::option::of(any::<bool>())
        ) {
            let current = current.map(|is_good| (at(now), is_good));
            let rules = Keep { sets: keep, age: age * DAY as u64 };
            let gone = surplus(&rules, current, &old, at(now));
            let left: Vec<&OldSet> = old.iter().filter(|set| !gone.contains(&set.generation)).collect();
            let good = |sets: &[&OldSet]| sets.iter().filter(|set| set.is_good).map(|set| set.finished).collect::<BTreeSet<_>>().len();
            let all: Vec<&OldSet> = old.iter().collect();
            prop_assert!(good(&left) >= good(&all).min(keep as usize));
            if current != Some((at(now), true)) && good(&all) > 0 {
                prop_assert!(good(&left) > 0);
            }
            for set in old.iter().filter(|set| gone.contains(&set.generation)) {
                prop_assert!(!set.is_held);
                prop_assert!(now - set.finished.as_second() / DAY >= age as i64);
            }
        }
    }
}
