//! One request, and how it looks on the wire. Every request has exactly one spelling; any other is refused, so that nothing
//! between agent and server can read another request than the server does.

use super::{PATH_LIMIT, VERSION};
use crate::types::DiskName;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// A path below the root of the backup folder, as it may stand in a request: names of letters, digits and `._-~`
/// between single slashes, none of them `.` or `..`. Empty for the root itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorePath(String);

impl StorePath {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for StorePath {
    type Err = BadCall;

    fn from_str(text: &str) -> Result<Self, BadCall> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'~');
        let is_name = |name: &str| !matches!(name, "" | "." | "..") && name.bytes().all(is_plain);
        match text.len() <= PATH_LIMIT && (text.is_empty() || text.split('/').all(is_name)) {
            true => Ok(StorePath(text.to_owned())),
            false => Err(BadCall("a path is names of letters, digits and ._-~ between single slashes")),
        }
    }
}

/// Why a request is none of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadCall(pub &'static str);

/// The methods of HTTP that the protocol uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Asks for a length.
    Head,
    /// Has the server do a step.
    Post,
    /// Writes.
    Put,
    /// Removes.
    Delete,
}

impl Method {
    /// The method as HTTP spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        }
    }
}

/// What is asked of a store. Offsets and lengths are bytes. Each may be sent again where its answer was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreCall {
    /// Whom the token names, and what it is for. Binds nothing.
    Job,
    /// Removes the file that armed the machine.
    Disarm,
    /// Binds the token to this session, and takes the lease of the machine's folder. Body: the holder.
    Open,
    /// The session lives.
    Beat,
    /// Lets go of the folder.
    Close,
    /// Room for this machine.
    Room,
    /// The names in a folder.
    List(StorePath),
    /// Reads a file, or a range of it.
    Read(StorePath, Option<Range<u64>>),
    /// The length of a file.
    Length(StorePath),
    /// The heads of the members of a part from `at` on, where one begins, up to the next leaf of its index, which comes
    /// whole. Each is its place (8 bytes), the number of its bytes that follow (4 bytes), both little endian, and these.
    Heads(StorePath, u64),
    /// The BLAKE3 hash of a range of a part: 32 bytes.
    Digest(StorePath, Range<u64>),
    /// Replaces a small file as a whole. Body: its content.
    Replace(StorePath),
    /// Appends to a log; `number` is above that of every append before, and one that was taken before is not taken again.
    /// Body: what is appended.
    Append(StorePath, u64),
    /// Makes an empty part.
    Create(StorePath),
    /// Cuts a part to `at` bytes, which it must have, and writes the body behind them.
    Write(StorePath, u64),
    /// The same with zeros that nobody sends.
    Zeros(StorePath, u64, u64),
    /// The same with bytes of another file of this machine.
    Copy(StorePath, u64, StorePath, Range<u64>),
    /// Makes a part durable.
    Sync(StorePath),
    /// Removes a part.
    Remove(StorePath),
    /// Removes all parts but those of these disks.
    Sweep(Vec<DiskName>),
    /// Has an image or a part proven from the server's disk, and tells how far that is.
    Prove(StorePath),
    /// The same of an image that somebody has found damaged: no proof of before counts.
    Suspect(StorePath),
    /// Makes the proven parts the machine's set. Body: its record.
    Publish,
    /// Has the boot server's script start the machine's own loader. Body: its path.
    Loader,
}

impl StoreCall {
    /// The method and the target of the request: the path with its query. The range of a read is in its header.
    pub fn target(&self) -> (Method, String) {
        use Method::{Delete, Get, Head, Post, Put};
        let v = format!("/v{VERSION}");
        let file = |path: &StorePath| format!("{v}/files/{path}");
        match self {
            StoreCall::Job => (Get, format!("{v}/job")),
            StoreCall::Disarm => (Delete, format!("{v}/job")),
            StoreCall::Open => (Put, format!("{v}/session")),
            StoreCall::Beat => (Post, format!("{v}/session")),
            StoreCall::Close => (Delete, format!("{v}/session")),
            StoreCall::Room => (Get, format!("{v}/room")),
            StoreCall::List(path) if path.0.is_empty() => (Get, file(path)),
            StoreCall::List(path) => (Get, format!("{}/", file(path))),
            StoreCall::Read(path, _) => (Get, file(path)),
            StoreCall::Length(path) => (Head, file(path)),
            StoreCall::Heads(path, at) => (Get, format!("{}?heads={at}", file(path))),
            StoreCall::Digest(path, range) => {
                (Get, format!("{}?digest&start={}&end={}", file(path), range.start, range.end))
            }
            StoreCall::Replace(path) => (Put, file(path)),
            StoreCall::Append(path, number) => (Post, format!("{}?append={number}", file(path))),
            StoreCall::Create(path) => (Put, format!("{}?create", file(path))),
            StoreCall::Write(path, at) => (Put, format!("{}?at={at}", file(path))),
            StoreCall::Zeros(path, at, length) => (Put, format!("{}?at={at}&zeros={length}", file(path))),
            StoreCall::Copy(path, at, from, range) => {
                let (start, end) = (range.start, range.end);
                (Put, format!("{}?at={at}&from={from}&start={start}&end={end}", file(path)))
            }
            StoreCall::Sync(path) => (Post, format!("{}?sync", file(path))),
            StoreCall::Remove(path) => (Delete, file(path)),
            StoreCall::Sweep(keep) => {
                let names: Vec<&str> = keep.iter().map(DiskName::as_str).collect();
                (Post, format!("{v}/sweep?keep={}", names.join(",")))
            }
            StoreCall::Prove(path) => (Post, format!("{v}/proofs/{path}")),
            StoreCall::Suspect(path) => (Post, format!("{v}/proofs/{path}?again")),
            StoreCall::Publish => (Post, format!("{v}/sets")),
            StoreCall::Loader => (Put, format!("{v}/loader")),
        }
    }

