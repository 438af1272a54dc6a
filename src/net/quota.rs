//! What the quotas of its file server leave to whoever writes on a share.
//!
//! statfs(2) on NFS knows only of project quotas. Those of users and groups are asked of the server by another RPC service,
//! RQUOTA (`rquota.x` of the ONC+ sources, in glibc and in the Linux quota tools: program 100011, version 1 for users, 2
//! for groups too), whose port the portmapper tells (RFC 1833 section 3). Messages are ONC RPC (RFC 5531) in XDR (RFC
//! 4506), over UDP. Whatever comes back is checked: sender, transaction, and the form of all of it.
#![forbid(unsafe_code)]

use crate::net::udp::exchange;
use crate::sys::random_id;
use nom::bytes::complete::take;
use nom::combinator::verify;
use nom::number::complete::be_u32;
use nom::{IResult, Parser};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

/// UDP port of the portmapper.
pub const PORTMAPPER: u16 = 111;
/// Longest path of an export in bytes that the service takes (`RQ_PATHLEN`).
const PATH_MAX: usize = 1024;
/// Longest verifier in bytes (RFC 5531 section 8.2).
const VERIFIER_MAX: u32 = 400;

/// What a share is mounted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The server.
    pub server: Ipv4Addr,
    /// Path there.
    pub path: String,
}

/// Who owns what is written: the numbers that the server shows for a file of ours. Root that is squashed has those of the
/// anonymous user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub user: u32,
    /// Group id.
    pub group: u32,
}

/// Whose quota is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaSubject {
    /// The quota of a user id.
    User(u32),
    /// The quota of a group id.
    Group(u32),
}

impl fmt::Display for QuotaSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QuotaSubject::User(id) => write!(f, "user {id}"),
            QuotaSubject::Group(id) => write!(f, "group {id}"),
        }
    }
}

/// A quota as the service tells it, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Whose it is.
    pub of: QuotaSubject,
    /// The server refuses what goes beyond it; a quota that was only counted once does not.
    pub is_active: bool,
    /// What may never be exceeded; `None` where there is no such limit.
    pub hard: Option<u64>,
    /// What is used.
    pub used: u64,
}

impl Quota {
    /// Bytes that may still be written; `None` where it limits nothing. A soft limit, which may be exceeded for days,
    /// is not counted.
    pub fn room(&self) -> Option<u64> {
        self.hard.filter(|_| self.is_active).map(|hard| hard.saturating_sub(self.used))
    }
}

/// Why nothing is known about quotas.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    /// The service does not answer.
    #[error("the {service} of {server} does not answer: {why}")]
    Silent {
        /// Portmapper or quota service.
        service: &'static str,
        /// Who was asked.
        server: SocketAddrV4,
        /// What the network says.
        why: io::Error,
    },
    /// It answers that it will not.
    #[error("the quota service of {server} says of {of}: {why}")]
    Refused {
        /// Who was asked.
        server: SocketAddrV4,
        /// What for.
        of: QuotaSubject,
        /// Its answer.
        why: &'static str,
    },
    /// The path of the export is longer than the service takes.
    #[error("the path of the export has more than {PATH_MAX} bytes")]
    Path,
}

/// A procedure of a service.
#[derive(Clone, Copy, Debug)]
struct Procedure {
    program: u32,
    version: u32,
    number: u32,
}

/// `PMAPPROC_GETPORT`.
const GET_PORT: Procedure = Procedure { program: 100_000, version: 2, number: 3 };
/// `RQUOTAPROC_GETQUOTA`, of version 1.
const GET_QUOTA: Procedure = Procedure { program: 100_011, version: 1, number: 1 };
/// The same in `EXT_RQUOTAVERS`, which knows types of quotas.
const GET_QUOTA_OF_TYPE: Procedure = Procedure { version: 2, ..GET_QUOTA };

/// XDR: a number.
fn put(out: &mut Vec<u8>, number: u32) {
    out.extend(number.to_be_bytes());
}

/// XDR: a string, padded to a multiple of 4 bytes. It is no longer than `PATH_MAX`.
fn put_string(out: &mut Vec<u8>, text: &str) {
    put(out, u32::try_from(text.len()).unwrap_or(u32::MAX));
    out.extend(text.bytes());
    out.extend(std::iter::repeat_n(0, text.len().wrapping_neg() % 4));
}

