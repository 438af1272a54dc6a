//! Where the time of a boot went, from power-on to the end of the action.

use crate::store::status::StageTime;
use crate::sys::System;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a boot does, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootStage {
    /// From the start of the kernel's clock to its first program. The firmware and the loader came before, and no clock
    /// that is known here has seen them.
    Kernel,
    /// The boot scripts, up to the start of the agent: drivers, link, address.
    Initramfs,
    /// Both, where the kernel's log does not tell them apart.
    Boot,
    /// Neighbours, job and name.
    Network,
    /// The shares are mounted and proven, and the folder is leased.
    Shares,
    /// What was waited for the disks beside all that.
    Settle,
    /// The disks' state and content, and the plan.
    Plan,
    /// The steps of the plan.
    Work,
    /// The new set becomes the current one.
    Publish,
    /// Status and PXE config.
    Disarm,
}

impl BootStage {
    fn as_str(self) -> &'static str {
        match self {
            BootStage::Kernel => "kernel",
            BootStage::Initramfs => "initramfs",
            BootStage::Boot => "kernel and initramfs",
            BootStage::Network => "network",
            BootStage::Shares => "shares",
            BootStage::Settle => "settle",
            BootStage::Plan => "plan",
            BootStage::Work => "work",
            BootStage::Publish => "publish",
            BootStage::Disarm => "disarm",
        }
    }
}

/// When each stage began, on the clock that starts with the kernel (CLOCK_BOOTTIME).
pub struct Times {
    system: Arc<dyn System>,
    begun: Mutex<Vec<(BootStage, Duration)>>,
}

impl Times {
    /// The agent has started: its network stage begins. `init` is when the kernel started the initramfs's init.
    pub fn start(system: Arc<dyn System>, init: Option<Duration>) -> Self {
        let now = system.since_boot();
        let mut begun = match init.filter(|init| *init <= now) {
            Some(init) => vec![(BootStage::Kernel, Duration::ZERO), (BootStage::Initramfs, init)],
            None => vec![(BootStage::Boot, Duration::ZERO)],
        };
        begun.push((BootStage::Network, now));
        Times { system, begun: Mutex::new(begun) }
    }

    fn begun(&self) -> MutexGuard<'_, Vec<(BootStage, Duration)>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This stage begins, and the one before it ends.
    pub fn enter(&self, stage: BootStage) {
        let now = self.system.since_boot();
        self.begun().push((stage, now));
    }

    /// How long each stage has taken until now, in the order in which they began.
    pub fn spent(&self) -> Vec<StageTime> {
        let begun = self.begun();
        let ends = begun.iter().skip(1).map(|(_, begin)| *begin).chain([self.system.since_boot()]);
        let spent = begun.iter().zip(ends).map(|((stage, begin), end)| StageTime {
            stage: stage.as_str().into(),
            milliseconds: u64::try_from(end.saturating_sub(*begin).as_millis()).unwrap_or(u64::MAX),
        });
        spent.collect()
    }
}

/// The line of the log.
pub fn line(spent: &[StageTime]) -> String {
    let tenths = |milliseconds: u64| format!("{:.1} s", Duration::from_millis(milliseconds).as_secs_f64());
    let each: Vec<String> =
        spent.iter().map(|time| format!("{} {}", time.stage, tenths(time.milliseconds))).collect();
    let total = spent.iter().fold(0u64, |sum, time| sum.saturating_add(time.milliseconds));
    format!("where the time went: {}; {} since the kernel's start", each.join(", "), tenths(total))
}

/// When the kernel started the first program of the initramfs, by its log as
/// [`read_kernel_log`](crate::agent::info::read_kernel_log) gives it (`run_init_process` in the kernel's `init/main.c`).
pub fn init_started(kernel_log: &str) -> Option<Duration> {
    let line = kernel_log.lines().find(|line| line.ends_with("] Run /init as init process"))?;
    let (seconds, micros) = line.strip_prefix('[')?.split_once(']')?.0.trim().split_once('.')?;
    Some(Duration::from_secs(seconds.parse().ok()?) + Duration::from_micros(micros.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Recording;

    fn told(init: Option<u64>, stages: &[(BootStage, u64)]) -> String {
        let system = Arc::new(Recording::new());
        system.advance(Duration::from_millis(5100));
        let times = Times::start(system.clone(), init.map(Duration::from_millis));
        for (stage, before) in stages {
            system.advance(Duration::from_millis(*before));
            times.enter(*stage);
        }
        system.advance(Duration::from_millis(400));
        line(&times.spent())
    }

    #[test]
    fn each_stage_ends_where_the_next_begins() {
        assert_eq!(
            told(Some(1900), &[(BootStage::Shares, 200), (BootStage::Settle, 700), (BootStage::Work, 8000)]),
            "where the time went: kernel 1.9 s, initramfs 3.2 s, network 0.2 s, shares 0.7 s, settle 8.0 s, work 0.4 s; \
             14.4 s since the kernel's start"
        );
        let unknown =
            "where the time went: kernel and initramfs 5.1 s, network 0.4 s; 5.5 s since the kernel's start";
        assert_eq!(told(None, &[]), unknown);
        // A log whose clock is not the agent's.
        assert_eq!(told(Some(5101), &[]), unknown);
    }

    #[test]
    fn the_kernels_log_says_when_init_was_started() {
        let log =
            "[    0.000000] Linux version 5.10\n[    1.500250] Run /init as init process\n[    9.0] later\n";
        assert_eq!(init_started(log), Some(Duration::from_micros(1_500_250)));
        for log in [
            "",
            "[    1.5] Run /sbin/init as init process\n",
            "] Run /init as init process",
            "[x.y] Run /init as init process",
        ] {
            assert_eq!(init_started(log), None, "{log}");
        }
    }
}
