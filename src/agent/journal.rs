//! The engine's lines: to the logs by the agent's log, to the people at the console.

use crate::agent::console::{Console, banner, verdict};
use crate::agent::logging::{AgentLog, GLOBAL};
use crate::share::Files;
use crate::store::lease::Tell;
use log::{Level, Log, Record};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// Where the lines of one run go. An object and no global, so that tests can run machines side by side.
#[derive(Clone)]
pub struct Journal {
    log: AgentLog,
    console: Arc<Console>,
}

impl Tell for Journal {
    fn info(&self, text: &str) {
        Journal::info(self, text);
    }

    fn warn(&self, text: &str) {
        Journal::warn(self, text);
    }
}

impl Journal {
    /// Lines to this log, frames and progress to this console.
    pub fn new(log: AgentLog, console: Arc<Console>) -> Self {
        Journal { log, console }
    }

    fn record(&self, level: Level, target: &str, text: &str) {
        self.log.log(&Record::builder().level(level).target(target).args(format_args!("{text}")).build());
    }

    /// For the machine's log of everything, not for the console.
    pub fn detail(&self, text: &str) {
        self.record(Level::Debug, module_path!(), text);
    }

    /// What is being done.
    pub fn info(&self, text: &str) {
        self.record(Level::Info, module_path!(), text);
    }

    /// What is not as it should be, and does not stop the action.
    pub fn warn(&self, text: &str) {
        self.record(Level::Warn, module_path!(), text);
    }

    /// News for the log that all machines share, too.
    pub fn global(&self, text: &str) {
        self.record(Level::Info, GLOBAL, text);
    }

    /// The failure that ends the action, for the log that all machines share, too.
    pub fn failure(&self, text: &str) {
        self.record(Level::Error, GLOBAL, text);
    }

    /// A text of several lines: the plan.
    pub fn lines(&self, text: &str) {
        text.lines().for_each(|line| self.info(line));
    }

    /// A line on how far a step is, for the console only.
    pub fn progress(&self, line: &str) {
        self.console.progress(line);
    }

    /// A frame on the console.
    pub fn banner(&self, texts: &[String]) {
        self.console.lines(&banner(texts));
    }

    /// Lines of their own on the console, and in the machine's log of everything.
    pub fn report(&self, lines: &[String]) {
        self.console.lines(lines);
        lines.iter().for_each(|line| self.detail(line));
    }

    /// The end result on the console.
    pub fn verdict(&self, is_done: bool, texts: &[String]) {
        self.console.lines(&verdict(is_done, texts));
    }

    /// Lines carry this address from now on.
    pub fn set_address(&self, address: Ipv4Addr) {
        self.log.set_address(address);
    }

    /// The share is proven ours: the lines so far, and all later ones, go there.
    pub fn attach(&self, files: Arc<dyn Files>, address: Ipv4Addr, session: &str) {
        self.log.attach(files, address, session);
    }

    /// One line in the log that all machines share, and nowhere else: the folder of this one is somebody else's.
    ///
    /// # Errors
    /// Those of the share; the line is lost then.
    pub fn only_global(&self, files: &dyn Files, text: &str) -> std::io::Result<()> {
        self.log.append_global(files, Level::Error, text)
    }

    /// Writes what is left. False where lines are left.
    pub fn flush(&self, limit: Duration) -> bool {
        self.log.flush(limit)
    }

    /// Writes what is left and lets go of the share. False where lines are left.
    pub fn detach(&self, limit: Duration) -> bool {
        self.log.detach(limit)
    }
}
