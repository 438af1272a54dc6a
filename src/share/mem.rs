//! A share in memory that knows live from durable bytes, for tests.

use super::{Files, components, split_parent};
use crate::io::{ReadAt, SyncWrite};
use crate::sys::{Chance, Power};
use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The operations of a share that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named after the methods of `Files`, `ReadAt` and `SyncWrite`
pub enum Op {
    Open,
    Read,
    Create,
    Reopen,
    GoOn,
    AppendFrom,
    Write,
    Sync,
    Append,
    Rename,
    HardLink,
    Remove,
    MakeDir,
    List,
    SyncDir,
    FreeBytes,
}

impl Op {
    /// True for what a read-only share refuses. A folder is left out: one that is there is fine (mkdir(2): EEXIST).
    fn is_change(self) -> bool {
        !matches!(self, Op::Open | Op::Read | Op::List | Op::SyncDir | Op::FreeBytes | Op::MakeDir)
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails with this errno. After a failed `Sync`, later ones answer 0 although the data is lost, as
    /// Linux does.
    Errno(i32),
    /// A `Write` or `AppendFrom` takes no more than this many bytes (at least 1); other operations are as usual.
    Short(usize),
    /// The operation answers success and does nothing: a server or disk that lies. A dropped `Write` or `AppendFrom`
    /// leaves zeros.
    Dropped,
    /// The whole share stops answering, this operation and all others, before [`MemFiles::release`]; then all is fine.
    Hang,
    /// This operation and everything from then on fails with this errno: a share that is taken away.
    Gone(i32),
}

/// Where the share stands still ([`Fault::Hang`]).
#[derive(Debug, Default)]
struct Gate {
    /// It hangs, and it is not to hang any more.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    fn hang(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = true;
        self.changed.notify_all();
        while !state.1 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wait_for_hang(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn release(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.changed.notify_all();
    }
}

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
    /// Each folder as it was at some moment since its last `sync_dir`; of what was not synced, any pages.
    Any(Chance),
}

/// What a file system writes at once, in bytes.
const PAGE: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(usize),
    Folder(usize),
    /// Neither: a link, FIFO or device.
    Special,
}

type Names = BTreeMap<String, Node>;

