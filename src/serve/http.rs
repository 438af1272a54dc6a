//! The shell that speaks HTTP/1.1: it takes a request apart, has the [`Store`] answer it in a thread of its own, and puts the
//! answer together. What could be understood in two ways is refused here.

use super::admin::{ADMIN_PATH, Admins};
use super::answers::{json, refused, set_header};
use super::connections::{Connections, Counting};
use super::sent::{self, SentPieces};
use super::slots::RequestSlots;
use super::store::{Reply, Store};
use super::{Caller, socket, tls};
use crate::store::protocol::{BODY_LIMIT, Code, Refusal, SESSION_HEADER, StoreCall, VERSION, Welcome};
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum_server::Handle;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::time::{Instant, timeout_at};
use tokio_stream::StreamExt;

/// How long a body may take to arrive; and one second more for so many bytes that have arrived.
const BODY_TIME: Duration = Duration::from_secs(20);
const SLOWEST: usize = 64 << 10;
/// How long the head of a request may take to arrive, and a connection be idle.
const HEAD_TIME: Duration = Duration::from_secs(75);
/// How long what is under way may take when the server ends.
const END_TIME: Duration = Duration::from_secs(10);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;
/// How often the store is tended.
const TEND: Duration = Duration::from_secs(5);
/// A body or an answer of so few bytes is held by nobody's share; such an answer is sent at once.
const SMALL: usize = 64 << 10;
/// Bytes of one connection that the system takes before they are asked for. With more, those whose turn it is not would fill
/// the link all the same, and a thousand connections the memory.
const RECEIVED_AHEAD: u32 = 256 << 10;

/// Where and how to listen.
pub enum Listen<'a> {
    /// HTTPS, with the key in this file, which is made where it is missing.
    Tls(SocketAddr, &'a Path),
    /// HTTP: whoever is on the network reads and changes everything.
    Plain(SocketAddr),
}

/// Who else is served.
pub struct AdminSide {
    /// What they may.
    pub admins: Arc<Admins>,
    /// Where those of this computer come in.
    pub socket: Option<UnixListener>,
}

/// What is served beside the store.
#[derive(Default)]
pub struct Beside {
    /// The admins.
    pub admin: Option<AdminSide>,
    /// A page for people, at paths of its own. Whoever asks for `/` with a browser is sent to [`PAGE_PATH`].
    pub page: Option<Router>,
}

/// Where the page begins.
pub const PAGE_PATH: &str = "/machines";

struct Shell {
    store: Arc<Store>,
    admins: Option<Arc<Admins>>,
    slots: RequestSlots,
    has_page: bool,
    pieces: SentPieces,
}

/// Serves until a signal ends it; `ready` is told once it listens.
///
/// # Errors
/// It cannot listen there, or the key cannot be read or made.
pub fn serve(
    store: Arc<Store>,
    listen: Listen<'_>,
    beside: Beside,
    ready: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(run(store.clone(), listen, beside, ready));
    runtime.shutdown_timeout(END_TIME);
    store.end();
    served
}

async fn run(
    store: Arc<Store>,
    listen: Listen<'_>,
    beside: Beside,
    ready: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    let Beside { admin, page } = beside;
    let address = match listen {
        Listen::Tls(address, _) | Listen::Plain(address) => address,
    };
    let listener = listen_at(address)?;
    let address = listener.local_addr()?;
    let admins = admin.as_ref().map(|side| side.admins.clone());
    let slots = RequestSlots::new(store.rules().at_work);
    let known = store.clone();
    let connections = Connections::new(Box::new(move |peer| known.has_session(peer)));
    let (has_page, pieces) = (page.is_some(), SentPieces::default());
    let shell = Arc::new(Shell { store: store.clone(), admins, slots, has_page, pieces });
    let app = Router::new().fallback(handle).with_state(shell).merge(page.unwrap_or_default());
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let handle = Handle::new();
    tokio::spawn(end_on_signal(handle.clone()));
    tokio::spawn(tend(store));
    if let Some(AdminSide { admins, socket: Some(listener) }) = admin {
        tokio::spawn(socket::serve(listener, admins));
    }
    match listen {
        Listen::Tls(_, key) => {
            let config = axum_server::tls_rustls::RustlsConfig::from_config(tls::config(key)?);
            let server = axum_server::from_tcp_rustls(listener, config)?.handle(handle);
            let mut server = server.map(|inner| Counting { inner, connections });
            limit_heads(&mut server);
            ready(address);
            server.serve(app).await
        }
        Listen::Plain(_) => {
            let server = axum_server::from_tcp(listener)?.handle(handle);
            let mut server = server.map(|inner| Counting { inner, connections });
            limit_heads(&mut server);
            ready(address);
            server.serve(app).await
        }
    }
}

