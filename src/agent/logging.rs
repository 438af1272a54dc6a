//! The logs: to the consoles at once, to the share as soon as it is proven to be ours.
//!
//! Lines read `2017-10-17T14:26:02+00:00: 10.1.2.3: info: text`. Three files: `<ip>/maintenance.log` (info and
//! above), `<ip>/maintenance-output.log` (everything), and `maintenance.log` in the root of the share, common to all
//! machines, for records of the target [`GLOBAL`].
//!
//! A record never waits for the share and never fails: a thread of its own writes the files, from queues of bounded
//! size. That a file cannot be written is said on the consoles, once.
#![forbid(unsafe_code)]

use crate::agent::console::Console;
use crate::share::Files;
use crate::store::layout::{MAINTENANCE_LOG, OUTPUT_LOG};
use crate::sys::{System, errno_words};
use crate::text::is_plain;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Target of the records that go to the global log too: `log::info!(target: GLOBAL, "...")`.
pub const GLOBAL: &str = "testbox::global";

/// The longest text of one line, in bytes; the rest is cut off.
const MAX_TEXT: usize = 4096;
/// What each queue may hold, in bytes; beyond, the oldest lines go.
const MAX_QUEUE: usize = 1 << 20;
/// After a failure to write, the next try comes with a [`AgentLog::flush`] or after this time.
const RETRY: Duration = Duration::from_secs(5);
/// How often a line is put into the global log before that is given up.
const GLOBAL_TRIES: u32 = 5;
/// How much of the end of the global log is read back.
const TAIL: u64 = 64 << 10;

/// The word for a level in a line.
fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// One line, without its newline: time in UTC to the second, address, level, text. What is not [plain](is_plain) in the
/// text is escaped, so that it stays one line and cannot act on a terminal; it is cut at 4096 bytes.
pub fn format_line(time: jiff::Timestamp, address: Ipv4Addr, level: Level, text: &str) -> String {
    let mut line = format!("{}: {address}: {}: ", time.strftime("%Y-%m-%dT%H:%M:%S+00:00"), word(level));
    let end = line.len() + MAX_TEXT;
    for c in text.chars() {
        if line.len() >= end {
            line.push_str(" [...]");
            break;
        }
        if is_plain(c) { line.push(c) } else { line.extend(c.escape_default()) }
    }
    line
}

/// The same for the console, whose 80 columns date and address would half fill: everybody before it knows both.
fn console_line(time: jiff::Timestamp, level: Level, text: &str) -> String {
    let time = time.strftime("%H:%M:%S");
    match level {
        Level::Info => format!("{time} {text}"),
        level => format!("{time} {}: {text}", word(level)),
    }
}

/// A record on its way to a file.
#[derive(Clone, Debug)]
struct LogLine {
    time: jiff::Timestamp,
    level: Level,
    text: String,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<LogLine>,
    bytes: usize,
    lost: u64,
}

impl Queue {
    fn push(&mut self, entry: LogLine) {
        self.bytes += entry.text.len();
        self.entries.push_back(entry);
        while self.bytes > MAX_QUEUE {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.text.len();
            self.lost += 1;
        }
    }

    /// Puts entries that could not be written before those that came meanwhile.
    fn put_back(&mut self, taken: Queue) {
        let newer = std::mem::replace(self, taken);
        self.lost += newer.lost;
        newer.entries.into_iter().for_each(|entry| self.push(entry));
    }

    /// All of it as the text of a file.
    fn format(&self, address: Ipv4Addr) -> String {
        let mut text = String::new();
        if let Some(first) = self.entries.front().filter(|_| self.lost > 0) {
            let lost = format!("{} lines before this one are lost: the buffer was full", self.lost);
            text = format_line(first.time, address, Level::Warn, &lost) + "\n";
        }
        for entry in &self.entries {
            text += &format_line(entry.time, address, entry.level, &entry.text);
            text.push('\n');
        }
        text
    }
}

#[derive(Debug, Default)]
struct Queues {
    machine: Queue,
    output: Queue,
    global: Queue,
}

impl Queues {
    fn are_empty(&self) -> bool {
        [&self.machine, &self.output, &self.global].iter().all(|queue| queue.entries.is_empty())
    }
}

struct LogState {
    address: Ipv4Addr,
    queues: Queues,
    share: Option<Arc<dyn Files>>,
    /// Passes over the queues that were asked for, and those that were done.
    wanted: u64,
    done: u64,
    /// The last pass could not write everything.
    failing: bool,
    /// That was said on the consoles.
    complained: bool,
    /// Nobody holds the log any more.
    closed: bool,
}

struct LogShared {
    state: Mutex<LogState>,
    /// There is something to write.
    work: Condvar,
    /// A pass is over.
    idle: Condvar,
    console: Arc<Console>,
    system: Arc<dyn System>,
    started: jiff::Timestamp,
}

