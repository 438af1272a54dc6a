//! `--via`: a command is done by a server, over its socket or by HTTPS, as if it were given there.

use super::config::SettingsFile;
use super::output::{Out, say};
use super::{Answer, Error};
use crate::serve::admin::{ADMIN_PATH, AdminLine, AdminOrder};
use crate::store::protocol::Refusal;
use crate::store::remote::tls;
use crate::types::{KeyPin, StoreUrl, Token, Via};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// How long a server may take to be reached.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest refusal, and longest line, in bytes.
const LINE_LIMIT: usize = 16 << 20;

/// What stays here of a command line, each with a value.
const OWN: [&str; 3] = ["--config", "--via", "--via-token"];

/// The same as flags of every command.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ViaFlags {
    /// Let a server do it: its socket, as /run/testbox/admin.sock, or https://HOST[:PORT]
    #[arg(long, global = true, value_name = "SOCKET|URL", help_heading = "Server")]
    via: Option<Via>,
    /// The file with the token that an HTTPS server knows you by
    #[arg(long, global = true, value_name = "FILE", help_heading = "Server")]
    via_token: Option<PathBuf>,
}

impl ViaFlags {
    /// With the settings for what was not given.
    pub fn or(self, file: &SettingsFile) -> ViaFlags {
        ViaFlags {
            via: self.via.or_else(|| file.via.clone()),
            via_token: self.via_token.or_else(|| file.via_token.clone()),
        }
    }

    /// The same as words.
    pub fn words(&self) -> Vec<OsString> {
        let place = self.via.as_ref().map(|via| ["--via".into(), OsString::from(via.to_string())]);
        let token = self.via_token.as_ref().map(|path| ["--via-token".into(), path.into()]);
        place.into_iter().chain(token).flatten().collect()
    }

    /// Where the command goes, if not here.
    pub fn place(&self) -> Option<&Via> {
        self.via.as_ref()
    }
}

/// The words of a command without what says how it gets to the server.
fn sent(words: &[OsString]) -> Result<Vec<String>, Error> {
    let mut sent = Vec::new();
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        let word = word.to_str().ok_or_else(|| Error::usage(format!("{}: not UTF-8", word.display())))?;
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        match OWN.contains(&name) {
            true if value.is_none() => drop(words.next()),
            true => {}
            false => sent.push(word.to_owned()),
        }
    }
    Ok(sent)
}

/// Has the server do the command of this command line.
pub(super) fn run(flags: &ViaFlags, file: &SettingsFile, words: &[OsString], out: &mut Out) -> Answer {
    let Some(place) = flags.place() else { return Err(Error::usage("no server is named: --via")) };
    let order = AdminOrder { words: sent(words)? };
    let order = serde_json::to_vec(&order).map_err(|e| Error::failed(e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::failed(format!("cannot begin: {e}")))?;
    let code = runtime.block_on(async {
        match place {
            Via::Socket(path) => {
                let failed = |e: io::Error| {
                    Error::failed(format!(
                        "{}: cannot reach the server: {e}; is 'testboxctl serve --admin-socket' running there, and are you of its group?",
                        path.display()
                    ))
                };
                let stream = limited(UnixStream::connect(path)).await.map_err(failed)?;
                exchange(stream, "localhost", None, order, out).await
            }
            Via::Https(url) => {
                let token = read_token(flags.via_token.as_deref())?;
                let key = file.flags.0.store_key.clone().ok_or_else(|| {
                    Error::usage("the server's key must be known: the setting store-key, which 'testboxctl serve' prints")
                })?;
                let stream = connect(url, &key)
                    .await
                    .map_err(|e| Error::failed(format!("{url}: {}", unreached(&e))))?;
                exchange(stream, &format!("{}:{}", url.host, url.port), Some(&token), order, out).await
            }
        }
    })?;
    match code {
        0 => Ok(true),
        1 => Ok(false),
        code => Err(Error::Said(code)),
    }
}

async fn limited<T>(connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let connected = tokio::time::timeout(CONNECT, connecting).await;
    connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn connect(
    url: &StoreUrl,
    key: &KeyPin,
) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static + use<>> {
    let config = tls::config(key).map_err(io::Error::other)?;
    let host = url.host.to_string();
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    limited(async {
        let stream = TcpStream::connect((host, url.port)).await?;
        tokio_rustls::TlsConnector::from(config).connect(name, stream).await
    })
    .await
}

fn unreached(error: &io::Error) -> String {
    match error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::General(_)) => {
            "it is not the server whose key the setting store-key names".into()
        }
        _ => format!("cannot reach the server: {error}"),
    }
}

