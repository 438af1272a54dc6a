//! Whom `serve` tells what jobs have come to: a program, and a web server.

use super::Error;
use super::web::{self, WebRequest, WebTrust};
use crate::serve::events::{JobEvent, JobEvents};
use crate::share::Files;
use crate::store::lease::Tell;
use hyper::{Method, Uri};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often it is looked for events.
const LOOK: Duration = Duration::from_secs(5);
/// How long a program or a web server may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Pauses before an event is told once more.
const AGAIN: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120)];

/// Tells an event once.
type Once<'a> = Box<dyn Fn() -> Result<(), String> + 'a>;

/// The flags of `serve`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Hooks")]
pub(super) struct HookFlags {
    /// A program that is run when a job is done, has failed or holds: it has the event as JSON on standard input
    #[arg(long, value_name = "PROGRAM")]
    hook: Option<PathBuf>,
    /// An address that the same JSON is posted to
    #[arg(long, value_name = "URL", value_parser = web::url)]
    webhook: Option<Uri>,
}

/// The thread that tells, while it runs. It ends with this.
pub(super) struct Hooks {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Hooks {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl HookFlags {
    /// Begins to tell, where somebody wants to know.
    pub fn start(&self, files: Arc<dyn Files>, tell: Arc<dyn Tell>) -> Result<Option<Hooks>, Error> {
        if self.hook.is_none() && self.webhook.is_none() {
            return Ok(None);
        }
        let flags = self.clone();
        let (end, ended) = channel::<()>();
        let goes_on = move |pause| matches!(ended.recv_timeout(pause), Err(RecvTimeoutError::Timeout));
        let work = move || {
            if let Err(e) = flags.watch(&*files, &*tell, &goes_on) {
                tell.warn(&format!("hooks: {e}; nobody is told of jobs any more"));
            }
        };
        let thread = std::thread::Builder::new().name("hooks".into()).spawn(work);
        let thread = thread.map_err(|e| Error::failed(format!("no thread for hooks: {e}")))?;
        Ok(Some(Hooks { end: Some(end), thread: Some(thread) }))
    }

    fn watch(
        &self,
        files: &dyn Files,
        tell: &dyn Tell,
        goes_on: &dyn Fn(Duration) -> bool,
    ) -> io::Result<()> {
        let mut events = JobEvents::open(files)?;
        loop {
            match events.next() {
                Ok(Some(event)) => {
                    // One that the server's end has cut short is told when it is back.
                    if !self.tell(&event, tell, goes_on) {
                        return Ok(());
                    }
                    if let Err(e) = events.is_told(&event) {
                        tell.warn(&format!(
                            "hooks: cannot write down what was told: {e}; after a restart it is told again"
                        ));
                    }
                }
                Ok(None) if goes_on(LOOK) => {}
                Ok(None) => return Ok(()),
                Err(e) => {
                    tell.warn(&format!("hooks: cannot look for jobs: {e}"));
                    if !goes_on(LOOK) {
                        return Ok(());
                    }
                }
            }
            if !goes_on(Duration::ZERO) {
                return Ok(());
            }
        }
    }

    /// Tells both, each until it has worked or has failed often enough; false where the server ends before that.
    fn tell(&self, event: &JobEvent, tell: &dyn Tell, goes_on: &dyn Fn(Duration) -> bool) -> bool {
        let json = serde_json::to_vec(event).unwrap_or_default();
        let (json, ip) = (&json, event.ip);
        let mut wanted: Vec<(String, Once<'_>)> = Vec::new();
        if let Some(program) = &self.hook {
            let once = move || run(Command::new(program).env("TESTBOX_IP", ip.to_string()), json, LIMIT);
            wanted.push((format!("the hook {}", program.display()), Box::new(once)));
        }
        if let Some(url) = &self.webhook {
            // Its path may be a secret.
            let name = format!("the webhook at {}", url.host().unwrap_or_default());
            wanted.push((name, Box::new(move || post(url, json))));
        }
        for (name, once) in wanted {
            let mut pauses = AGAIN.into_iter();
            while let Err(why) = once() {
                let what = format!("{}: {name} does not take the event: {why}", event.ip);
                let Some(pause) = pauses.next() else {
                    tell.warn(&format!("{what}; it is given up"));
                    break;
                };
                tell.warn(&format!("{what}; once more in {} s", pause.as_secs()));
                if !goes_on(pause) {
                    return false;
                }
            }
        }
        true
    }
}

/// Runs a program with this on its standard input, for so long at most.
fn run(command: &mut Command, input: &[u8], limit: Duration) -> Result<(), String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| format!("it cannot be started: {e}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        let mut line = input.to_vec();
        line.push(b'\n');
        // One that does not read it may still do its work, and must not hold this thread.
        std::thread::spawn(move || stdin.write_all(&line));
    }
    let status = ended(&mut child, limit).map_err(|e| e.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("it ends with {status}")) }
}

fn ended(child: &mut Child, limit: Duration) -> io::Result<std::process::ExitStatus> {
    let by = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= by {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other(format!(
                "it was ended: it took more than {} s",
                limit.as_secs_f32()
            )));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn post(url: &Uri, body: &[u8]) -> Result<(), String> {
    let (method, trust, body) = (Method::POST, &WebTrust::System, body.to_vec());
    let answer = web::ask(WebRequest { method, url, trust, authorization: None, body }, LIMIT)?;
    match answer.status {
        status if status.is_success() => Ok(()),
        status => Err(format!("it answers {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than a pipe takes, for a program that never looks.
    #[test]
    fn a_program_that_reads_nothing_holds_nobody() {
        let input = vec![b' '; 1 << 20];
        let why = run(Command::new("sleep").arg("1000"), &input, Duration::from_millis(100)).unwrap_err();
        assert!(why.contains("it was ended"), "{why}");
        assert_eq!(run(&mut Command::new("true"), &input, LIMIT), Ok(()));
    }
}
