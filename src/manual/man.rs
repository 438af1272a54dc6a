//! A chapter of the manual as a page for man(1): `testbox-setup(7)`. The part of Markdown that the chapters use, and the
//! macros of man(7) that groff and mandoc both know.

use super::{CHAPTERS, Chapter};
use std::fmt::Write;

/// Longest line of a page, in bytes.
const WIDTH: usize = 78;
/// Macros before a paragraph; none right behind a heading.
const PARAGRAPH: &str = ".PP";

/// Name of the page of a chapter, without its section, which is 7.
pub fn name(chapter: &Chapter) -> String {
    format!("testbox-{}", chapter.name)
}

/// The page.
pub fn page(chapter: &Chapter) -> String {
    let mut page = ManPage { text: String::new(), is_after_heading: true };
    let version = env!("CARGO_PKG_VERSION");
    let name = name(chapter);
    let _ =
        writeln!(page.text, ".TH {} 7 \"\" \"testbox {version}\" \"testbox\"", escaped(&name.to_uppercase()));
    page.heading("NAME");
    page.lines(&format!("{} \\- {}", escaped(&name), escaped(chapter.title())));
    page.heading("DESCRIPTION");
    page.blocks(chapter.text().lines().skip(1));
    page.heading("SEE ALSO");
    let others = CHAPTERS.iter().filter(|other| other.name != chapter.name).map(self::name);
    let others: Vec<String> = others.map(|name| format!("\\fB{}\\fR(7)", escaped(&name))).collect();
    page.lines(&format!("\\fBtestboxctl\\fR(1), {}", others.join(", ")));
    page.text
}

struct ManPage {
    text: String,
    is_after_heading: bool,
}