/// A file of one line: the digits, or a name and the digits, as the server's own file has them.
fn read_token(path: Option<&Path>) -> Result<Token, Error> {
    let path = path.ok_or_else(|| Error::usage("an HTTPS server knows you by a token: --via-token FILE"))?;
    let failed = |e: String| Error::failed(format!("{}: {e}", path.display()));
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(1 << 10).read_to_string(&mut text));
    read.map_err(|e| failed(format!("cannot read the token: {e}")))?;
    text.split_ascii_whitespace().last().unwrap_or_default().parse().map_err(|e| failed(format!("{e}")))
}

/// Sends the order, shows what comes back, and gives the exit code.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    token: Option<&Token>,
    order: Vec<u8>,
    out: &mut Out,
) -> Result<u8, Error> {
    let lost = |e: hyper::Error| {
        Error::failed(format!(
            "the connection to the server is lost ({e}): whether the command was done is not known; look with 'testboxctl status'"
        ))
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    tokio::spawn(connection);
    let mut request = Request::post(ADMIN_PATH).header(header::HOST, host);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.as_str()));
    }
    let request = request.body(Full::new(Bytes::from(order))).map_err(|e| Error::failed(e.to_string()))?;
    let answer = sender.send_request(request).await.map_err(lost)?;
    if answer.status().is_success() { show(answer, out, lost).await } else { Err(refusal(answer).await) }
}

async fn show(
    mut answer: Response<Incoming>,
    out: &mut Out,
    lost: impl Fn(hyper::Error) -> Error,
) -> Result<u8, Error> {
    let mut rest: Vec<u8> = Vec::new();
    while let Some(frame) = answer.frame().await {
        rest.extend_from_slice(frame.map_err(&lost)?.data_ref().map_or(&[], |data| &data[..]));
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(AdminLine::Out(text)) => out.line(text)?,
                Ok(AdminLine::Err(text)) => say(&text),
                Ok(AdminLine::Exit(code)) => return Ok(code),
                Err(e) => {
                    return Err(Error::failed(format!(
                        "cannot read the server's answer: {e}; is it of this version?"
                    )));
                }
            }
        }
        if rest.len() > LINE_LIMIT {
            return Err(Error::failed("the server's answer has a line that is too long"));
        }
    }
    Err(Error::failed(
        "the server has ended before the command: whether it was done is not known; look with 'testboxctl status'",
    ))
}

async fn refusal(answer: Response<Incoming>) -> Error {
    let status = answer.status();
    let body = http_body_util::Limited::new(answer.into_body(), LINE_LIMIT).collect().await.ok();
    let refusal = body.and_then(|body| serde_json::from_slice::<Refusal>(&body.to_bytes()).ok());
    Error::failed(match refusal {
        Some(refusal) => format!("the server refuses: {}", refusal.text),
        None => format!("the server answers {status}: is it a testboxctl serve of this version?"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_how_to_get_there_is_not_sent() {
        let line = "testboxctl --via /run/s --config=x arm -v --via-token t --console a=b 10.0.0.1 backup";
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        assert_eq!(sent(&words).unwrap().join(" "), "arm -v --console a=b 10.0.0.1 backup");
    }
}
