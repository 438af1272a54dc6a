//! Columns of text, and figures that are short enough for them.

use jiff::Timestamp;
use std::time::Duration;

/// Lines of columns, each as wide as its widest cell: a head, and rows as long as it. Columns whose number is in `right`
/// have their cells at the right.
pub(super) fn lines(head: &[&str], rows: &[Vec<String>], right: &[usize]) -> Vec<String> {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let all: Vec<&Vec<String>> = [&head].into_iter().chain(rows).collect();
    let width = |column: usize| {
        all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &&Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate();
        let padded = cells.map(|(column, (cell, width))| match right.contains(&column) {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        padded.collect::<Vec<_>>().join(" ").trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

/// A text of at most `width` characters; `~` stands for what was cut off.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let head: String = text.chars().take(width.saturating_sub(1)).collect();
    if width == 0 { head } else { format!("{head}~") }
}

/// A time in two or three digits: `12s`, `5m`, `3h`, `20d`.
pub(super) fn short(time: Duration) -> String {
    match time.as_secs() {
        s @ ..120 => format!("{s}s"),
        s @ 120..7200 => format!("{}m", s / 60),
        s @ 7200..172_800 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// Time since then; none where a clock is ahead.
pub(super) fn since(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(at)).unwrap_or_default()
}

/// `2026-11-29 11:14 UTC`.
pub(super) fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Bytes in five characters at most, in the decimal units of disk makers: `999`, `1.2k`, `120G`.
pub(super) fn bytes(bytes: u64) -> String {
    let mut tenths = u128::from(bytes) * 10;
    let mut units = ["", "k", "M", "G", "T", "P"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while tenths >= 10_000 {
        tenths /= 1000;
        unit = units.next().unwrap_or("E");
    }
    match (unit, tenths) {
        ("", _) => format!("{bytes}"),
        (_, 100..) => format!("{}{unit}", tenths / 10),
        _ => format!("{}.{}{unit}", tenths / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_rounded_down() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.0k"),
            (9_999, "9.9k"),
            (10_000, "10k"),
            (999_999, "999k"),
            (1_000_000, "1.0M"),
            (120_700_000_000, "120G"),
            (u64::MAX, "18E"),
        ] {
            assert_eq!(bytes(n), text);
        }
        for (seconds, text) in [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172_800, "2d")] {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn what_is_cut_says_so() {
        for (width, text) in [(0, ""), (1, "~"), (3, "h\u{f6}~"), (5, "h\u{f6}chs"), (9, "h\u{f6}chs")] {
            assert_eq!(cut("h\u{f6}chs", width), text);
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let lines = lines(&["A", "BB", "C"], &[row(["x", "1", "end"]), row(["long", "1000", ""])], &[1]);
        assert_eq!(lines, ["A      BB C", "x       1 end", "long 1000"]);
    }
}
