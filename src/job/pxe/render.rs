//! Writing the PXELINUX file that arms one machine.

use super::{ArmedBy, GRUB_SPECIAL};
use crate::job::Action;
use crate::job::Options;
use crate::net::netconf::IpWord;
use crate::text::quoted;
use crate::types::{JobId, JobSignature, NfsSource, looks_like_ours};
use std::fmt::Write;

/// Longest command line of an x86 kernel in bytes: COMMAND_LINE_SIZE is 2048 with the final NUL (kernel document
/// arch/x86/boot, field cmdline_size), and GRUB keeps one more byte for itself (seen with GRUB 2.06: see `tests/qemu`).
pub const KERNEL_LINE_MAX: usize = 2046;

/// Longest line of a configuration file in bytes without its newline: PXELINUX reads with fgets into 4096 bytes, and
/// would take the rest of a longer line for another directive.
const CONFIG_LINE_MAX: usize = 4094;

/// Whoever holds a key down at the console gets no prompt to add kernel words at, such as `break=` of initramfs-tools,
/// which is a root shell (PXELINUX's directives: the chapter "Configuration" of the syslinux documentation).
const NO_PROMPT: &str = "NOESCAPE 1\nALLOWOPTIONS 0\nIMPLICIT 0\n";

/// Seconds after which the initramfs reboots instead of keeping the shell of its `panic()`.
const PANIC_SECONDS: u32 = 300;

/// How the armed machine boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootMode {
    /// `boot=nfs`: the read-only NFS root at this export. The server must be an IPv4 address and the options those
    /// of klibc's nfsmount.
    NfsRoot(NfsSource),
    /// `boot=testbox`: the agent alone.
    AgentOnly,
}

/// Everything that the file of one armed machine says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PxeJob {
    /// Who writes it, for the comment on the first line: program and version.
    pub program: String,
    /// Who has armed the machine, for the comment on the second line.
    pub armed_by: Option<ArmedBy>,
    /// What to do.
    pub action: Action,
    /// Fresh for every arming.
    pub job: JobId,
    /// The signature over it, where it is signed.
    pub signature: Option<JobSignature>,
    /// Kernel, relative to the TFTP root, such as `maintenance-boot/vmlinuz`.
    pub kernel: String,
    /// Initramfs, relative to the TFTP root.
    pub initrd: String,
    /// NFS root, or agent only.
    pub boot: BootMode,
    /// The `ip=` word; its NIC field must be empty.
    pub ip: IpWord,
    /// The testbox words.
    pub options: Options,
    /// `console=` values in order; the agent shows its progress on all of them.
    pub consoles: Vec<String>,
    /// More kernel words, as they are.
    pub extra: Vec<String>,
}

/// Why there is no file for a [`PxeJob`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PxeError {
    /// A text that would end its word, line or directive early.
    #[error("{what} {value} cannot stand in a PXELINUX file: {allowed}")]
    Text {
        /// Which text.
        what: &'static str,
        /// The text, quoted.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A NIC name in `ip=`.
    #[error(
        "the NIC field of ip= must be empty, not {0}: nobody knows the NIC's name beforehand and a wrong one ends the \
         boot; PXELINUX's BOOTIF says which NIC it is"
    )]
    Nic(String),
    /// The kernel would cut its command line.
    #[error(
        "the kernel command line would have {0} bytes, of which kernel and loader take {KERNEL_LINE_MAX}: use fewer words"
    )]
    KernelLine(usize),
    /// PXELINUX would cut a line.
    #[error("a line of the PXELINUX file would have {0} bytes, of which PXELINUX takes {CONFIG_LINE_MAX}")]
    ConfigLine(usize),
}

fn check(what: &'static str, text: &str, allowed: &'static str, good: bool) -> Result<(), PxeError> {
    if good { Ok(()) } else { Err(PxeError::Text { what, value: quoted(text), allowed }) }
}

fn check_path(what: &'static str, path: &str) -> Result<(), PxeError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._/+-~".contains(&b);
    let good = !path.is_empty() && path.bytes().all(plain) && !path.split('/').any(|name| name == "..");
    check(what, path, "a path of letters, digits and ._/+-~ without '..'", good)
}

