//! One HTTP request to whom this computer is told to ask: a web server that wants events, a store, the BMC of a machine.

use crate::store::remote::tls;
use crate::types::KeyPin;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Longest answer in bytes.
const ANSWER_LIMIT: usize = 1 << 20;

/// Whom HTTPS trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WebTrust {
    /// Whoever this computer trusts.
    System,
    /// The holder of this key, by SHA-256 of its SubjectPublicKeyInfo.
    Key(KeyPin),
}

/// A request.
pub(super) struct WebRequest<'a> {
    pub method: Method,
    /// With scheme and host: see [`url`].
    pub url: &'a Uri,
    pub trust: &'a WebTrust,
    /// What `Authorization` says.
    pub authorization: Option<String>,
    /// JSON; empty for none.
    pub body: Vec<u8>,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct WebAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// An address that can be asked.
pub(super) fn url(text: &str) -> Result<Uri, String> {
    let wrong = || format!("'{text}' is not http://HOST[:PORT]/PATH or https://");
    let url: Uri = text.parse().map_err(|_| wrong())?;
    match (url.scheme_str(), url.host()) {
        (Some("http" | "https"), Some(_)) => Ok(url),
        _ => Err(wrong()),
    }
}

/// Sends a request, and waits so long for all of the answer.
pub(super) fn ask(request: WebRequest<'_>, limit: Duration) -> Result<WebAnswer, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| e.to_string())?;
    let answer = runtime.block_on(async { tokio::time::timeout(limit, send(request)).await });
    // A look-up of a name may still be under way, and is not waited for.
    runtime.shutdown_background();
    answer.map_err(|_| format!("no answer in {} s", limit.as_secs()))?.map_err(|e| words(&e))
}

/// rustls has its reason behind the text of an error.
fn words(error: &io::Error) -> String {
    match error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::General(why)) => why.clone(),
        Some(other) => format!("no TLS with it: {other}"),
        None => error.to_string(),
    }
}

async fn send(request: WebRequest<'_>) -> io::Result<WebAnswer> {
    let host = request.url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let is_tls = request.url.scheme_str() == Some("https");
    let port = request.url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    if !is_tls {
        return exchange(stream, request).await;
    }
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let config = match request.trust {
        WebTrust::System => trusted()?,
        WebTrust::Key(key) => tls::config_of(key, rustls::DEFAULT_VERSIONS).map_err(io::Error::other)?,
    };
    exchange(tokio_rustls::TlsConnector::from(config).connect(name, stream).await?, request).await
}

/// TLS with whoever this computer trusts.
fn trusted() -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: WebRequest<'_>,
) -> io::Result<WebAnswer> {
    let failed = io::Error::other::<hyper::Error>;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(connection);
    let mut built = Request::builder()
        .method(request.method)
        .uri(request.url.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, request.url.authority().map_or("", |host| host.as_str()))
        .header(header::USER_AGENT, concat!("testboxctl/", env!("CARGO_PKG_VERSION")));
    if !request.body.is_empty() {
        built = built.header(header::CONTENT_TYPE, "application/json");
    }
    if let Some(authorization) = request.authorization {
        built = built.header(header::AUTHORIZATION, authorization);
    }
    let built = built.body(Full::new(Bytes::from(request.body))).map_err(io::Error::other)?;
    let (head, body) = sender.send_request(built).await.map_err(failed)?.into_parts();
    let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(WebAnswer { status: head.status, headers: head.headers, body })
}
