//! What admins ask of the server: a command of `testboxctl`, which runs here, on the server's own folders. Who may ask is
//! decided by the socket's mode, or by a token; what may be asked, by the program that is started.

use super::answers::{refused, set_header};
use crate::store::lease::Tell;
use crate::store::protocol::{Code, Refusal};
use crate::types::{SetHash, Token};
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Response, header};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// Where it is asked, on the socket and by HTTPS.
pub const ADMIN_PATH: &str = "/v1/admin";
/// The variable that tells a command whom it works for.
pub const ADMIN_VARIABLE: &str = "TESTBOX_ADMIN";
/// Commands of admins that run at once; one more is refused.
const AT_ONCE: usize = 16;
/// The same of those that only follow what happens, until their admin has seen enough: they keep nobody from the others.
const FOLLOWERS: usize = 64;
/// Longest order in bytes.
const ORDER_LIMIT: usize = 64 << 10;
/// Longest file of tokens in bytes.
const TOKENS_LIMIT: u64 = 64 << 10;
/// Lines that wait for a client that reads slowly.
const WAITING: usize = 64;
/// Bytes that are kept of what a command prints.
const PRINTED: usize = 64 << 10;

/// What an admin wants done: the words behind `testboxctl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminOrder {
    /// The words of the command.
    pub words: Vec<String>,
}

/// One line of the answer, as JSON. The last one is [`AdminLine::Exit`]; without it the command was cut short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdminLine {
    /// A line of standard output, without its end.
    Out(String),
    /// A line of standard error.
    Err(String),
    /// The exit code.
    Exit(u8),
}

/// Makes the program that does an order: who wants it, and the words.
pub type AdminProgram = dyn Fn(&str, &[String]) -> std::process::Command + Send + Sync;

/// An admin who is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownAdmin {
    /// As the file of tokens calls them.
    pub name: String,
    /// The hash of the token.
    pub token: SetHash,
}

/// What a command has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminResult {
    /// Its exit code.
    pub code: u8,
    /// What it has printed, in the order in which it came; of very much the beginning.
    pub lines: Vec<AdminLine>,
}

/// The admins of a server.
pub struct Admins {
    program: Box<AdminProgram>,
    tokens: Option<PathBuf>,
    tell: Arc<dyn Tell>,
    at_once: Arc<Semaphore>,
    followers: Arc<Semaphore>,
}

/// Whether a command only looks, and does not end by itself or ends with a job.
fn is_following(words: &[String]) -> bool {
    let has = |options: &[&str]| words.iter().any(|word| options.contains(&word.as_str()));
    match words.iter().find(|word| !word.starts_with('-')).map(String::as_str) {
        Some("watch" | "wait") => true,
        Some("log") => has(&["-f", "--follow"]),
        Some("status") => has(&["--watch"]),
        _ => false,
    }
}

impl Admins {
    /// With this program, and the file of the tokens by which admins are known over HTTPS: a name and 64 hex digits a line.
    pub fn new(program: Box<AdminProgram>, tokens: Option<PathBuf>, tell: Arc<dyn Tell>) -> Admins {
        let [at_once, followers] = [AT_ONCE, FOLLOWERS].map(|n| Arc::new(Semaphore::new(n)));
        Admins { program, tokens, tell, at_once, followers }
    }

    /// Answers an order that came by HTTPS. The file of tokens is read each time: a line that is taken out counts at once.
    pub async fn by_token(self: &Arc<Self>, from: &str, headers: &HeaderMap, body: Body) -> Response<Body> {
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        match self.of_token(from, token) {
            Ok(admin) => self.answer(&format!("{} (token, from {from})", admin.name), body).await,
            Err(refusal) => refused(&refusal),
        }
    }

    /// Whether anybody is known by a token.
    pub fn has_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// Who comes from there with this token. Whoever is refused is written down.
    ///
    /// # Errors
    /// Nobody has it, or the file of tokens cannot be read.
    pub fn of_token(&self, from: &str, token: &str) -> Result<KnownAdmin, Refusal> {
        let unknown = || Refusal::new(Code::UnknownToken, "this server knows no admin with this token");
        let hash = SetHash::of(token.as_bytes());
        let found = self.known().and_then(|tokens| name_of(&tokens, &hash).ok_or_else(unknown));
        found.map(|name| KnownAdmin { name, token: hash }).inspect_err(|refusal| {
            self.tell.warn(&format!("{from}: refused as an admin: {}", refusal.text));
        })
    }

