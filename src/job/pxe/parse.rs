//! Reading a PXELINUX configuration file: which label boots by default, and with which words.

use crate::job::Cmdline;
use crate::text::{is_plain, quoted};
use crate::types::{lines, looks_like_ours, split};

/// Lines that are complained about: a hostile file must not fill the memory.
const PROBLEMS_MAX: usize = 16;

/// What PXELINUX boots from a file without anybody at the keyboard.
///
/// Follows Syslinux's readconfig.c for the directives that `arm` and people write by hand: DEFAULT, LABEL, KERNEL
/// and its kin, APPEND (global or of a label), LOCALBOOT, TEXT blocks. INCLUDE and UI are not followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PxeFile {
    /// The first word of the last DEFAULT line.
    pub default: Option<String>,
    /// The words that the default label gives its kernel; `None` where it boots from the local disk, or is not there.
    pub append: Option<String>,
    /// Lines that may hold words which PXELINUX gives to nobody, one sentence each.
    pub problems: Vec<String>,
}

#[derive(Default)]
struct PxeLabel<'a> {
    name: &'a str,
    append: Option<&'a str>,
    boots_kernel: bool,
}

/// The first word, which PXELINUX compares without regard to case, and what follows it.
fn directive(line: &str) -> (String, &str) {
    let line = line.trim_matches(|c: char| c.is_ascii_whitespace() || c.is_control());
    match line.split_once(|c: char| c.is_ascii_whitespace()) {
        Some((word, rest)) => (word.to_ascii_lowercase(), rest.trim_start()),
        None => (line.to_ascii_lowercase(), ""),
    }
}

impl PxeFile {
    /// Parses a file. Total: lines that make no sense are passed over, as PXELINUX does.
    pub fn parse(text: &str) -> PxeFile {
        let mut default = None;
        let mut global_append = None;
        let mut labels: Vec<PxeLabel<'_>> = Vec::new();
        let mut in_text = false;
        let mut problems = Vec::new();
        for (at, line) in lines(text).enumerate() {
            let (word, rest) = directive(line);
            if in_text {
                in_text = word != "endtext";
                continue;
            }
            match word.as_str() {
                "text" => in_text = true,
                "default" if !rest.is_empty() => default = Some(rest),
                "label" => labels.push(PxeLabel {
                    name: rest.split_ascii_whitespace().next().unwrap_or_default(),
                    append: None,
                    // A label without KERNEL boots the kernel of its own name.
                    boots_kernel: true,
                }),
                "append" => match labels.last_mut() {
                    Some(label) => label.append = Some(rest),
                    None => global_append = Some(rest),
                },
                "kernel" | "linux" => set_kind(&mut labels, true),
                "localboot" | "boot" | "bss" | "pxe" | "fdimage" | "comboot" | "com32" | "config"
                | "none" => {
                    set_kind(&mut labels, false);
                }
                _ if hides_words(line) && problems.len() < PROBLEMS_MAX => {
                    problems.push(format!("line {}: {} is not an APPEND line", at + 1, quoted(line)));
                }
                _ => {}
            }
        }
        let (name, more) =
            default.map_or(("", ""), |d| d.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((d, "")));
        let append = labels.iter().find(|l| l.name == name && !name.is_empty()).and_then(|label| {
            let own = label.append.or(global_append).filter(|a| *a != "-").unwrap_or_default();
            label.boots_kernel.then(|| [own, more].join(" ").trim().to_owned())
        });
        PxeFile { default: (!name.is_empty()).then(|| name.to_owned()), append, problems }
    }

    /// The words of the default label; those of nothing at all where it boots from the local disk.
    pub fn cmdline(&self) -> Cmdline {
        Cmdline::parse_append(self.append.as_deref().unwrap_or_default(), &self.problems)
    }
}

