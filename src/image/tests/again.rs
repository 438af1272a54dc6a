//! Backups that build on earlier ones: the same image, whatever the earlier one is worth.

use super::*;
use crate::io::ReadAt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub fn mem_disk(bytes: &[u8]) -> MemDisk {
    MemDisk::new("sda", bytes.to_vec(), 512)
}

/// `backup_again` into a file that holds `file` already.
pub fn again(
    disk: &MemDisk,
    mut file: Vec<u8>,
    opts: &BackupOptions,
    earlier: &Earlier,
) -> Result<(Vec<u8>, Written), ImageError> {
    let about = DiskAbout::new("sda", Identity::default(), disk);
    let written = backup_again(disk, &mut file, &about, opts, earlier, &Progress::new())?;
    Ok((file, written))
}

pub fn on(base: &[u8]) -> Earlier {
    Earlier { base: Some(Arc::new(open(base).unwrap())), ..Earlier::default() }
}

/// The part is looked at up to its last byte.
pub fn going_on(part: &[u8]) -> Earlier {
    let mut part = Part::new(Arc::new(part.to_vec()));
    part.tail = 0;
    Earlier { part: Some(part), ..Earlier::default() }
}

pub fn with_id(id: u8) -> BackupOptions {
    BackupOptions { image_id: Some([id; 16]), ..small() }
}

/// The same with other bytes in some places (offset, length).
fn changed(bytes: &[u8], places: &[(usize, usize)]) -> Vec<u8> {
    let mut new = bytes.to_vec();
    for (i, (at, len)) in places.iter().enumerate() {
        let at = at % new.len();
        let end = (at + len).min(new.len());
        new[at..end].copy_from_slice(&noise(1000 + i as u64, end - at));
    }
    new
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn an_incremental_image_is_the_full_image(
        pieces in proptest::collection::vec((0u8..3, 1usize..400), 1..8),
        places in proptest::collection::vec((any::<usize>(), 1usize..100_000), 0..4),
        chunk_size in prop::sample::select(vec![4096u32, 16 << 10, 256 << 10]),
        threads in 1usize..4,
        prove_base in any::<bool>(),
    ) {
        let opts = |id| BackupOptions { chunk_size, threads, ..with_id(id) };
        let before = content(&pieces);
        let (base, _) = back_up(&mem_disk(&before), &opts(1)).unwrap();
        let disk = mem_disk(&changed(&before, &places));
        let (full, full_written) = back_up(&disk, &opts(2)).unwrap();
        let earlier = Earlier { prove_base, ..on(&base) };
        let (file, written) = again(&disk, Vec::new(), &opts(2), &earlier).unwrap();
        prop_assert!(file == full);
        prop_assert_eq!(written.root_hash, full_written.root_hash);
        prop_assert_eq!((written.retaken_bad, written.kept_bytes), (0, 0));
        prop_assert_eq!(written.unread_bytes, if prove_base { 0 } else { written.taken_bytes });
        let image = open(&file).unwrap();
        let summary = verify_again(&image, earlier.base.as_ref().unwrap(), 2, &Progress::new()).unwrap();
        prop_assert_eq!(&summary, &check(&file).unwrap());
        if places.is_empty() {
            prop_assert_eq!((written.taken_bytes, written.stored_bytes), (summary.data, 0));
        }
    }

    #[test]
    fn a_cut_backup_goes_on_to_the_same_image(
        pieces in proptest::collection::vec((0u8..3, 1usize..400), 1..8),
        chunk_size in prop::sample::select(vec![4096u32, 16 << 10]),
        cut in any::<prop::sample::Index>(),
        places in proptest::collection::vec((any::<usize>(), 1usize..100_000), 0..2),
        torn in any::<bool>(),
    ) {
        let opts = BackupOptions { chunk_size, ..with_id(3) };
        let before = content(&pieces);
        let (mut part, _) = back_up(&mem_disk(&before), &opts).unwrap();
        part.truncate(cut.index(part.len() + 1));
        if torn {
            part.extend_from_slice(&[0; 50_000]);
        }
        let disk = mem_disk(&changed(&before, &places));
        let (full, _) = back_up(&disk, &opts).unwrap();
        // The id is found in the file, unless not even its header is left.
        let found = BackupOptions { image_id: None, ..opts.clone() };
        let opts = if part.len() < 4096 + 50_000 { opts } else { found };
        let (file, _) = again(&disk, part.clone(), &opts, &going_on(&part)).unwrap();
        prop_assert!(file == full);
    }
}