    /// Whether the token still counts by which somebody was known.
    pub fn still_counts(&self, admin: &KnownAdmin) -> bool {
        let name = self.known().ok().and_then(|tokens| name_of(&tokens, &admin.token));
        name.as_ref() == Some(&admin.name)
    }

    fn known(&self) -> Result<Vec<(String, Token)>, Refusal> {
        match self.tokens.as_deref().map(read_tokens) {
            None => {
                Err(Refusal::new(Code::Forbidden, "this server takes no orders by HTTPS: --admin-tokens"))
            }
            Some(Err(e)) => Err(Refusal::of_error("the admins' tokens", &e)),
            Some(Ok(tokens)) => Ok(tokens),
        }
    }

    /// Does a command for somebody who is known already. It goes on where nobody waits for it any more.
    ///
    /// # Errors
    /// It was not begun.
    pub async fn perform(self: &Arc<Self>, who: &str, words: Vec<String>) -> Result<AdminResult, Refusal> {
        let mut lines = self.start(who, words)?;
        let collected = tokio::spawn(async move {
            let (mut result, mut bytes) = (AdminResult { code: 70, lines: Vec::new() }, 0);
            while let Some(line) = lines.recv().await {
                match &line {
                    AdminLine::Exit(code) => result.code = *code,
                    AdminLine::Out(text) | AdminLine::Err(text) => {
                        bytes += text.len();
                        if bytes <= PRINTED {
                            result.lines.push(line);
                        }
                    }
                }
            }
            result
        });
        collected
            .await
            .map_err(|_| Refusal::new(Code::Failed, "internal error of the server: please report its log"))
    }

    /// Answers the order of somebody who is known already.
    pub async fn answer(self: &Arc<Self>, who: &str, body: Body) -> Response<Body> {
        let order = to_bytes(body, ORDER_LIMIT).await.ok();
        let order = order.and_then(|bytes| serde_json::from_slice::<AdminOrder>(&bytes).ok());
        let Some(order) = order else {
            let why = format!("an order is {{\"words\":[...]}} of {ORDER_LIMIT} bytes at most");
            return refused(&Refusal::new(Code::Malformed, why));
        };
        let lines = match self.start(who, order.words) {
            Ok(lines) => lines,
            Err(refusal) => return refused(&refusal),
        };
        let lines = ReceiverStream::new(lines).map(|line| {
            let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
            bytes.push(b'\n');
            Ok::<_, io::Error>(bytes)
        });
        let mut response = Response::new(Body::from_stream(lines));
        set_header(&mut response, header::CONTENT_TYPE, "application/x-ndjson");
        response
    }

    /// Begins a command, and gives what it prints; it ends with whoever reads that.
    fn start(&self, who: &str, words: Vec<String>) -> Result<mpsc::Receiver<AdminLine>, Refusal> {
        let (places, most) = match is_following(&words) {
            true => (&self.followers, FOLLOWERS),
            false => (&self.at_once, AT_ONCE),
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            let why = format!("{most} admin commands are running already: try again later");
            return Err(Refusal::new(Code::Busy, why));
        };
        let mut command = Command::from((self.program)(who, &words));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().map_err(|e| Refusal::of_error("cannot start testboxctl", &e))?;
        let (lines, receiver) = mpsc::channel(WAITING);
        let run = AdminRun { child, lines, _place: place };
        let said = format!("{who}: {}", words.join(" "));
        let tell = self.tell.clone();
        tokio::spawn(async move {
            match run.finish().await {
                Some(code) => tell.info(&format!("admin {said}: exit {code}")),
                None => tell.warn(&format!("admin {said}: gone, the command was ended")),
            }
        });
        Ok(receiver)
    }
}

/// A command that runs. Dropped, it ends.
struct AdminRun {
    child: Child,
    lines: mpsc::Sender<AdminLine>,
    _place: OwnedSemaphorePermit,
}

