//! What people do to a file system in years, in a second: a random work load that a seed repeats.

use crate::random::Random;
use crate::tree::{is_btrfs, is_placeholder};
use rustix::fs::{CWD, FallocateFlags, FileType, Mode, XattrFlags};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// One kind of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Create,
    Append,
    Overwrite,
    Truncate,
    Delete,
    MakeDir,
    Rename,
    DropTree,
    /// Many names in one folder, half of them removed again.
    Crowd,
    /// A file that is mostly hole.
    Sparse,
    HardLink,
    SymLink,
    /// Owner and permissions.
    Owner,
    Node,
    Attribute,
    /// All that fallocate(2) does.
    Allocate,
    Clone,
    Snapshot,
}

/// What every file system can do.
pub const PLAIN: &[Op] = &[
    Op::Create,
    Op::Create,
    Op::Create,
    Op::Append,
    Op::Overwrite,
    Op::Truncate,
    Op::Delete,
    Op::Delete,
    Op::MakeDir,
    Op::Rename,
    Op::DropTree,
    Op::Crowd,
    Op::Sparse,
];
/// What a Unix file system can do besides.
pub const UNIX: &[Op] = &[Op::HardLink, Op::SymLink, Op::Owner, Op::Node, Op::Attribute];
/// What the file systems of Linux with extents can do besides.
pub const EXTENTS: &[Op] = &[Op::Allocate, Op::Allocate];
/// Shared extents.
pub const CLONES: &[Op] = &[Op::Clone, Op::Clone];
/// btrfs alone.
pub const SNAPSHOTS: &[Op] = &[Op::Snapshot];

/// A work load on one file system. All paths are below `root`.
pub struct Workload<'a> {
    root: PathBuf,
    random: &'a mut Random,
    ops: &'a [&'a [Op]],
    files: Vec<PathBuf>,
    dirs: Vec<PathBuf>,
    /// Longest file, in bytes.
    longest: u64,
}

impl<'a> Workload<'a> {
    /// A work load of these kinds of steps on what is mounted at `root`, whatever it holds.
    pub fn new(root: &Path, random: &'a mut Random, ops: &'a [&'a [Op]]) -> io::Result<Self> {
        let size = rustix::fs::statvfs(root)?;
        let longest = (size.f_blocks * size.f_frsize / 8).min(8 << 20);
        let mut work = Workload { root: root.to_owned(), random, ops, files: vec![], dirs: vec![], longest };
        work.look_around();
        Ok(work)
    }

    fn look_around(&mut self) {
        let is_btrfs = is_btrfs(&self.root).unwrap_or_default();
        self.files.clear();
        self.dirs = vec![self.root.clone()];
        let mut at = 0;
        while let Some(dir) = self.dirs.get(at).cloned() {
            let mut entries: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
            entries.sort_by_key(|entry| entry.file_name());
            // What libfuse calls a removed file until its last close has come to it goes by itself.
            let is_hidden = |name: &str| name.starts_with(".fuse_hidden");
            let is_ours = |name: &str| !["lost+found", "ext2_saved"].contains(&name) && !is_hidden(name);
            for entry in entries.iter().filter(|e| is_ours(&e.file_name().to_string_lossy())) {
                match entry.metadata() {
                    Ok(about) if about.is_dir() && !(is_btrfs && is_placeholder(&about)) => {
                        self.dirs.push(entry.path())
                    }
                    Ok(about) if about.is_file() => self.files.push(entry.path()),
                    _ => {}
                }
            }
            at += 1;
        }
    }

    /// Fills most of the free space with `ee`, makes it durable and frees it again, but for a few files: what a used
    /// machine's free space is full of.
    pub fn leave_stale_data(&mut self) -> io::Result<()> {
        let stale = vec![0xee; 256 << 10];
        let mut made = Vec::new();
        let size = rustix::fs::statvfs(&self.root)?;
        // A file system that compresses would take it for ever.
        let mut left = size.f_blocks * size.f_frsize / stale.len() as u64;
        while left > 0 {
            let path = self.root.join(format!("stale-{}", self.random.next()));
            let blocks = 1 + self.random.skewed(left.min(64));
            left -= blocks.min(left);
            made.push(path.clone());
            let written =
                File::create(path).and_then(|mut file| (0..blocks).try_for_each(|_| file.write_all(&stale)));
            if !allow(written)? {
                break;
            }
        }
        self.sync()?;
        for path in made {
            // The last one may not have got as far as to be.
            if self.random.below(20) > 0 && path.exists() {
                fs::remove_file(path)?;
            }
        }
        self.look_around();
        self.sync()
    }

    /// Does so many steps, now and then durable ones, the last too.
    pub fn age(&mut self, steps: u32) -> io::Result<()> {
        for step in 1..=steps {
            self.rush(1)?;
            if step % 64 == 0 {
                self.sync()?;
            }
        }
        self.sync()
    }

    /// Does so many steps, and leaves it to the kernel when they reach the disk.
    pub fn rush(&mut self, steps: u32) -> io::Result<()> {
        let all: Vec<Op> = self.ops.iter().flat_map(|ops| ops.iter().copied()).collect();
        for _ in 0..steps {
            let op = self.random.pick(&all).copied().unwrap_or(Op::Create);
            let done = self.step(op);
            if allow(done).map_err(|e| io::Error::new(e.kind(), format!("{op:?}: {e}")))? {
                continue;
            }
            // Full: room for what comes.
            for _ in 0..1 + self.files.len() / 4 {
                self.step(Op::Delete)?;
            }
            self.sync()?;
        }
        Ok(())
    }

    /// Makes everything durable.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(&self.root)?)?)
    }

