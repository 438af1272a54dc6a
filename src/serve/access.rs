//! What a token allows: a pure function of its action, its machine and the request. All that is not named here is refused.

use crate::job::Action;
use crate::store::layout::{
    COMPRESSION, DISK_LIST, HISTORY, INFO_TEXT, INFO_ZIP, MAINTENANCE_LOG, OUTPUT_LOG, RECORD,
    RECORD_PENDING, SIGNATURE, STATUS, disk_of_image, generation, is_part_file,
};
use crate::store::protocol::{Code, Refusal, StoreCall, StorePath};

/// What a file is to the machine whose folder is `ip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathClass {
    /// A setting for all machines.
    Setting,
    /// The log of all machines.
    AllLog,
    /// A folder of the machine.
    Folder,
    /// A record, a list, a note beside an image.
    Small,
    /// What the machine says of itself.
    News,
    /// A log of the machine.
    OwnLog,
    /// An image of the machine, current or in its history.
    Image,
    /// An image in the making.
    Part,
    /// Whatever else, of whomever.
    Other,
}

/// Says what a path is to the machine with this address.
pub fn classify(path: &StorePath, ip: &str) -> PathClass {
    let path = path.as_str();
    match path {
        COMPRESSION => return PathClass::Setting,
        MAINTENANCE_LOG => return PathClass::AllLog,
        _ => {}
    }
    let names: Vec<&str> = path.split('/').collect();
    match names[..] {
        [dir, ref names @ ..] if dir == ip => classify_own(names),
        _ => PathClass::Other,
    }
}

fn classify_own(names: &[&str]) -> PathClass {
    match *names {
        [] | [HISTORY] => PathClass::Folder,
        [STATUS | INFO_TEXT | INFO_ZIP] => PathClass::News,
        [MAINTENANCE_LOG | OUTPUT_LOG] => PathClass::OwnLog,
        [RECORD_PENDING | DISK_LIST] => PathClass::Small,
        [name] if is_part_file(name) => PathClass::Part,
        [name] => classify_of_set(name),
        [HISTORY, number] if generation(number).is_some() => PathClass::Folder,
        [HISTORY, number, name] if generation(number).is_some() => classify_of_set(name),
        _ => PathClass::Other,
    }
}

fn classify_of_set(name: &str) -> PathClass {
    match name {
        RECORD | SIGNATURE => PathClass::Small,
        name if disk_of_image(name).is_some() => PathClass::Image,
        name if name.ends_with(".damaged") || name.ends_with(".map") => PathClass::Small,
        _ => PathClass::Other,
    }
}

/// How much of a file may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All of it.
    All,
    /// Header, index and footer of an image: what it holds by hashes, and not a byte of the disk.
    Index,
}

