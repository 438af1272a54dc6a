//! Which old sets go, of a store and by `testboxctl prune`: by the admin's rules alone, whatever a job asks for. A pure
//! function of what is there; [`OldSets`](super::old_sets::OldSets) finds that out.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;

/// The admin's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Proven sets that stay beside the current one, each of another day.
    pub sets: u32,
    /// No set is removed that is younger than this, in seconds.
    pub age: u64,
    /// Beside these, the last proven set of each of so many days that have one;
    pub daily: u32,
    /// of so many weeks, from Monday on;
    pub weekly: u32,
    /// of so many months. All by UTC.
    pub monthly: u32,
}

impl Default for Keep {
    /// Three sets of three days, and nothing of the last week.
    fn default() -> Self {
        Keep { sets: 3, age: 7 * 86_400, daily: 0, weekly: 0, monthly: 0 }
    }
}

/// The last days, weeks or months that have a set.
struct Periods {
    limit: u32,
    /// Names a period by a day in it.
    name: fn(Date) -> (i16, i16),
    taken: BTreeSet<(i16, i16)>,
}

impl Periods {
    fn of(rules: &Keep) -> [Periods; 3] {
        let periods = |limit, name| Periods { limit, name, taken: BTreeSet::new() };
        [
            periods(rules.daily, |date| (date.year(), date.day_of_year())),
            periods(rules.weekly, |date| {
                let week = date.iso_week_date();
                (week.year(), week.week().into())
            }),
            periods(rules.monthly, |date| (date.year(), date.month().into())),
        ]
    }

