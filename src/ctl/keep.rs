//! The flags that say which old sets stay: of `serve` and of `prune`.

use crate::serve::retention::Keep;

/// Seconds.
const DAY: u64 = 86_400;

fn count() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=1000)
}

/// Which old sets stay.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct KeepFlags {
    /// Proven sets of a machine that stay beside the current one, at most one a day counts
    #[arg(long, visible_alias = "keep-last", value_name = "N", default_value_t = 3, value_parser = count())]
    keep_sets: u32,
    /// Beside these, the last proven set of each of so many days that have one
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = count())]
    keep_daily: u32,
    /// The same of so many weeks
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = count())]
    keep_weekly: u32,
    /// The same of so many months
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = count())]
    keep_monthly: u32,
    /// No set is removed that is younger
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u32).range(0..=36500))]
    keep_days: u32,
}

impl KeepFlags {
    /// The rules.
    pub fn rules(&self) -> Keep {
        Keep {
            sets: self.keep_sets,
            age: u64::from(self.keep_days) * DAY,
            daily: self.keep_daily,
            weekly: self.keep_weekly,
            monthly: self.keep_monthly,
        }
    }
}
