//! A machine for tests: every effect is written down, and any of them can fail.

use super::{MountFlags, Program, Ran, RealSystem, Reboot, System, UnmountFlags};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// One recorded effect. `Display` gives one line, for comparing whole sequences.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are the arguments of the `System` methods
pub enum Call {
    Mount { source: String, target: PathBuf, fstype: String, flags: MountFlags, data: String },
    MoveMount { from: PathBuf, to: PathBuf },
    Unmount { target: PathBuf, flags: UnmountFlags },
    MakeDir { path: PathBuf },
    SyncFs { path: PathBuf },
    Reboot { how: Reboot },
    Sleep { time: Duration },
    SetHostName { name: String },
    SetSysctl { name: String, value: String },
    Run { program: String, args: Vec<String> },
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::Mount { source, target, fstype, flags, data } => {
                write!(f, "mount {source} {} {fstype}", target.display())?;
                let names: Vec<_> = flags.iter_names().map(|(name, _)| name.to_lowercase()).collect();
                if !names.is_empty() {
                    write!(f, " {}", names.join(","))?;
                }
                if data.is_empty() { Ok(()) } else { write!(f, " {data}") }
            }
            Call::MoveMount { from, to } => write!(f, "move {} {}", from.display(), to.display()),
            Call::Unmount { target, flags } => {
                write!(f, "unmount {}", target.display())?;
                flags.iter_names().try_for_each(|(name, _)| write!(f, " {}", name.to_lowercase()))
            }
            Call::MakeDir { path } => write!(f, "mkdir {}", path.display()),
            Call::SyncFs { path } => write!(f, "syncfs {}", path.display()),
            Call::Reboot { how } => write!(f, "reboot {how:?}"),
            Call::Sleep { time } => write!(f, "sleep {} s", time.as_secs_f64()),
            Call::SetHostName { name } => write!(f, "hostname {name}"),
            Call::Run { program, args } => write!(f, "run {program} {}", args.join(" ")),
            Call::SetSysctl { name, value } => write!(f, "sysctl {name}={value}"),
        }
    }
}

/// What a program does that a test has: its name and arguments.
type Runner = Box<dyn FnMut(&str, &[&str]) -> Ran + Send>;
type Script = Box<dyn FnMut(&Call) -> Option<i32> + Send>;

struct RecordingState {
    calls: Vec<Call>,
    /// Effects so far that could have failed: all but `Sleep`.
    fallible: usize,
    fail_nth: Vec<(usize, i32)>,
    script: Option<Script>,
    start: jiff::Timestamp,
    elapsed: Duration,
    /// Lines of `/proc/self/mountinfo`.
    mounted: Vec<String>,
    /// An option that the kernel puts in another's place.
    replaced: Option<(&'static str, &'static str)>,
    /// Programs that no root has.
    missing: Vec<&'static str>,
    memory: u64,
    runner: Option<Runner>,
    /// A root whose programs are run, and with what is mounted for them.
    real: Option<PathBuf>,
}

/// The recording fake. Nothing happens but notes; time passes only in [`System::sleep`] and [`Recording::advance`].
pub struct Recording {
    state: Mutex<RecordingState>,
    boot_clock: OnceLock<BootClock>,
}

type BootClock = Box<dyn Fn() -> Duration + Send + Sync>;

impl Recording {
    /// A fake whose clock starts at the Unix time `start` (seconds).
    pub fn at(start: i64) -> Self {
        Recording {
            boot_clock: OnceLock::new(),
            state: Mutex::new(RecordingState {
                calls: Vec::new(),
                fallible: 0,
                fail_nth: Vec::new(),
                script: None,
                start: jiff::Timestamp::from_second(start).unwrap_or(jiff::Timestamp::UNIX_EPOCH),
                elapsed: Duration::ZERO,
                mounted: Vec::new(),
                replaced: None,
                missing: Vec::new(),
                memory: 1 << 30,
                runner: None,
                real: None,
            }),
        }
    }

