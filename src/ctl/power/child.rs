//! A program that switches power, waited for no longer than its time.

use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Most bytes of output that are kept.
const OUTPUT: u64 = 4096;
const LOOK: Duration = Duration::from_millis(20);

/// Runs it; its output, or why it has not worked, with the last line that it has said.
pub(super) fn run(mut command: Command, by: Instant) -> Result<String, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => format!("{program} is not installed here"),
        _ => format!("{program} cannot be started: {e}"),
    })?;
    let (out, err) = (kept(child.stdout.take()), kept(child.stderr.take()));
    let ended = wait(&mut child, by);
    // What a program has left behind may keep its pipes open.
    let text =
        |from: &mpsc::Receiver<String>| from.recv_timeout(Duration::from_millis(500)).unwrap_or_default();
    let (out, err) = (text(&out), text(&err));
    match ended.map_err(|e| format!("{program}: {e}"))? {
        Some(status) if status.success() => Ok(out),
        Some(status) => {
            let last =
                |text: &str| text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned);
            let said = last(&err).or_else(|| last(&out));
            let said = said.map(|line| format!(": {}", crate::text::quoted(&line))).unwrap_or_default();
            Err(format!("{program} ends with {status}{said}"))
        }
        None => Err(format!("{program} took too long, and was ended")),
    }
}

fn kept(from: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, text) = mpsc::channel();
    if let Some(mut from) = from {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.by_ref().take(OUTPUT).read_to_end(&mut bytes);
            let _ = io::copy(&mut from, &mut io::sink());
            let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
        });
    }
    text
}

fn wait(child: &mut Child, by: Instant) -> io::Result<Option<std::process::ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= by {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}