    /// Whether a set of this day is the last one of a period that counts; sets come the newest first.
    fn take(&mut self, date: Date) -> bool {
        self.taken.len() < self.limit as usize && self.taken.insert((self.name)(date))
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
/// counts the newest stays. `now` must not be a clock that was set forward. `current` is when the current set was finished, and whether
/// it counts as one to go back to.
pub fn surplus(rules: &Keep, current: Option<(Timestamp, bool)>, old: &[OldSet], now: Timestamp) -> Vec<u64> {
    let day = |time: Timestamp| time.to_zoned(TimeZone::UTC).date();
    // Whatever the rules say, one good set stays.
    let wanted = if current.is_some_and(|(_, is_good)| is_good) { rules.sets } else { rules.sets.max(1) };
    let mut days = BTreeSet::new();
    let mut newest_first = old.to_vec();
    newest_first.sort_by_key(|set| std::cmp::Reverse(set.generation));
    let (mut surplus, mut periods) = (Vec::new(), Periods::of(rules));
    for set in newest_first {
        let age = now.as_second().saturating_sub(set.finished.as_second());
        let is_young = u64::try_from(age).map_or(true, |age| age < rules.age);
        let enough = days.len() >= wanted as usize;
        // Each of them is asked: a set may be the last one of its day, week and month.
        let is_last = periods.each_mut().map(|periods| set.is_good && periods.take(day(set.finished)));
        if enough && !is_young && !set.is_held && !is_last.contains(&true) {
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

    fn keep(sets: u32, age: u64) -> Keep {
        Keep { sets, age, ..Keep::default() }
    }

    fn set(generation: u64, day: i64) -> OldSet {
        OldSet { generation, finished: at(day), is_good: true, is_held: false }
    }

    #[test]
    fn sets_of_one_day_count_once() {
        let rules = keep(2, 0);
        let old = [set(1, 1), set(2, 2), set(3, 3), set(4, 3), set(5, 3)];
        // 5, 4 and 3 are of one day: they are one of the two, and 2 is the other.
        assert_eq!(surplus(&rules, Some((at(4), true)), &old, at(9)), [1]);
        // Of the last day that counts the newest stays.
        assert_eq!(surplus(&keep(1, 0), Some((at(4), true)), &old, at(9)), [4, 3, 2, 1]);
    }

    #[test]
    fn what_is_held_or_young_or_the_last_good_one_stays() {
        let rules = keep(0, 0);
        let current = Some((at(9), true));
        assert_eq!(surplus(&rules, current, &[set(1, 1), set(2, 2)], at(9)), [2, 1]);
        assert_eq!(surplus(&rules, None, &[set(1, 1), set(2, 2)], at(9)), [1]);
        let held = OldSet { is_held: true, ..set(1, 1) };
        assert_eq!(surplus(&rules, current, &[held, set(2, 2)], at(9)), [2]);
        let rules = keep(0, 8 * DAY as u64);
        assert_eq!(surplus(&rules, current, &[set(1, 1), set(2, 2)], at(9)), [1]);
        // A set of tomorrow is young.
        assert_eq!(surplus(&keep(0, 1), current, &[set(1, 30)], at(9)), [0; 0]);
    }

    #[test]
    fn bad_sets_never_push_out_a_good_one() {
        let rules = keep(1, 0);
        let bad = |generation, day| OldSet { is_good: false, ..set(generation, day) };
        let flood: Vec<OldSet> = (2..40).map(|n| bad(n, n as i64)).chain([set(1, 1)]).collect();
        let gone = surplus(&rules, Some((at(50), false)), &flood, at(60));
        assert!(!gone.contains(&1), "{gone:?}");
    }

    /// 1970-01-01 was a Thursday: days 4 to 10 are a week.
    #[test]
    fn the_last_set_of_a_day_week_or_month_stays() {
        let old: Vec<OldSet> = (1..=40).map(|day| set(day, day as i64)).collect();
        let left = |rules: Keep| {
            let gone = surplus(&rules, Some((at(41), true)), &old, at(90));
            let left = old.iter().map(|set| set.generation).filter(|n| !gone.contains(n));
            left.collect::<Vec<_>>()
        };
        assert_eq!(left(Keep { daily: 3, ..keep(0, 0) }), [38, 39, 40]);
        assert_eq!(left(Keep { weekly: 3, ..keep(0, 0) }), [31, 38, 40]);
        assert_eq!(left(Keep { monthly: 9, ..keep(0, 0) }), [30, 40]);
        assert_eq!(left(Keep { daily: 1, weekly: 2, monthly: 2, ..keep(2, 0) }), [30, 38, 39, 40]);
        // One that is not good stands for no week.
        let bad: Vec<OldSet> =
            old.iter().map(|set| OldSet { is_good: set.generation < 39, ..*set }).collect();
        let gone = surplus(&Keep { weekly: 2, ..keep(0, 0) }, Some((at(41), true)), &bad, at(90));
        assert!(!gone.contains(&31) && !gone.contains(&38) && gone.contains(&39), "{gone:?}");
    }

    fn rules() -> impl Strategy<Value = Keep> {
        let some = || 0..4u32;
        (some(), 0..20u64, some(), some(), some()).prop_map(|(sets, days, daily, weekly, monthly)| Keep {
            sets,
            age: days * DAY as u64,
            daily,
            weekly,
            monthly,
        })
    }

    fn sets() -> impl Strategy<Value = Vec<OldSet>> {
        proptest::collection::vec((0..90i64, any::<bool>(), proptest::bool::weighted(0.2)), 0..12).prop_map(
            |sets| {
                let set = |(n, (day, is_good, is_held)): (usize, (i64, bool, bool))| OldSet {
                    is_good,
                    is_held,
                    ..set(n as u64 + 1, day)
                };
                sets.into_iter().enumerate().map(set).collect()
            },
        )
    }

    proptest! {
        /// Armed again and again, at any times: what goes has lived as long as it must, and good sets of as many other days as
        /// count have come since.
        #[test]
        fn only_newer_days_push_a_set_out(
            keep in 0..4u32, age in 0..10i64, steps in proptest::collection::vec((0..40i64, proptest::bool::weighted(0.8)), 1..80)
        ) {
            let rules = self::keep(keep, (age * DAY) as u64);
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
            old in sets(), keep in 0..4u32, age in 0..20u64, now in -10..99i64, current in proptest::option::of(any::<bool>())
        ) {
            let current = current.map(|is_good| (at(now), is_good));
            let rules = self::keep(keep, age * DAY as u64);
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

        /// Whatever the rules: of each kind of period as many are left with a good set as there are and as are asked for;
        /// done again it removes nothing; and who asks for more loses no set that he had before.
        #[test]
        fn periods_keep_their_last_set_and_rules_only_add(old in sets(), rules in rules(), more in rules(), now in 0..99i64) {
            let current = Some((at(now), true));
            let gone = surplus(&rules, current, &old, at(now));
            let left: Vec<OldSet> = old.iter().copied().filter(|set| !gone.contains(&set.generation)).collect();
            prop_assert_eq!(surplus(&rules, current, &left, at(now)), [0; 0]);
            for (limit, number) in [(rules.daily, 0), (rules.weekly, 1), (rules.monthly, 2)] {
                let name = Periods::of(&rules)[number].name;
                let names = |sets: &[OldSet]| {
                    let good = sets.iter().filter(|set| set.is_good);
                    good.map(|set| name(set.finished.to_zoned(TimeZone::UTC).date())).collect::<BTreeSet<_>>()
                };
                prop_assert!(names(&left).len() >= names(&old).len().min(limit as usize));
            }
            let both = Keep {
                sets: rules.sets + more.sets,
                age: rules.age + more.age,
                daily: rules.daily + more.daily,
                weekly: rules.weekly + more.weekly,
                monthly: rules.monthly + more.monthly,
            };
            let fewer = surplus(&both, current, &old, at(now));
            prop_assert!(fewer.iter().all(|set| gone.contains(set)), "{fewer:?} {gone:?}");
        }
    }
}