/// The options of klibc's nfsmount (klibc, usr/kinit/nfsmount/main.c). It aborts on any other, and the boot then
/// retries for 180 s.
const NFSMOUNT_FLAGS: [&str; 20] = [
    "soft",
    "hard",
    "intr",
    "nointr",
    "posix",
    "noposix",
    "cto",
    "nocto",
    "ac",
    "noac",
    "lock",
    "nolock",
    "acl",
    "noacl",
    "v3",
    "tcp",
    "udp",
    "broken_suid",
    "ro",
    "rw",
];
const NFSMOUNT_NUMBERS: [&str; 11] = [
    "port", "nfsvers", "vers", "rsize", "wsize", "timeo", "retrans", "acregmin", "acregmax", "acdirmin",
    "acdirmax",
];

fn is_nfsmount_option(option: &str) -> bool {
    match option.split_once('=') {
        None => NFSMOUNT_FLAGS.contains(&option),
        Some(("vers" | "nfsvers", version)) => version == "3",
        Some((key, number)) => {
            let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            is_number && NFSMOUNT_NUMBERS.contains(&key)
        }
    }
}

fn nfsroot_word(root: &NfsSource) -> Result<String, PxeError> {
    let host = root.host.as_str();
    check(
        "NFS root server",
        host,
        "klibc's nfsmount takes an IPv4 address only",
        root.host.ipv4().is_some(),
    )?;
    check_path("NFS root path", &root.path)?;
    for option in &root.options {
        let allowed = "not an option of klibc's nfsmount, which knows NFS version 3 only (tcp, vers=3, port=N, ro and others)";
        check("NFS root option", option, allowed, is_nfsmount_option(option))?;
    }
    Ok(format!("nfsroot={root}"))
}

fn is_special(word: &str) -> bool {
    word.bytes().any(|b| GRUB_SPECIAL.contains(&b))
}

/// The words of the APPEND line, in order.
fn append_words(job: &PxeJob) -> Result<Vec<String>, PxeError> {
    check_path("kernel", &job.kernel)?;
    check_path("initrd", &job.initrd)?;
    let mut words = vec![
        format!("initrd={}", job.initrd),
        format!("testbox.action={}", job.action),
        format!("testbox.job={}", job.job),
        "ro".to_owned(),
    ];
    words.extend(job.signature.as_ref().map(|signature| format!("testbox.signature={signature}")));
    match &job.boot {
        BootMode::NfsRoot(root) => {
            words.extend(["boot=nfs".to_owned(), "root=/dev/nfs".to_owned(), nfsroot_word(root)?]);
        }
        BootMode::AgentOnly => words.push("boot=testbox".to_owned()),
    }
    if let IpWord::Fields(fields) = &job.ip
        && let Some(nic) = &fields.device
    {
        return Err(PxeError::Nic(quoted(nic)));
    }
    words.push(format!("ip={}", job.ip));
    words.extend(job.options.words());
    for console in &job.consoles {
        let good =
            !console.is_empty() && console.bytes().all(|b| b.is_ascii_alphanumeric() || b",.:-".contains(&b));
        check("console", console, "a kernel console such as tty0 or ttyS0,115200", good)?;
        words.push(format!("console={console}"));
    }
    words.push(format!("panic={PANIC_SECONDS}"));
    for word in &job.extra {
        let allowed = "one kernel word without spaces, quotes and what is special to GRUB ($;&|<>{}'`\\#*?[]), not a testbox \
                       parameter, 'panic=' or '--'";
        let ours = looks_like_ours(word) || word.starts_with("panic=") || word == "--";
        let good = !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic()) && !ours;
        check("kernel word", word, allowed, good && !is_special(word))?;
        words.push(word.clone());
    }
    // The words of testbox encode what is special.
    match words.iter().find(|word| is_special(word)) {
        None => Ok(words),
        Some(word) => check("word", word, "letters, digits and .,:=%/@+-_~", false).map(|()| words),
    }
}