#[derive(Clone, Debug, Default)]
struct Folder {
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

/// Faults by chance.
#[derive(Debug)]
struct Random {
    chance: Chance,
    one_in: u64,
    seen: HashMap<(Op, String), u64>,
}

impl Random {
    fn fault(&mut self, op: Op, path: &str) -> Option<Fault> {
        let nth = self.seen.entry((op, path.to_owned())).or_default();
        *nth += 1;
        let what = (op, path, *nth);
        let errno =
            self.chance.choose(&[libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::ESTALE], (what, "errno"));
        let error = Fault::Errno(errno.unwrap_or(libc::EIO));
        let faults: &[Fault] = match op {
            Op::Write | Op::AppendFrom => &[error, Fault::Short(1), Fault::Dropped],
            _ => &[error],
        };
        let is_hit = self.chance.one_in(self.one_in, what);
        is_hit.then(|| self.chance.choose(faults, (what, "kind"))).flatten()
    }
}

#[derive(Debug)]
struct State {
    power: Option<Power>,
    random: Option<Random>,
    inodes: Vec<Inode>,
    folders: Vec<Folder>,
    faults: Vec<(Option<Op>, usize, Fault)>,
    operations: Vec<Op>,
    gate: Arc<Gate>,
    /// Everything fails with this errno.
    gone: Option<i32>,
    /// Everything that changes something fails with this errno.
    refused: Option<i32>,
    capacity: u64,
    /// Counts crashes: handles from before one are stale.
    epoch: u64,
}

/// The share in memory. Clones are the same share. Starts empty, with 1 TiB of space.
///
/// Its rules are the worst that NFS and local file systems allow: contents are durable only after `sync` of the
/// file, names only after `sync_dir` of their folder, each folder by itself.
#[derive(Clone, Debug)]
pub struct MemFiles {
    state: Arc<Mutex<State>>,
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

impl State {
    /// Counts the operation on `path`, and fails it where that was asked for.
    fn begin(&mut self, op: Op, path: &str) -> io::Result<Option<Fault>> {
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
        if let Some(Fault::Gone(number)) = hit {
            self.gone = Some(number);
        }
        if let Some(number) = self.gone.or(self.refused.filter(|_| op.is_change())) {
            return Err(errno(number));
        }
        match hit {
            Some(Fault::Errno(number)) => Err(errno(number)),
            Some(Fault::Hang) => {
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
                Some(Node::Folder(next)) => *next,
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

    fn find(&self, path: &str) -> io::Result<Option<Node>> {
        let (folder, name) = split_parent(path)?;
        let folder = self.folder_id(folder)?;
        Ok(self.folders.get(folder).and_then(|f| f.live.get(name).copied()))
    }

    fn find_file(&self, path: &str) -> io::Result<usize> {
        match self.find(path)? {
            Some(Node::File(id)) => Ok(id),
            Some(_) => Err(not_regular()),
            None => Err(errno(libc::ENOENT)),
        }
    }

    fn insert(&mut self, path: &str, node: Node) -> io::Result<()> {
        let (folder, name) = split_parent(path)?;
        let folder = self.folder_id(folder)?;
        self.names(folder)?.insert(name.to_owned(), node);
        Ok(())
    }

    fn take(&mut self, path: &str) -> io::Result<Node> {
        let (folder, name) = split_parent(path)?;
        let folder = self.folder_id(folder)?;
        self.names(folder)?.remove(name).ok_or_else(|| errno(libc::ENOENT))
    }

    fn new_file(&mut self, path: &str) -> io::Result<usize> {
        let id = self.inodes.len();
        self.insert(path, Node::File(id))?;
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
                    Node::File(id) => {
                        found.insert(path, *id);
                    }
                    Node::Folder(id) => todo.push((path, *id)),
                    Node::Special => {}
                }
            }
        }
        found
    }

