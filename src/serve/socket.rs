//! The socket by which admins of this computer are served: who may open it is told by its group, and who does, by the
//! kernel.

use super::admin::{ADMIN_PATH, Admins};
use super::answers::refused;
use crate::store::protocol::{Code, Refusal};
use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, Response};
use axum::serve::IncomingStream;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

/// Mode of the socket: whoever may write it may ask.
const MODE: u32 = 0o660;

/// Listens at this path, for the server's user and a group. What an earlier server has left there goes.
///
/// # Errors
/// Another server listens there; something else lies there; the group is not one of this user's.
pub fn listen(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match UnixStream::connect(path) {
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there")),
        // Nobody listens: left over.
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused && is_socket(path) => fs::remove_file(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    // Until its mode is set the umask decides; systemd's and every common one keep others from writing.
    chown(path, None, group)?;
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket())
}

/// Who is at the other end.
#[derive(Clone, Debug)]
struct SocketPeer(Option<u32>);

impl Connected<IncomingStream<'_, tokio::net::UnixListener>> for SocketPeer {
    fn connect_info(stream: IncomingStream<'_, tokio::net::UnixListener>) -> SocketPeer {
        SocketPeer(stream.io().peer_cred().ok().map(|peer| peer.uid()))
    }
}

/// Serves admins until the runtime ends.
///
/// # Errors
/// The socket is none.
pub async fn serve(listener: UnixListener, admins: Arc<Admins>) -> io::Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let app = Router::new().fallback(handle).with_state(admins);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketPeer>()).await
}

async fn handle(
    State(admins): State<Arc<Admins>>,
    ConnectInfo(SocketPeer(uid)): ConnectInfo<SocketPeer>,
    request: Request,
) -> Response<Body> {
    let Some(uid) = uid else {
        return refused(&Refusal::new(Code::Forbidden, "the kernel does not say who asks"));
    };
    if request.method() != Method::POST || request.uri().path() != ADMIN_PATH {
        return refused(&Refusal::new(Code::Malformed, format!("this socket takes POST {ADMIN_PATH}")));
    }
    admins.answer(&name_of(uid), request.into_body()).await
}

/// `alice (uid 1000)`.
fn name_of(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let is_his = |line: &&str| line.split(':').nth(2).is_some_and(|text| text.parse() == Ok(uid));
    let name = passwd.lines().find(is_his).and_then(|line| line.split(':').next());
    name.map_or_else(|| format!("uid {uid}"), |name| format!("{name} (uid {uid})"))
}
