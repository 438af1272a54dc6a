//! A share in memory that knows live from durable bytes, for tests.

mod crash;
mod fault;
mod files;

pub use crash::Survivors;
pub use fault::{ShareFault, ShareOp};

use super::{components, split_parent};
use crate::net::quota::Owner;
use crate::sys::{Chance, Power};
use fault::{Gate, ShareRandom};
use files::Handle;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MemNode {
    File(usize),
    Folder(usize),
    /// Neither: a link, FIFO or device.
    Special,
}

type Names = BTreeMap<String, MemNode>;

#[derive(Clone, Debug, Default)]
struct MemFolder {
    live: Names,
    durable: Names,
    /// The names after each change since they were last durable.
    since: Vec<Names>,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// A sync failed: the kernel has marked the pages clean, later syncs have nothing to do.
    poisoned: bool,
}

#[derive(Debug)]
struct MemShareState {
    power: Option<Power>,
    random: Option<ShareRandom>,
    inodes: Vec<Inode>,
    folders: Vec<MemFolder>,
    faults: Vec<(Option<ShareOp>, usize, ShareFault)>,
    operations: Vec<ShareOp>,
    gate: Arc<Gate>,
    /// Everything fails with this errno.
    gone: Option<i32>,
    /// Everything that changes something fails with this errno.
    refused: Option<i32>,
    capacity: u64,
    owner: Owner,
    clock: Timestamp,
    /// Counts crashes: handles from before one are stale.
    epoch: u64,
}

/// The share in memory. Clones are the same share. Starts empty, with 1 TiB of space.
///
/// Its rules are the worst that NFS and local file systems allow: contents are durable only after `sync` of the
/// file, names only after `sync_dir` of their folder, each folder by itself.
#[derive(Clone, Debug)]
pub struct MemFiles {
    state: Arc<Mutex<MemShareState>>,
    gate: Arc<Gate>,
}

impl Default for MemFiles {
    fn default() -> Self {
        Self::new()
    }
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

impl MemShareState {
    /// Counts the operation on `path`, and fails it where that was asked for.
    fn begin(&mut self, op: ShareOp, path: &str) -> io::Result<Option<ShareFault>> {
        if let Some(power) = &self.power {
            power.begin()?;
        }
        let nth_of_all = self.operations.len();
        let nth_of_kind = self.operations.iter().filter(|o| **o == op).count();
        self.operations.push(op);
        let hit = self.faults.iter().find(|(kind, nth, _)| match kind {
            None => *nth == nth_of_all,
            Some(kind) => *kind == op && *nth == nth_of_kind,
        });
        let planned = hit.map(|(_, _, fault)| *fault);
        let hit = planned.or_else(|| self.random.as_mut().and_then(|random| random.fault(op, path)));
        if let Some(ShareFault::Gone(number)) = hit {
            self.gone = Some(number);
        }
        if let Some(number) = self.gone.or(self.refused.filter(|_| op.is_change())) {
            return Err(errno(number));
        }
        match hit {
            Some(ShareFault::Errno(number)) => Err(errno(number)),
            Some(ShareFault::Hang) => {
                // The lock of the share is held: nobody else gets an answer either.
                self.gate.hang();
                Ok(None)
            }
            fault => Ok(fault),
        }
    }

    /// Notes the names of the folder that `path` stands in, after a change.
    fn note_names(&mut self, path: &str) -> io::Result<()> {
        let (folder, _) = split_parent(path)?;
        let folder = self.folder_id(folder)?;
        if let Some(folder) = self.folders.get_mut(folder) {
            folder.since.push(folder.live.clone());
        }
        Ok(())
    }

    fn folder_id(&self, path: &str) -> io::Result<usize> {
        let mut id = 0;
        for name in components(path)? {
            id = match self.folders.get(id).and_then(|f| f.live.get(name)) {
                Some(MemNode::Folder(next)) => *next,
                Some(_) => return Err(errno(libc::ENOTDIR)),
                None => return Err(errno(libc::ENOENT)),
            };
        }
        Ok(id)
    }

    fn names(&mut self, folder: usize) -> io::Result<&mut Names> {
        self.folders.get_mut(folder).map(|f| &mut f.live).ok_or_else(|| errno(libc::ESTALE))
    }

    fn inode(&mut self, id: usize) -> io::Result<&mut Inode> {
        self.inodes.get_mut(id).ok_or_else(|| errno(libc::ESTALE))
    }

