//! `watch` on a real pseudo terminal, and where there is none.

use super::Lab;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

impl Lab {
    fn works(&self, ip: &str, state: &str, step: &str) {
        let now = jiff::Timestamp::now();
        let status = serde_json::json!({
            "state": state, "action": "restore", "job": "j1", "ip": ip, "hostname": "tb1", "step": step, "disk": "sda",
            "bytes_done": 42, "bytes_total": 100, "rate": 512_000_000, "eta": 90, "attempt": 1,
            "error": (state == "failed").then_some("sda: the disk is gone"), "started": now, "updated": now, "version": "0.1.0"
        });
        self.write(&format!("b/{ip}/status.json"), status.to_string().as_bytes());
    }

    /// A lab with one machine of each kind.
    fn busy() -> Lab {
        let lab = Lab::new();
        lab.works("10.42.1.20", "running", "restore sda");
        lab.works("10.42.1.21", "failed", "restore sda");
        lab.works("10.42.1.22", "done", "done");
        lab
    }
}

/// A pseudo terminal with a program on it.
struct Screen {
    keyboard: File,
    /// Kept open, to look at its modes afterwards.
    line: File,
    child: Child,
    output: Receiver<Vec<u8>>,
    seen: String,
}

impl Screen {
    fn start(lab: &Lab, variables: &[(&str, &str)]) -> Screen {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap().into_string().unwrap();
        let line = File::options().read(true).write(true).open(name).unwrap();
        let copy = || Stdio::from(line.try_clone().unwrap());
        let watch = lab.command(&["watch", "--backup-dir", "b"]);
        // A session of its own, whose terminal it is: resizing it is told by a signal.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(watch.get_program()).args(watch.get_args()).current_dir(lab.dir.path());
        command
            .stdin(copy())
            .stdout(copy())
            .stderr(copy())
            .env_remove("NO_COLOR")
            .envs(variables.iter().copied());
        let mut screen = Screen {
            child: {
                resize(&keyboard, 80, 24);
                command.spawn().unwrap()
            },
            keyboard: File::from(keyboard),
            line,
            output: channel().1,
            seen: String::new(),
        };
        let (send, output) = channel();
        let mut reader = screen.keyboard.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n) = reader.read(&mut bytes) {
                if n == 0 || send.send(bytes[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        screen.output = output;
        screen
    }

    /// Waits until this was shown since the last call.
    #[track_caller]
    fn until(&mut self, part: &str) {
        let began = Instant::now();
        while !self.seen.contains(part) {
            assert!(began.elapsed() < Duration::from_secs(60), "lacks {part:?}: {:?}", self.seen);
            if let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(100)) {
                self.seen += &String::from_utf8_lossy(&bytes);
            }
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    /// The program has ended well, and the terminal is as it was.
    #[track_caller]
    fn left_clean(mut self) -> String {
        self.until("\x1b[?1049l");
        assert!(self.child.wait().unwrap().success());
        assert!(self.seen.contains("\x1b[?25h"), "the cursor is back");
        let modes = tcgetattr(&self.line).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG), "{modes:?}");
        self.seen
    }
}

fn resize(terminal: impl std::os::fd::AsFd, columns: u16, rows: u16) {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

#[test]
fn watch_fits_the_terminal_and_leaves_it_as_it_was() {
    let lab = Lab::busy();
    let mut screen = Screen::start(&lab, &[]);
    screen.until("3 machines: 1 failed, 1 running, 1 done");
    screen.until("q quit  d details");
    screen.until("\x1b[38;5;9m> 10.42.1.21");
    screen.seen.clear();
    resize(&screen.keyboard, 40, 12);
    screen.until("  ADDRESS         STATE    DONE      ETA");
    screen.seen.clear();
    screen.press(b"d");
    screen.until("error: sda: the disk is gone");
    // A machine that works has failed meanwhile.
    screen.press(b"\x1b");
    lab.works("10.42.1.20", "failed", "restore sda");
    screen.until("3 machines: 2 failed, 1 done");
    screen.press(b"q");
    screen.left_clean();
}

#[test]
fn ctrl_c_and_sigterm_end_watch_as_q_does() {
    let lab = Lab::busy();
    let mut screen = Screen::start(&lab, &[("NO_COLOR", "1")]);
    screen.until("> 10.42.1.21");
    screen.press(b"\x03");
    let seen = screen.left_clean();
    assert!(!seen.contains("\x1b[38;"), "{seen:?}");
    let mut screen = Screen::start(&lab, &[]);
    screen.until("q quit");
    let pid = rustix::process::Pid::from_child(&screen.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    screen.left_clean();
}

/// Piped: what is not quiet, then each change once, and nothing that only a terminal understands.
#[test]
fn without_a_terminal_each_change_is_a_line() {
    let lab = Lab::busy();
    let run = lab
        .run(&["watch", "--backup-dir", "b", "--once"])
        .expect(1, &["10.42.1.21 (tb1): failed restore: sda: the disk is gone"]);
    assert_eq!(run.out.lines().count(), 2, "{}", run.out);
    let mut watch =
        lab.command(&["status", "--watch", "--backup-dir", "b"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    let first = [next(), next()];
    assert!(first[0].ends_with(" 10.42.1.20 (tb1): running restore: sda: restore sda"), "{first:?}");
    lab.works("10.42.1.20", "done", "done");
    let change = next();
    assert!(change.ends_with(" 10.42.1.20 (tb1): done restore"), "{change}");
    lab.works("10.42.1.22", "running", "settle \x1b[2J");
    assert!(next().contains("10.42.1.22 (tb1): running restore: sda: settle \\u{1b}[2J"));
    watch.kill().unwrap();
    watch.wait().unwrap();
}
