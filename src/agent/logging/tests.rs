//! Tests of the logs. Waiting is by `flush` with a limit that no working machine reaches.

use super::*;
use crate::io::{ReadAt, SyncWrite};
use crate::net::quota::Owner;
use crate::share::{MemFiles, ShareFault, ShareOp};
use crate::sys::Recording;
use std::fs::File;
use std::io::{Read, Seek};
use std::sync::atomic::{AtomicUsize, Ordering};

const LIMIT: Duration = Duration::from_secs(60);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
const PREFIX: &str = "2017-10-17T14:26:02+00:00: 10.1.2.3:";

struct Rig {
    log: AgentLog,
    screen: File,
    files: MemFiles,
}

impl Rig {
    fn new() -> Self {
        let screen = tempfile::tempfile().unwrap();
        let console = Console::new(vec![("file".into(), screen.try_clone().unwrap())]);
        let log = AgentLog::new(Arc::new(console), Arc::new(Recording::new()));
        Rig { log, screen, files: MemFiles::new() }
    }

    fn say(&self, level: Level, target: &str, text: &str) {
        Log::log(
            &self.log,
            &Record::builder().level(level).target(target).args(format_args!("{text}")).build(),
        );
    }

    fn attach(&self) {
        self.log.attach(Arc::new(self.files.clone()), ADDRESS, "backup, tb1.lab");
    }

    fn screen(&mut self) -> String {
        let mut text = String::new();
        self.screen.rewind().unwrap();
        self.screen.read_to_string(&mut text).unwrap();
        text
    }