    fn find(&self, path: &str) -> io::Result<Option<MemNode>> {
        let (folder, name) = split_parent(path)?;
        let folder = self.folder_id(folder)?;
        Ok(self.folders.get(folder).and_then(|f| f.live.get(name).copied()))
    }

    fn find_file(&self, path: &str) -> io::Result<usize> {
        match self.find(path)? {
            Some(MemNode::File(id)) => Ok(id),
            Some(_) => Err(not_regular()),
            None => Err(errno(libc::ENOENT)),
        }
    }

    fn insert(&mut self, path: &str, node: MemNode) -> io::Result<()> {
        let (folder, name) = split_parent(path)?;
        let folder = self.folder_id(folder)?;
        self.names(folder)?.insert(name.to_owned(), node);
        Ok(())
    }

    fn take(&mut self, path: &str) -> io::Result<MemNode> {
        let (folder, name) = split_parent(path)?;
        let folder = self.folder_id(folder)?;
        self.names(folder)?.remove(name).ok_or_else(|| errno(libc::ENOENT))
    }

    fn new_file(&mut self, path: &str) -> io::Result<usize> {
        let id = self.inodes.len();
        self.insert(path, MemNode::File(id))?;
        self.inodes.push(Inode::default());
        Ok(id)
    }

    fn is_empty_folder(&self, id: usize) -> bool {
        self.folders.get(id).is_none_or(|f| f.live.is_empty())
    }

    fn used(&self) -> u64 {
        // Files without a name still take space on a real share too, as long as somebody has them open; near enough.
        self.walk(false).values().map(|id| self.inodes.get(*id).map_or(0, |i| i.live.len() as u64)).sum()
    }

    /// Paths of all files, by live or durable names.
    fn walk(&self, durable: bool) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        let mut todo = vec![(String::new(), 0)];
        while let Some((path, id)) = todo.pop() {
            let Some(folder) = self.folders.get(id) else { continue };
            for (name, node) in if durable { &folder.durable } else { &folder.live } {
                let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                match node {
                    MemNode::File(id) => {
                        found.insert(path, *id);
                    }
                    MemNode::Folder(id) => todo.push((path, *id)),
                    MemNode::Special => {}
                }
            }
        }
        found
    }

    fn sync_file(&mut self, id: usize, path: &str) -> io::Result<()> {
        let fault = self.begin(ShareOp::Sync, path);
        let full = self.used() > self.capacity;
        let inode = self.inode(id)?;
        if inode.poisoned {
            return Ok(());
        }
        match fault {
            Err(e) => {
                inode.poisoned = true;
                Err(e)
            }
            Ok(Some(ShareFault::Dropped)) => Ok(()),
            // As buffered writes to NFS do: no space shows at the first fsync, and only there.
            Ok(_) if full => {
                inode.poisoned = true;
                Err(errno(libc::ENOSPC))
            }
            Ok(_) => {
                inode.durable = inode.live.clone();
                Ok(())
            }
        }
    }
}

impl MemFiles {
    /// An empty share.
    pub fn new() -> Self {
        let gate = Arc::<Gate>::default();
        MemFiles {
            gate: gate.clone(),
            state: Arc::new(Mutex::new(MemShareState {
                power: None,
                random: None,
                inodes: Vec::new(),
                folders: vec![MemFolder::default()],
                faults: Vec::new(),
                operations: Vec::new(),
                gate,
                gone: None,
                refused: None,
                capacity: 1 << 40,
                owner: Owner::default(),
                clock: Timestamp::UNIX_EPOCH,
                epoch: 0,
            })),
        }
    }