    fn sync_file(&mut self, id: usize, path: &str) -> io::Result<()> {
        let fault = self.begin(Op::Sync, path);
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
            Ok(Some(Fault::Dropped)) => Ok(()),
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
            state: Arc::new(Mutex::new(State {
                power: None,
                random: None,
                inodes: Vec::new(),
                folders: vec![Folder::default()],
                faults: Vec::new(),
                operations: Vec::new(),
                gate,
                gone: None,
                refused: None,
                capacity: 1 << 40,
                epoch: 0,
            })),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the operation number `nth` (from 0, counted from the share's making, see [`MemFiles::operations`]) go
    /// wrong.
    pub fn fail_nth(&self, nth: usize, fault: Fault) {
        self.state().faults.push((None, nth, fault));
    }

    /// Makes the `nth` operation (from 0) of one kind go wrong.
    pub fn fail_nth_of(&self, op: Op, nth: usize, fault: Fault) {
        self.state().faults.push((Some(op), nth, fault));
    }

    /// One operation in so many goes wrong, by chance. It depends on the seed, the operation, its path, and how often
    /// that was done before.
    pub fn fail_by_chance(&self, chance: Chance, one_in: u64) {
        self.state().random = Some(Random { chance, one_in, seen: HashMap::new() });
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
            (to.inodes, to.folders, to.capacity) = (from.inodes.clone(), from.folders.clone(), from.capacity);
        }
        copy
    }

    /// From now on everything that changes something fails with this errno: exported read-only, or root squashed.
    pub fn refuse_changes(&self, errno: i32) {
        self.state().refused = Some(errno);
    }

    /// Waits until the share hangs ([`Fault::Hang`]).
    pub fn wait_for_hang(&self) {
        self.gate.wait_for_hang();
    }

    /// Lets the share answer again, and never hang any more.
    pub fn release(&self) {
        self.gate.release();
    }

    /// Every operation so far, in order. For "fail the Nth operation, for every N": run once without faults and
    /// count.
    pub fn operations(&self) -> Vec<Op> {
        self.state().operations.clone()
    }

    /// Sets how many bytes all files together may have; beyond, syncs fail with ENOSPC.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

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
                state.insert(&folder, Node::Folder(id)).expect("a folder");
                state.folders.push(Folder::default());
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
        self.state().insert(path, Node::Special).expect("a folder");
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

/// An open file.
struct Handle {
    files: MemFiles,
    path: String,
    inode: usize,
    epoch: u64,
}

impl Handle {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.files.state();
        if state.epoch == self.epoch { Ok(state) } else { Err(errno(libc::ESTALE)) }
    }
}

impl ReadAt for Handle {
    fn size(&self) -> io::Result<u64> {
        Ok(self.state()?.inode(self.inode)?.live.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        state.begin(Op::Read, &self.path)?;
        ReadAt::read_at(&state.inode(self.inode)?.live, buf, offset)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl Write for Handle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state()?;
        let fault = state.begin(Op::Write, &self.path)?;
        let live = &mut state.inode(self.inode)?.live;
        match fault {
            Some(Fault::Short(most)) => {
                let taken = bytes.get(..most.max(1)).unwrap_or(bytes);
                live.extend_from_slice(taken);
                Ok(taken.len())
            }
            Some(Fault::Dropped) => {
                live.resize(live.len() + bytes.len(), 0);
                Ok(bytes.len())
            }
            _ => {
                live.extend_from_slice(bytes);
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SyncWrite for Handle {
    fn sync(&mut self) -> io::Result<()> {
        self.state()?.sync_file(self.inode, &self.path)
    }

    fn go_on_at(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let fault = state.begin(Op::GoOn, &self.path)?;
        let live = &mut state.inode(self.inode)?.live;
        if fault != Some(Fault::Dropped) {
            live.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        }
        Ok(())
    }

    fn append_from(&mut self, from: &dyn ReadAt, range: Range<u64>) -> io::Result<u64> {
        let from = from.as_any().and_then(|from| from.downcast_ref::<Handle>());
        let Some(from) = from.filter(|from| Arc::ptr_eq(&from.files.state, &self.files.state)) else {
            return Ok(0);
        };
        let mut state = self.state()?;
        let Ok(fault) = state.begin(Op::AppendFrom, &self.path) else { return Ok(0) };
        let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let bytes = state.inode(from.inode)?.live.get(at(range.start)..at(range.end));
        let mut bytes = bytes.unwrap_or_default().to_vec();
        match fault {
            Some(Fault::Short(most)) => bytes.truncate(most.max(1)),
            Some(Fault::Dropped) => bytes.fill(0),
            _ => {}
        }
        state.inode(self.inode)?.live.extend_from_slice(&bytes);
        Ok(bytes.len() as u64)
    }
}

impl Files for MemFiles {
    fn open(&self, path: &str) -> io::Result<Arc<dyn ReadAt>> {
        let mut state = self.state();
        state.begin(Op::Open, path)?;
        let inode = state.find_file(path)?;
        Ok(Arc::new(self.handle(path, inode, state.epoch)))
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn SyncWrite>> {
        let mut state = self.state();
        state.begin(Op::Create, path)?;
        if state.find(path)?.is_some() {
            return Err(errno(libc::EEXIST));
        }
        let inode = state.new_file(path)?;
        state.note_names(path)?;
        Ok(Box::new(self.handle(path, inode, state.epoch)))
    }

    fn reopen(&self, path: &str) -> io::Result<Box<dyn SyncWrite>> {
        let mut state = self.state();
        state.begin(Op::Reopen, path)?;
        let inode = state.find_file(path)?;
        if state.walk(false).values().filter(|id| **id == inode).count() > 1 {
            return Err(errno(libc::EINVAL));
        }
        Ok(Box::new(self.handle(path, inode, state.epoch)))
    }

    fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let dropped = state.begin(Op::Append, path)? == Some(Fault::Dropped);
        let id = match state.find_file(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let id = state.new_file(path)?;
                let (folder, name) = split_parent(path)?;
                let folder = state.folder_id(folder)?;
                if let Some(folder) = state.folders.get_mut(folder) {
                    for names in folder.since.iter_mut().chain([&mut folder.durable]) {
                        names.insert(name.to_owned(), Node::File(id));
                    }
                }
                id
            }
            found => found?,
        };
        let (used, capacity) = (state.used(), state.capacity);
        if used.saturating_add(bytes.len() as u64) > capacity {
            return Err(errno(libc::ENOSPC));
        }
        let inode = state.inode(id)?;
        if !dropped {
            inode.live.extend_from_slice(bytes);
            inode.durable = inode.live.clone();
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.begin(Op::Rename, from)?;
        let (moved, there) = (state.find(from)?.ok_or_else(|| errno(libc::ENOENT))?, state.find(to)?);
        match (moved, there) {
            // rename(2): two names of one file are both left alone.
            (moved, Some(there)) if moved == there => return Ok(()),
            (Node::Folder(_), _) if to.starts_with(&format!("{from}/")) => return Err(errno(libc::EINVAL)),
            (Node::Folder(_), Some(Node::Folder(id))) if !state.is_empty_folder(id) => {
                return Err(errno(libc::ENOTEMPTY));
            }
            (Node::Folder(_), Some(Node::File(_) | Node::Special)) => return Err(errno(libc::ENOTDIR)),
            (Node::File(_) | Node::Special, Some(Node::Folder(_))) => return Err(errno(libc::EISDIR)),
            _ => {}
        }
        if fault != Some(Fault::Dropped) {
            state.take(from)?;
            state.insert(to, moved)?;
            state.note_names(from)?;
            state.note_names(to)?;
        }
        Ok(())
    }

    fn hard_link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.begin(Op::HardLink, from)?;
        let inode = state.find_file(from)?;
        if state.find(to)?.is_some() {
            return Err(errno(libc::EEXIST));
        }
        if fault == Some(Fault::Dropped) {
            return Ok(());
        }
        state.insert(to, Node::File(inode))?;
        state.note_names(to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.begin(Op::Remove, path)?;
        match state.find(path)? {
            None => Err(errno(libc::ENOENT)),
            Some(Node::Folder(id)) if !state.is_empty_folder(id) => Err(errno(libc::ENOTEMPTY)),
            Some(_) if fault == Some(Fault::Dropped) => Ok(()),
            Some(_) => {
                state.take(path)?;
                state.note_names(path)
            }
        }
    }

    fn make_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.begin(Op::MakeDir, path)?;
        match state.find(path)? {
            Some(Node::Folder(_)) => Ok(()),
            Some(_) => Err(errno(libc::ENOTDIR)),
            None if fault == Some(Fault::Dropped) => Ok(()),
            None => {
                if let Some(number) = state.refused {
                    return Err(errno(number));
                }
                let id = state.folders.len();
                state.insert(path, Node::Folder(id))?;
                state.folders.push(Folder::default());
                state.note_names(path)
            }
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.begin(Op::List, path)?;
        let id = state.folder_id(path)?;
        Ok(state.names(id)?.keys().cloned().collect())
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.begin(Op::SyncDir, path)?;
        let id = state.folder_id(path)?;
        if let Some(folder) = state.folders.get_mut(id).filter(|_| fault != Some(Fault::Dropped)) {
            folder.durable = folder.live.clone();
            folder.since.clear();
        }
        Ok(())
    }

    fn free_bytes(&self, path: &str) -> io::Result<u64> {
        let mut state = self.state();
        state.begin(Op::FreeBytes, path)?;
        state.folder_id(path)?;
        Ok(state.capacity.saturating_sub(state.used()))
    }
}