    fn step(&mut self, op: Op) -> io::Result<()> {
        let file = self.random.pick(&self.files).cloned();
        match (op, file) {
            (Op::Create, _) => {
                let len = self.random.skewed(self.longest);
                self.create(len).map(drop)
            }
            (Op::MakeDir, _) => {
                let path = self.new_name();
                fs::create_dir(&path)?;
                self.dirs.push(path);
                Ok(())
            }
            (Op::DropTree, _) if self.random.below(4) == 0 => self.drop_tree(),
            (Op::DropTree, _) => self.rename_dir(),
            (Op::Crowd, _) => self.crowd(),
            (Op::Sparse, _) => self.sparse(),
            (Op::SymLink, _) => {
                let len = 1 + self.random.skewed(1000) as usize;
                std::os::unix::fs::symlink("t".repeat(len), self.new_name())
            }
            (Op::Node, _) => {
                let (path, kinds) =
                    (self.new_name(), [FileType::Fifo, FileType::Socket, FileType::CharacterDevice]);
                let kind = *self.random.pick(&kinds).unwrap_or(&FileType::Fifo);
                Ok(rustix::fs::mknodat(
                    CWD,
                    &path,
                    kind,
                    Mode::from_raw_mode(0o640),
                    rustix::fs::makedev(1, 3),
                )?)
            }
            (Op::Snapshot, _) => self.snapshot(),
            (op, Some(file)) => self.step_on(op, &file),
            (_, None) => Ok(()),
        }
    }

    /// A step on a file that is there.
    fn step_on(&mut self, op: Op, path: &Path) -> io::Result<()> {
        let open = || OpenOptions::new().write(true).open(path);
        let len = fs::metadata(path)?.len();
        match op {
            Op::Append => {
                let more = self.random.skewed(self.longest / 4) as usize;
                open()?.write_all_at(&self.random.bytes(more), len)
            }
            Op::Overwrite => {
                let (at, size) = (self.random.below(len + 1), self.random.skewed(256 << 10) as usize);
                open()?.write_all_at(&self.random.bytes(size), at)
            }
            Op::Truncate => open()?.set_len(self.random.below(len + 1)),
            Op::Delete => {
                self.files.retain(|file| file != path);
                fs::remove_file(path)
            }
            Op::Rename => {
                let name = self.new_name();
                fs::rename(path, &name)?;
                self.files.retain(|file| file != path);
                self.files.push(name);
                Ok(())
            }
            Op::HardLink => {
                let name = self.new_name();
                fs::hard_link(path, &name)?;
                self.files.push(name);
                Ok(())
            }
            Op::Owner => {
                let owner = Some(self.random.below(70_000) as u32);
                std::os::unix::fs::chown(path, owner, owner)?;
                fs::set_permissions(path, fs::Permissions::from_mode(self.random.below(0o10000) as u32))
            }
            Op::Attribute => {
                let name = format!("user.{}", self.random.below(5));
                let value = self.random.skewed(3000) as usize;
                Ok(rustix::fs::setxattr(path, name, &self.random.bytes(value), XattrFlags::empty())?)
            }
            Op::Allocate => self.allocate(&open()?, len),
            Op::Clone => {
                let name = self.new_name();
                let copy = File::create_new(&name)?;
                self.files.push(name);
                Ok(rustix::fs::ioctl_ficlone(copy, File::open(path)?)?)
            }
            _ => Ok(()),
        }
    }

    fn create(&mut self, len: u64) -> io::Result<PathBuf> {
        let path = self.new_name();
        let mut file = File::create_new(&path)?;
        self.files.push(path.clone());
        let bytes = match self.random.below(3) {
            // What compresses, on a file system that compresses.
            0 => vec![self.random.next() as u8; len as usize],
            _ => self.random.bytes(len as usize),
        };
        file.write_all(&bytes)?;
        if self.random.below(8) == 0 {
            file.sync_all()?;
        }
        Ok(path)
    }