/// The whole text of `pxelinux.cfg/<HEXIP>` for an armed machine.
///
/// `SYSAPPEND 2` makes PXELINUX add BOOTIF, the MAC of the NIC it booted from; GRUB's script adds it too.
///
/// # Errors
/// Which part of the job cannot stand in the file, or that the kernel's line gets too long.
pub fn render(job: &PxeJob) -> Result<String, PxeError> {
    let program_is_text = !job.program.is_empty() && job.program.bytes().all(|b| matches!(b, b' '..=b'~'));
    check("program", &job.program, "one line of printable characters", program_is_text)?;
    let append = append_words(job)?.join(" ");

    // PXELINUX puts BOOT_IMAGE before the words and BOOTIF after them, GRUB both before them, with a slash.
    let around = format!("BOOT_IMAGE=/{} ", job.kernel).len() + " BOOTIF=01-00-00-00-00-00-00".len();
    let kernel_line = append.len().saturating_add(around);
    if kernel_line > KERNEL_LINE_MAX {
        return Err(PxeError::KernelLine(kernel_line));
    }

    let note = job.armed_by.as_ref().map(|note| format!("{note}\n")).unwrap_or_default();
    let mut text = String::new();
    let _ = write!(
        text,
        "# {program}: {action}, job {id}\n\
         {note}PATH bios\n\
         DEFAULT maintenance\n\
         PROMPT 0\n\
         TIMEOUT 0\n\
         {NO_PROMPT}\
         \n\
         LABEL maintenance\n  \
           MENU LABEL Maintenance\n  \
           KERNEL {kernel}\n  \
           APPEND {append}\n  \
           SYSAPPEND 2\n\
         \n\
         LABEL local-boot\n  \
           MENU LABEL Local disk\n  \
           LOCALBOOT 0\n",
        program = job.program,
        action = job.action,
        id = job.job,
        kernel = job.kernel,
    );
    match text.lines().map(str::len).max() {
        Some(longest) if longest > CONFIG_LINE_MAX => Err(PxeError::ConfigLine(longest)),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::pxe::{GRUB_HEAD, PxeFile, grub_config};
    use proptest::prelude::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    fn job() -> PxeJob {
        PxeJob {
            program: "testboxctl 0.1.0".into(),
            armed_by: None,
            action: Action::Restore,
            job: "ab-12".parse().unwrap(),
            signature: None,
            kernel: "maintenance-boot/vmlinuz".into(),
            initrd: "maintenance-boot/initrd.img".into(),
            boot: BootMode::NfsRoot("10.0.0.1:/export/testbox-nfsroot,ro,tcp,vers=3".parse().unwrap()),
            ip: IpWord::Dhcp,
            options: Options::default(),
            consoles: vec!["tty0".into(), "ttyS0,115200".into()],
            extra: vec!["quiet".into()],
        }
    }

    #[test]
    fn the_file_of_an_nfs_root_machine() {
        let expected = "# testboxctl 0.1.0: restore, job ab-12\nPATH bios\nDEFAULT maintenance\nPROMPT 0\nTIMEOUT 0\n\
            NOESCAPE 1\nALLOWOPTIONS 0\nIMPLICIT 0\n\n\
            LABEL maintenance\n  MENU LABEL Maintenance\n  KERNEL maintenance-boot/vmlinuz\n  \
            APPEND initrd=maintenance-boot/initrd.img testbox.action=restore testbox.job=ab-12 ro boot=nfs \
            root=/dev/nfs nfsroot=10.0.0.1:/export/testbox-nfsroot,ro,tcp,vers=3 ip=dhcp console=tty0 \
            console=ttyS0,115200 panic=300 quiet\n  SYSAPPEND 2\n\n\
            LABEL local-boot\n  MENU LABEL Local disk\n  LOCALBOOT 0\n";
        assert_eq!(render(&job()).unwrap(), expected);
    }

    /// By GRUB's own checker; what it makes of them is shown by an emulated machine.
    #[test]
    fn grub_takes_its_script_and_the_armed_file() {
        let armed = render(&job()).unwrap();
        for (script, is_script) in [(grub_config(), true), (armed.clone(), true), (armed + "if", false)] {
            let mut check = Command::new("grub-script-check");
            let mut check = check.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("grub-common");
            check.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
            assert_eq!(check.wait().unwrap().success(), is_script, "{script}");
        }
        assert!(grub_config().starts_with(GRUB_HEAD) && !grub_config().contains('@'));
    }

    #[test]
    fn agent_only_has_no_nfs_root() {
        let text = render(&PxeJob { boot: BootMode::AgentOnly, ..job() }).unwrap();
        assert!(text.contains(" boot=testbox ") && !text.contains("nfs") && text.contains(" panic=300 "));
    }

    #[test]
    fn nothing_escapes_its_word_or_its_line() {
        let refused = |job: PxeJob| matches!(render(&job), Err(PxeError::Text { .. }));
        for bad in ["", "a b", "a\nAPPEND x", "../k", "k;x"] {
            assert!(refused(PxeJob { kernel: bad.into(), ..job() }), "{bad}");
            assert!(refused(PxeJob { initrd: bad.into(), ..job() }), "{bad}");
        }
        for bad in ["", "ttyS0 x", "a\n"] {
            assert!(refused(PxeJob { consoles: vec![bad.into()], ..job() }), "{bad}");
        }
        for special in GRUB_SPECIAL {
            let bad = format!("a{}b", char::from(*special));
            assert!(refused(PxeJob { extra: vec![bad.clone()], ..job() }), "{bad}");
        }
        for bad in ["", "a b", "testbox.keep=2", "panic=0", "--", "a\nb"] {
            assert!(refused(PxeJob { extra: vec![bad.into()], ..job() }), "{bad}");
        }
        for bad in ["", "x\nDEFAULT y"] {
            assert!(refused(PxeJob { program: bad.into(), ..job() }), "{bad}");
        }
    }

    /// What klibc's nfsmount rejects would hang the boot for 180 s before anybody sees why.
    #[test]
    fn nfs_roots_that_klibc_cannot_mount_are_refused() {
        for (root, good) in [
            ("10.0.0.1:/r", true),
            ("10.0.0.1:/r,ro,tcp,v3,port=2049", true),
            ("10.0.0.1:/r,acdirmax=9", true),
            ("nas.lab:/r", false),
            ("10.0.0.1:/r,mountport=2050", false),
            ("10.0.0.1:/r,vers=4.2", false),
            ("10.0.0.1:/r,port=x", false),
            ("10.0.0.1:/a%20b", false),
        ] {
            let boot = BootMode::NfsRoot(root.parse().unwrap());
            assert_eq!(render(&PxeJob { boot, ..job() }).is_ok(), good, "{root}");
        }
    }

    #[test]
    fn a_nic_name_is_refused() {
        let ip = "10.0.0.9:10.0.0.1:10.0.0.2:255.0.0.0:m:eth0".parse().unwrap();
        assert_eq!(render(&PxeJob { ip, ..job() }), Err(PxeError::Nic("'eth0'".into())));
    }

    /// The kernel cuts its command line silently: the file must not be written at all.
    #[test]
    fn lines_that_would_be_cut_are_refused() {
        let with = |n: usize| PxeJob { extra: vec!["x".repeat(n)], ..job() };
        let append = |job: &PxeJob| append_words(job).unwrap().join(" ").len();
        let room =
            KERNEL_LINE_MAX - append(&with(1)) + 1 - "BOOT_IMAGE=/maintenance-boot/vmlinuz ".len() - 28;
        assert!(render(&with(room)).is_ok());
        assert_eq!(render(&with(room + 1)), Err(PxeError::KernelLine(KERNEL_LINE_MAX + 1)));
        let program = "x".repeat(5000);
        assert!(matches!(render(&PxeJob { program, ..job() }), Err(PxeError::ConfigLine(_))));
    }

    proptest! {
        #[test]
        fn what_is_rendered_parses_back(
            action in prop::sample::select(&Action::ALL[..]),
            id in "[A-Za-z0-9._-]{1,64}",
            serials in prop::collection::vec("[!-~]([ -~]{0,20}[!-~])?", 0..4),
            keep in prop::option::of(0u32..100),
            nfs in any::<bool>(),
        ) {
            let job = PxeJob {
                action,
                job: id.parse().unwrap(),
                boot: if nfs { job().boot } else { BootMode::AgentOnly },
                options: Options {
                    disks: serials.into_iter().map(crate::types::DiskSelector::Serial).collect(),
                    keep,
                    backup: "nas:/export/testbox-backup,vers=4.2".parse().ok(),
                    ..Options::default()
                },
                ..job()
            };
            let parsed = PxeFile::parse(&render(&job).unwrap()).cmdline();
            prop_assert_eq!(parsed.problems, Vec::<String>::new());
            prop_assert_eq!(parsed.action, Some(job.action));
            prop_assert_eq!(parsed.job, Some(job.job));
            prop_assert_eq!(parsed.options, job.options);
            prop_assert_eq!(parsed.panic, Some(300));
            prop_assert_eq!(parsed.boot.as_deref(), Some(if nfs { "nfs" } else { "testbox" }));
        }

        #[test]
        fn rendering_never_panics(program in any::<String>(), kernel in any::<String>(), word in any::<String>()) {
            let _ = render(&PxeJob { program, kernel: kernel.clone(), ..job() });
            let _ = render(&PxeJob { consoles: vec![kernel], extra: vec![word], ..job() });
        }
    }
}
