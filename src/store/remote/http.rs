//! HTTP/1.1 as far as a store speaks it (RFC 9112): connections that are kept, bodies whose length is said, nothing else.

use super::tls;
use super::transport::{StoreAnswer, Transport};
use crate::job::StoreOrder;
use crate::store::protocol::{BODY_LIMIT, SESSION_HEADER, StoreCall};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long nothing may arrive, or be taken.
const SILENCE: Duration = Duration::from_secs(60);
/// Longest head of an answer, in bytes.
const HEAD_LIMIT: usize = 16 << 10;
/// Longest body of an answer: what may be read at once, or a list of names.
const ANSWER_LIMIT: usize = BODY_LIMIT + (64 << 10);
/// Header lines of an answer.
const HEADERS: usize = 32;
/// Connections that are kept while nobody uses them.
const IDLE: usize = 4;

/// The way to a store. Every request is tried once; a kept connection that the server has closed meanwhile does not count.
pub struct HttpTransport {
    address: SocketAddr,
    host: String,
    tls: Option<Result<Arc<ClientConfig>, String>>,
    token: String,
    session: String,
    idle: Mutex<Vec<Connection>>,
}

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

struct Connection(Box<dyn Duplex>);

/// What the head of an answer says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    length: Option<u64>,
    /// The server closes the connection behind this answer.
    is_last: bool,
    /// Bytes of the head itself.
    size: usize,
}

impl HttpTransport {
    /// The way to the store at this address, for one session.
    pub fn new(order: &StoreOrder<'_>, server: Ipv4Addr, session: &str) -> HttpTransport {
        let tls = match (order.url.is_tls, order.key) {
            (false, _) => None,
            (true, Some(key)) => Some(tls::config(key).map_err(|e| e.to_string())),
            (true, None) => Some(Err("its key is not known".into())),
        };
        HttpTransport {
            address: SocketAddr::new(IpAddr::V4(server), order.url.port),
            host: format!("{}:{}", order.url.host, order.url.port),
            tls,
            token: order.token.as_str().to_owned(),
            session: session.to_owned(),
            idle: Mutex::default(),
        }
    }

    fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&self.address, CONNECT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        let stream: Box<dyn Duplex> = match &self.tls {
            None => Box::new(stream),
            Some(Err(why)) => return Err(io::Error::new(io::ErrorKind::PermissionDenied, why.clone())),
            Some(Ok(config)) => {
                let name = ServerName::IpAddress(self.address.ip().into());
                let connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
                let mut stream = StreamOwned::new(connection, stream);
                while stream.conn.is_handshaking() {
                    stream.conn.complete_io(&mut stream.sock).map_err(|e| refused(&e))?;
                }
                Box::new(stream)
            }
        };
        Ok(Connection(stream))
    }

    fn kept(&self) -> Option<Connection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.push(connection);
        }
    }

    fn head(&self, call: &StoreCall, body: &[u8]) -> String {
        let (method, target) = call.target();
        let range = call.range().map_or_else(String::new, |range| format!("Range: {range}\r\n"));
        format!(
            "{} {target} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n{SESSION_HEADER}: {}\r\n{range}Content-Length: {}\r\n\r\n",
            method.as_str(),
            self.host,
            self.token,
            self.session,
            body.len()
        )
    }

    fn exchange(&self, mut connection: Connection, call: &StoreCall, body: &[u8]) -> io::Result<StoreAnswer> {
        let stream = &mut *connection.0;
        stream.write_all(self.head(call, body).as_bytes())?;
        stream.write_all(body)?;
        stream.flush()?;
        let has_body = !matches!(call, StoreCall::Length(_));
        let (head, body) = read_answer(stream, has_body)?;
        if !head.is_last {
            self.keep(connection);
        }
        Ok(StoreAnswer { status: head.status, body, length: head.length })
    }
}

