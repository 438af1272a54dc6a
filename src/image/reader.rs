//! An open image: header, totals, runs in order.
#![forbid(unsafe_code)]

use crate::image::error::ImageError;
use crate::image::format::footer::Footer;
use crate::image::format::header::Header;
use crate::image::format::index::{self, ChildNode, Entries, ExpectedNode, MAX_NODE};
use crate::image::format::member::{self, MemberKind, UNIT};
use crate::image::format::run::Run;
use crate::io::ReadAt;
use blake3::Hash;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a file is, as far as its ends tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A testbox image, whole, cut or damaged: only [`Image::open`] may read it, never the reader of foreign gzip
    /// files, which could not tell that something of it is missing.
    Testbox,
    /// Some other gzip file.
    Gzip,
    /// Something else.
    Other,
}

/// Looks at both ends of a file: where its first bytes are those of another gzip file or of nothing known, members of
/// testbox where the second or the last one of an image stands make it a (damaged) image all the same. What lies
/// between, [`crate::image::restore::foreign`] looks at when it inflates.
///
/// # Errors
/// The file cannot be read.
pub fn file_kind(file: &dyn ReadAt) -> Result<FileKind, ImageError> {
    let read_error = |position| move |source| ImageError::read(position, source);
    let size = file.size().map_err(read_error(0))?;
    let head_at = |position: u64| -> Result<[u8; member::FRAME], ImageError> {
        let mut bytes = [0; member::FRAME];
        let len = bytes.len().min(usize::try_from(size.saturating_sub(position)).unwrap_or(usize::MAX));
        match file.read_exact_at(&mut bytes[..len], position) {
            // A file that got shorter meanwhile: what is missing reads as zeros here.
            Err(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => Err(read_error(position)(e)),
            _ => Ok(bytes),
        }
    };
    let unit = UNIT as u64;
    let first = head_at(0)?;
    // The header takes 1 to 4 units; the footer is the last one, wherever the file was cut at its front.
    let ends = [size, size / unit * unit].map(|end| end.saturating_sub(unit));
    for place in [0, unit, 2 * unit, 3 * unit, 4 * unit].into_iter().chain(ends) {
        if member::is_own(&head_at(place)?) {
            return Ok(FileKind::Testbox);
        }
    }
    Ok(if first.starts_with(&[0x1f, 0x8b]) { FileKind::Gzip } else { FileKind::Other })
}

/// Totals of an image. All sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The hash that names the image and binds every byte of it.
    pub root_hash: Hash,
    /// Some of the disk could not be read.
    pub degraded: bool,
    /// Size of the image file.
    pub image: u64,
    /// Size of the disk.
    pub disk: u64,
    /// Number of runs.
    pub runs: u64,
    /// Disk in data runs.
    pub data: u64,
    /// Disk in zero runs.
    pub zero: u64,
    /// Disk in unallocated runs.
    pub unallocated: u64,
    /// Disk in unreadable runs.
    pub unreadable: u64,
}

/// A file that was found to be a testbox image with a right footer, header and index root.
///
/// Opening reads a few KiB. What is read later is checked when it is read: each index node and each run by its
/// hash, which the root hash binds. Only [`crate::image::verify()`] looks at everything.
pub struct Image {
    file: Arc<dyn ReadAt>,
    size: u64,
    header: Header,
    footer: Footer,
    read: AtomicU64,
}

