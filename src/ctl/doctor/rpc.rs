//! ONC RPC over TCP (RFC 5531), as far as an NFS server is asked what it would allow: the portmapper (RFC 1833), mount and NFS
//! version 3 (RFC 1813). Nothing is created, written or locked there.

use crate::sys::random_id;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// TCP port of NFS.
pub(super) const NFS_PORT: u16 = 2049;
const PORTMAPPER_PORT: u16 = 111;
/// Programs.
const PORTMAPPER: u32 = 100_000;
const NFS: u32 = 100_003;
const MOUNT: u32 = 100_005;
/// Longest answer in bytes.
const ANSWER_MAX: usize = 64 << 10;
/// Largest file handle (`NFS3_FHSIZE`).
const HANDLE_MAX: usize = 64;
/// `ACCESS3_READ`, `LOOKUP`, `MODIFY`, `EXTEND`, `DELETE`.
const ACCESS_READ: u32 = 1;
const ACCESS_ALL: u32 = 0x1f;
const ACCESS_WRITE: u32 = 0x1c;

/// Values of XDR (RFC 4506), read from the front.
struct Xdr<'a>(&'a [u8]);

impl<'a> Xdr<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn opaque(&mut self, max: usize) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok().filter(|len| *len <= max)?;
        let value = self.take(len)?;
        self.take((4 - len % 4) % 4)?;
        Some(value)
    }
}

fn opaque(bytes: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// The results in an answer to the call with this number; why not, in words.
fn results(answer: &[u8], xid: u32) -> Result<&[u8], String> {
    let cut = || "its answer is cut short".to_owned();
    let mut xdr = Xdr(answer);
    if xdr.number() != Some(xid) || xdr.number() != Some(1) {
        return Err("it answers something else".into());
    }
    match xdr.number().ok_or_else(cut)? {
        0 => {}
        _ => return Err("it refuses who asks".into()),
    }
    xdr.number().ok_or_else(cut)?;
    xdr.opaque(400).ok_or_else(cut)?;
    match xdr.number().ok_or_else(cut)? {
        0 => Ok(xdr.0),
        1 => Err("it has no such service".into()),
        2 => Err("it does not speak this version".into()),
        code => Err(format!("it cannot do that (RPC status {code})")),
    }
}

/// A connection to a program.
struct Rpc {
    stream: TcpStream,
    program: u32,
    version: u32,
}

impl Rpc {
    fn connect(server: Ipv4Addr, port: u16, program: u32, version: u32, wait: Duration) -> io::Result<Rpc> {
        let stream = TcpStream::connect_timeout(&SocketAddr::from((server, port)), wait)?;
        stream.set_read_timeout(Some(wait))?;
        stream.set_write_timeout(Some(wait))?;
        Ok(Rpc { stream, program, version })
    }

    /// Calls a procedure as root of this computer (AUTH_SYS).
    fn call(&mut self, procedure: u32, arguments: &[u8]) -> Result<Vec<u8>, String> {
        let xid = random_id().map_err(|e| e.to_string())? as u32;
        let mut credentials = 0u32.to_be_bytes().to_vec();
        credentials.extend(opaque(b"testboxctl"));
        // User, group, no more groups.
        credentials.extend([0; 12]);
        let mut call: Vec<u8> = [xid, 0, 2, self.program, self.version, procedure, 1]
            .iter()
            .flat_map(|n| n.to_be_bytes())
            .collect();
        call.extend(opaque(&credentials));
        call.extend([0; 8]);
        call.extend(arguments);
        let mut bytes = (0x8000_0000 | u32::try_from(call.len()).unwrap_or(0)).to_be_bytes().to_vec();
        bytes.extend(call);
        let answer = self.stream.write_all(&bytes).and_then(|()| self.answer());
        let answer = answer.map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer".to_owned(),
            _ => e.to_string(),
        })?;
        results(&answer, xid).map(<[u8]>::to_vec)
    }

    /// One record, of any number of fragments.
    fn answer(&mut self) -> io::Result<Vec<u8>> {
        let mut record = Vec::new();
        loop {
            let mut head = [0; 4];
            self.stream.read_exact(&mut head)?;
            let head = u32::from_be_bytes(head);
            let len = (head & 0x7fff_ffff) as usize;
            if record.len() + len > ANSWER_MAX {
                return Err(io::Error::other("its answer is too long"));
            }
            let at = record.len();
            record.resize(at + len, 0);
            self.stream.read_exact(record.get_mut(at..).unwrap_or_default())?;
            if head & 0x8000_0000 != 0 {
                return Ok(record);
            }
        }
    }
}

