//! What `doctor` has found, and how it is shown.

use crate::text::plain;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Machines cannot boot, back up or restore.
    Error,
    /// Some cannot, or will not some day.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct DoctorFinding {
    /// Its name, which stays the same.
    pub id: &'static str,
    pub severity: Severity,
    pub asked: String,
    pub found: String,
    /// A command, or a line and where to put it.
    pub cure: String,
}

/// What has come of one part of the lab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct AreaReport {
    pub area: &'static str,
    /// What is as it should be.
    pub fine: Vec<String>,
    pub findings: Vec<DoctorFinding>,
    /// What was not looked at, and why.
    pub unknown: Vec<String>,
}

impl AreaReport {
    pub fn new(area: &'static str) -> AreaReport {
        AreaReport { area, ..AreaReport::default() }
    }

    pub fn fine(&mut self, text: impl Into<String>) {
        self.fine.push(text.into());
    }

    pub fn unknown(&mut self, text: impl Into<String>) {
        self.unknown.push(text.into());
    }

    pub fn error(
        &mut self,
        id: &'static str,
        asked: impl Into<String>,
        found: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.find(Severity::Error, id, [asked.into(), found.into(), cure.into()]);
    }

    pub fn warning(
        &mut self,
        id: &'static str,
        asked: impl Into<String>,
        found: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.find(Severity::Warning, id, [asked.into(), found.into(), cure.into()]);
    }

    fn find(&mut self, severity: Severity, id: &'static str, [asked, found, cure]: [String; 3]) {
        self.findings.push(DoctorFinding { id, severity, asked, found, cure });
    }
}

/// Lines of one finding.
const LINES: usize = 4;

impl AreaReport {
    /// What has one cure is one finding, of several things that were asked.
    pub fn merged(self) -> AreaReport {
        let mut merged: Vec<(DoctorFinding, Vec<String>, Vec<String>)> = Vec::new();
        for finding in self.findings {
            let same = |other: &&mut (DoctorFinding, _, _)| {
                (other.0.id, &other.0.cure, other.0.severity) == (finding.id, &finding.cure, finding.severity)
            };
            match merged.iter_mut().find(same) {
                Some((_, asked, found)) => {
                    asked.push(finding.asked);
                    found.push(finding.found);
                }
                None => {
                    let (asked, found) = (vec![finding.asked.clone()], vec![finding.found.clone()]);
                    merged.push((finding, asked, found));
                }
            }
        }
        let joined = |mut lines: Vec<String>| {
            let mut seen = BTreeSet::new();
            lines.retain(|line| seen.insert(line.clone()));
            let more = lines.len().saturating_sub(LINES);
            lines.truncate(LINES);
            lines.extend((more > 0).then(|| format!("and {more} more")));
            lines.join("\n")
        };
        let one =
            |(finding, asked, found)| DoctorFinding { asked: joined(asked), found: joined(found), ..finding };
        AreaReport { findings: merged.into_iter().map(one).collect(), ..self }
    }
}

/// Breaks a text into lines of at most `width` characters behind a head, which begins the first; the others begin with as many
/// blanks.
pub(super) fn hang(head: &str, text: &str, width: usize) -> String {
    let indent = head.chars().count();
    let room = width.saturating_sub(indent).max(10);
    let mut out = String::new();
    let mut is_first = true;
    for part in text.split('\n') {
        let mut line = String::new();
        let mut put = |line: &str| {
            let blank = " ".repeat(indent);
            let head = if std::mem::take(&mut is_first) { head } else { &blank };
            let _ = writeln!(out, "{}", format!("{head}{line}").trim_end());
        };
        for word in part.split(' ') {
            let word = plain(word);
            let mut rest: &str = &word;
            if !line.is_empty() && line.chars().count() + 1 + rest.chars().count() > room {
                put(&std::mem::take(&mut line));
            }
            while let Some((at, _)) = rest.char_indices().nth(room) {
                let (first, more) = rest.split_at(at);
                put(first);
                rest = more;
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(rest);
        }
        put(&line);
    }
    out
}

/// All of it for a person: what is wrong first.
pub(super) fn table(reports: &[AreaReport], width: usize) -> String {
    let mut text = String::new();
    let mut findings: Vec<&DoctorFinding> = reports.iter().flat_map(|report| &report.findings).collect();
    findings.sort_by_key(|finding| finding.severity);
    for finding in &findings {
        let word = if finding.severity == Severity::Error { "ERROR" } else { "WARNING" };
        let _ = writeln!(text, "{word} {}", finding.id);
        text += &hang("  asked: ", &finding.asked, width);
        text += &hang("  found: ", &finding.found, width);
        text += &hang("  cure:  ", &finding.cure, width);
        text.push('\n');
    }
    for report in reports {
        let lines = report.fine.iter().map(|line| ("ok", line));
        for (word, line) in lines.chain(report.unknown.iter().map(|line| ("?", line))) {
            text += &hang(&format!("{word:<2} {:<8} ", report.area), line, width);
        }
    }
    let unknown: usize = reports.iter().map(|report| report.unknown.len()).sum();
    let not_asked = if unknown > 0 { format!(", {unknown} not looked at (?)") } else { String::new() };
    let end = match findings.len() {
        0 => "nothing is wrong".to_owned(),
        1 => "1 finding".to_owned(),
        n => format!("{n} findings"),
    };
    text + &hang("", &format!("{end}{not_asked}"), width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reports(text: &str) -> Vec<AreaReport> {
        let mut report = AreaReport::new("tftp");
        report.fine(text);
        report.unknown(text);
        report.warning("tftp-later", text, text, text);
        report.error("tftp-first", text, text, text);
        vec![report]
    }

    #[test]
    fn errors_stand_before_warnings() {
        let text = table(&reports("x"), 80);
        assert!(
            text.starts_with("ERROR tftp-first\n  asked: x\n  found: x\n  cure:  x\n\nWARNING tftp-later")
        );
        assert!(text.ends_with("ok tftp     x\n?  tftp     x\n2 findings, 1 not looked at (?)\n"), "{text}");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal(text in "[a-zA-Z/ \u{1b}ä\n]{0,300}", width in 40usize..100) {
            let shown = table(&reports(&text), width);
            prop_assert!(shown.lines().all(|line| line.chars().count() <= width), "{}", shown);
            prop_assert!(!shown.contains('\u{1b}'), "{}", shown);
        }
    }
}
