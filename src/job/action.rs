//! What a testbox can be armed to do.

use std::fmt;
use std::str::FromStr;

/// One maintenance action. The words are those of the original system, plus `verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Image every selected disk; refuses where an image exists already.
    Backup,
    /// Image every selected disk; the set before it moves into `history/`.
    BackupAgain,
    /// Write the images back onto the disks they came from.
    Restore,
    /// Rewrite `testbox-info.txt` and `testbox-info.zip`.
    RefreshInfo,
    /// Leave the machine to a human: a shell, or the full Debian of the NFS root.
    Rescue,
    /// Check the images against their hashes and against the disks.
    Verify,
}

impl Action {
    /// Every action, in the order that help texts list them.
    pub const ALL: [Action; 6] = [
        Action::Backup,
        Action::BackupAgain,
        Action::Restore,
        Action::RefreshInfo,
        Action::Rescue,
        Action::Verify,
    ];

    /// The word on the kernel command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Backup => "backup",
            Action::BackupAgain => "backup-again",
            Action::Restore => "restore",
            Action::RefreshInfo => "refresh-info",
            Action::Rescue => "rescue",
            Action::Verify => "verify",
        }
    }

    /// What the action does, what it refuses, and what it leaves: a row of the manual.
    pub fn about(self) -> [&'static str; 3] {
        match self {
            Action::Backup => [
                "images every selected disk",
                "where an image of one of them exists (the original's `sda.gz` counts)",
                "a new set, `backup.json`",
            ],
            Action::BackupAgain => [
                "the same; the set before goes into `history/`",
                "where a disk of the set is missing, unless a disk list leaves it out on purpose",
                "the new set, and `testbox.keep` old ones",
            ],
            Action::Restore => [
                "writes the images of the newest whole set onto their disks",
                "where no set can be trusted, or a disk cannot be told or does not fit",
                "the disks as they were imaged",
            ],
            Action::RefreshInfo => [
                "collects `testbox-info.txt` and `.zip` again",
                "",
                "those two files; no disk is imaged or written",
            ],
            Action::Rescue => ["leaves the machine to you", "", "the machine stays armed; see below"],
            Action::Verify => [
                "reads every image against its hashes, and compares each disk that is there with its image",
                "fails (52) where the current set is damaged, even if an older one is whole",
                "a note for each disk in `status`; a disk that differs is a finding, not a failure",
            ],
        }
    }

    /// True where the action writes to disks or replaces images: such an action is taken only from a file that
    /// names this one machine.
    pub fn is_destructive(self) -> bool {
        matches!(self, Action::Backup | Action::BackupAgain | Action::Restore)
    }

    /// True where the action writes disks, or hands them to whoever asked for it. Where the initramfs demands
    /// signatures such a job must be signed. A backup need not: it writes to the share alone, which whoever can arm it
    /// can write himself, and the set that it makes is unsigned until its admin has seen it.
    pub fn needs_signature(self) -> bool {
        matches!(self, Action::Restore | Action::Rescue)
    }

    /// True for the two actions that make a new set of images.
    pub fn is_backup(self) -> bool {
        matches!(self, Action::Backup | Action::BackupAgain)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The word is not one of the six actions.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown action '{0}': it must be one of {words}", words = Action::ALL.map(Action::as_str).join(", "))]
pub struct UnknownAction(pub String);

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Action::ALL.into_iter().find(|a| a.as_str() == word).ok_or_else(|| UnknownAction(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_parses_back_and_others_are_refused() {
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(action));
        }
        for word in ["", "Backup", "backup ", "backup-again2", "reboot"] {
            assert_eq!(word.parse::<Action>(), Err(UnknownAction(word.into())));
        }
    }
}
