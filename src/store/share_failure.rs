//! Errors of the shares as failures: which outcome, and what the admin should look at, by errno.

use super::protocol::{Code, Refusal};
use crate::failure::{Failure, Kind};
use crate::sys::errno_words;
use std::io;

/// Something cannot be written, made or removed there: `what` says what, without "cannot".
pub fn cannot_write(what: &str, error: &io::Error) -> Failure {
    if let Some(failure) = of_store(what, error) {
        return failure;
    }
    let kind = if is_full(error) { Kind::NoSpace } else { Kind::ShareWrite };
    let advice = advice(error).unwrap_or("check free space, quota and permissions of the share.");
    let text = format!("cannot {what} on the backup share: {}", errno_words(error));
    Failure::new(kind, text, format!("{advice} The set before is untouched."))
}

/// Something cannot be read there: `what` says what, without "cannot".
pub fn cannot_read(what: &str, error: &io::Error) -> Failure {
    if let Some(failure) = of_store(what, error) {
        return failure;
    }
    let advice = advice(error).unwrap_or("check the share and the permissions of the file.");
    let text = format!("cannot {what} on the backup share: {}", errno_words(error));
    Failure::new(Kind::ShareRead, text, advice)
}

/// What a store has said that is more than an error of a file: a step that failed there, a session or a job that is over.
fn of_store(what: &str, error: &io::Error) -> Option<Failure> {
    let refusal = Refusal::of(error)?;
    let (kind, advice) = match refusal.code {
        Code::NoSession => (
            Kind::Lease,
            "this agent has stopped; what it has not published does not count. If two machines have one address, mend that. The \
             machine stays armed, and tries again after a reboot.",
        ),
        Code::UnknownToken => (
            Kind::NotArmed,
            "it was disarmed or armed anew meanwhile: the next boot does what is said then. What is published is as it was.",
        ),
        _ => return refusal.failure(),
    };
    Some(Failure::new(kind, format!("cannot {what}: {error}"), advice))
}

/// True where room is what is missing.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What mends it, where the errno tells.
pub fn advice(error: &io::Error) -> Option<&'static str> {
    if let Some(refusal) = Refusal::of(error) {
        return match refusal.code {
            Code::Full => Some("make room on the disk of the store."),
            Code::Quota => Some("raise the quota of the machine on the store, or make room."),
            _ => None,
        };
    }
    Some(match error.raw_os_error()? {
        libc::ENOSPC => "make room on the share.",
        libc::EDQUOT => {
            "there is room, but a quota of the server forbids its use: raise it for the user that the export maps root \
             to, and for the project or folder."
        }
        libc::EROFS => {
            "the server exports the share read-only, or its disk has become so: export it 'rw', look at its log."
        }
        libc::EACCES | libc::EPERM => {
            "root is squashed most likely, which is fine where the anonymous user may write there: chown the folder to \
             that user, or export it with no_root_squash."
        }
        libc::ESTALE => {
            "the server does not know the folder or file any more: it was removed or exported anew, or its disk was \
             replaced; look at 'exportfs -v' there."
        }
        libc::EIO => "the server cannot read or write its own disk: look at its log.",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_of_a_share_has_its_kind_and_its_advice() {
        for (errno, kind, part) in [
            (libc::ENOSPC, Kind::NoSpace, "make room"),
            (libc::EDQUOT, Kind::NoSpace, "quota"),
            (libc::EROFS, Kind::ShareWrite, "read-only"),
            (libc::EACCES, Kind::ShareWrite, "squashed"),
            (libc::EPERM, Kind::ShareWrite, "squashed"),
            (libc::ESTALE, Kind::ShareWrite, "exportfs"),
            (libc::EIO, Kind::ShareWrite, "its own disk"),
            (libc::EFBIG, Kind::ShareWrite, "free space"),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            let failure = cannot_write("make x", &error);
            assert_eq!(failure.kind, kind, "{errno}");
            assert!(failure.advice.contains(part), "{failure}");
            assert_eq!(cannot_read("read x", &error).kind, Kind::ShareRead);
        }
    }
}
