//! Reading a PXELINUX configuration file: which label boots by default, and with which words.

use crate::job::Cmdline;

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
}

#[derive(Default)]
struct Label<'a> {
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
        let mut labels: Vec<Label<'_>> = Vec::new();
        let mut in_text = false;
        for line in text.lines() {
            let (word, rest) = directive(line);
            if in_text {
                in_text = word != "endtext";
                continue;
            }
            match word.as_str() {
                "text" => in_text = true,
                "default" if !rest.is_empty() => default = Some(rest),
                "label" => labels.push(Label {
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
                _ => {}
            }
        }
        let (name, more) =
            default.map_or(("", ""), |d| d.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((d, "")));
        let append = labels.iter().find(|l| l.name == name && !name.is_empty()).and_then(|label| {
            let own = label.append.or(global_append).filter(|a| *a != "-").unwrap_or_default();
            label.boots_kernel.then(|| [own, more].join(" ").trim().to_owned())
        });
        PxeFile { default: (!name.is_empty()).then(|| name.to_owned()), append }
    }

    /// The words of the default label; those of nothing at all where it boots from the local disk.
    pub fn cmdline(&self) -> Cmdline {
        Cmdline::parse(self.append.as_deref().unwrap_or_default())
    }
}

fn set_kind(labels: &mut [Label<'_>], boots_kernel: bool) {
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

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), near in "((default|label|append|text|kernel)? ?[a-c-]{0,2}\n){0,9}") {
            let _ = (PxeFile::parse(&text).cmdline(), PxeFile::parse(&near).cmdline());
        }
    }
}