fn listen_at(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that was ended a moment ago has connections there still.
    socket.set_reuseaddr(true)?;
    // Each connection inherits it.
    socket.set_recv_buffer_size(RECEIVED_AHEAD)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

fn limit_heads<A>(server: &mut axum_server::Server<SocketAddr, A>) {
    let timer = hyper_util::rt::TokioTimer::new();
    server.http_builder().http1().header_read_timeout(HEAD_TIME).timer(timer);
}

async fn tend(store: Arc<Store>) {
    loop {
        tokio::time::sleep(TEND).await;
        let store = store.clone();
        // A tending that hangs in the file system holds up the next, and nothing else.
        let _ = tokio::task::spawn_blocking(move || store.tend()).await;
    }
}

async fn end_on_signal(handle: Handle<SocketAddr>) {
    use tokio::signal::unix::{SignalKind, signal};
    let [term, int, hup] =
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    let (Ok(mut term), Ok(mut int), Ok(mut hup)) = (term, int, hup) else { return };
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {}, _ = hup.recv() => {} }
    handle.graceful_shutdown(Some(END_TIME));
}

async fn handle(
    State(shell): State<Arc<Shell>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response<Body> {
    if let Some(admins) = shell.admins.as_ref().filter(|_| request.uri().path() == ADMIN_PATH) {
        let (parts, body) = request.into_parts();
        return admins.by_token(&peer.ip().to_canonical().to_string(), &parts.headers, body).await;
    }
    let of_peer = shell.slots.of(peer.ip()).await;
    let (parts, body) = request.into_parts();
    if parts.uri.path() == "/" {
        return if shell.has_page && is_browser(&parts.headers) { to_page() } else { welcome() };
    }
    let (call, caller) = match taken_apart(&parts.method, &parts.uri.to_string(), &parts.headers, peer.ip()) {
        Ok(both) => both,
        Err(refusal) => return refused(&refusal),
    };
    match answer(&shell, call, caller, body).await {
        Ok((reply, held)) => put_together(reply, &shell.pieces, (of_peer, held)),
        Err(refusal) => refused(&refusal),
    }
}

/// The answer, and the place that it holds until it is sent. Who has no token has no body received; and a place among those
/// that are answered at once is taken only for the work itself, whoever is slow to send or to read.
async fn answer(
    shell: &Arc<Shell>,
    call: StoreCall,
    caller: Caller,
    body: Body,
) -> Result<(Reply, impl Send + 'static), Refusal> {
    let (store, asking) = (shell.store.clone(), caller.clone());
    let work = shell.slots.work().await;
    let asker = blocking(move || (store.asker_of(&asking), work)).await?.0?;
    let announced = body.size_hint().upper().unwrap_or(u64::MAX);
    // What is small is no reason to wait: a session can be begun whoever is slow with what is large.
    let is_large = announced > SMALL as u64 || matches!(call, StoreCall::Read(..) | StoreCall::Heads(..));
    let held = if is_large { shell.slots.hold(asker).await } else { None };
    let turn = if is_traffic(&call) { Some(shell.slots.turn(asker, caller.peer).await) } else { None };
    let body = Arc::new(received(body).await?);
    let work = shell.slots.work().await;
    let store = shell.store.clone();
    // The work owns its places: a client that hangs up meanwhile frees none.
    let (reply, _, held) =
        blocking(move || (store.answer(&caller, &call, &body), work, (held, turn))).await?;
    Ok((reply, held))
}

/// What keeps link or disk busy.
fn is_traffic(call: &StoreCall) -> bool {
    use StoreCall as C;
    matches!(
        call,
        C::Write(..) | C::Zeros(..) | C::Copy(..) | C::Sync(_) | C::Digest(..) | C::Heads(..) | C::Read(..)
    )
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Refusal::new(Code::Failed, "internal error of the server: please report its log"))
}

/// The body, which is as long as was said, and no slower than [`SLOWEST`].
async fn received(body: Body) -> Result<Vec<u8>, Refusal> {
    let refused = |why: &str| Refusal::new(Code::Malformed, why);
    // What has not arrived takes no memory yet.
    let length = body.size_hint().upper().and_then(|length| usize::try_from(length).ok());
    let mut bytes = Vec::with_capacity(length.unwrap_or(0).min(BODY_LIMIT));
    let mut arriving = body.into_data_stream();
    let began = Instant::now();
    loop {
        let until = began + BODY_TIME + Duration::from_secs((bytes.len() / SLOWEST) as u64);
        match timeout_at(until, arriving.next()).await {
            Ok(Some(Ok(piece))) if bytes.len() + piece.len() <= BODY_LIMIT => bytes.extend_from_slice(&piece),
            Ok(Some(Ok(_))) => return Err(Refusal::new(Code::TooLarge, "the body is longer than allowed")),
            Ok(Some(Err(_))) => return Err(refused("the body is cut short")),
            Ok(None) => return Ok(bytes),
            Err(_) => return Err(refused("the body did not arrive in time")),
        }
    }
}

