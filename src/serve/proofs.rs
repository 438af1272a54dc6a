//! Proofs of images, on the server's own disk: each in a thread of its own, from a file that was opened past the page
//! cache. Started by whoever asks first, then asked how far it is, so that no connection has to live for hours.

use crate::image::{ErrorKind, FileKind, Hash, Image, file_kind, verify};
use crate::progress::Progress;
use crate::share::Files;
use crate::store::protocol::{Code, ProofState, Refusal};
use crate::store::{Folder, publish};
use crate::sys::System;
use crate::text::with_sources;
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Proofs under way at once; more would read one disk in turn.
const AT_ONCE: usize = 2;
/// How long a proof of what nobody can change counts.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// What was proven, and when by the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProvenAt {
    /// The root hash.
    pub root_hash: Hash,
    /// Length of the file.
    pub size: u64,
    at: Duration,
}

enum Entry {
    Running(Arc<Progress>),
    Proven(ProvenAt),
    Failed(ProofState),
}

/// The proofs of one store.
pub struct Proofs {
    files: Arc<dyn Files>,
    system: Arc<dyn System>,
    entries: Arc<Mutex<HashMap<String, Entry>>>,
    slots: Arc<(Mutex<usize>, Condvar)>,
}

impl Proofs {
    /// None yet.
    pub fn new(files: Arc<dyn Files>, system: Arc<dyn System>) -> Proofs {
        Proofs {
            files,
            system,
            entries: Arc::default(),
            slots: Arc::new((Mutex::new(AT_ONCE), Condvar::new())),
        }
    }

    /// Nothing is known any more of what stands at this path: it is written, or was removed.
    pub fn forget(&self, path: &str) {
        if let Some(Entry::Running(progress)) = self.lock().remove(path) {
            progress.cancel();
        }
    }

    /// Somebody has found damage there: what was proven before counts no more. A proof under way goes on.
    pub fn doubt(&self, path: &str) {
        let mut entries = self.lock();
        if !matches!(entries.get(path), Some(Entry::Running(_))) {
            entries.remove(path);
        }
    }

    /// How far the proof of the image at `path`, of the machine whose folder is `ip`, is; begun where there is none that
    /// counts.
    ///
    /// # Errors
    /// It cannot be opened, or is not an image of testbox, which alone proves itself.
    pub fn ask(&self, path: &str, ip: &str) -> Result<ProofState, Refusal> {
        let now = self.system.monotonic();
        let mut entries = self.lock();
        match entries.get(path) {
            Some(Entry::Running(progress)) => {
                let (done, total) = (progress.done.load(Relaxed), progress.total.load(Relaxed));
                return Ok(ProofState::Running { done, total });
            }
            Some(Entry::Proven(proven))
                if now.saturating_sub(proven.at) < FRESH && self.is_still(path, proven) =>
            {
                let age = now.saturating_sub(proven.at).as_secs();
                let root_hash = proven.root_hash.to_string();
                return Ok(ProofState::Proven { root_hash, size: proven.size, age });
            }
            // Told once; whoever asks again has it looked at again.
            Some(Entry::Failed(_)) => {
                if let Some(Entry::Failed(state)) = entries.remove(path) {
                    return Ok(state);
                }
            }
            _ => {}
        }
        let failed = |e: &std::io::Error| Refusal::of_error(path, e);
        let file = self.files.open(path).map_err(|e| failed(&e))?;
        if file_kind(&*file).map_err(|e| Refusal::new(Code::Failed, with_sources(&e)))? != FileKind::Testbox {
            let why = format!(
                "{path} is not an image of testbox: only reading all of it tells whether it is whole"
            );
            return Err(Refusal::new(Code::Unusable, why));
        }
        let progress = Progress::new();
        entries.insert(path.to_owned(), Entry::Running(progress.clone()));
        drop(entries);
        self.start(path.to_owned(), ip.to_owned(), progress);
        Ok(ProofState::Running { done: 0, total: 0 })
    }

    /// What was proven of what stands at this path, and has not been written since.
    pub fn proven(&self, path: &str) -> Option<ProvenAt> {
        match self.lock().get(path) {
            Some(Entry::Proven(proven)) => Some(*proven),
            _ => None,
        }
    }

    /// A part was renamed into its place: what was proven stands there now.
    pub fn renamed(&self, from: &str, to: &str) {
        let mut entries = self.lock();
        entries.remove(to);
        if let Some(entry @ Entry::Proven(_)) = entries.remove(from) {
            entries.insert(to.to_owned(), entry);
        }
    }

    /// Who shares the folder by NFS can have put another image there.
    fn is_still(&self, path: &str, proven: &ProvenAt) -> bool {
        let opened = self.files.open(path).ok().and_then(|file| Image::open(file).ok());
        opened.is_some_and(|image| {
            let summary = image.summary();
            summary.root_hash == proven.root_hash && summary.image == proven.size
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, path: String, ip: String, progress: Arc<Progress>) {
        let (files, system, slots) = (self.files.clone(), self.system.clone(), self.slots.clone());
        let entries = self.entries.clone();
        let key = path.clone();
        let work = move || {
            let (free, freed) = &*slots;
            let mut left = free.lock().unwrap_or_else(PoisonError::into_inner);
            while *left == 0 {
                left = freed.wait(left).unwrap_or_else(PoisonError::into_inner);
            }
            *left -= 1;
            drop(left);
            let entry = prove(&files, &path, &ip, &progress, &*system);
            *free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            freed.notify_one();
            let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
            let is_mine = matches!(entries.get(&path), Some(Entry::Running(running)) if Arc::ptr_eq(running, &progress));
            if is_mine {
                entries.insert(path, entry);
            }
        };
        if let Err(e) = std::thread::Builder::new().name("proof".into()).spawn(work) {
            let why = format!("no thread to read it: {e}");
            self.lock().insert(key, Entry::Failed(ProofState::Unreadable(why)));
        }
    }
}

/// Reads an image and proves every hash. What is published and turns out damaged is noted as such beside it, and the note
/// taken back where it is whole.
fn prove(files: &Arc<dyn Files>, path: &str, ip: &str, progress: &Progress, system: &dyn System) -> Entry {
    let folder = Folder::new(files.clone(), ip);
    let name = path.strip_prefix(ip).unwrap_or(path).trim_start_matches('/');
    let is_published = !crate::store::layout::is_part_file(name);
    let opened = match files.open(path).map(Image::open) {
        Ok(opened) => opened,
        Err(e) => return Entry::Failed(ProofState::Unreadable(e.to_string())),
    };
    let root_hash = opened.as_ref().ok().map(|image| image.summary().root_hash);
    match opened.and_then(|image| verify(&image, 0, progress)) {
        Ok(summary) => {
            if is_published {
                // News; the next proof takes it back again.
                let _ = publish::clear(&folder, name);
            }
            Entry::Proven(ProvenAt {
                root_hash: summary.root_hash,
                size: summary.image,
                at: system.monotonic(),
            })
        }
        Err(e) if e.kind == ErrorKind::Corrupt => {
            if let (true, Some(root_hash)) = (is_published, &root_hash) {
                let _ = publish::mark(&folder, name, root_hash, &e.to_string());
            }
            Entry::Failed(ProofState::Damaged(with_sources(&e)))
        }
        Err(e) => Entry::Failed(ProofState::Unreadable(with_sources(&e))),
    }
}
