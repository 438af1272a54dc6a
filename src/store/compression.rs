//! How small images of a share are to be: a setting in its root, so that all machines make equal members of equal data.

use super::layout::COMPRESSION;
use crate::share::Files;
use crate::types::{Compression, lines, without_bom};
use std::io;

/// Longest file that is read, in bytes.
const LIMIT: usize = 4096;

/// The level that the share asks for, in the first line of its file `testbox-compression` that is neither empty nor begins with
/// `#`; level 1 where there is none.
///
/// # Errors
/// In words: the file cannot be read, or has something else in it.
pub fn compression(files: &dyn Files) -> Result<Compression, String> {
    let bytes = match files.read_limited(COMPRESSION, LIMIT) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Compression::default()),
        Err(e) => return Err(format!("{COMPRESSION} cannot be read: {e}")),
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut said =
        lines(without_bom(&text)).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    match (said.next(), said.next()) {
        (Some(level), None) => level.parse().map_err(|e| format!("{COMPRESSION}: {e}")),
        (None, _) => Ok(Compression::default()),
        (Some(_), Some(_)) => Err(format!("{COMPRESSION}: it has more than one line: one level is wanted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::MemFiles;

    #[test]
    fn the_level_is_that_of_the_file_or_the_default() {
        for (text, wanted) in [
            ("", Some(Compression::Fast)),
            ("1\n", Some(Compression::Fast)),
            ("3", Some(Compression::Medium)),
            ("# for the slow link\n\n 6 \r\n", Some(Compression::Small)),
            ("\u{feff}9\n", Some(Compression::Smallest)),
            ("2", None),
            ("9 6", None),
            ("6\n6\n", None),
            ("-1", None),
            ("fast", None),
        ] {
            let files = MemFiles::new();
            files.put(COMPRESSION, text.as_bytes());
            assert_eq!(compression(&files).ok(), wanted, "{text:?}");
        }
        assert_eq!(compression(&MemFiles::new()), Ok(Compression::Fast));
        let files = MemFiles::new();
        files.put(COMPRESSION, vec![b'\n'; LIMIT + 1]);
        assert!(compression(&files).unwrap_err().contains("cannot be read"));
    }
}