    fn lines(&self, path: &str) -> Vec<String> {
        let text = String::from_utf8(self.files.get(path).unwrap_or_default()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

#[test]
fn lines_have_the_fixed_form() {
    let time = jiff::Timestamp::from_second(1_508_250_362).unwrap();
    let line = |text: &str| format_line(time, ADDRESS, Level::Info, text);
    assert_eq!(line("text"), "2017-10-17T14:26:02+00:00: 10.1.2.3: info: text");
    assert_eq!(line("a\nb\x1b[2J\u{e4}"), format!("{PREFIX} info: a\\nb\\u{{1b}}[2J\u{e4}"));
    // Line separators and marks that turn the order of the text around are no letters.
    assert_eq!(line("a\u{2028}b\u{202e}"), format!("{PREFIX} info: a\\u{{2028}}b\\u{{202e}}"));
    let long = line(&"\u{e4}".repeat(100_000));
    assert!(long.len() < MAX_TEXT + 100 && long.ends_with(" [...]"));
    assert!(format_line(time, ADDRESS, Level::Warn, "").ends_with(": warning: "));
}

#[test]
fn what_came_before_the_share_is_kept_for_both_logs() {
    let mut rig = Rig::new();
    rig.say(Level::Info, "testbox", "early");
    rig.say(Level::Debug, "testbox::share", "detail");
    rig.say(Level::Info, "some_crate", "chatter");
    assert!(!rig.log.flush(LIMIT), "without a share nothing is written");
    assert!(rig.files.tree().is_empty());
    rig.attach();
    rig.say(Level::Error, "testbox", "late");
    assert!(rig.log.flush(LIMIT));

    let header = format!("{PREFIX} info: ===== session begins: backup, tb1.lab =====");
    let (early, late) = (format!("{PREFIX} info: early"), format!("{PREFIX} error: late"));
    assert_eq!(rig.lines("10.1.2.3/maintenance.log"), [header.as_str(), &early, &late]);
    let detail = format!("{PREFIX} debug: detail");
    assert_eq!(rig.lines("10.1.2.3/maintenance-output.log"), [header.as_str(), &early, &detail, &late]);
    assert!(rig.files.get("maintenance.log").is_none());

    assert_eq!(rig.screen(), "14:26:02 early\n14:26:02 error: late\n");
}

#[test]
fn after_detach_nothing_more_is_written_there() {
    let rig = Rig::new();
    rig.attach();
    rig.say(Level::Info, "testbox", "one");
    assert!(rig.log.detach(LIMIT));
    let before = rig.files.tree();
    rig.say(Level::Info, "testbox", "two");
    assert!(!rig.log.flush(LIMIT));
    assert_eq!(rig.files.tree(), before);
}

#[test]
fn a_share_that_cannot_be_written_is_said_once_and_tried_again() {
    let mut rig = Rig::new();
    for nth in 0..4 {
        rig.files.fail_nth_of(ShareOp::Append, nth, ShareFault::Errno(libc::ENOSPC));
    }
    rig.attach();
    rig.say(Level::Info, "testbox", "one");
    while !rig.log.flush(LIMIT) {}
    rig.say(Level::Info, "testbox", "two");
    assert!(rig.log.flush(LIMIT));
    let lines = rig.lines("10.1.2.3/maintenance.log");
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[1].ends_with("one") && lines[2].ends_with("two"), "{lines:?}");
    let screen = rig.screen();
    assert_eq!(screen.matches("cannot write").count(), 1, "{screen}");
    assert!(screen.contains("ENOSPC"), "{screen}");
}

#[test]
fn a_silent_share_stops_neither_the_log_nor_its_flush() {
    struct Dead(Mutex<std::sync::mpsc::Receiver<()>>);
    impl Files for Dead {
        fn open(&self, _: &str) -> io::Result<Arc<dyn ReadAt>> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn create(&self, _: &str) -> io::Result<Box<dyn SyncWrite>> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn append(&self, _: &str, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn rename(&self, _: &str, _: &str) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn hard_link(&self, _: &str, _: &str) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn remove(&self, _: &str) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn make_dir(&self, _: &str) -> io::Result<()> {
            let _ = self.0.lock().unwrap().recv();
            Err(io::ErrorKind::Unsupported.into())
        }
        fn list(&self, _: &str) -> io::Result<Vec<String>> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn sync_dir(&self, _: &str) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn free_bytes(&self, _: &str) -> io::Result<u64> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn owner(&self, _: &str) -> io::Result<Owner> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
    let (_hold, held) = std::sync::mpsc::channel();
    let mut rig = Rig::new();
    rig.log.attach(Arc::new(Dead(Mutex::new(held))), ADDRESS, "x");
    for n in 0..1000 {
        rig.say(Level::Info, "testbox", &format!("{n}"));
    }
    assert!(!rig.log.flush(Duration::from_millis(1)));
    assert!(rig.screen().ends_with(" 999\n"));
}

#[test]
fn the_queue_is_bounded_and_says_what_it_lost() {
    let rig = Rig::new();
    let text = "x".repeat(1000);
    for _ in 0..(MAX_QUEUE / 1000 + 100) {
        rig.say(Level::Debug, "testbox", &text);
    }
    rig.attach();
    assert!(rig.log.flush(LIMIT));
    let lines = rig.lines("10.1.2.3/maintenance-output.log");
    assert!(lines[0].contains("lines before this one are lost"), "{}", lines[0]);
    assert!(rig.files.get("10.1.2.3/maintenance-output.log").unwrap().len() < 2 * MAX_QUEUE);
}

#[test]
fn global_lines_go_to_all_three_logs_and_are_repeated() {
    let rig = Rig::new();
    rig.files.put("maintenance.log", "another machine\n");
    // Appends: the machine's two logs, then the global one, whose first is swallowed.
    rig.files.fail_nth_of(ShareOp::Append, 2, ShareFault::Dropped);
    rig.say(Level::Info, GLOBAL, "hi");
    rig.attach();
    assert!(rig.log.flush(LIMIT));
    let hi = format!("{PREFIX} info: hi");
    assert_eq!(rig.lines("maintenance.log"), ["another machine", "", &hi]);
    assert!(rig.lines("10.1.2.3/maintenance.log").contains(&hi));
    assert!(rig.lines("10.1.2.3/maintenance-output.log").contains(&hi));
}

#[test]
fn a_line_that_another_machine_tore_is_not_taken_for_whole() {
    for (contents, expected) in [
        ("line\n", true),
        ("other\nline\nother", true),
        ("line", false),
        ("xline\n", false),
        ("linex\n", false),
        ("li\0\0\n", false),
        ("", false),
    ] {
        let files = MemFiles::new();
        files.put(MAINTENANCE_LOG, contents);
        assert_eq!(is_in_global(&files, "line").unwrap(), expected, "{contents:?}");
    }
    let files = MemFiles::new();
    files.put(MAINTENANCE_LOG, format!("{}\nline\n", "x".repeat(200_000)));
    assert!(is_in_global(&files, "line").unwrap(), "only the end of a long log is read");
}

#[test]
fn a_global_log_that_swallows_everything_is_given_up_in_the_end() {
    let files = MemFiles::new();
    files.put(MAINTENANCE_LOG, "");
    for nth in 0..GLOBAL_TRIES as usize {
        files.fail_nth_of(ShareOp::Append, nth, ShareFault::Dropped);
    }
    let system = Recording::new();
    assert!(append_global(&files, &system, ADDRESS, "line").is_err());
    assert_eq!(files.operations().iter().filter(|op| **op == ShareOp::Append).count(), GLOBAL_TRIES as usize);
}

#[test]
fn a_text_that_cannot_be_formatted_does_not_panic() {
    struct Broken(AtomicUsize);
    impl std::fmt::Display for Broken {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.fetch_add(1, Ordering::SeqCst);
            Err(std::fmt::Error)
        }
    }
    let mut rig = Rig::new();
    let broken = Broken(AtomicUsize::new(0));
    Log::log(
        &rig.log,
        &Record::builder().level(Level::Info).target("testbox").args(format_args!("{broken}")).build(),
    );
    assert_eq!(broken.0.load(Ordering::SeqCst), 1);
    assert!(rig.screen().contains("cannot be formatted"));
}