/// The request as the protocol has it, and who asks.
fn taken_apart(
    method: &axum::http::Method,
    target: &str,
    headers: &HeaderMap,
    peer: IpAddr,
) -> Result<(StoreCall, Caller), Refusal> {
    let malformed = |why: &str| Refusal::new(Code::Malformed, why);
    for ambiguous in [header::TRANSFER_ENCODING, header::CONTENT_ENCODING, header::UPGRADE, header::EXPECT] {
        if headers.contains_key(&ambiguous) {
            return Err(malformed(&format!(
                "the header {ambiguous} is not allowed: a body has a length, and is as it is"
            )));
        }
    }
    let one = |name: &str| -> Result<Option<&str>, Refusal> {
        let mut values = headers.get_all(name).iter();
        let value = values.next().map(|value| value.to_str()).transpose();
        let value = value.map_err(|_| malformed(&format!("the header {name} is not ASCII")))?;
        match values.next() {
            None => Ok(value),
            Some(_) => Err(malformed(&format!("the header {name} is there twice"))),
        }
    };
    let length = one("content-length")?.map_or(Ok(0), str::parse::<u64>);
    if length.map_err(|_| malformed("the body's length is not a number"))? > BODY_LIMIT as u64 {
        return Err(Refusal::new(Code::TooLarge, format!("a request has at most {BODY_LIMIT} bytes")));
    }
    let method = StoreCall::method(method.as_str()).ok_or_else(|| malformed("no such method"))?;
    let call = StoreCall::parse(method, target, one("range")?)
        .map_err(|e| malformed(&format!("{e}; this server speaks version {VERSION} of the protocol")))?;
    let token = one("authorization")?.and_then(|value| value.strip_prefix("Bearer "));
    let token =
        token.ok_or_else(|| Refusal::new(Code::UnknownToken, "no token: Authorization: Bearer <token>"))?;
    let session = one(SESSION_HEADER)?.unwrap_or_default();
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_hex(token) || token.len() != 64 || !is_hex(session) || !matches!(session.len(), 0 | 32) {
        return Err(malformed("a token has 64 hex digits, and a session 32"));
    }
    if session.is_empty() && call != StoreCall::Job {
        return Err(malformed(&format!("no session: {SESSION_HEADER}: <32 hex digits>")));
    }
    Ok((call, Caller { token: token.to_owned(), session: session.to_owned(), peer: peer.to_canonical() }))
}

/// A browser says that it takes HTML; agents and curl do not.
fn is_browser(headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT).and_then(|accepts| accepts.to_str().ok());
    accepts.is_some_and(|accepts| accepts.contains("text/html"))
}

fn to_page() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    set_header(&mut response, header::LOCATION, PAGE_PATH);
    response
}

fn welcome() -> Response<Body> {
    let text = Welcome {
        server: "testbox store".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        protocols: vec![VERSION],
    };
    json(StatusCode::OK, serde_json::to_vec(&text).unwrap_or_default())
}

/// The answer. What is still to be sent of a file keeps what its request holds.
fn put_together(reply: Reply, pieces: &SentPieces, places: impl Send + 'static) -> Response<Body> {
    match reply {
        Reply::Json(bytes) => json(StatusCode::OK, bytes),
        Reply::Refused(refusal) => refused(&refusal),
        Reply::Done => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Reply::Length(length) => {
            let mut response = Response::new(Body::empty());
            set_header(&mut response, header::CONTENT_LENGTH, &length.to_string());
            response
        }
        Reply::Bytes(bytes, range) => {
            let mut response = match bytes.len() <= SMALL {
                true => Response::new(Body::from(bytes)),
                false => sent::of_bytes(bytes, places),
            };
            if let Some((range, size)) = range {
                set_range(&mut response, &range, size);
            }
            response
        }
        Reply::File(file, range, size) => {
            let mut response = pieces.of_file(file, range.clone(), places);
            if let Some(size) = size {
                set_range(&mut response, &range, size);
            }
            response
        }
    }
}

fn set_range(response: &mut Response<Body>, range: &Range<u64>, size: u64) {
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let text = format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1));
    set_header(response, header::CONTENT_RANGE, &text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    /// A body of so many pieces of 64 KiB, one of them every so often.
    fn arriving(pieces: usize, each: Duration) -> Body {
        let (sender, receiver) = mpsc::channel::<io::Result<Vec<u8>>>(1);
        tokio::spawn(async move {
            for _ in 0..pieces {
                tokio::time::sleep(each).await;
                if sender.send(Ok(vec![0; 64 << 10])).await.is_err() {
                    return;
                }
            }
        });
        Body::from_stream(ReceiverStream::new(receiver))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_too_slowly_is_not_waited_for() {
        // 8 MiB on a line of 1 Mbit/s.
        let whole = received(arriving(128, Duration::from_millis(524))).await.unwrap();
        assert_eq!(whole.len(), 8 << 20);
        let began = Instant::now();
        let refused = received(arriving(128, Duration::from_secs(2))).await.unwrap_err();
        assert_eq!(refused.code, Code::Malformed);
        assert!(began.elapsed() < Duration::from_secs(60));
        let refused = received(arriving(129, Duration::ZERO)).await.unwrap_err();
        assert_eq!(refused.code, Code::TooLarge);
    }
}
