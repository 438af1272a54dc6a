//! What of a disk could not be read, as a map file of GNU ddrescue.
//!
//! The structure is that of "Mapfile structure" in the ddrescue manual: comments, a status line, and a line for each
//! block, which together cover the disk. `ddrescue -r1 disk raw map` resumes from it, onto the raw disk that `zcat`
//! gives. A range that was given up as a whole is `-` too, although single sectors of it were never tried; what nobody
//! used, and what therefore was not read, counts as done.
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::ops::Range;

/// The map file of a disk of `size` bytes with these bad ranges, which are in order and apart from each other.
pub fn ddrescue_map(size: u64, bad: &[Range<u64>]) -> String {
    let mut text = format!(
        "# Mapfile. Created by testbox {}\n# current_pos  current_status  current_pass\n0x{:08X}     +               1\n\
         #      pos        size  status\n",
        env!("CARGO_PKG_VERSION"),
        bad.last().map_or(0, |last| last.start)
    );
    let mut line = |range: Range<u64>, status: char| {
        if !range.is_empty() {
            // Writing into a String does not fail.
            let _ = writeln!(text, "0x{:08X}  0x{:08X}  {status}", range.start, range.end - range.start);
        }
    };
    let mut at = 0;
    for range in bad {
        line(at..range.start, '+');
        line(range.clone(), '-');
        at = range.end;
    }
    line(at..size, '+');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_cover_the_disk() {
        let map = ddrescue_map(1 << 20, &[0..512, 4096..8192]);
        let lines: Vec<&str> = map.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                "0x00001000     +               1",
                "0x00000000  0x00000200  -",
                "0x00000200  0x00000E00  +",
                "0x00001000  0x00001000  -",
                "0x00002000  0x000FE000  +",
            ]
        );
        assert!(ddrescue_map(512, &[0..512]).ends_with("status\n0x00000000  0x00000200  -\n"));
    }
}
