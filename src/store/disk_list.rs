//! `disk-devices.lst`: the file on the share that narrows which disks of a machine are imaged.
//!
//! One selector a line, as in `testbox.disks`: a kernel name with or without `/dev/`, `serial=…`, `wwn=…` or
//! `at=…`;
//! comments begin with `#`; blank lines do not count.
#![forbid(unsafe_code)]

use crate::job::without_comment;
use crate::store::layout::DISK_LIST;
use crate::types::{DiskSelector, code_point, hidden_break, lines};

/// A line of `disk-devices.lst` that is no selector. The whole file is refused: a disk left out by a typing error
/// would be missed only when it is needed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{DISK_LIST}, line {line}: {why}; correct the line or remove it")]
pub struct DisksListError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong and what is allowed.
    pub why: String,
}

/// Parses the file. A file with nothing but comments gives an empty list, which selects every disk as no file does.
///
/// # Errors
/// The line, and what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<DiskSelector>, DisksListError> {
    let mut selectors = Vec::new();
    for (at, line) in lines(text).enumerate() {
        let wrong = |why| DisksListError { line: at + 1, why };
        if let Some(c) = hidden_break(line) {
            return Err(wrong(format!("the character {} ends no line; write a line feed", code_point(c))));
        }
        let entry = without_comment(line).trim_matches(|c: char| c.is_ascii_whitespace());
        if entry.is_empty() {
            continue;
        }
        let selector = entry.parse().map_err(|e| wrong(format!("{e}")))?;
        if !selectors.contains(&selector) {
            selectors.push(selector);
        }
    }
    Ok(selectors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_serials_wwns_comments_and_blank_lines() {
        let list = parse(
            "# rack 3\n\nsda\r\n  /dev/nvme0n1   # system\nserial=A%20B\nwwn=0x5000c5\nat=pci-1\nsda\n",
        )
        .unwrap();
        let texts: Vec<String> = list.iter().map(|s| s.to_string()).collect();
        assert_eq!(texts, ["sda", "nvme0n1", "serial=A%20B", "wwn=0x5000c5", "at=pci-1"]);
        assert_eq!(parse("# nothing\n"), Ok(vec![]));
    }

    #[test]
    fn a_malformed_line_is_named_by_its_number() {
        for bad in ["sda sdb", "/dev/../sda", "serial=", "model=x", "sda,sdb"] {
            let error = parse(&format!("sda\n# c\n{bad}\n")).unwrap_err();
            assert_eq!(error.line, 3, "{bad}");
            assert!(error.to_string().starts_with("disk-devices.lst, line 3: '"), "{error}");
        }
    }

    #[test]
    fn a_list_is_not_lost_in_odd_characters() {
        assert_eq!(parse("\u{feff}sda\r\n").unwrap().len(), 1);
        assert_eq!(parse("\u{feff}# rack 3\r\nsda").unwrap().len(), 1);
        for bad in [
            "# rack 3\rsda\r",
            "# a\u{2028}sda",
            "#\u{b}sda",
            "sda\u{a0}",
            "\u{feff}\u{feff}sda",
            "s\0d\0a\0",
            "serial=A\u{200b}",
            "\u{ff53}da",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
