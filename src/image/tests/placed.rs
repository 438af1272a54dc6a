//! Runs by where their members stand in the file.

use super::*;

#[test]
fn a_byte_of_the_file_leads_to_the_run_whose_member_it_is() {
    let bytes = content(&[(1, 12_000), (0, 3000), (1, 3000)]);
    let opts = BackupOptions { chunk_size: 16 << 10, ..small() };
    let (file, written) = back_up(&MemDisk::new("sda", bytes, 512), &opts).unwrap();
    let image = open(&file).unwrap();
    let at = |range: Range<u64>| image.runs_at(range).map(Result::unwrap).collect::<Vec<_>>();
    let all = at(0..u64::MAX);
    assert!(all == image.runs().map(Result::unwrap).collect::<Vec<_>>() && all.len() > 300, "several leaves");
    let mut covered = 0;
    for run in &all {
        let (start, end) = (run.position, run.position + u64::from(run.member_length));
        for byte in [start, end - 1] {
            assert_eq!(at(byte..byte + 1), [*run]);
        }
        covered += end - start;
    }
    // Header, index and footer are nobody's run.
    let ours: usize =
        (0..written.image_bytes).step_by(4096).filter(|at_byte| at(*at_byte..at_byte + 1).is_empty()).count();
    assert_eq!(covered + ours as u64 * 4096, written.image_bytes);
    assert_eq!(at(all[7].position..u64::MAX), all[7..]);
    assert!(at(written.image_bytes..u64::MAX).is_empty());
}
