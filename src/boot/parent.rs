//! The side of `serve`: it starts the boot services, tells them the machines, and starts them again where they end.

use super::machines::{KnownMachines, MACHINES_FILE, MACHINES_LIMIT};
use super::process::{BootConfig, READY};
use crate::store::lease::Tell;
use crate::types::without_bom;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the child and the file of machines are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The pause before the child is started again, and its bound: it doubles each time.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A child that has run so long has not failed at its start.
const STEADY: Duration = Duration::from_secs(60);
/// How long a child may take to end.
const END: Duration = Duration::from_secs(5);

/// The file of machines, and what it was when it was read.
#[derive(Debug)]
pub struct MachinesSource {
    path: PathBuf,
    /// It need not be there.
    is_default: bool,
    stamp: Option<(u64, u64, i64, i64)>,
}

impl MachinesSource {
    /// The file that is named; else the usual one, if it is there.
    pub fn new(named: Option<&Path>) -> MachinesSource {
        let path = named.unwrap_or(Path::new(MACHINES_FILE)).to_owned();
        MachinesSource { path, is_default: named.is_none(), stamp: None }
    }

    fn stamp_now(&self) -> Option<(u64, u64, i64, i64)> {
        let about = fs::metadata(&self.path).ok()?;
        // Not the time of its content: who may read it is changed after that.
        Some((about.ino(), about.len(), about.ctime(), about.ctime_nsec()))
    }

    /// Reads it.
    ///
    /// # Errors
    /// It cannot be read, or is not what it should be; the text names it.
    pub fn read(&mut self) -> Result<KnownMachines, String> {
        self.stamp = self.stamp_now();
        let failed = |why: String| format!("{}: {why}", self.path.display());
        let file = match fs::File::open(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.is_default => {
                return Ok(KnownMachines::default());
            }
            opened => opened.map_err(|e| failed(format!("cannot read the machines: {e}")))?,
        };
        let mut text = String::new();
        let read = file.take(MACHINES_LIMIT as u64 + 1).read_to_string(&mut text);
        read.map_err(|e| failed(format!("cannot read the machines: {e}")))?;
        KnownMachines::parse(without_bom(&text)).map_err(|e| failed(e.to_string()))
    }

    /// The machines, where the file is another than the one that was read last.
    fn changed(&mut self) -> Option<Result<KnownMachines, String>> {
        (self.stamp_now() != self.stamp).then(|| self.read())
    }
}

/// The boot services while they run. They end when this is dropped.
pub struct BootServices {
    end: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Drop for BootServices {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(keeper) = self.keeper.take() {
            // It has said what there was to say.
            let _ = keeper.join();
        }
    }
}

struct BootKeeper {
    command: Box<dyn Fn() -> Command + Send>,
    config: String,
    machines: KnownMachines,
    source: MachinesSource,
    tell: Arc<dyn Tell>,
}

/// A child that serves.
struct Started {
    child: Child,
    input: ChildStdin,
    since: Instant,
}

impl Started {
    /// Lets it end, by the end of its input, and says how it has ended; one that does not is killed.
    fn end(mut self) -> String {
        drop(self.input);
        let by = Instant::now() + END;
        while Instant::now() < by {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Ok(Some(status)) => return status.to_string(),
                Err(e) => return e.to_string(),
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        format!("killed: it did not end in {} s", END.as_secs())
    }
}

impl BootServices {
    /// Starts them by this command, and returns when they serve.
    ///
    /// # Errors
    /// They cannot begin; why is in the log already, where they could say it.
    pub fn start(
        command: impl Fn() -> Command + Send + 'static,
        config: &BootConfig,
        mut source: MachinesSource,
        tell: Arc<dyn Tell>,
    ) -> Result<BootServices, String> {
        let machines = source.read()?;
        let config =
            serde_json::to_string(config).map_err(|e| format!("the boot services' configuration: {e}"))?;
        let keeper = BootKeeper { command: Box::new(command), config, machines, source, tell };
        let started = keeper.start()?;
        let (end, ended) = channel::<()>();
        let work = move || {
            keeper.keep(started, &|wait| matches!(ended.recv_timeout(wait), Err(RecvTimeoutError::Timeout)))
        };
        let keeper = std::thread::Builder::new().name("boot services".into()).spawn(work);
        let keeper = keeper.map_err(|e| format!("no thread for the boot services: {e}"))?;
        Ok(BootServices { end: Some(end), keeper: Some(keeper) })
    }
}

impl BootKeeper {
    fn start(&self) -> Result<Started, String> {
        let failed = |e: io::Error| format!("the boot services cannot be started: {e}");
        let mut command = (self.command)();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let (input, said) = (child.stdin.take(), child.stdout.take());
        let (Some(mut input), Some(said)) = (input, said) else {
            return Err("the boot services have no pipes".into());
        };
        let told = writeln!(input, "{}", self.config).and_then(|()| self.tell_machines(&mut input));
        let mut line = String::new();
        let is_ready =
            told.is_ok() && BufReader::new(said).read_line(&mut line).is_ok() && line.trim_end() == READY;
        let started = Started { child, input, since: Instant::now() };
        if is_ready {
            return Ok(started);
        }
        // A signal has said nothing: SIGSYS is a filter of system calls, such as a unit's.
        let how = started.end();
        Err(format!("the boot services did not begin ({how}); what they have said of it stands above"))
    }

    fn tell_machines(&self, input: &mut ChildStdin) -> io::Result<()> {
        writeln!(input, "{}", serde_json::to_string(self.machines.list())?)
    }

    /// Looks after them until `wait` says that it is over.
    fn keep(mut self, started: Started, wait: &dyn Fn(Duration) -> bool) {
        let mut now = Some(started);
        let mut pause = PAUSE;
        loop {
            let Some(mut started) = now.take() else {
                if !wait(pause) {
                    return;
                }
                pause = (pause * 2).min(PAUSE_MAX);
                match self.start() {
                    Ok(again) => {
                        self.tell.info("the boot services serve again");
                        now = Some(again);
                    }
                    Err(e) => self.tell.warn(&format!("{e}; once more in {} s", pause.as_secs())),
                }
                continue;
            };
            if !wait(LOOK) {
                started.end();
                return;
            }
            if let Ok(Some(status)) = started.child.try_wait() {
                if started.since.elapsed() > STEADY {
                    pause = PAUSE;
                }
                self.tell.warn(&format!(
                    "the boot services have ended ({status}), machines cannot boot by network; they are started again in {} s",
                    pause.as_secs()
                ));
                continue;
            }
            match self.source.changed() {
                None => {}
                Some(Ok(machines)) => {
                    self.machines = machines;
                    // One that cannot be told has ended.
                    let _ = self.tell_machines(&mut started.input);
                }
                Some(Err(e)) => self.tell.warn(&format!("{e}; the machines that were known before stay")),
            }
            now = Some(started);
        }
    }
}