impl AdminRun {
    /// Sends what it prints; `None` where whoever wanted it is gone first.
    async fn finish(mut self) -> Option<u8> {
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        let printed = async {
            let (out, err) =
                tokio::join!(pass(out, AdminLine::Out, &self.lines), pass(err, AdminLine::Err, &self.lines));
            out.and(err)
        };
        let printed = tokio::select! { printed = printed => printed, () = self.lines.closed() => None };
        if printed.is_none() {
            let _ = self.child.kill().await;
            return None;
        }
        let status = self.child.wait().await.ok();
        // Without a code a signal has ended it.
        let code = status.and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
        let code = code.unwrap_or(70);
        self.lines.send(AdminLine::Exit(code)).await.ok().map(|()| code)
    }
}

async fn pass(
    from: Option<impl AsyncRead + Unpin>,
    line: fn(String) -> AdminLine,
    to: &mpsc::Sender<AdminLine>,
) -> Option<()> {
    let Some(from) = from else { return Some(()) };
    let mut reader = BufReader::new(from);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).await.is_ok_and(|n| n > 0) {
        let text = String::from_utf8_lossy(&bytes);
        to.send(line(text.trim_end_matches('\n').to_owned())).await.ok()?;
        bytes.clear();
    }
    Some(())
}

/// The admins' tokens by name.
///
/// # Errors
/// The file cannot be read, others than its owner can read it, or a line is none.
pub fn read_tokens(path: &Path) -> io::Result<Vec<(String, Token)>> {
    use std::io::Read;
    let of_file = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let file = std::fs::File::open(path).map_err(of_file)?;
    let mode = file.metadata().map_err(of_file)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(of_file(io::Error::other("others can read it: chmod 600")));
    }
    let mut text = String::new();
    file.take(TOKENS_LIMIT).read_to_string(&mut text).map_err(of_file)?;
    parse_tokens(&text).map_err(|e| of_file(io::Error::new(io::ErrorKind::InvalidData, e)))
}

fn parse_tokens(text: &str) -> Result<Vec<(String, Token)>, String> {
    let mut tokens: Vec<(String, Token)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let wrong = || {
            format!(
                "line {}: wanted a name and its own 64 hex digits, as of 'openssl rand -hex 32'",
                number + 1
            )
        };
        match words[..] {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            [name, token] => {
                let token: Token = token.parse().map_err(|_| wrong())?;
                if tokens.iter().any(|(_, other)| *other == token) {
                    return Err(wrong());
                }
                tokens.push((name.to_owned(), token));
            }
            _ => return Err(wrong()),
        }
    }
    Ok(tokens)
}

/// Hashes are compared, so that how long it takes tells nothing of a token.
fn name_of(tokens: &[(String, Token)], wanted: &SetHash) -> Option<String> {
    let is_it = |(_, one): &&(String, Token)| SetHash::of(one.as_str().as_bytes()) == *wanted;
    tokens.iter().find(is_it).map(|(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_looks_is_told_from_who_acts() {
        let is = |line: &str| is_following(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        for line in ["watch", "-q watch tb1", "wait --job j", "log -f", "log --follow tb1", "status --watch"]
        {
            assert!(is(line), "{line}");
        }
        for line in ["", "status", "log tb1", "arm tb1 backup", "arm watch backup", "prune --yes"] {
            assert!(!is(line), "{line}");
        }
    }

    #[test]
    fn admins_are_known_by_whole_tokens_only() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let tokens = parse_tokens(&format!("# admins\n\nalice {a}\r\nbob  {b}\n")).unwrap();
        assert_eq!(name_of(&tokens, &SetHash::of(b.as_bytes())).as_deref(), Some("bob"));
        for wrong in ["", "alice", &a[1..], &a.to_uppercase()] {
            assert_eq!(name_of(&tokens, &SetHash::of(wrong.as_bytes())), None, "{wrong}");
        }
        for bad in [format!("alice {}", &a[1..]), a.clone(), format!("x {a}\ny {a}"), format!("x y {a}")] {
            assert!(parse_tokens(&bad).is_err(), "{bad}");
        }
    }
}
