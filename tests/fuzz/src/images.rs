//! Image files.

use std::io::Read;
use std::sync::{Arc, OnceLock};
use testbox::block::mem::MemDisk;
use testbox::image::{self, BackupOptions, DiskAbout, Earlier, FileKind, Image, Part, file_kind, foreign};
use testbox::io::ReadAt;
use testbox::progress::Progress;
use testbox::used::Map;

/// Disks of the targets are at most so long, in bytes.
const MOST: u64 = 1 << 20;

/// An image that opens keeps its word: the runs cover the disk without gap, and what verifies gives that many bytes.
pub fn image(bytes: &[u8]) {
    let Ok(image) = Image::open(Arc::new(bytes.to_vec())) else { return };
    let size = image.summary().disk;
    let mut at = 0;
    for run in image.runs() {
        let Ok(run) = run else { return };
        assert_eq!(run.offset, at);
        at += run.length;
    }
    assert_eq!(at, size);
    let whole = image::verify(&image, 1, &Progress::new());
    let scrubbed = image::scrub(&image, 1, &Progress::new());
    assert!(whole.is_err() || scrubbed.is_ok());
    if whole.is_ok() && size <= MOST {
        let mut content = Vec::new();
        image.cat(0..size, &mut content).unwrap_or_else(|e| panic!("verified, but: {e}"));
        let mut zcat = Vec::new();
        let read = flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut zcat);
        read.unwrap_or_else(|e| panic!("verified, but zlib says: {e}"));
        assert_eq!(content.len() as u64, size);
        assert!(content == zcat);
    }
}

/// Whatever stands in the file of a cut backup, the image that comes of it is right, or its verification fails. The bytes
/// say where a good image is cut (2), how much rubbish follows (1), and which of its bytes are changed (2 and 1 each).
pub fn part(bytes: &[u8]) {
    static GOOD: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    // Two gaps, in two of the chunks.
    let used = Map { free: vec![4096..8192, 36_864..45_056], ..Map::default() };
    let opts = BackupOptions {
        threads: 1,
        chunk_size: 16 << 10,
        used: Arc::new(used),
        image_id: Some([7; 16]),
        ..BackupOptions::default()
    };
    let make = |content: &[u8], earlier: &Earlier, file: &mut Vec<u8>| {
        let disk = MemDisk::new("sda", content.to_vec(), 512);
        let about = DiskAbout::new("sda", Default::default(), &disk);
        let made = image::backup_again(&disk, file, &about, &opts, earlier, &Progress::new());
        made.unwrap_or_else(|e| panic!("{e}"));
    };
    let (content, good) = GOOD.get_or_init(|| {
        let mut content: Vec<u8> =
            (0..64u32 << 10).map(|i| (i / 4096 * 7) as u8 ^ (i * i >> 9) as u8).collect();
        for gap in [4096..8192, 36_864..45_056] {
            content[gap].fill(0);
        }
        let mut good = Vec::new();
        make(&content, &Earlier::default(), &mut good);
        (content, good)
    });
    let Some((head, changes)) = bytes.split_at_checked(3) else { return };
    let mut file = good.clone();
    file.truncate(usize::from(u16::from_le_bytes([head[0], head[1]])) * 2);
    file.extend(std::iter::repeat_n(head[2], usize::from(head[2]) * 64));
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        if let Some(byte) = file.get_mut(at) {
            *byte ^= change[2];
        }
    }
    let mut part = Part::new(Arc::new(file.clone()));
    part.tail = 0;
    make(content, &Earlier { part: Some(part), ..Earlier::default() }, &mut file);
    let image = Image::open(Arc::new(file)).unwrap_or_else(|e| panic!("{e}"));
    if image::verify(&image, 1, &Progress::new()).is_ok() {
        let mut back = vec![0; content.len()];
        image.content().read_exact_at(&mut back, 0).unwrap_or_else(|e| panic!("{e}"));
        assert!(back == *content);
    }
}

/// What is taken for a whole gzip file of somebody else, zlib inflates to the same bytes; it never makes more than allowed.
pub fn foreign(bytes: &[u8]) {
    let file = bytes.to_vec();
    if !matches!(file_kind(&file), Ok(FileKind::Gzip)) {
        return;
    }
    let Ok(content) = foreign::measure(&file, MOST, &Progress::new()) else { return };
    assert!(content.size <= MOST);
    // Zeros may follow the last member; they are none of zlib's business.
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    let padded = [&bytes[..end], &[0; 8][..bytes.len().saturating_sub(end).min(8)]].concat();
    let mut zlib = Vec::new();
    let mut decoder = flate2::bufread::MultiGzDecoder::new(&padded[..]);
    let read = decoder.by_ref().read_to_end(&mut zlib);
    if read.is_ok() {
        assert_eq!((content.size, content.hash), (zlib.len() as u64, blake3::hash(&zlib)));
    } else {
        // zlib takes the padding for a damaged member; what came before it must be the same.
        assert!(zlib.len() as u64 <= content.size);
    }
}
