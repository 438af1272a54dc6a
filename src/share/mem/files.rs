//! A share in memory as the engine sees it: its files, open or by name.

use super::fault::{ShareFault, ShareOp};
use super::{MemFiles, MemFolder, MemNode, MemShareState, errno};
use crate::io::{ReadAt, SyncWrite};
use crate::net::quota::Owner;
use crate::share::{Append, Files, own_temporary, split_parent};
use jiff::Timestamp;
use std::any::Any;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::{Arc, MutexGuard};

/// An open file.
pub(super) struct Handle {
    pub files: MemFiles,
    pub path: String,
    pub inode: usize,
    pub epoch: u64,
}

impl Handle {
    fn state(&self) -> io::Result<MutexGuard<'_, MemShareState>> {
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
        state.begin(ShareOp::Read, &self.path)?;
        ReadAt::read_at(&state.inode(self.inode)?.live, buf, offset)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl Write for Handle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state()?;
        let fault = state.begin(ShareOp::Write, &self.path)?;
        let live = &mut state.inode(self.inode)?.live;
        match fault {
            Some(ShareFault::Short(most)) => {
                let taken = bytes.get(..most.max(1)).unwrap_or(bytes);
                live.extend_from_slice(taken);
                Ok(taken.len())
            }
            Some(ShareFault::Dropped) => {
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

impl Append for Handle {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        let fault = state.begin(ShareOp::Append, &self.path)?;
        state.append(self.inode, bytes, fault)
    }
}

impl SyncWrite for Handle {
    fn sync(&mut self) -> io::Result<()> {
        self.state()?.sync_file(self.inode, &self.path)
    }

    fn resume_at(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let fault = state.begin(ShareOp::GoOn, &self.path)?;
        let live = &mut state.inode(self.inode)?.live;
        if fault != Some(ShareFault::Dropped) {
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
        let Ok(fault) = state.begin(ShareOp::AppendFrom, &self.path) else { return Ok(0) };
        let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let bytes = state.inode(from.inode)?.live.get(at(range.start)..at(range.end));
        let mut bytes = bytes.unwrap_or_default().to_vec();
        match fault {
            Some(ShareFault::Short(most)) => bytes.truncate(most.max(1)),
            Some(ShareFault::Dropped) => bytes.fill(0),
            _ => {}
        }
        state.inode(self.inode)?.live.extend_from_slice(&bytes);
        Ok(bytes.len() as u64)
    }
}

impl MemShareState {
    fn append(&mut self, id: usize, bytes: &[u8], fault: Option<ShareFault>) -> io::Result<()> {
        if self.used().saturating_add(bytes.len() as u64) > self.capacity {
            return Err(errno(libc::ENOSPC));
        }
        let inode = self.inode(id)?;
        if fault != Some(ShareFault::Dropped) {
            inode.live.extend_from_slice(bytes);
            inode.durable = inode.live.clone();
        }
        Ok(())
    }
}

impl Files for MemFiles {
    fn open(&self, path: &str) -> io::Result<Arc<dyn ReadAt>> {
        let mut state = self.state();
        state.begin(ShareOp::Open, path)?;
        let inode = state.find_file(path)?;
        Ok(Arc::new(self.handle(path, inode, state.epoch)))
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn SyncWrite>> {
        let mut state = self.state();
        state.begin(ShareOp::Create, path)?;
        if state.find(path)?.is_some() {
            return Err(errno(libc::EEXIST));
        }
        let inode = state.new_file(path)?;
        state.note_names(path)?;
        Ok(Box::new(self.handle(path, inode, state.epoch)))
    }

    fn reopen(&self, path: &str) -> io::Result<Box<dyn SyncWrite>> {
        let mut state = self.state();
        state.begin(ShareOp::Reopen, path)?;
        let inode = state.find_file(path)?;
        if state.walk(false).values().filter(|id| **id == inode).count() > 1 {
            return Err(errno(libc::EINVAL));
        }
        Ok(Box::new(self.handle(path, inode, state.epoch)))
    }

    fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.begin(ShareOp::Append, path)?;
        let id = match state.find_file(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let id = state.new_file(path)?;
                let (folder, name) = split_parent(path)?;
                let folder = state.folder_id(folder)?;
                if let Some(folder) = state.folders.get_mut(folder) {
                    for names in folder.since.iter_mut().chain([&mut folder.durable]) {
                        names.insert(name.to_owned(), MemNode::File(id));
                    }
                }
                id
            }
            found => found?,
        };
        state.append(id, bytes, fault)
    }

    fn open_append(&self, path: &str) -> io::Result<Box<dyn Append>> {
        let mut state = self.state();
        state.begin(ShareOp::OpenAppend, path)?;
        let inode = state.find_file(path)?;
        Ok(Box::new(self.handle(path, inode, state.epoch)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.begin(ShareOp::Rename, from)?;
        let (moved, there) = (state.find(from)?.ok_or_else(|| errno(libc::ENOENT))?, state.find(to)?);
        match (moved, there) {
            // rename(2): two names of one file are both left alone.
            (moved, Some(there)) if moved == there => return Ok(()),
            (MemNode::Folder(_), _) if to.starts_with(&format!("{from}/")) => {
                return Err(errno(libc::EINVAL));
            }
            (MemNode::Folder(_), Some(MemNode::Folder(id))) if !state.is_empty_folder(id) => {
                return Err(errno(libc::ENOTEMPTY));
            }
            (MemNode::Folder(_), Some(MemNode::File(_) | MemNode::Special)) => {
                return Err(errno(libc::ENOTDIR));
            }
            (MemNode::File(_) | MemNode::Special, Some(MemNode::Folder(_))) => {
                return Err(errno(libc::EISDIR));
            }
            _ => {}
        }
        if fault != Some(ShareFault::Dropped) {
            state.take(from)?;
            state.insert(to, moved)?;
            state.note_names(from)?;
            state.note_names(to)?;
        }
        Ok(())
    }

    fn hard_link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.begin(ShareOp::HardLink, from)?;
        let inode = state.find_file(from)?;
        if state.find(to)?.is_some() {
            return Err(errno(libc::EEXIST));
        }
        if fault == Some(ShareFault::Dropped) {
            return Ok(());
        }
        state.insert(to, MemNode::File(inode))?;
        state.note_names(to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.begin(ShareOp::Remove, path)?;
        match state.find(path)? {
            None => Err(errno(libc::ENOENT)),
            Some(MemNode::Folder(id)) if !state.is_empty_folder(id) => Err(errno(libc::ENOTEMPTY)),
            Some(_) if fault == Some(ShareFault::Dropped) => Ok(()),
            Some(_) => {
                state.take(path)?;
                state.note_names(path)
            }
        }
    }

    fn make_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.begin(ShareOp::MakeDir, path)?;
        match state.find(path)? {
            Some(MemNode::Folder(_)) => Ok(()),
            Some(_) => Err(errno(libc::ENOTDIR)),
            None if fault == Some(ShareFault::Dropped) => Ok(()),
            None => {
                if let Some(number) = state.refused {
                    return Err(errno(number));
                }
                let id = state.folders.len();
                state.insert(path, MemNode::Folder(id))?;
                state.folders.push(MemFolder::default());
                state.note_names(path)
            }
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.begin(ShareOp::List, path)?;
        let id = state.folder_id(path)?;
        Ok(state.names(id)?.keys().cloned().collect())
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.begin(ShareOp::SyncDir, path)?;
        let id = state.folder_id(path)?;
        if let Some(folder) = state.folders.get_mut(id).filter(|_| fault != Some(ShareFault::Dropped)) {
            folder.durable = folder.live.clone();
            folder.since.clear();
        }
        Ok(())
    }

    fn free_bytes(&self, path: &str) -> io::Result<u64> {
        let mut state = self.state();
        state.begin(ShareOp::FreeBytes, path)?;
        state.folder_id(path)?;
        Ok(state.capacity.saturating_sub(state.used()))
    }

    fn is_same_file(&self, a: &str, b: &str) -> io::Result<bool> {
        let mut state = self.state();
        state.begin(ShareOp::Open, a)?;
        Ok(state.find_file(a)? == state.find_file(b)?)
    }

    fn clock(&self, folder: &str) -> io::Result<Timestamp> {
        let path = own_temporary(folder, "clock");
        self.remove_if_exists(&path)?;
        self.create(&path)?;
        self.remove(&path)?;
        Ok(self.state().clock)
    }

    fn owner(&self, path: &str) -> io::Result<Owner> {
        let mut state = self.state();
        state.begin(ShareOp::Owner, path)?;
        state.find_file(path)?;
        Ok(state.owner)
    }
}