/// A call (RFC 5531 section 9), as root (`AUTH_SYS`, appendix A): the quota of another is told to nobody else.
fn call(transaction: u32, procedure: Procedure, arguments: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for number in [transaction, 0, 2, procedure.program, procedure.version, procedure.number] {
        put(&mut out, number);
    }
    // Credential: stamp, empty machine name, uid, gid, no more groups. Verifier: none.
    for number in [1, 20, 0, 0, 0, 0, 0, 0, 0] {
        put(&mut out, number);
    }
    out.extend(arguments);
    out
}

/// The question for the UDP port of the quota service in `version`.
pub fn port_call(transaction: u32, version: u32) -> Vec<u8> {
    let mut arguments = Vec::new();
    for number in [GET_QUOTA.program, version, 17, 0] {
        put(&mut arguments, number);
    }
    call(transaction, GET_PORT, &arguments)
}

/// The question for a quota on the file system of an export.
///
/// # Errors
/// A path that is too long.
pub fn quota_call(transaction: u32, export: &str, of: QuotaSubject) -> Result<Vec<u8>, QuotaError> {
    if export.len() > PATH_MAX {
        return Err(QuotaError::Path);
    }
    let mut arguments = Vec::new();
    put_string(&mut arguments, export);
    let procedure = match of {
        QuotaSubject::User(id) => {
            put(&mut arguments, id);
            GET_QUOTA
        }
        QuotaSubject::Group(id) => {
            put(&mut arguments, 1);
            put(&mut arguments, id);
            GET_QUOTA_OF_TYPE
        }
    };
    Ok(call(transaction, procedure, &arguments))
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaAnswer<T> {
    /// What was asked for.
    Is(T),
    /// There is none.
    None,
    /// It is not told, and why.
    Refused(&'static str),
}

/// The results in a reply to this transaction (RFC 5531 section 9); `None` where it is none.
fn results(transaction: u32, bytes: &[u8]) -> Option<QuotaAnswer<&[u8]>> {
    fn head(bytes: &[u8]) -> IResult<&[u8], (u32, u32, u32)> {
        (be_u32, be_u32, be_u32).parse(bytes)
    }
    fn accepted(bytes: &[u8]) -> IResult<&[u8], u32> {
        let (rest, (_, len)) = (be_u32, verify(be_u32, |len| *len <= VERIFIER_MAX)).parse(bytes)?;
        let (rest, _) = take(len.next_multiple_of(4))(rest)?;
        be_u32(rest)
    }
    let (rest, (id, kind, state)) = head(bytes).ok()?;
    if id != transaction || kind != 1 {
        return None;
    }
    match state {
        0 => {
            let (rest, state) = accepted(rest).ok()?;
            Some(match state {
                0 => QuotaAnswer::Is(rest),
                // PROG_UNAVAIL, PROG_MISMATCH, PROC_UNAVAIL: there is no such service.
                1..=3 => QuotaAnswer::None,
                _ => QuotaAnswer::Refused("the call is refused"),
            })
        }
        1 => Some(QuotaAnswer::Refused("root of this machine is refused")),
        _ => None,
    }
}

/// The port in an answer of the portmapper; `None` where it is no answer to this transaction. Total.
pub fn parse_port(transaction: u32, bytes: &[u8]) -> Option<QuotaAnswer<u16>> {
    match results(transaction, bytes)? {
        QuotaAnswer::Is(results) => match be_u32::<_, ()>(results) {
            Ok((_, 0)) => Some(QuotaAnswer::None),
            Ok((_, port)) => u16::try_from(port).ok().map(QuotaAnswer::Is),
            Err(_) => None,
        },
        QuotaAnswer::None => Some(QuotaAnswer::None),
        QuotaAnswer::Refused(why) => Some(QuotaAnswer::Refused(why)),
    }
}

/// The quota in an answer of the service; `None` where it is no answer to this transaction. Total.
pub fn parse_quota(transaction: u32, bytes: &[u8], of: QuotaSubject) -> Option<QuotaAnswer<Quota>> {
    /// Bytes of a block, whether it is active, hard and soft limit, and what is used, in blocks.
    fn quota(bytes: &[u8]) -> IResult<&[u8], (u32, u32, u32, u32, u32)> {
        (be_u32, be_u32, be_u32, be_u32, be_u32).parse(bytes)
    }
    let results = match results(transaction, bytes)? {
        QuotaAnswer::Is(results) => results,
        QuotaAnswer::None => return Some(QuotaAnswer::None),
        QuotaAnswer::Refused(why) => return Some(QuotaAnswer::Refused(why)),
    };
    match be_u32::<_, ()>(results).ok()? {
        (rest, 1) => {
            let (_, (block, active, hard, _, used)) = quota(rest).ok()?;
            let bytes = |blocks: u32| u64::from(blocks) * u64::from(block);
            let hard = Some(bytes(hard)).filter(|hard| *hard > 0);
            Some(QuotaAnswer::Is(Quota { of, is_active: active != 0, hard, used: bytes(used) }))
        }
        (_, 2) => Some(QuotaAnswer::None),
        (_, 3) => Some(QuotaAnswer::Refused("permission denied")),
        _ => None,
    }
}

/// Asks a file server.
#[derive(Clone, Copy, Debug)]
pub struct QuotaClient {
    /// Its portmapper.
    pub portmapper: SocketAddrV4,
    /// How long to wait for each answer.
    pub timeout: Duration,
    /// How often each question is asked.
    pub tries: u32,
}

impl QuotaClient {
    /// The server at this address, asked twice, a second for each answer.
    pub fn new(server: Ipv4Addr) -> Self {
        QuotaClient {
            portmapper: SocketAddrV4::new(server, PORTMAPPER),
            timeout: Duration::from_secs(1),
            tries: 2,
        }
    }

    /// A quota on the file system of an export. `None` where there is none, or the server has no such service.
    ///
    /// # Errors
    /// Nothing is known.
    pub fn quota(&self, export: &str, of: QuotaSubject) -> Result<Option<Quota>, QuotaError> {
        let version =
            if matches!(of, QuotaSubject::User(_)) { GET_QUOTA.version } else { GET_QUOTA_OF_TYPE.version };
        let answer = self.ask("portmapper", self.portmapper, |id| Ok(port_call(id, version)), parse_port)?;
        let server = match answer {
            QuotaAnswer::Is(port) => SocketAddrV4::new(*self.portmapper.ip(), port),
            // A portmapper that refuses to tell is one that does not know.
            QuotaAnswer::None | QuotaAnswer::Refused(_) => return Ok(None),
        };
        let answer = self.ask(
            "quota service",
            server,
            |id| quota_call(id, export, of),
            |id, bytes| parse_quota(id, bytes, of),
        )?;
        match answer {
            QuotaAnswer::Is(quota) => Ok(Some(quota)),
            QuotaAnswer::None => Ok(None),
            QuotaAnswer::Refused(why) => Err(QuotaError::Refused { server, of, why }),
        }
    }

    /// The first answer. Each try is a transaction of its own, with a number that nobody can guess.
    fn ask<T>(
        &self,
        service: &'static str,
        server: SocketAddrV4,
        question: impl Fn(u32) -> Result<Vec<u8>, QuotaError>,
        parse: impl Fn(u32, &[u8]) -> Option<T>,
    ) -> Result<T, QuotaError> {
        let silent = |why| QuotaError::Silent { service, server, why };
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        for _ in 0..self.tries {
            let id = random_id().map_err(silent)? as u32;
            match exchange(server, &question(id)?, self.timeout, |bytes| parse(id, bytes)) {
                Ok(answer) => return Ok(answer),
                Err(e) => last = e,
            }
        }
        Err(silent(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{SocketAddr, UdpSocket};

    fn numbers(numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
    }

    /// Recorded from `rpc.rquotad` 4.06: user 1234 has used 1 KiB of a soft limit of 1000 and a hard one of 2000 KiB.
    const RECORDED: [u32; 17] = [77, 1, 0, 0, 0, 0, 1, 1024, 0, 2000, 1000, 1, 0, 0, 1, 0, 0];

    fn with(at: usize, value: u32) -> Vec<u8> {
        let mut words = RECORDED;
        words[at] = value;
        numbers(&words)
    }

    #[test]
    fn calls_are_as_their_standards_have_them() {
        let head = |program, version, procedure| {
            numbers(&[7, 0, 2, program, version, procedure, 1, 20, 0, 0, 0, 0, 0, 0, 0])
        };
        assert_eq!(port_call(7, 1), [head(100_000, 2, 3), numbers(&[100_011, 1, 17, 0])].concat());
        let user = quota_call(7, "/srv/b", QuotaSubject::User(65534)).unwrap();
        assert_eq!(
            user,
            [head(100_011, 1, 1), numbers(&[6]), b"/srv/b\0\0".to_vec(), numbers(&[65534])].concat()
        );
        let group = quota_call(7, "/srv", QuotaSubject::Group(9)).unwrap();
        assert_eq!(group, [head(100_011, 2, 1), numbers(&[4]), b"/srv".to_vec(), numbers(&[1, 9])].concat());
        assert!(matches!(quota_call(7, &"/".repeat(1025), QuotaSubject::User(1)), Err(QuotaError::Path)));
    }

    #[test]
    fn what_the_service_says() {
        let of = QuotaSubject::User(1234);
        let is = |quota: Quota| Some(QuotaAnswer::Is(quota));
        let recorded = Quota { of, is_active: false, hard: Some(2000 << 10), used: 1 << 10 };
        let parse = |bytes: &[u8]| parse_quota(77, bytes, of);
        assert_eq!(parse(&numbers(&RECORDED)), is(recorded));
        assert_eq!(recorded.room(), None, "it is not switched on");
        assert_eq!(parse(&with(8, 1)), is(Quota { is_active: true, ..recorded }));
        assert_eq!(parse(&with(9, 0)), is(Quota { hard: None, ..recorded }));
        assert_eq!(parse(&with(6, 2)), Some(QuotaAnswer::None));
        assert_eq!(parse(&with(6, 3)), Some(QuotaAnswer::Refused("permission denied")));
        assert_eq!(parse(&with(6, 4)), None);
        assert_eq!(parse(&with(5, 2)), Some(QuotaAnswer::None), "another version");
        assert_eq!(parse(&with(5, 4)), Some(QuotaAnswer::Refused("the call is refused")));
        assert_eq!(parse(&with(2, 1)), Some(QuotaAnswer::Refused("root of this machine is refused")));
        assert_eq!(parse(&with(0, 78)), None, "another transaction");
        assert_eq!(parse(&with(1, 0)), None, "a call");
        assert_eq!(parse(&with(4, 401)), None, "a verifier that is too long");
        assert_eq!(parse(&numbers(&RECORDED)[..44]), None, "cut");
        assert_eq!(parse(&with(3, 9)), is(recorded), "whatever kind its verifier is of");
    }

    #[test]
    fn room_is_what_is_left_of_an_active_hard_limit() {
        let quota =
            |is_active, hard, used| Quota { of: QuotaSubject::Group(1), is_active, hard, used }.room();
        assert_eq!(quota(true, Some(10), 4), Some(6));
        assert_eq!(quota(true, Some(10), 11), Some(0));
        assert_eq!(quota(true, None, 4), None);
        assert_eq!(quota(false, Some(10), 4), None);
        // 2^32 blocks of 2^32 bytes.
        let most = Quota {
            of: QuotaSubject::User(1),
            is_active: true,
            hard: Some(u64::from(u32::MAX).pow(2)),
            used: 0,
        };
        let mut words = RECORDED;
        (words[7], words[8], words[9], words[11]) = (u32::MAX, 1, u32::MAX, 0);
        assert_eq!(parse_quota(77, &numbers(&words), QuotaSubject::User(1)), Some(QuotaAnswer::Is(most)));
    }

    fn local() -> (UdpSocket, SocketAddrV4) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let SocketAddr::V4(address) = socket.local_addr().unwrap() else { panic!("not IPv4") };
        (socket, address)
    }

    #[test]
    fn a_silent_server_is_an_error_and_a_missing_service_no_quota() {
        let (silent, address) = local();
        let asker = QuotaClient { portmapper: address, timeout: Duration::from_millis(1), tries: 2 };
        let error = asker.quota("/srv", QuotaSubject::User(65534)).unwrap_err().to_string();
        assert_eq!(error, format!("the portmapper of {address} does not answer: timed out"));
        drop(silent);

        let (portmapper, address) = local();
        let server = std::thread::spawn(move || {
            let mut buffer = [0; 128];
            let (_, from) = portmapper.recv_from(&mut buffer).unwrap();
            let id = u32::from_be_bytes(buffer[..4].try_into().unwrap());
            // An answer to something else first.
            for (id, port) in [(id ^ 1, 9), (id, 0)] {
                portmapper.send_to(b"garbage", from).unwrap();
                portmapper.send_to(&numbers(&[id, 1, 0, 0, 0, 0, port]), from).unwrap();
            }
        });
        let asker = QuotaClient { portmapper: address, timeout: Duration::from_secs(5), tries: 1 };
        assert_eq!(asker.quota("/srv", QuotaSubject::User(65534)).unwrap(), None);
        server.join().unwrap();
    }

    proptest! {
        #[test]
        fn answers_never_panic(bytes in any::<Vec<u8>>(), at in 0usize..17, value in any::<u32>()) {
            for bytes in [bytes, with(at, value)] {
                let _ = parse_port(77, &bytes);
                if let Some(QuotaAnswer::Is(quota)) = parse_quota(77, &bytes, QuotaSubject::User(1)) {
                    prop_assert!(quota.room().is_none_or(|room| room <= quota.hard.unwrap_or(0)));
                }
            }
        }
    }
}