/// About 3 MiB with every kind of chunk.
fn sample() -> Vec<u8> {
    content(&[(2, 500), (0, 300), (1, 500), (2, 600), (0, 64), (2, 1000)])
}

#[test]
fn every_cut_at_and_near_a_member_goes_on_to_the_same_image() {
    let disk = mem_disk(&sample());
    let opts = BackupOptions { chunk_size: 64 << 10, ..with_id(3) };
    let (full, _) = back_up(&disk, &opts).unwrap();
    let mut at = 0;
    let mut most = 0;
    while at < full.len() {
        for cut in [at, at + 4095].into_iter().filter(|cut| *cut <= full.len()) {
            let part = full[..cut].to_vec();
            let (file, written) = again(&disk, part.clone(), &opts, &going_on(&part)).unwrap();
            assert!(file == full, "cut at {cut}");
            assert!(written.kept_bytes >= most, "what is there is kept: {cut}");
            most = written.kept_bytes;
        }
        at += member::parse(&full[at..]).unwrap().len;
    }
    assert!(most > 2 << 20);
}

/// A part with a wrong byte: what is written from there on is right again, and a member that was kept unread is found
/// by the verification.
#[test]
fn damage_in_a_part_never_makes_a_wrong_image_that_verifies() {
    let bytes = sample();
    let disk = mem_disk(&bytes);
    let opts = BackupOptions { chunk_size: 32 << 10, ..with_id(3) };
    let (full, _) = back_up(&disk, &opts).unwrap();
    let heads = (0..full.len()).step_by(4096).flat_map(|at| [at + 2, at + 17, at + 21, at + 30, at + 60]);
    let (mut mended, mut refused) = (0, 0);
    for at in heads.step_by(31).chain((0..40).map(|i| (i * 7919 + 13) % full.len())) {
        let mut part = full[..full.len() - 8192].to_vec();
        if at >= part.len() {
            continue;
        }
        part[at] ^= 0x10;
        let (file, _) = again(&disk, part.clone(), &opts, &going_on(&part)).unwrap();
        match check(&file) {
            Ok(_) => {
                assert!(file == full, "byte {at}");
                mended += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(mended > 10 && refused > 4, "{mended} {refused}");
}

/// Counts the bytes that are read, and fails reads of some of them.
struct Watched {
    bytes: Vec<u8>,
    read: AtomicU64,
    bad: std::sync::Mutex<std::ops::Range<u64>>,
}

impl Watched {
    fn new(bytes: &[u8]) -> Arc<Self> {
        Arc::new(Watched { bytes: bytes.to_vec(), read: AtomicU64::new(0), bad: Default::default() })
    }
}

impl ReadAt for Watched {
    fn size(&self) -> io::Result<u64> {
        self.bytes.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let bad = self.bad.lock().unwrap();
        if offset < bad.end && offset + buf.len() as u64 > bad.start {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.read.fetch_add(buf.len() as u64, Relaxed);
        self.bytes.read_at(buf, offset)
    }
}

/// Going on reads the index of what was written, and not what was written: that would take as long as writing it.
#[test]
fn kept_members_are_not_read_but_for_the_tail() {
    let disk = mem_disk(&noise(1, 5 * MIB));
    let opts = BackupOptions { chunk_size: 64 << 10, ..with_id(3) };
    let (full, _) = back_up(&disk, &opts).unwrap();
    let part = &full[..full.len() - MIB];
    for (tail, least, most) in [(0, 0, MIB * 5 / 2), (2 * MIB as u64, 2 * MIB, 4 * MIB)] {
        let watched = Watched::new(part);
        let mut earlier = Part::new(watched.clone());
        earlier.tail = tail;
        let earlier = Earlier { part: Some(earlier), ..Earlier::default() };
        let (file, written) = again(&disk, part.to_vec(), &opts, &earlier).unwrap();
        assert!(file == full && written.kept_bytes as usize > 7 * MIB / 2);
        let read = watched.read.load(Relaxed) as usize;
        assert!((least..most).contains(&read), "{read} of {}", part.len());
    }
}

/// The image that failed to be published is whole already: only its end is written again.
#[test]
fn a_part_that_is_whole_is_kept_whole() {
    let disk = mem_disk(&sample());
    let (full, first) = back_up(&disk, &with_id(7)).unwrap();
    let added = [&full[..], &noise(1, 10_000)].concat();
    for part in [full.clone(), added] {
        let (file, written) = again(&disk, part.clone(), &with_id(7), &going_on(&part)).unwrap();
        assert!(file == full);
        assert_eq!(written.kept_bytes, first.disk_bytes - first.zero_bytes);
    }
}

#[test]
fn a_part_of_something_else_is_written_over() {
    let disk = mem_disk(&sample());
    let (full, _) = back_up(&disk, &with_id(7)).unwrap();
    let other_disk = back_up(&mem_disk(&noise(5, MIB)), &with_id(7)).unwrap().0;
    let other_chunk = back_up(&disk, &BackupOptions { chunk_size: 4096, ..with_id(7) }).unwrap().0;
    let other_codec = back_up(&disk, &BackupOptions { codec: Codec::Zlib, ..with_id(7) }).unwrap().0;
    for part in [noise(1, 100_000), vec![0; 9000], Vec::new(), other_disk, other_chunk, other_codec] {
        let (file, written) = again(&disk, part.clone(), &with_id(7), &going_on(&part)).unwrap();
        assert!(file == full);
        assert_eq!(written.kept_bytes, 0);
    }
}

#[test]
fn a_base_and_a_part_together() {
    let opts = |id| BackupOptions { chunk_size: 4096, ..with_id(id) };
    let bytes = sample();
    let (base, _) = back_up(&mem_disk(&bytes), &opts(1)).unwrap();
    let disk = mem_disk(&changed(&bytes, &[(700_000, 9), (2_000_000, 9)]));
    let (full, _) = back_up(&disk, &opts(2)).unwrap();
    let part = full[..full.len() / 2].to_vec();
    let earlier = Earlier { part: going_on(&part).part, ..on(&base) };
    let (file, written) = again(&disk, part, &opts(2), &earlier).unwrap();
    assert!(file == full);
    assert!(written.kept_bytes > 0 && written.taken_bytes > 0, "{written:?}");
}

#[test]
fn a_bad_member_of_the_base_is_made_from_the_disk_again() {
    let disk = mem_disk(&sample());
    let (base, _) = back_up(&disk, &with_id(1)).unwrap();
    let (full, _) = back_up(&disk, &with_id(2)).unwrap();
    let runs: Vec<Run> = open(&base).unwrap().runs().map(Result::unwrap).collect();
    for run in runs.iter().filter(|run| run.kind == MemberKind::Data) {
        let mut bad = base.clone();
        bad[run.position as usize + run.member_length as usize / 2] ^= 1;
        let failing = Watched::new(&base);
        *failing.bad.lock().unwrap() = run.position..run.position + 1;
        for file in [Arc::new(bad) as Arc<dyn ReadAt>, failing] {
            let base = Some(Arc::new(Image::open(file).unwrap()));
            let earlier = Earlier { base, prove_base: true, part: None };
            let (file, written) = again(&disk, Vec::new(), &with_id(2), &earlier).unwrap();
            assert!(file == full, "disk byte {}", run.offset);
            assert_eq!((written.retaken_bad, written.unread_bytes), (1, 0));
            assert!(written.bad_base.unwrap().contains(&format!("byte {}", run.position)));
            assert_eq!(written.taken_bytes + run.length, open(&file).unwrap().summary().data);
        }
    }
}

/// A share that copies members by itself: nobody sees that one of them is bad before the image is verified.
#[test]
fn a_bad_member_copied_unread_is_found_by_the_verification() {
    let disk = mem_disk(&sample());
    let (base, _) = back_up(&disk, &with_id(1)).unwrap();
    let runs: Vec<Run> = open(&base).unwrap().runs().map(Result::unwrap).collect();
    for run in runs.iter().filter(|run| run.kind == MemberKind::Data) {
        let mut bad = base.clone();
        bad[run.position as usize + run.member_length as usize / 2] ^= 1;
        let earlier = on(&bad);
        let (file, written) = again(&disk, Vec::new(), &with_id(2), &earlier).unwrap();
        assert_eq!((written.retaken_bad, written.unread_bytes), (0, written.taken_bytes));
        let image = open(&file).unwrap();
        let by_base = verify_again(&image, earlier.base.as_ref().unwrap(), 2, &Progress::new());
        for error in [by_base.unwrap_err(), check(&file).unwrap_err()] {
            assert!(error.to_string().contains(&format!("disk byte {}", run.offset)), "{error}");
        }
    }
}

/// A share that copies some of what it is asked for, then nothing any more.
struct Tiring {
    file: Vec<u8>,
    copies: usize,
    calls: Vec<u64>,
}

impl std::io::Write for Tiring {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl crate::io::SyncWrite for Tiring {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn append_from(&mut self, from: &dyn ReadAt, range: Range<u64>) -> io::Result<u64> {
        let length = range.end - range.start;
        self.calls.push(length);
        let length = if self.calls.len() <= self.copies { length } else { length / 2 / 4096 * 4096 + 7 };
        self.file.append_from(from, range.start..range.start + length)
    }
}

#[test]
fn consecutive_members_are_copied_at_once_else_read_and_proven() {
    let mut bytes = noise(1, 5 * MIB);
    let opts = |id| BackupOptions { chunk_size: 4096, ..with_id(id) };
    let (base, _) = back_up(&mem_disk(&bytes), &opts(1)).unwrap();
    // A shorter member: all that follows moves, and no leaf is the old one.
    bytes[..4096].copy_from_slice(&content(&[(2, 4)]));
    let disk = mem_disk(&bytes);
    let (full, _) = back_up(&disk, &opts(2)).unwrap();
    let about = DiskAbout::new("sda", Identity::default(), &disk);
    for copies in [usize::MAX, 3, 0] {
        let mut sink = Tiring { file: Vec::new(), copies, calls: Vec::new() };
        let written = backup_again(&disk, &mut sink, &about, &opts(2), &on(&base), &Progress::new()).unwrap();
        assert!(sink.file == full);
        // A leaf of the index follows each 150 members of 8 KiB.
        let (first, calls) = sink.calls.split_first().unwrap();
        assert_eq!(*first, 149 * 8192);
        assert!(calls.iter().rev().skip(1).all(|length| *length == 150 * 8192), "{}", calls.len());
        assert_eq!(written.taken_bytes, 5 * MIB as u64 - 4096);
        match copies {
            usize::MAX => assert_eq!((sink.calls.len(), written.unread_bytes), (9, written.taken_bytes)),
            // Those that were on their way when the copying ended.
            _ => assert!(written.unread_bytes < (copies as u64 + 2) * 150 * 4096, "{}", written.unread_bytes),
        }
    }
}

/// Behind a bad index member nothing of the base can be found: all of that is compressed.
#[test]
fn a_bad_index_of_the_base_costs_time_and_nothing_else() {
    let opts = |id| BackupOptions { chunk_size: 4096, ..with_id(id) };
    let disk = mem_disk(&sample());
    let (base, _) = back_up(&disk, &opts(1)).unwrap();
    let (full, _) = back_up(&disk, &opts(2)).unwrap();
    let image = open(&base).unwrap();
    let runs: Vec<Run> = image.runs().map(Result::unwrap).collect();
    let leaf = runs[2 * index::FANOUT - 1];
    let mut bad = base.clone();
    bad[leaf.position as usize + leaf.member_length as usize + 100] ^= 1;
    let (file, written) = again(&disk, Vec::new(), &opts(2), &on(&bad)).unwrap();
    assert!(file == full);
    assert!(written.retaken_bad == 1 && written.taken_bytes > 0, "{written:?}");
    assert!(written.bad_base.unwrap().contains("index"));
}

#[test]
fn a_base_of_another_shape_still_makes_a_good_image() {
    let bytes = sample();
    let disk = mem_disk(&bytes);
    let (base, _) = back_up(&disk, &BackupOptions { chunk_size: 16 << 10, ..with_id(1) }).unwrap();
    let (file, written) = again(&disk, Vec::new(), &with_id(2), &on(&base)).unwrap();
    assert!(
        file == back_up(&disk, &with_id(2)).unwrap().0,
        "runs with other bounds would meet none of these"
    );
    assert_eq!((written.taken_bytes, written.bad_base), (0, None));

    for other in [bytes[..MIB].to_vec(), [&bytes[..], &noise(3, MIB)].concat()] {
        let (base, _) = back_up(&mem_disk(&other), &with_id(1)).unwrap();
        let (file, written) = again(&disk, Vec::new(), &with_id(2), &on(&base)).unwrap();
        assert!(file == back_up(&disk, &with_id(2)).unwrap().0);
        assert!(written.taken_bytes > 0);
    }

    let zlib = |id| BackupOptions { codec: Codec::Zlib, ..with_id(id) };
    let (base, _) = back_up(&disk, &zlib(1)).unwrap();
    let new = mem_disk(&changed(&bytes, &[(0, 512)]));
    let (file, written) = again(&new, Vec::new(), &with_id(2), &on(&base)).unwrap();
    check(&file).unwrap();
    assert!(written.taken_bytes > 0);
    let both = format!("{} + {}", Codec::Isal.name(), Codec::Zlib.name());
    assert_eq!(open(&file).unwrap().header().codec, both, "equal names make equal members");
    let (file, _) = again(&new, Vec::new(), &with_id(2), &on(&file)).unwrap();
    assert_eq!(open(&file).unwrap().header().codec, both);
}

/// Members that are taken over are not inflated, and not trusted either.
#[test]
fn every_flipped_bit_of_an_incremental_image_is_found() {
    let bytes = sample();
    let (base, _) = back_up(&mem_disk(&bytes), &with_id(1)).unwrap();
    let earlier = on(&base);
    let disk = mem_disk(&changed(&bytes, &[(700_000, 9)]));
    let (file, _) = again(&disk, Vec::new(), &with_id(2), &earlier).unwrap();
    let base = earlier.base.unwrap();
    verify_again(&open(&file).unwrap(), &base, 2, &Progress::new()).unwrap();
    let frames = (0..file.len()).step_by(4096).flat_map(|at| [at, at + 20, at + 40, at + 4095]);
    for (i, at) in frames.chain((0..300).map(|i| (i * 104_729 + 11) % file.len())).enumerate() {
        let mut bad = file.clone();
        bad[at] ^= 1 << (i % 8);
        let result = open(&bad).and_then(|image| verify_again(&image, &base, 2, &Progress::new()));
        assert!(result.is_err(), "byte {at}");
    }
}

/// What the base does not prove is inflated: the same image against a base with other members.
#[test]
fn a_member_that_the_base_does_not_know_is_inflated() {
    let disk = mem_disk(&content(&[(2, 4)]));
    let (file, _) = back_up(&disk, &with_id(7)).unwrap();
    // A member whose hash is right and whose content is not: as a broken compressor would make it.
    let (mut bad, mut footer) = (file.clone(), footer::Footer::decode(&file[file.len() - 4096..]).unwrap());
    let (member, node) = (4096..8192, 8192..file.len() - 4096);
    bad[member.end - 12] ^= 1;
    let entry = node.start + member::FRAME + 48;
    let hash = *blake3::hash(&bad[member]).as_bytes();
    bad[entry + 48..entry + 80].copy_from_slice(&hash);
    footer.node_hash = blake3::hash(&bad[node.clone()]);
    bad[node.end..].copy_from_slice(&footer.encode());
    let image = open(&bad).unwrap();
    let base = open(&file).unwrap();
    let error = verify_again(&image, &base, 1, &Progress::new()).unwrap_err().to_string();
    assert!(error.contains("damaged at byte 4096"), "{error}");
}