/// Whether an NFS server is there, and which versions it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NfsVersions {
    pub v3: Result<(), String>,
    pub v4: Result<(), String>,
}

/// Asks for both.
///
/// # Errors
/// Nobody listens at its port, or it cannot be reached.
pub(super) fn versions(server: Ipv4Addr, wait: Duration) -> Result<NfsVersions, String> {
    let ask = |version: u32| {
        let rpc = Rpc::connect(server, NFS_PORT, NFS, version, wait);
        Ok::<_, io::Error>(rpc?.call(0, &[]).map(drop))
    };
    let (v3, v4) = (ask(3).map_err(|e| words(&e))?, ask(4).map_err(|e| words(&e))?);
    Ok(NfsVersions { v3, v4 })
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer".into(),
        io::ErrorKind::ConnectionRefused => "connection refused: nothing listens there".into(),
        _ => error.to_string(),
    }
}

/// What a server of version 3 allows this computer with an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NfsAccess {
    pub can_read: bool,
    pub can_write: bool,
    /// Whether the folder has the file that was asked for.
    pub has_file: Option<bool>,
}

/// Why an export is not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoExport {
    /// There is no such export.
    Absent,
    /// Not to this computer.
    Denied,
    /// It could not be asked, and why.
    Unknown(String),
}

/// Asks as a client does that mounts it: for its handle, for the rights, and for one file in it.
pub(super) fn access(
    server: Ipv4Addr,
    path: &str,
    file: &str,
    wait: Duration,
) -> Result<NfsAccess, NoExport> {
    let unknown = |what: &str| {
        let what = what.to_owned();
        move |why: String| NoExport::Unknown(format!("{what}: {why}"))
    };
    let connect = |port, program, version, what: &str| {
        Rpc::connect(server, port, program, version, wait).map_err(|e| unknown(what)(words(&e)))
    };
    let mut portmapper = connect(PORTMAPPER_PORT, PORTMAPPER, 2, "its portmapper (TCP port 111)")?;
    let arguments: Vec<u8> = [MOUNT, 3, 6, 0].iter().flat_map(|n: &u32| n.to_be_bytes()).collect();
    let port = portmapper.call(3, &arguments).map_err(unknown("its portmapper"))?;
    let port = Xdr(&port).number().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    let port = port.ok_or_else(|| unknown("its portmapper")("it knows no mountd for NFSv3".into()))?;
    let mut mountd = connect(port, MOUNT, 3, "its mountd")?;
    let mounted = mountd.call(1, &opaque(path.as_bytes())).map_err(unknown("its mountd"))?;
    let mut xdr = Xdr(&mounted);
    let handle = match xdr.number() {
        Some(0) => xdr.opaque(HANDLE_MAX).map(<[u8]>::to_vec),
        Some(2 | 20) => return Err(NoExport::Absent),
        // Most say so of what they do not export at all, too.
        Some(1 | 13) => {
            let listed = mountd.call(5, &[]).ok().and_then(|list| is_listed(&list, path));
            return Err(if listed == Some(false) { NoExport::Absent } else { NoExport::Denied });
        }
        _ => None,
    };
    // Its list of who has mounted what is for people alone; it says again that nobody has.
    let _ = mountd.call(3, &opaque(path.as_bytes()));
    let handle = handle.ok_or_else(|| unknown("its mountd")("it gives no handle".into()))?;
    let mut nfs = connect(NFS_PORT, NFS, 3, "NFS")?;
    let asked = [opaque(&handle), ACCESS_ALL.to_be_bytes().to_vec()].concat();
    let granted = nfs.call(4, &asked).map_err(unknown("NFS"))?;
    let granted =
        granted_of(&granted).ok_or_else(|| unknown("NFS")("it does not say what is allowed".into()))?;
    let found = nfs.call(3, &[opaque(&handle), opaque(file.as_bytes())].concat()).map_err(unknown("NFS"))?;
    let has_file = match Xdr(&found).number() {
        Some(0) => Some(true),
        Some(2) => Some(false),
        _ => None,
    };
    Ok(NfsAccess {
        can_read: granted & ACCESS_READ != 0,
        can_write: granted & ACCESS_WRITE == ACCESS_WRITE,
        has_file,
    })
}