    /// A fake whose clock starts at 2017-10-17T14:26:02Z.
    pub fn new() -> Self {
        Self::at(1_508_250_362)
    }

    fn state(&self) -> MutexGuard<'_, RecordingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the effect number `nth` (from 0, not counting sleeps) fail with `errno`; may be called several times.
    pub fn fail_nth(&self, nth: usize, errno: i32) {
        self.state().fail_nth.push((nth, errno));
    }

    /// From now on so many bytes of memory are available.
    pub fn set_memory(&self, bytes: u64) {
        self.state().memory = bytes;
    }

    /// From now on the kernel takes option `to` of a mount where `from` was asked for.
    pub fn replace_option(&self, from: &'static str, to: &'static str) {
        self.state().replaced = Some((from, to));
    }

    /// Asks `script` about every effect: `Some(errno)` makes it fail. Sleeps are shown to it too, and never fail.
    pub fn fail_when(&self, script: impl FnMut(&Call) -> Option<i32> + Send + 'static) {
        self.state().script = Some(Box::new(script));
    }

    /// From now on no root has this program; else each has every one.
    pub fn take_program(&self, name: &'static str) {
        self.state().missing.push(name);
    }

    /// From now on the programs of this root are run, with what is mounted below it for them.
    pub fn run_for_real(&self, root: PathBuf) {
        self.state().real = Some(root);
    }

    /// The real system, where this is a folder in which programs find devices and what is mounted for them.
    fn real(&self, folder: &Path) -> Option<RealSystem> {
        let root = self.state().real.clone()?;
        let folders = ["dev", "proc", "sys", "run"].map(|name| root.join(name));
        folders.iter().any(|real| folder.starts_with(real)).then(RealSystem::new)
    }

    /// What programs do from now on; else they end well and say nothing.
    pub fn on_run(&self, runner: impl FnMut(&str, &[&str]) -> Ran + Send + 'static) {
        self.state().runner = Some(Box::new(runner));
    }

    /// Takes another clock for the time since the boot: that of the network, where that is a real one.
    pub fn set_boot_clock(&self, clock: impl Fn() -> Duration + Send + Sync + 'static) {
        // The first one stays.
        let _ = self.boot_clock.set(Box::new(clock));
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        let mut state = self.state();
        state.elapsed = state.elapsed.saturating_add(time);
    }

    /// Sets the clock of the day to so many seconds since 1970; the monotonic one goes on.
    pub fn set_date(&self, seconds: i64) {
        let mut state = self.state();
        let elapsed = jiff::SignedDuration::try_from(state.elapsed).unwrap_or_default();
        let date = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        state.start = date.checked_sub(elapsed).unwrap_or(date);
    }

    /// Everything so far, failed calls too.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// [`Recording::calls`] as lines, without the sleeps.
    pub fn lines(&self) -> Vec<String> {
        let calls = self.calls();
        calls.iter().filter(|c| !matches!(c, Call::Sleep { .. })).map(Call::to_string).collect()
    }

    fn note(&self, call: Call) -> io::Result<()> {
        let mut state = self.state();
        let nth = state.fallible;
        state.fallible += 1;
        let planned = state.fail_nth.iter().find(|(n, _)| *n == nth).map(|(_, errno)| *errno);
        let errno = planned.or_else(|| state.script.as_mut().and_then(|script| script(&call)));
        state.calls.push(call);
        errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }
}

impl Default for Recording {
    fn default() -> Self {
        Self::new()
    }
}

impl System for Recording {
    fn mount(
        &self,
        source: &str,
        target: &Path,
        fstype: &str,
        flags: MountFlags,
        data: &str,
    ) -> io::Result<()> {
        self.note(Call::Mount {
            source: source.into(),
            target: target.into(),
            fstype: fstype.into(),
            flags,
            data: data.into(),
        })?;
        if let Some(real) = self.real(target) {
            real.mount(source, target, fstype, flags, data)?;
        }
        let mut state = self.state();
        let options = state.replaced.map_or_else(|| data.to_owned(), |(from, to)| data.replace(from, to));
        let line = format!("36 25 0:32 / {} rw - {fstype} {source} rw,{options}", target.display());
        state.mounted.push(line);
        Ok(())
    }