impl Image {
    /// Opens an image.
    ///
    /// # Errors
    /// The file cannot be read, is not an image, or its header, index or footer is damaged.
    pub fn open(file: Arc<dyn ReadAt>) -> Result<Self, ImageError> {
        let not = |what: &str| ImageError::not_an_image(what);
        let read_error = |source| ImageError::read(0, source);
        let size = file.size().map_err(read_error)?;
        if file_kind(&*file)? != FileKind::Testbox {
            return Err(not("it does not begin as one"));
        }
        let unit = UNIT as u64;
        if size < 3 * unit || size % unit != 0 {
            return Err(not("its length is not a multiple of 4096 bytes: it was cut short or added to"));
        }
        let read = |position: u64, len: usize| {
            let mut bytes = vec![0; len];
            let result = file.read_exact_at(&mut bytes, position);
            result.map(|()| bytes).map_err(|source| ImageError::read(position, source))
        };
        let footer = Footer::decode(&read(size - unit, UNIT)?).map_err(not)?;
        let header_length = u64::from(footer.header_length);
        let node_end = footer.root_position.checked_add(footer.root_length.into());
        let fits = header_length % unit == 0
            && (unit..=4 * unit).contains(&header_length)
            && (unit..=MAX_NODE.into()).contains(&u64::from(footer.root_length))
            && footer.root_position >= header_length
            && node_end == Some(size - unit);
        if !fits {
            return Err(not("its footer belongs to a file of another length"));
        }
        let header = read(0, header_length as usize)?;
        let footer_and_header = unit + header_length;
        if blake3::hash(&header) != footer.header_hash {
            return Err(ImageError::damaged(0, "the header's hash is wrong"));
        }
        let header = Header::decode(&header).map_err(|what| ImageError::damaged(0, what))?;
        if header.disk.size != footer.disk_size || (footer.unreadable > 0) != footer.degraded {
            return Err(ImageError::damaged(size - unit, "header and footer contradict each other"));
        }
        let image = Image { file, size, header, footer, read: AtomicU64::new(footer_and_header) };
        image.root()?;
        Ok(image)
    }

    /// Which disk it is of.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Totals and root hash.
    pub fn summary(&self) -> Summary {
        let footer = &self.footer;
        let others = footer.zero.saturating_add(footer.unallocated).saturating_add(footer.unreadable);
        Summary {
            root_hash: footer.root_hash(),
            degraded: footer.degraded,
            image: self.size,
            disk: footer.disk_size,
            runs: footer.runs,
            data: footer.disk_size.saturating_sub(others),
            zero: footer.zero,
            unallocated: footer.unallocated,
            unreadable: footer.unreadable,
        }
    }

    /// All runs in the order of the disk, without gap or overlap.
    pub fn runs(&self) -> ImageRuns<'_> {
        self.runs_of(0..u64::MAX, u8::MAX)
    }

    /// The runs that overlap a range of the disk.
    pub fn runs_in(&self, range: Range<u64>) -> ImageRuns<'_> {
        self.runs_of(range, u8::MAX)
    }

    /// The runs whose members overlap a range of the file.
    pub fn runs_at(&self, file: Range<u64>) -> ImageRuns<'_> {
        ImageRuns { file, ..self.runs() }
    }

    /// The unreadable runs; parts of the index without any are not read.
    pub fn unreadable_runs(&self) -> ImageRuns<'_> {
        self.runs_of(0..u64::MAX, MemberKind::Unreadable.bit())
    }

    /// What the disk did not give, joined to ranges, in order.
    ///
    /// # Errors
    /// The index cannot be read or is damaged.
    pub fn unreadable_ranges(&self) -> Result<Vec<Range<u64>>, ImageError> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for run in self.unreadable_runs() {
            let run = run?.range();
            match ranges.last_mut().filter(|last| last.end == run.start) {
                Some(last) => last.end = run.end,
                None => ranges.push(run),
            }
        }
        Ok(ranges)
    }

    /// The unallocated runs; parts of the index without any are not read.
    pub fn unallocated_runs(&self) -> ImageRuns<'_> {
        self.runs_of(0..u64::MAX, MemberKind::Unallocated.bit())
    }

    /// The runs that overlap a range of the disk and were imaged, or should have been; parts of the index without any are
    /// not read.
    pub(super) fn data_runs(&self, range: Range<u64>) -> ImageRuns<'_> {
        self.runs_of(range, MemberKind::Data.bit() | MemberKind::Unreadable.bit())
    }

    /// The same of those that are zeros or were unallocated.
    pub(super) fn empty_runs(&self, range: Range<u64>) -> ImageRuns<'_> {
        self.runs_of(range, MemberKind::Zero.bit() | MemberKind::Unallocated.bit())
    }

    fn runs_of(&self, range: Range<u64>, kinds: u8) -> ImageRuns<'_> {
        ImageRuns { image: self, stack: Vec::new(), range, file: 0..u64::MAX, kinds, started: false }
    }

    /// The footer, for totals.
    pub(super) fn footer(&self) -> &Footer {
        &self.footer
    }

    /// The file itself.
    pub(super) fn file(&self) -> &dyn ReadAt {
        &*self.file
    }

    /// Fills `buf` from the file.
    pub(super) fn read(&self, buf: &mut [u8], position: u64) -> Result<(), ImageError> {
        self.read.fetch_add(buf.len() as u64, Relaxed);
        self.file.read_exact_at(buf, position).map_err(|source| ImageError::read(position, source))
    }

    /// Bytes of the file that were read so far.
    pub(super) fn bytes_read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    fn root(&self) -> Result<Entries, ImageError> {
        let footer = &self.footer;
        let expected = ExpectedNode {
            level: None,
            kinds: None,
            offset: 0,
            disk: footer.disk_size,
            start: footer.header_length.into(),
            file: footer.root_position - u64::from(footer.header_length),
            runs: footer.runs,
            hash: footer.node_hash,
        };
        self.node(footer.root_position, footer.root_length, &expected)
    }

    fn child(&self, child: &ChildNode) -> Result<Entries, ImageError> {
        // The parent was checked: the sum does not overflow and lies in the file.
        self.node(child.start.saturating_add(child.file), child.length, &child.into())
    }

    fn node(&self, position: u64, length: u32, expected: &ExpectedNode) -> Result<Entries, ImageError> {
        let mut bytes = vec![0; length as usize];
        self.read(&mut bytes, position)?;
        index::decode(&bytes, expected, self.header.chunk_size, self.header.disk.logical_block_size)
            .map_err(|what| ImageError::damaged(position, what))
    }
}