/// Whether a token for this action of the machine `ip` allows the request; how much of a file it may read, where that is
/// what it asks for.
///
/// # Errors
/// [`Code::Forbidden`], with what the token is for.
pub fn permit(action: Action, ip: &str, call: &StoreCall) -> Result<Reading, Refusal> {
    use PathClass as P;
    let class = |path: &StorePath| classify(path, ip);
    let is_backup = action.is_backup();
    let is_reader = matches!(action, Action::Restore | Action::Verify);
    let allowed = match call {
        StoreCall::Job
        | StoreCall::Disarm
        | StoreCall::Open
        | StoreCall::Beat
        | StoreCall::Close
        | StoreCall::Room
        | StoreCall::Loader => Some(Reading::All),
        StoreCall::List(path) => (class(path) == P::Folder).then_some(Reading::All),
        StoreCall::Read(path, _) | StoreCall::Length(path) => match class(path) {
            P::Setting | P::Small | P::News | P::OwnLog => Some(Reading::All),
            P::Image if is_reader => Some(Reading::All),
            // To tell which sets are whole, nothing more is needed.
            P::Image if is_backup || action == Action::RefreshInfo => Some(Reading::Index),
            P::Part if is_backup => Some(Reading::Index),
            _ => None,
        },
        StoreCall::Replace(path) => (class(path) == P::News).then_some(Reading::All),
        StoreCall::Append(path, _) => matches!(class(path), P::OwnLog | P::AllLog).then_some(Reading::All),
        StoreCall::Heads(path, _)
        | StoreCall::Digest(path, _)
        | StoreCall::Create(path)
        | StoreCall::Write(path, _)
        | StoreCall::Zeros(path, ..)
        | StoreCall::Sync(path)
        | StoreCall::Remove(path) => (is_backup && class(path) == P::Part).then_some(Reading::All),
        StoreCall::Copy(path, _, from, _) => {
            (is_backup && class(path) == P::Part && class(from) == P::Image).then_some(Reading::All)
        }
        StoreCall::Sweep(_) | StoreCall::Publish => is_backup.then_some(Reading::All),
        StoreCall::Prove(path) | StoreCall::Suspect(path) => match class(path) {
            P::Part if is_backup => Some(Reading::All),
            P::Image if is_backup || is_reader => Some(Reading::All),
            _ => None,
        },
    };
    allowed.ok_or_else(|| {
        let (method, target) = call.target();
        Refusal::new(
            Code::Forbidden,
            format!(
                "{} {target}: the token is for {action} of {ip}, which does not need that",
                method.as_str()
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(action: Action, call: StoreCall) -> Option<Reading> {
        permit(action, "10.0.0.5", &call).ok()
    }

    fn path(text: &str) -> StorePath {
        text.parse().unwrap()
    }

    /// Nothing of what is published can be written, by any action and any request.
    #[test]
    fn no_token_writes_what_is_published() {
        for action in Action::ALL {
            for file in [
                "backup.json",
                "backup.json.sig",
                "sda.raw.gz",
                "sda.gz",
                "history/3/sda.raw.gz",
                "history/3",
                "pinned",
            ] {
                let path = || path(&format!("10.0.0.5/{file}"));
                for call in [
                    StoreCall::Replace(path()),
                    StoreCall::Append(path(), 1),
                    StoreCall::Create(path()),
                    StoreCall::Write(path(), 0),
                    StoreCall::Zeros(path(), 0, 1),
                    StoreCall::Copy(path(), 0, path(), 0..1),
                    StoreCall::Sync(path()),
                    StoreCall::Remove(path()),
                ] {
                    assert_eq!(may(action, call.clone()), None, "{action} {call:?}");
                }
            }
        }
    }

    #[test]
    fn no_token_reaches_another_machine_or_the_stores_own_files() {
        for action in Action::ALL {
            for file in [
                "10.0.0.6/backup.json",
                "10.0.0.6",
                ".store/jobs/x",
                ".store",
                "",
                "10.0.0.5/lease/1",
                "10.0.0.50/x",
            ] {
                for call in [
                    StoreCall::List(path(file)),
                    StoreCall::Read(path(file), None),
                    StoreCall::Length(path(file)),
                    StoreCall::Replace(path(file)),
                    StoreCall::Append(path(file), 1),
                    StoreCall::Prove(path(file)),
                    StoreCall::Copy(path("10.0.0.5/sda.raw.gz.part"), 0, path(file), 0..1),
                ] {
                    assert_eq!(may(action, call.clone()), None, "{action} {call:?}");
                }
            }
        }
    }

    #[test]
    fn a_backup_reads_no_bodies_and_a_restore_writes_no_parts() {
        let image = || path("10.0.0.5/sda.raw.gz");
        let part = || path("10.0.0.5/sda.raw.gz.part");
        assert_eq!(may(Action::BackupAgain, StoreCall::Read(image(), None)), Some(Reading::Index));
        assert_eq!(may(Action::Backup, StoreCall::Read(part(), None)), Some(Reading::Index));
        assert_eq!(may(Action::Restore, StoreCall::Read(image(), None)), Some(Reading::All));
        assert_eq!(may(Action::Restore, StoreCall::Write(part(), 0)), None);
        assert_eq!(may(Action::Restore, StoreCall::Read(part(), None)), None);
        assert_eq!(may(Action::Verify, StoreCall::Publish), None);
        assert_eq!(may(Action::RefreshInfo, StoreCall::Read(image(), None)), Some(Reading::Index));
        assert_eq!(may(Action::Rescue, StoreCall::Read(image(), None)), None);
        assert_eq!(may(Action::Backup, StoreCall::Write(part(), 0)), Some(Reading::All));
    }
}
