//! What a power cut leaves of a share in memory.

use super::{Inode, MemFiles, MemFolder, Names};
use crate::sys::Chance;

/// What [`MemFiles::crash`] leaves, since file systems differ. What was synced is always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// Names as of the last `sync_dir` of their folder, contents as of the last sync.
    SyncedNames,
    /// Every name as it was, contents as of the last sync: a journal or server that wrote the names and not the data.
    /// Files that were never synced are empty.
    AllNames,
    /// The client was cut, and the server was not: every name as it was; of what was not synced, any pages.
    ServerStays(Chance),
    /// Each folder as it was at some moment since its last `sync_dir`, or with any of the changes since then and none of
    /// the others: not every file system keeps their order. Of what was not synced, any pages.
    Any(Chance),
}

/// What a file system writes at once, in bytes.
const PAGE: usize = 4096;

impl Inode {
    /// What is left where only some pages of what was not synced were written.
    fn torn(&self, chance: Chance, id: usize) -> Vec<u8> {
        if self.live == self.durable {
            return self.durable.clone();
        }
        let (old, new) = (self.durable.len(), self.live.len());
        let len = chance.choose(&[old, new, old.max(new) - old.abs_diff(new) / 2], (id, "length"));
        let mut bytes = self.durable.clone();
        bytes.resize(len.unwrap_or(old), 0);
        for (n, page) in bytes.chunks_mut(PAGE).enumerate() {
            let Some(written) = self.live.get(n * PAGE..).filter(|_| chance.one_in(2, (id, n))) else {
                continue;
            };
            page.iter_mut().zip(written).for_each(|(to, from)| *to = *from);
        }
        bytes
    }
}

impl MemFolder {
    /// The durable names with those of the changes since then that `is_there` picks; a rename is one change.
    fn with_any(&self, is_there: impl Fn(usize) -> bool) -> Names {
        let mut names = self.durable.clone();
        let mut before = &self.durable;
        for (change, after) in self.since.iter().enumerate() {
            for name in before.keys().chain(after.keys()).filter(|name| before.get(*name) != after.get(*name))
            {
                match after.get(name) {
                    _ if !is_there(change) => {}
                    Some(node) => drop(names.insert(name.clone(), *node)),
                    None => drop(names.remove(name)),
                }
            }
            before = after;
        }
        names
    }
}

impl MemFiles {
    /// Cuts the power: what was not synced is gone, open files answer ESTALE.
    pub fn crash(&self, survivors: Survivors) {
        let mut state = self.state();
        state.epoch += 1;
        for (id, inode) in state.inodes.iter_mut().enumerate() {
            if let Survivors::ServerStays(chance) | Survivors::Any(chance) = survivors {
                inode.durable = inode.torn(chance, id);
            }
            inode.live = inode.durable.clone();
            inode.poisoned = false;
        }
        for (id, folder) in state.folders.iter_mut().enumerate() {
            match survivors {
                Survivors::SyncedNames => {}
                Survivors::AllNames | Survivors::ServerStays(_) => folder.durable = folder.live.clone(),
                Survivors::Any(chance) if chance.one_in(2, ("any order", id)) => {
                    folder.durable = folder.with_any(|change| chance.one_in(2, ("change", id, change)));
                }
                Survivors::Any(chance) => {
                    folder.since.push(folder.durable.clone());
                    let nth = chance.of(("folder", id)) % folder.since.len() as u64;
                    folder.durable = folder.since.swap_remove(nth as usize);
                }
            }
            folder.since.clear();
            folder.live = folder.durable.clone();
        }
    }
}
