//! The kernel log from `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg).

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The kernel's buffer is at most a few MiB; a log that grows while it is read must end all the same.
const LIMIT: usize = 4 << 20;
/// Longest record that the kernel gives in one read (CONSOLE_EXT_LOG_MAX is 8192).
const RECORD: usize = 16 * 1024;

/// Reads what the kernel log holds now, one line per record with its time in seconds.
///
/// # Errors
/// Where `path` cannot be opened or read. Records that are overwritten meanwhile are passed over.
pub fn read(path: &Path) -> io::Result<String> {
    let mut log = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let mut record = vec![0; RECORD];
    let mut text = String::new();
    while text.len() < LIMIT {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(n) => text.push_str(&decode(record.get(..n).unwrap_or_default())),
            // EAGAIN: this was the last record.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            // EPIPE: the next record was overwritten; the following read goes on behind it.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EPIPE | libc::EINTR)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(text)
}

/// `level,sequence,microseconds,flags[,…];text` with continuation lines (` KEY=value`), which are left out.
fn decode(record: &[u8]) -> String {
    let record = String::from_utf8_lossy(record);
    let line = record.lines().next().unwrap_or_default();
    let Some((prefix, text)) = line.split_once(';') else { return format!("{line}\n") };
    match prefix.split(',').nth(2).and_then(|time| time.parse::<u64>().ok()) {
        Some(time) => format!("[{:5}.{:06}] {text}\n", time / 1_000_000, time % 1_000_000),
        None => format!("{text}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_dmesg_lines_whatever_they_hold() {
        for (record, want) in [
            (
                &b"6,339,5140900,-;sd 0:0:0:0: [sda] Attached\n SUBSYSTEM=scsi\n DEVICE=+scsi:0:0:0:0\n"[..],
                "[    5.140900] sd 0:0:0:0: [sda] Attached\n",
            ),
            (b"4,1,0,-,caller=T1;a;b\n", "[    0.000000] a;b\n"),
            (b"no prefix", "no prefix\n"),
            (b"6,1,many,-;text", "text\n"),
            (b"", "\n"),
            (b"\xff;\xfe", "\u{fffd}\n"),
        ] {
            assert_eq!(decode(record), want);
        }
    }
}