    /// The header `Range` of the request, where it has one.
    pub fn range(&self) -> Option<String> {
        match self {
            StoreCall::Read(_, Some(range)) => {
                Some(format!("bytes={}-{}", range.start, range.end.saturating_sub(1)))
            }
            _ => None,
        }
    }

    /// Reads a request: the one that has exactly this spelling.
    ///
    /// # Errors
    /// It is none of the protocol, or is spelled otherwise than [`StoreCall::target`] does.
    pub fn parse(method: Method, target: &str, range: Option<&str>) -> Result<StoreCall, BadCall> {
        let call = parse(method, target, range).ok_or(BadCall("no such request"))?;
        // What has two spellings could be read in two ways.
        match call.target() == (method, target.to_owned()) && call.range().as_deref() == range {
            true => Ok(call),
            false => Err(BadCall("the request is not spelled as the protocol does")),
        }
    }

    /// The method of an HTTP request by its name.
    pub fn method(name: &str) -> Option<Method> {
        use Method::{Delete, Get, Head, Post, Put};
        [Get, Head, Post, Put, Delete].into_iter().find(|method| method.as_str() == name)
    }
}

fn parse(method: Method, target: &str, range: Option<&str>) -> Option<StoreCall> {
    use Method::{Delete, Get, Head, Post, Put};
    let (path, query) = target.split_once('?').map_or((target, ""), |(path, query)| (path, query));
    let path = path.strip_prefix(&format!("/v{VERSION}/"))?;
    match (method, path, query) {
        (Get, "job", "") => return Some(StoreCall::Job),
        (Delete, "job", "") => return Some(StoreCall::Disarm),
        (Put, "session", "") => return Some(StoreCall::Open),
        (Post, "session", "") => return Some(StoreCall::Beat),
        (Delete, "session", "") => return Some(StoreCall::Close),
        (Get, "room", "") => return Some(StoreCall::Room),
        (Post, "sets", "") => return Some(StoreCall::Publish),
        (Put, "loader", "") => return Some(StoreCall::Loader),
        (Post, "sweep", query) => {
            let names = query.strip_prefix("keep=")?.split(',').filter(|name| !name.is_empty());
            return Some(StoreCall::Sweep(names.map(str::parse).collect::<Result<_, _>>().ok()?));
        }
        _ => {}
    }
    if let Some(path) = path.strip_prefix("proofs/") {
        let path = path.parse().ok()?;
        return match (method, query) {
            (Post, "") => Some(StoreCall::Prove(path)),
            (Post, "again") => Some(StoreCall::Suspect(path)),
            _ => None,
        };
    }
    let path = path.strip_prefix("files/")?;
    if method == Get && (path.is_empty() || path.ends_with('/')) {
        return Some(StoreCall::List(path.trim_end_matches('/').parse().ok()?));
    }
    let path: StorePath = path.parse().ok()?;
    let words: Vec<(&str, &str)> = query
        .split('&')
        .filter(|word| !word.is_empty())
        .map(|word| word.split_once('=').unwrap_or((word, "")))
        .collect();
    Some(match (method, &words[..]) {
        (Get, []) => StoreCall::Read(path, range.map_or(Some(None), |text| bytes_range(text).map(Some))?),
        (Head, []) => StoreCall::Length(path),
        (Get, [("heads", at)]) => StoreCall::Heads(path, number(at)?),
        (Get, [("digest", ""), ("start", start), ("end", end)]) => {
            StoreCall::Digest(path, range_of(number(start)?, number(end)?)?)
        }
        (Put, []) => StoreCall::Replace(path),
        (Post, [("append", n)]) => StoreCall::Append(path, number(n)?),
        (Put, [("create", "")]) => StoreCall::Create(path),
        (Put, [("at", at)]) => StoreCall::Write(path, number(at)?),
        (Put, [("at", at), ("zeros", length)]) => StoreCall::Zeros(path, number(at)?, number(length)?),
        (Put, [("at", at), ("from", from), ("start", start), ("end", end)]) => {
            StoreCall::Copy(path, number(at)?, from.parse().ok()?, range_of(number(start)?, number(end)?)?)
        }
        (Post, [("sync", "")]) => StoreCall::Sync(path),
        (Delete, []) => StoreCall::Remove(path),
        _ => return None,
    })
}