/// The log of the agent. Clones are the same log; with the last one its thread ends.
#[derive(Clone)]
pub struct AgentLog {
    shared: Arc<LogShared>,
    _open: Arc<OpenLog>,
}

/// Closes the log when it is dropped.
struct OpenLog(Arc<LogShared>);

impl Drop for OpenLog {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.work.notify_all();
    }
}

impl AgentLog {
    /// A log to the consoles, with a thread that will write the share. [`AgentLog::install`] makes it the log of the
    /// `log` macros.
    pub fn new(console: Arc<Console>, system: Arc<dyn System>) -> Self {
        let state = LogState {
            address: Ipv4Addr::UNSPECIFIED,
            queues: Queues::default(),
            share: None,
            wanted: 0,
            done: 0,
            failing: false,
            complained: false,
            closed: false,
        };
        let started = system.now();
        let shared = Arc::new(LogShared {
            state: Mutex::new(state),
            work: Condvar::new(),
            idle: Condvar::new(),
            console,
            system,
            started,
        });
        let writer = shared.clone();
        if let Err(e) = std::thread::Builder::new().name("log".into()).spawn(move || writer.run()) {
            shared.console.line(&format!("no thread for the logs, they go to the consoles only: {e}"));
        }
        AgentLog { _open: Arc::new(OpenLog(shared.clone())), shared }
    }

    /// Makes this the log of the whole program. False where there was one already.
    pub fn install(&self) -> bool {
        log::set_max_level(LevelFilter::Debug);
        log::set_boxed_logger(Box::new(self.clone())).is_ok()
    }

    /// From now on lines carry this address; 0.0.0.0 before.
    pub fn set_address(&self, address: Ipv4Addr) {
        self.shared.state().address = address;
    }

    /// The share is proven to be ours: writes what was kept, after a line that heads the session in both logs of the
    /// machine, and goes on to write there.
    pub fn attach(&self, files: Arc<dyn Files>, address: Ipv4Addr, session: &str) {
        let mut state = self.shared.state();
        let text = format!("===== session begins: {session} =====");
        let header = LogLine { time: self.shared.started, level: Level::Info, text };
        let queues = &mut state.queues;
        for queue in [&mut queues.machine, &mut queues.output] {
            queue.bytes += header.text.len();
            queue.entries.push_front(header.clone());
        }
        state.address = address;
        state.share = Some(files);
        self.shared.work.notify_all();
    }

    /// Puts one line into the log that all machines share, on the calling thread, attached or not.
    ///
    /// # Errors
    /// Those of the share; the line is lost then.
    pub fn append_global(&self, files: &dyn Files, level: Level, text: &str) -> io::Result<()> {
        let (address, system) = (self.shared.state().address, &*self.shared.system);
        append_global(files, system, address, &format_line(system.now(), address, level, text))
    }

    /// Writes what is left, as [`AgentLog::flush`], and lets go of the share: later lines go to the consoles only.
    pub fn detach(&self, limit: Duration) -> bool {
        let is_written = self.flush(limit);
        self.shared.state().share = None;
        is_written
    }