/// What the lines that are being collected are.
#[derive(PartialEq)]
enum ManBlock<'a> {
    Paragraph(Vec<&'a str>),
    /// Its mark and its lines.
    Item(&'a str, Vec<&'a str>),
    Code(Vec<&'a str>),
    Table(Vec<&'a str>),
    Nothing,
}

impl ManPage {
    fn blocks<'a>(&mut self, lines: impl Iterator<Item = &'a str>) {
        let mut block = ManBlock::Nothing;
        for line in lines {
            block = match (block, line) {
                (block, line) if line.starts_with("## ") => {
                    self.block(block);
                    if let Some(title) = line.strip_prefix("## ") {
                        self.heading(&title.to_uppercase());
                    }
                    ManBlock::Nothing
                }
                // Inside of code a blank line is one of it; at its end it is taken off again.
                (ManBlock::Code(mut lines), line) if line.is_empty() || line.starts_with("    ") => {
                    lines.push(line.get(4..).unwrap_or_default());
                    ManBlock::Code(lines)
                }
                (block, "") => {
                    self.block(block);
                    ManBlock::Nothing
                }
                (ManBlock::Nothing, line) if line.starts_with("    ") => ManBlock::Code(vec![&line[4..]]),
                (ManBlock::Table(mut rows), line) if line.starts_with('|') => {
                    rows.push(line);
                    ManBlock::Table(rows)
                }
                (block, line) if line.starts_with('|') => {
                    self.block(block);
                    ManBlock::Table(vec![line])
                }
                (block, line) if mark(line).is_some() => {
                    self.block(block);
                    let (mark, text) = mark(line).unwrap_or(("", line));
                    ManBlock::Item(mark, vec![text])
                }
                (ManBlock::Item(mark, mut lines), line) => {
                    lines.push(line);
                    ManBlock::Item(mark, lines)
                }
                (ManBlock::Paragraph(mut lines), line) => {
                    lines.push(line);
                    ManBlock::Paragraph(lines)
                }
                (block, line) => {
                    self.block(block);
                    ManBlock::Paragraph(vec![line])
                }
            };
        }
        self.block(block);
    }

    fn block(&mut self, block: ManBlock) {
        match block {
            ManBlock::Nothing => return,
            ManBlock::Paragraph(lines) => {
                self.paragraph();
                self.lines(&inline(&lines.join(" ")));
            }
            ManBlock::Item(mark, lines) => {
                let (mark, indent) = if mark == "-" { ("\\(bu", 2) } else { (mark, 4) };
                let _ = writeln!(self.text, ".IP {mark} {indent}");
                self.lines(&inline(&lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")));
            }
            ManBlock::Code(lines) => self.code(&lines),
            ManBlock::Table(rows) => self.table(&rows),
        }
        self.is_after_heading = false;
    }

    fn heading(&mut self, title: &str) {
        let _ = writeln!(self.text, ".SH {}", inline(title));
        self.is_after_heading = true;
    }

    fn paragraph(&mut self) {
        if !self.is_after_heading {
            let _ = writeln!(self.text, "{PARAGRAPH}");
        }
    }

    fn code(&mut self, lines: &[&str]) {
        let end = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
        self.paragraph();
        self.text.push_str(".RS 4\n.nf\n");
        for line in lines.get(..end).unwrap_or_default() {
            let _ = writeln!(self.text, "\\&{}", escaped(line));
        }
        self.text.push_str(".fi\n.RE\n");
    }

    /// A row is its first cell with the others below it, each after the heading of its column where there are several: as
    /// a table long cells would not fit on a terminal.
    fn table(&mut self, rows: &[&str]) {
        let headings = rows.first().map(|row| cells(row)).unwrap_or_default();
        let titles: Vec<String> =
            headings.iter().filter(|h| !h.is_empty()).map(|h| format!("\\fI{}\\fR", inline(h))).collect();
        self.paragraph();
        self.lines(&titles.join(", "));
        for row in rows.iter().skip(2) {
            let row = cells(row);
            let Some((first, rest)) = row.split_first() else { continue };
            let _ = writeln!(self.text, ".TP");
            self.lines(&bold(first));
            let rest = rest.iter().zip(headings.iter().skip(1)).filter(|(cell, _)| !cell.is_empty());
            let rest: Vec<String> = rest
                .map(|(cell, heading)| match row.len() {
                    0..=2 => inline(cell),
                    _ => format!("\\fI{}\\fR: {}", inline(heading), inline(cell)),
                })
                .collect();
            self.lines(&if rest.is_empty() { "\\&".into() } else { rest.join("\n.br\n") });
        }
    }

    /// Text with its escapes, broken at spaces, so that no line of it is taken for a macro.
    fn lines(&mut self, text: &str) {
        for part in text.split('\n') {
            if part == ".br" {
                self.text.push_str(".br\n");
                continue;
            }
            let mut length = 0;
            for word in part.split(' ').filter(|word| !word.is_empty()) {
                if length > 0 && length + 1 + word.len() > WIDTH {
                    self.text.push('\n');
                    length = 0;
                } else if length > 0 {
                    self.text.push(' ');
                    length += 1;
                }
                if length == 0 && word.starts_with('.') {
                    self.text.push_str("\\&");
                }
                self.text.push_str(word);
                length += word.len();
            }
            self.text.push('\n');
        }
    }
}

/// The mark of a list item, and its text: `-`, or a number with its point.
fn mark(line: &str) -> Option<(&str, &str)> {
    let (mark, text) = line.split_once(' ')?;
    let is_number =
        mark.strip_suffix('.').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    (mark == "-" || is_number).then_some((mark, text))
}

/// The cells of a row of a table. A bar in code is written `\|`.
fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_start_matches('|').trim_end_matches('|').replace("\\|", "\u{1}");
    row.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
}

/// All of a text in bold.
fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", inline(text).replace("\\fR", "\\fB"))
}

/// Bold, emphasis, code and links as escapes of roff. Links lead to the page of their chapter.
fn inline(text: &str) -> String {
    let mut out = String::new();
    let (mut rest, mut is_bold) = (text, false);
    while let Some(c) = rest.chars().next() {
        let outer = if is_bold { "\\fB" } else { "\\fR" };
        let between =
            |open: &str, close: &str| rest.strip_prefix(open).and_then(|after| after.split_once(close));
        if let Some((code, after)) = between("`", "`") {
            let _ = write!(out, "\\fB{}{outer}", escaped(code));
            rest = after;
        } else if let Some(after) = rest.strip_prefix("**") {
            is_bold = !is_bold;
            out.push_str(if is_bold { "\\fB" } else { "\\fR" });
            rest = after;
        } else if let Some((word, after)) = between("*", "*").filter(|(word, _)| is_word(word)) {
            let _ = write!(out, "\\fI{}{outer}", inline(word));
            rest = after;
        } else if let Some((label, target, after)) = link(rest) {
            out.push_str(&inline(label));
            let chapter =
                CHAPTERS.iter().find(|c| target.split('#').next() == Some(&format!("{}.md", c.name)));
            if let Some(chapter) = chapter {
                let _ = write!(out, " (\\fB{}{outer}(7))", escaped(&name(chapter)));
            }
            rest = after;
        } else {
            out.push_str(&escaped(rest.get(..c.len_utf8()).unwrap_or_default()));
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
    out
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(' ') && !text.ends_with(' ')
}

/// Label, target and what follows of a link at the beginning of a text.
fn link(text: &str) -> Option<(&str, &str, &str)> {
    let (label, after) = text.strip_prefix('[')?.split_once("](")?;
    let (target, after) = after.split_once(')')?;
    (!label.contains(']')).then_some((label, target, after))
}

/// Characters that mean something to roff, or that it shows as others, as their escapes.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '"' => out.push_str("\\(dq"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            c if c.is_ascii() => out.push(c),
            c => {
                let _ = write!(out, "\\[u{:04X}]", u32::from(c));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(markdown: &'static str) -> String {
        let page = page(&Chapter { name: "x", source: markdown });
        let (_, body) = page.split_once(".SH DESCRIPTION\n").unwrap();
        body.split_once(".SH SEE ALSO").unwrap().0.to_owned()
    }

    #[test]
    fn every_element_of_the_chapters_has_its_macro() {
        for (markdown, roff) in [
            ("# T\n\nOne\ntwo.\n\nThree.\n", "One two.\n.PP\nThree.\n"),
            ("# T\n\n## A part\n\nText\n", ".SH A PART\nText\n"),
            ("# T\n\n- one\n  more\n- two\n", ".IP \\(bu 2\none more\n.IP \\(bu 2\ntwo\n"),
            ("# T\n\n1. one\n   more\n", ".IP 1. 4\none more\n"),
            ("# T\n\n    a -b\n\n    .c\n\nD\n", ".RS 4\n.nf\n\\&a \\-b\n\\&\n\\&.c\n.fi\n.RE\n.PP\nD\n"),
            (
                "# T\n\n| A | B |\n|---|---|\n| `a\\|b` | c |\n",
                "\\fIA\\fR, \\fIB\\fR\n.TP\n\\fB\\fBa|b\\fB\\fR\nc\n",
            ),
            (
                "# T\n\n| A | B | C |\n|---|---|---|\n| a | b | |\n",
                "\\fIA\\fR, \\fIB\\fR, \\fIC\\fR\n.TP\n\\fBa\\fR\n\\fIB\\fR: b\n",
            ),
            ("# T\n\n**B `c` d** *e* f\n", "\\fBB \\fBc\\fB d\\fR \\fIe\\fR f\n"),
            ("# T\n\n[Disks](disks.md), [x](../../src/a.rs)\n", "Disks (\\fBtestbox\\-disks\\fR(7)), x\n"),
            ("# T\n\n.x 'y' \\ \u{2026}\n", "\\&.x \\(aqy\\(aq \\e \\[u2026]\n"),
        ] {
            assert_eq!(body(markdown), roff, "{markdown}");
        }
    }

    #[test]
    fn nothing_of_a_chapter_is_lost_in_its_page() {
        for chapter in CHAPTERS {
            let page = page(chapter);
            let plain = |text: &str| -> String { text.chars().filter(char::is_ascii_alphanumeric).collect() };
            let shown =
                ["\\fB", "\\fI", "\\fR"].iter().fold(page.clone(), |text, font| text.replace(font, ""));
            let shown = plain(&shown).to_lowercase();
            for word in
                chapter.text().split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.len() > 3)
            {
                let is_markup = ["https", "FORMAT", "tests", "image", "format"].contains(&word);
                assert!(is_markup || shown.contains(&word.to_lowercase()), "{}: {word}", chapter.name);
            }
            assert!(page.is_ascii() && page.lines().all(|line| !line.starts_with('\'')), "{}", chapter.name);
        }
    }
}