/// Whole numbers as Rust writes them, of what a file may be long.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|n| *n <= i64::MAX as u64)
}

fn range_of(start: u64, end: u64) -> Option<Range<u64>> {
    (start < end).then_some(start..end)
}

/// One range with both ends; RFC 9110 section 14.1.2 has more.
fn bytes_range(text: &str) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    range_of(number(first)?, number(last)?.checked_add(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path() -> impl Strategy<Value = StorePath> {
        "[a-z0-9._~-]{1,9}(/[A-Z0-9._~-]{1,9}){0,2}".prop_filter_map("a path", |text| text.parse().ok())
    }

    fn calls() -> impl Strategy<Value = StoreCall> {
        let n = 0..=i64::MAX as u64 - 1;
        let range = (n.clone(), 1..1_000_000u64)
            .prop_map(|(start, len)| start..start.saturating_add(len).min(i64::MAX as u64));
        let named = prop_oneof![
            Just(StoreCall::Job),
            Just(StoreCall::Disarm),
            Just(StoreCall::Open),
            Just(StoreCall::Beat),
            Just(StoreCall::Close),
            Just(StoreCall::Room),
            Just(StoreCall::Publish),
            Just(StoreCall::Loader),
            Just(StoreCall::List("".parse().unwrap())),
            proptest::collection::vec("sd[a-z]", 0..4)
                .prop_map(|names| StoreCall::Sweep(names.iter().map(|n| n.parse().unwrap()).collect())),
        ];
        let of_path = (path(), path(), n.clone(), n, range).prop_flat_map(|(p, from, a, b, range)| {
            prop_oneof![
                Just(StoreCall::List(p.clone())),
                Just(StoreCall::Read(p.clone(), None)),
                Just(StoreCall::Read(p.clone(), Some(range.clone()))),
                Just(StoreCall::Length(p.clone())),
                Just(StoreCall::Heads(p.clone(), a)),
                Just(StoreCall::Digest(p.clone(), range.clone())),
                Just(StoreCall::Replace(p.clone())),
                Just(StoreCall::Append(p.clone(), a)),
                Just(StoreCall::Create(p.clone())),
                Just(StoreCall::Write(p.clone(), a)),
                Just(StoreCall::Zeros(p.clone(), a, b)),
                Just(StoreCall::Copy(p.clone(), a, from, range)),
                Just(StoreCall::Sync(p.clone())),
                Just(StoreCall::Remove(p.clone())),
                Just(StoreCall::Prove(p.clone())),
                Just(StoreCall::Suspect(p)),
            ]
        });
        prop_oneof![named, of_path]
    }

    proptest! {
        #[test]
        fn every_call_is_read_back(call in calls()) {
            let (method, target) = call.target();
            prop_assert_eq!(StoreCall::parse(method, &target, call.range().as_deref()), Ok(call));
        }

        #[test]
        fn what_is_read_has_one_spelling(method in 0..5usize, target in "/v1/[a-z]{1,8}(/[a-z.%/]{0,12})?([?&][a-z]{1,6}(=[0-9a-z,+]{0,4})?){0,3}") {
            let method = [Method::Get, Method::Head, Method::Post, Method::Put, Method::Delete][method];
            if let Ok(call) = StoreCall::parse(method, &target, None) {
                prop_assert_eq!(call.target(), (method, target));
            }
        }
    }

    #[test]
    fn a_request_that_could_mean_two_things_is_refused() {
        for (method, target, range) in [
            (Method::Get, "/v1/files/10.0.0.1/../10.0.0.2/backup.json", None),
            (Method::Get, "/v1/files/10.0.0.1//backup.json", None),
            (Method::Get, "/v1/files//etc/passwd", None),
            (Method::Get, "/v1/files/10.0.0.1/%2e%2e/x", None),
            (Method::Get, "/v1/files/10.0.0.1//", None),
            (Method::Get, "/v1/files/a?", None),
            (Method::Get, "/v1/files/a", Some("bytes=5-4")),
            (Method::Get, "/v1/files/a", Some("bytes=0-4,6-7")),
            (Method::Get, "/v1/files/a", Some("bytes=-4")),
            (Method::Get, "/v1/job", Some("bytes=0-4")),
            (Method::Put, "/v1/files/a?at=+5", None),
            (Method::Put, "/v1/files/a?at=05", None),
            (Method::Put, "/v1/files/a?at=5&at=6", None),
            (Method::Put, "/v1/files/a?zeros=5&at=6", None),
            (Method::Put, "/v1/files/a?at=9223372036854775808", None),
            (Method::Post, "/v1/sweep?keep=sda,", None),
            (Method::Post, "/v1/sweep?keep=../x", None),
            (Method::Get, "/v2/job", None),
        ] {
            assert!(StoreCall::parse(method, target, range).is_err(), "{target} {range:?}");
        }
    }
}