    fn crowd(&mut self) -> io::Result<()> {
        let dir = self.new_name();
        fs::create_dir(&dir)?;
        self.dirs.push(dir.clone());
        let names: Vec<PathBuf> = (0..self.random.skewed(400))
            .map(|i| dir.join(format!("{i}-{}", "x".repeat(i as usize % 90))))
            .collect();
        for name in &names {
            fs::write(name, name.as_os_str().as_encoded_bytes())?;
        }
        for name in names.iter().skip(1).step_by(2) {
            fs::remove_file(name)?;
        }
        Ok(())
    }

    fn sparse(&mut self) -> io::Result<()> {
        let path = self.create(0)?;
        let file = OpenOptions::new().write(true).open(path)?;
        for _ in 0..self.random.below(12) {
            let (at, len) = (self.random.below(2 * self.longest), self.random.skewed(64 << 10) as usize);
            file.write_all_at(&self.random.bytes(len), at)?;
        }
        Ok(())
    }

    fn allocate(&mut self, file: &File, len: u64) -> io::Result<()> {
        let modes = [
            FallocateFlags::empty(),
            FallocateFlags::KEEP_SIZE,
            FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE,
            FallocateFlags::ZERO_RANGE,
            FallocateFlags::COLLAPSE_RANGE,
            FallocateFlags::INSERT_RANGE,
        ];
        let mode = *self.random.pick(&modes).unwrap_or(&FallocateFlags::KEEP_SIZE);
        // Whole blocks, even of 64 KiB, where others are refused.
        let (at, size) = (self.random.below(len + 1), 1 + self.random.skewed(self.longest / 2));
        let (at, size) = (at / 4096 * 4096, size.next_multiple_of(4096));
        match rustix::fs::fallocate(file, mode, at, size) {
            // Behind the end, or not in this mode.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
            done => Ok(done?),
        }
    }

    fn snapshot(&mut self) -> io::Result<()> {
        let name = self.root.join(format!("snapshot-{}", self.random.below(4)));
        let verb: &[&str] = if name.exists() { &["delete"] } else { &["snapshot"] };
        let mut command = Command::new("btrfs");
        command.arg("--quiet").arg("subvolume").args(verb);
        if !name.exists() {
            command.arg(&self.root);
        }
        // Without room it fails, and the work goes on.
        command.arg(&name).output()?;
        self.look_around();
        Ok(())
    }

    fn drop_tree(&mut self) -> io::Result<()> {
        let Some(dir) = self.some_dir() else { return Ok(()) };
        self.files.retain(|file| !file.starts_with(&dir));
        self.dirs.retain(|other| !other.starts_with(&dir));
        // A driver in user space hides a removed file until its last close has come to it, and may leave out
        // names in a listing that is read while names are removed.
        for _ in 0..50 {
            match fs::remove_dir_all(&dir) {
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => sleep(Duration::from_millis(20)),
                done => return done,
            }
        }
        fs::remove_dir_all(dir)
    }

    fn rename_dir(&mut self) -> io::Result<()> {
        let Some(dir) = self.some_dir() else { return Ok(()) };
        let name = self.root.join(format!("renamed-{}", self.random.next()));
        fs::rename(&dir, name)?;
        self.look_around();
        Ok(())
    }

    /// A folder that is neither the root nor a snapshot, which has commands of its own.
    fn some_dir(&mut self) -> Option<PathBuf> {
        let is_plain = |dir: &&PathBuf| **dir != self.root && !dir.to_string_lossy().contains("snapshot-");
        self.random.pick(&self.dirs).filter(is_plain).cloned()
    }

    /// A name that is not taken, in some folder.
    fn new_name(&mut self) -> PathBuf {
        let dir = self.random.pick(&self.dirs).unwrap_or(&self.root).clone();
        let len = self.random.skewed(120) as usize;
        dir.join(format!("{:x}{}", self.random.next(), "ä".repeat(len)))
    }
}

/// Whether there was room for it; what is forbidden or too much for a file system is no error.
fn allow(done: io::Result<()>) -> io::Result<bool> {
    let Err(e) = done else { return Ok(true) };
    match Errno::from_io_error(&e) {
        Some(Errno::NOSPC | Errno::DQUOT) => Ok(false),
        // Too many links, names too long, more attributes than fit, no clones of such a file.
        Some(
            Errno::MLINK | Errno::NAMETOOLONG | Errno::TOOBIG | Errno::FBIG | Errno::OPNOTSUPP | Errno::XDEV,
        ) => Ok(true),
        _ => Err(e),
    }
}