/// Whether a list of exports has this path, or one above it: each has a path, and a list of clients.
fn is_listed(answer: &[u8], path: &str) -> Option<bool> {
    let mut xdr = Xdr(answer);
    while xdr.number()? == 1 {
        let export = xdr.opaque(1024)?;
        while xdr.number()? == 1 {
            xdr.opaque(255)?;
        }
        let export = std::str::from_utf8(export).unwrap_or_default();
        if !export.is_empty() && std::path::Path::new(path).starts_with(export) {
            return Some(true);
        }
    }
    Some(false)
}

/// The rights in an answer to ACCESS: status, the folder's attributes or none, the bits.
fn granted_of(answer: &[u8]) -> Option<u32> {
    let mut xdr = Xdr(answer);
    if xdr.number()? != 0 {
        return Some(0);
    }
    if xdr.number()? == 1 {
        xdr.take(84)?;
    }
    xdr.number()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_answer_is_to_its_call_or_none() {
        let answer = |words: &[u32]| words.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<_>>();
        assert_eq!(results(&answer(&[7, 1, 0, 0, 0, 0, 9]), 7), Ok(&[0, 0, 0, 9][..]));
        for (words, says) in [
            (&[8, 1, 0, 0, 0, 0][..], "something else"),
            (&[7, 0, 0, 0, 0, 0], "something else"),
            (&[7, 1, 1, 0, 0, 0], "refuses"),
            (&[7, 1, 0, 0, 0, 1], "no such service"),
            (&[7, 1, 0, 0, 0, 2, 3, 4], "this version"),
            (&[7, 1, 0, 0, 9000], "cut short"),
            (&[7, 1, 0], "cut short"),
        ] {
            let said = results(&answer(words), 7).unwrap_err();
            assert!(said.contains(says), "{words:?}: {said}");
        }
        let granted = [answer(&[0, 1]), vec![0; 84], answer(&[0x1f])].concat();
        assert_eq!(granted_of(&granted), Some(0x1f));
        let list =
            [answer(&[1, 2]), b"/b\0\0".to_vec(), answer(&[1, 1]), b"*\0\0\0".to_vec(), answer(&[0, 0])]
                .concat();
        for (path, listed) in [("/b", true), ("/b/c", true), ("/bc", false), ("/", false)] {
            assert_eq!(is_listed(&list, path), Some(listed), "{path}");
        }
        assert_eq!(is_listed(&list[..10], "/b"), None);
        assert_eq!((granted_of(&answer(&[0, 0, 3])), granted_of(&answer(&[13]))), (Some(3), Some(0)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (results(&bytes, 7), granted_of(&bytes), is_listed(&bytes, "/b"));
            let mut near = vec![0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0];
            near.extend(bytes);
            let _ = results(&near, 7);
        }
    }
}