impl Transport for HttpTransport {
    fn send(&self, call: &StoreCall, body: &[u8]) -> io::Result<StoreAnswer> {
        // Those that the server has closed while nobody used them fail at once.
        while let Some(connection) = self.kept() {
            match self.exchange(connection, call, body) {
                Err(e) if is_closed(&e) => {}
                answer => return answer,
            }
        }
        self.exchange(self.connect()?, call, body)
    }
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// A server that is not the right one is not asked again; one that is away is.
fn refused(error: &io::Error) -> io::Error {
    // What this side has found out itself: the other's alerts come from a server that ends, too.
    let source = error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>());
    let is_other = matches!(source, Some(rustls::Error::General(_)));
    let kind = if is_other { io::ErrorKind::PermissionDenied } else { error.kind() };
    io::Error::new(kind, format!("no TLS with it: {error}"))
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("what answers speaks no HTTP of a store: {why}"))
}

/// Reads one answer and not a byte more.
fn read_answer(stream: &mut dyn Duplex, has_body: bool) -> io::Result<(Head, Vec<u8>)> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(head) = parse_head(&bytes)? {
            break head;
        }
        if bytes.len() >= HEAD_LIMIT {
            return Err(bad("its head is too long"));
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    };
    let mut body = bytes.split_off(head.size);
    let length = match (has_body, head.status, head.length) {
        (false, ..) | (true, 204, None | Some(0)) => 0,
        (true, _, Some(length)) => usize::try_from(length).unwrap_or(usize::MAX),
        (true, _, None) => return Err(bad("it does not say how long its answer is")),
    };
    if length > ANSWER_LIMIT || body.len() > length {
        return Err(bad("its answer is longer than it may be"));
    }
    let there = body.len();
    body.resize(length, 0);
    let rest = body.get_mut(there..).unwrap_or_default();
    stream.read_exact(rest)?;
    Ok((head, body))
}

/// Status, length and own size of the head at the beginning of these bytes, for the fuzz targets.
///
/// # Errors
/// It is none.
#[cfg(feature = "testing")]
pub fn head_of(bytes: &[u8]) -> io::Result<Option<(u16, Option<u64>, usize)>> {
    Ok(parse_head(bytes)?.map(|head| (head.status, head.length, head.size)))
}

/// The head at the beginning of these bytes; `None` while there is not all of it.
fn parse_head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let size = match response.parse(bytes).map_err(|e| bad(&e.to_string()))? {
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(size) => size,
    };
    let status = response.code.ok_or_else(|| bad("no status"))?;
    let mut head = Head { status, length: None, is_last: response.version != Some(1), size };
    for header in response.headers.iter() {
        let value = std::str::from_utf8(header.value).map_err(|_| bad("a header is not ASCII"))?.trim();
        if header.name.eq_ignore_ascii_case("content-length") {
            let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            let length = value.parse().ok().filter(|_| digits && head.length.is_none());
            head.length = Some(length.ok_or_else(|| bad("its length is none"))?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(bad("its answer is in pieces"));
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.is_last |= value.eq_ignore_ascii_case("close");
        }
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn answer(text: &str, has_body: bool) -> Result<(u16, Vec<u8>), io::ErrorKind> {
        let mut stream = Cursor::new(text.as_bytes().to_vec());
        read_answer(&mut stream, has_body).map(|(head, body)| (head.status, body)).map_err(|e| e.kind())
    }

    #[test]
    fn an_answer_is_what_its_head_says_or_none() {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        for (text, has_body, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", true, Ok((200, b"ab".to_vec()))),
            ("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n", false, Ok((200, vec![]))),
            ("HTTP/1.1 204 No Content\r\n\r\n", true, Ok((204, vec![]))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", true, Err(UnexpectedEof)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", true, Err(InvalidData)),
            ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab", true, Err(InvalidData)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab", true, Err(InvalidData)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true, Err(InvalidData)),
            ("HTTP/1.1 200 OK\r\n\r\nab", true, Err(InvalidData)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", true, Err(InvalidData)),
            ("SSH-2.0-OpenSSH\r\n", true, Err(InvalidData)),
            ("HTTP/1.1 200 OK\r\nContent-", true, Err(UnexpectedEof)),
            ("", true, Err(UnexpectedEof)),
        ] {
            assert_eq!(answer(text, has_body), expected, "{text:?}");
        }
    }
}