    fn state(&self) -> MutexGuard<'_, MemShareState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the operation number `nth` (from 0, counted from the share's making, see [`MemFiles::operations`]) go
    /// wrong.
    pub fn fail_nth(&self, nth: usize, fault: ShareFault) {
        self.state().faults.push((None, nth, fault));
    }

    /// Makes the `nth` operation (from 0) of one kind go wrong.
    pub fn fail_nth_of(&self, op: ShareOp, nth: usize, fault: ShareFault) {
        self.state().faults.push((Some(op), nth, fault));
    }

    /// One operation in so many goes wrong, by chance. It depends on the seed, the operation, its path, and how often
    /// that was done before.
    pub fn fail_by_chance(&self, chance: Chance, one_in: u64) {
        self.state().random = Some(ShareRandom { chance, one_in, seen: HashMap::new() });
    }

    /// Takes all planned faults back.
    pub fn clear_faults(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.random = None;
        (state.gone, state.refused) = (None, None);
    }

    /// Hangs the client on this power: after the cut every operation fails, and nothing is done or counted.
    pub fn plug(&self, power: &Power) {
        self.state().power = Some(power.clone());
    }

    /// The same share once more, with what was not synced; without faults and power, its operations counted anew.
    pub fn copy(&self) -> MemFiles {
        let copy = MemFiles::new();
        {
            let (from, mut to) = (self.state(), copy.state());
            (to.inodes, to.folders) = (from.inodes.clone(), from.folders.clone());
            (to.capacity, to.owner, to.clock) = (from.capacity, from.owner, from.clock);
        }
        copy
    }

    /// From now on everything that changes something fails with this errno: exported read-only, or root squashed.
    pub fn refuse_changes(&self, errno: i32) {
        self.state().refused = Some(errno);
    }

    /// Waits until the share hangs ([`ShareFault::Hang`]).
    ///
    /// # Panics
    /// It does not within 100 s.
    pub fn wait_for_hang(&self) {
        self.gate.wait_for_hang();
    }

    /// Lets the share answer again, and never hang any more.
    pub fn release(&self) {
        self.gate.release();
    }

    /// Every operation so far, in order. For "fail the Nth operation, for every N": run once without faults and
    /// count.
    pub fn operations(&self) -> Vec<ShareOp> {
        self.state().operations.clone()
    }

    /// How many operations of this kind there were so far.
    pub fn count(&self, op: ShareOp) -> usize {
        self.state().operations.iter().filter(|o| **o == op).count()
    }

    /// Removes a file, as somebody else does: no operation is counted and nothing fails. It may be gone already.
    pub fn remove_quietly(&self, path: &str) {
        let mut state = self.state();
        if state.take(path).is_ok() {
            // Of a folder that is not there nothing was taken.
            let _ = state.note_names(path);
        }
    }

    /// Sets how many bytes all files together may have; beyond, syncs fail with ENOSPC.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// Sets whose the server takes all files for; root's, before.
    pub fn set_owner(&self, owner: Owner) {
        self.state().owner = owner;
    }

    /// Sets the clock of the server, which stands still.
    pub fn set_clock(&self, now: Timestamp) {
        self.state().clock = now;
    }

    /// Puts a durable file there, folders above it too; no operation is counted and nothing fails.
    ///
    /// # Panics
    /// Where the path is not one of a share or a file is in its way: a mistake in the test.
    #[allow(clippy::expect_used)]
    pub fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        let mut state = self.state();
        let names = components(path).expect("a path in a share");
        for end in 1..names.len() {
            let folder = names.iter().take(end).copied().collect::<Vec<_>>().join("/");
            if state.find(&folder).expect("a folder").is_none() {
                let id = state.folders.len();
                state.insert(&folder, MemNode::Folder(id)).expect("a folder");
                state.folders.push(MemFolder::default());
            }
        }
        let id = state.new_file(path).expect("a file");
        let bytes = bytes.into();
        if let Some(inode) = state.inodes.get_mut(id) {
            *inode = Inode { live: bytes.clone(), durable: bytes, poisoned: false };
        }
        for folder in &mut state.folders {
            folder.durable = folder.live.clone();
            folder.since.clear();
        }
    }

    /// Puts something there that is neither file nor folder: a link, FIFO or device.
    ///
    /// # Panics
    /// Where its folder is missing: a mistake in the test.
    #[allow(clippy::expect_used)]
    pub fn put_special(&self, path: &str) {
        self.state().insert(path, MemNode::Special).expect("a folder");
    }

    /// The live contents of a file; `None` where there is no such file. Counts no operation.
    pub fn get(&self, path: &str) -> Option<Vec<u8>> {
        let mut state = self.state();
        let id = state.find_file(path).ok()?;
        state.inode(id).ok().map(|inode| inode.live.clone())
    }

    /// Every file, path and live contents: for comparing whole shares.
    pub fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let contents = |id: usize| state.inodes.get(id).map(|i| i.live.clone()).unwrap_or_default();
        state.walk(false).into_iter().map(|(path, id)| (path, contents(id))).collect()
    }

    /// Every file that a crash would leave (by [`Survivors::SyncedNames`]), with those contents.
    pub fn durable_tree(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let contents = |id: usize| state.inodes.get(id).map(|i| i.durable.clone()).unwrap_or_default();
        state.walk(true).into_iter().map(|(path, id)| (path, contents(id))).collect()
    }

    fn handle(&self, path: &str, inode: usize, epoch: u64) -> Handle {
        Handle { files: self.clone(), path: path.to_owned(), inode, epoch }
    }
}