    /// Waits until everything is written, at most for `limit`: before a reboot, and where what follows depends on it.
    /// False where lines are left: no share, a failure, a share that does not answer.
    pub fn flush(&self, limit: Duration) -> bool {
        let end = Instant::now().checked_add(limit);
        let mut state = self.shared.state();
        state.wanted += 1;
        let goal = state.wanted;
        self.shared.work.notify_all();
        while state.share.is_some() && state.done < goal {
            let left = end.map_or(limit, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            state = self
                .shared
                .idle
                .wait_timeout(state, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
        state.queues.are_empty()
    }
}

impl Log for AgentLog {
    /// Everything of this program down to debug, of its libraries warnings only.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_ours = metadata.target().starts_with("testbox");
        metadata.level() <= if is_ours { Level::Debug } else { Level::Warn }
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut text = String::new();
        // format!() would panic where a Display answers with an error.
        if write!(text, "{}", record.args()).is_err() {
            text.push_str(" [cannot be formatted]");
        }
        self.shared.add(record.level(), record.target() == GLOBAL, text);
    }

    /// Nothing: the trait's flush has no limit, and its callers do not expect to wait. See [`AgentLog::flush`].
    fn flush(&self) {}
}

impl LogShared {
    fn state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, level: Level, is_global: bool, mut text: String) {
        if let Some((cut, _)) = text.char_indices().nth(MAX_TEXT) {
            text.truncate(cut);
            text.push_str(" [...]");
        }
        let entry = LogLine { time: self.system.now(), level, text };
        {
            let mut state = self.state();
            if is_global {
                state.queues.global.push(entry.clone());
            }
            if level <= Level::Info {
                state.queues.machine.push(entry.clone());
            }
            state.queues.output.push(entry.clone());
            self.work.notify_all();
        }
        // Outside the lock: a slow serial port must not keep other threads from logging.
        if level <= Level::Info {
            self.console.line(&console_line(entry.time, level, &entry.text));
        }
    }

    /// The thread that writes the share. It may block for ever on a dead server; nobody waits for it without limit.
    fn run(&self) {
        let mut state = self.state();
        loop {
            let is_due = |state: &LogState| {
                let lines = !state.queues.are_empty() && !state.failing;
                state.share.is_some() && (state.wanted > state.done || lines)
            };
            while !is_due(&state) {
                if state.closed {
                    return;
                }
                let (woken, timeout) =
                    self.work.wait_timeout(state, RETRY).unwrap_or_else(PoisonError::into_inner);
                state = woken;
                if timeout.timed_out() {
                    state.failing = false;
                }
            }
            let Some(share) = state.share.clone() else { continue };
            let (address, goal) = (state.address, state.wanted);
            let mut queues = std::mem::take(&mut state.queues);
            drop(state);

            let result = self.write(share.as_ref(), address, &mut queues);

            state = self.state();
            state.queues.machine.put_back(queues.machine);
            state.queues.output.put_back(queues.output);
            state.queues.global.put_back(queues.global);
            state.failing = result.is_err();
            let complaint = result.err().filter(|_| !std::mem::replace(&mut state.complained, true));
            if let Some(complaint) = complaint {
                drop(state);
                self.console.line(&format!("{complaint}; the work goes on, this is said only once"));
                state = self.state();
            }
            state.done = goal;
            self.idle.notify_all();
        }
    }

    /// Writes all queues; what could not be written stays in them. The first failure is the answer, but the other
    /// files are tried all the same.
    fn write(&self, share: &dyn Files, address: Ipv4Addr, queues: &mut Queues) -> Result<(), String> {
        let mut result = Ok(());
        let mut note = |path: &str, e: io::Error| {
            if result.is_ok() {
                result = Err(format!("cannot write {path} on the share: {}", errno_words(&e)));
            }
        };
        let folder = address.to_string();
        if let Err(e) = share.make_dir(&folder) {
            note(&folder, e);
        }
        for (queue, name) in [(&mut queues.machine, MAINTENANCE_LOG), (&mut queues.output, OUTPUT_LOG)] {
            if queue.entries.is_empty() {
                continue;
            }
            let path = format!("{folder}/{name}");
            match share.append(&path, queue.format(address).as_bytes()) {
                Ok(()) => *queue = Queue::default(),
                Err(e) => note(&path, e),
            }
        }
        while let Some(entry) = queues.global.entries.front() {
            let line = format_line(entry.time, address, entry.level, &entry.text);
            if let Err(e) = append_global(share, self.system.as_ref(), address, &line) {
                note(MAINTENANCE_LOG, e);
                break;
            }
            queues.global.bytes = queues.global.bytes.saturating_sub(entry.text.len());
            queues.global.entries.pop_front();
        }
        result
    }
}

/// Puts a line into the log that all machines share. An append is not atomic between NFS clients: two that append at
/// once write to the same offset. So it is read back, and repeated where it is not there whole.
fn append_global(share: &dyn Files, system: &dyn System, address: Ipv4Addr, line: &str) -> io::Result<()> {
    if share.appends_whole() {
        return share.append(MAINTENANCE_LOG, format!("{line}\n").as_bytes());
    }
    for attempt in 0..GLOBAL_TRIES {
        if attempt > 0 {
            // Machines that collided wait for different times.
            let own = u64::from(address.octets()[3]);
            system.sleep(Duration::from_millis(u64::from(attempt) * (100 + own)));
        }
        // After a collision the file may end in the middle of a line.
        let text = if attempt == 0 { format!("{line}\n") } else { format!("\n{line}\n") };
        share.append(MAINTENANCE_LOG, text.as_bytes())?;
        if is_in_global(share, line)? {
            return Ok(());
        }
    }
    Err(io::Error::other(format!("a line is not there whole after {GLOBAL_TRIES} tries")))
}

/// True where the end of the global log has this line, whole.
fn is_in_global(share: &dyn Files, line: &str) -> io::Result<bool> {
    let file = share.open(MAINTENANCE_LOG)?;
    let size = file.size()?;
    let start = size.saturating_sub(TAIL);
    let mut tail = vec![0; usize::try_from(size - start).unwrap_or(0)];
    file.read_exact_at(&mut tail, start)?;
    // Split at newlines the last piece is what has none yet.
    let mut lines: Vec<&[u8]> = tail.split(|b| *b == b'\n').collect();
    lines.pop();
    Ok(lines.contains(&line.as_bytes()))
}

#[cfg(test)]
mod tests;