    fn mountinfo(&self) -> io::Result<String> {
        Ok(self.state().mounted.join("\n"))
    }

    fn move_mount(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note(Call::MoveMount { from: from.into(), to: to.into() })
    }

    fn unmount(&self, target: &Path, flags: UnmountFlags) -> io::Result<()> {
        self.note(Call::Unmount { target: target.into(), flags })?;
        self.real(target).map_or(Ok(()), |real| real.unmount(target, flags))
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.note(Call::MakeDir { path: path.into() })?;
        self.real(path).map_or(Ok(()), |real| real.make_dir(path))
    }

    fn sync_fs(&self, path: &Path, _limit: Duration) -> io::Result<()> {
        self.note(Call::SyncFs { path: path.into() })
    }

    fn reboot(&self, how: Reboot) -> io::Result<()> {
        self.note(Call::Reboot { how })
    }

    fn now(&self) -> jiff::Timestamp {
        let state = self.state();
        let elapsed = jiff::SignedDuration::try_from(state.elapsed).unwrap_or_default();
        state.start.checked_add(elapsed).unwrap_or(state.start)
    }

    fn available_memory(&self) -> u64 {
        self.state().memory
    }

    fn monotonic(&self) -> Duration {
        self.state().elapsed
    }

    fn since_boot(&self) -> Duration {
        self.boot_clock.get().map_or_else(|| self.monotonic(), |clock| clock())
    }

    fn sleep(&self, time: Duration) {
        let mut state = self.state();
        state.calls.push(Call::Sleep { time });
        if let Some(script) = state.script.as_mut() {
            script(&Call::Sleep { time });
        }
        state.elapsed = state.elapsed.saturating_add(time);
    }

    fn set_host_name(&self, name: &str) -> io::Result<()> {
        self.note(Call::SetHostName { name: name.into() })
    }

    fn has_program(&self, _: &Path, name: &str) -> bool {
        !self.state().missing.contains(&name)
    }

    fn run(&self, program: &Program<'_>) -> io::Result<Ran> {
        let args = program.args.iter().map(|arg| (*arg).to_owned()).collect();
        self.note(Call::Run { program: program.name.into(), args })?;
        let mut state = self.state();
        if state.real.as_deref() == Some(program.root) {
            drop(state);
            return RealSystem::new().run(program);
        }
        Ok(state.runner.as_mut().map_or_else(Ran::default, |runner| runner(program.name, program.args)))
    }

    fn set_sysctl(&self, name: &str, value: &str) -> io::Result<()> {
        self.note(Call::SetSysctl { name: name.into(), value: value.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_in_order_fails_as_told_and_keeps_its_own_time() {
        let system = Recording::new();
        system.fail_nth(1, libc::EBUSY);
        system.fail_when(|call| matches!(call, Call::Reboot { .. }).then_some(libc::EPERM));
        system.make_dir(Path::new("/a")).unwrap();
        system.sleep(Duration::from_secs(300));
        let busy = system.unmount(Path::new("/a"), UnmountFlags::DETACH).unwrap_err();
        assert_eq!(busy.raw_os_error(), Some(libc::EBUSY));
        let denied = system.reboot(Reboot::Restart).unwrap_err();
        assert_eq!(denied.raw_os_error(), Some(libc::EPERM));
        assert_eq!(system.lines(), ["mkdir /a", "unmount /a detach", "reboot Restart"]);
        assert_eq!(system.now().to_string(), "2017-10-17T14:31:02Z");
        assert_eq!(system.monotonic(), Duration::from_secs(300));
    }
}