/// A line of no directive with a testbox word in it, in plain characters or in others that look like them. Comments and
/// menus are for people.
fn hides_words(line: &str) -> bool {
    let (word, _) = directive(line);
    let is_for_people = word.starts_with('#') || matches!(word.as_str(), "menu" | "say" | "display");
    // What is no letter of ours may be taken for a space, and full-width letters for narrow ones.
    let seen: String = line
        .chars()
        .map(|c| match u32::from(c) {
            wide @ 0xff01..=0xff5e => char::from_u32(wide - 0xfee0).unwrap_or(c),
            _ if is_plain(c) => c,
            _ => ' ',
        })
        .collect();
    !is_for_people && split(&seen).iter().any(|word| looks_like_ours(word.key) && word.value.is_some())
}

fn set_kind(labels: &mut [PxeLabel<'_>], boots_kernel: bool) {
    if let Some(label) = labels.last_mut() {
        label.boots_kernel = boots_kernel;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Action;
    use proptest::prelude::*;

    #[test]
    fn the_file_of_the_original() {
        let file = PxeFile::parse(
            "PATH bios\nDEFAULT maintenance\nLABEL maintenance\n  MENU LABEL Maintenance (NFS)\n  KERNEL k\n  \
             APPEND initrd=i testbox-action-backup ro aufs=tmpfs boot=nfs\nLABEL local-boot\n  LOCALBOOT\n",
        );
        assert_eq!(file.default.as_deref(), Some("maintenance"));
        assert_eq!(file.cmdline().action, Some(Action::Backup));
        assert_eq!(file.cmdline().job, None);
    }

    #[test]
    fn the_default_label_decides() {
        for (text, append) in [
            ("", None),
            ("default local\nlabel local\nlocalboot 0\nappend x\nlabel m\nkernel k\nappend y", None),
            ("default m\nlabel m\nkernel k\nappend y\nlabel n\nappend z", Some("y")),
            ("append g\ndefault m\nlabel m\nkernel k", Some("g")),
            ("append g\ndefault m\nlabel m\nkernel k\nappend -", Some("")),
            ("append g\ndefault m x\nlabel m\nkernel k\nappend a", Some("a x")),
            ("default m\r\nlabel m\r\n\tkernel k\r\n\tAPPEND\ta b\r\n", Some("a b")),
            ("default m\nlabel m\nappend a\ntext help\nappend evil\nendtext\n", Some("a")),
            ("default m\nlabel m\nappend a\nlabel m\nappend second\n", Some("a")),
            ("default a\ndefault b\nlabel a\nappend a\nlabel b\nappend b", Some("b")),
            ("# default m\nlabel m\nappend a", None),
            ("default\nlabel\nappend a", None),
        ] {
            assert_eq!(PxeFile::parse(text).append.as_deref(), append, "{text:?}");
        }
    }

    #[test]
    fn a_pxe_file_loses_no_restriction_in_silence() {
        let file = |first: &str, more: &str| {
            PxeFile::parse(&format!("{first}DEFAULT m\nLABEL m\nKERNEL k\nAPPEND testbox.job=j\n{more}"))
                .cmdline()
        };
        for (first, more) in [
            ("\u{feff}", ""),
            ("# Büro – 2\n", "MENU LABEL a\u{a0}b\nSAY testbox.x=1\n"),
            ("", "prompt\t0\r\nINITRD testbox/i\nF1 a\u{a0}b\n"),
        ] {
            let words = file(first, more);
            assert!(words.job.is_some() && words.problems.is_empty(), "{first:?} {more:?}: {words:?}");
        }
        for more in [
            "APPEND\u{a0}testbox.job=j testbox.disks=sda\n",
            "APEND testbox.disks=sda\n",
            "testbox.disks=sda\n",
            "\u{feff}APPEND testbox.disks=sda\n",
            "\u{ff21}PPEND testbox.disks=sda\n",
            "IPAPPEND 2\u{2003}\u{ff54}\u{ff45}stbox.disks=sda\n",
        ] {
            assert!(!file("", more).problems.is_empty(), "{more:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), near in "((default|label|append|text|kernel)? ?[a-c-]{0,2}\n){0,9}") {
            let _ = (PxeFile::parse(&text).cmdline(), PxeFile::parse(&near).cmdline());
        }
    }
}