enum Level {
    Nodes(std::vec::IntoIter<ChildNode>),
    Runs(std::vec::IntoIter<Run>),
}

/// Iterates over runs, reading the index as it goes; holds one node per level. Ends after the first error.
pub struct ImageRuns<'a> {
    image: &'a Image,
    stack: Vec<Level>,
    range: Range<u64>,
    file: Range<u64>,
    kinds: u8,
    started: bool,
}

impl ImageRuns<'_> {
    /// `disk` and `file` are where something begins and how long it is.
    fn wanted(&self, disk: (u64, u64), file: (u64, u64), kinds: u8) -> bool {
        let overlaps = |wanted: &Range<u64>, (start, length): (u64, u64)| {
            start < wanted.end && start.saturating_add(length) > wanted.start
        };
        overlaps(&self.range, disk) && overlaps(&self.file, file) && kinds & self.kinds != 0
    }

    fn enter(&mut self, entries: Entries) {
        self.stack.push(match entries {
            Entries::Runs(list) => Level::Runs(list.into_iter()),
            Entries::Nodes(list) => Level::Nodes(list.into_iter()),
        });
    }

    fn step(&mut self) -> Result<Option<Run>, ImageError> {
        if !self.started {
            self.started = true;
            let root = self.image.root()?;
            self.enter(root);
        }
        while let Some(level) = self.stack.last_mut() {
            match level {
                Level::Runs(list) => match list.next() {
                    Some(run) => {
                        let file = (run.position, run.member_length.into());
                        if self.wanted((run.offset, run.length), file, run.kind.bit()) {
                            return Ok(Some(run));
                        }
                    }
                    None => drop(self.stack.pop()),
                },
                Level::Nodes(list) => match list.next() {
                    Some(node) => {
                        if self.wanted((node.offset, node.disk), (node.start, node.file), node.kinds) {
                            let entries = self.image.child(&node)?;
                            self.enter(entries);
                        }
                    }
                    None => drop(self.stack.pop()),
                },
            }
        }
        Ok(None)
    }
}

impl Iterator for ImageRuns<'_> {
    type Item = Result<Run, ImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.stack.clear();
        }
        step.transpose()
    }
}
