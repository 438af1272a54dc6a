//! What kernel, initramfs and loaders are, by their bytes.

use std::io::{self, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The release of a Linux kernel in a bzImage (Documentation/arch/x86/boot.rst: `HdrS` at 0x202, `kernel_version` at 0x20e).
pub(super) fn kernel_release(bytes: &[u8]) -> Option<String> {
    if bytes.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let at = usize::from(u16::from_le_bytes(bytes.get(0x20e..0x210)?.try_into().ok()?)) + 0x200;
    let text = bytes.get(at..)?.split(|b| matches!(b, 0 | b' ')).next()?;
    let text = std::str::from_utf8(text).ok()?;
    (!text.is_empty() && text.len() < 100 && text.chars().all(|c| c.is_ascii_graphic()))
        .then(|| text.to_owned())
}

/// What an initramfs holds, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct InitrdContent {
    /// The kernel releases that it has modules for.
    pub modules: Vec<String>,
    pub has_agent: bool,
    /// What the agent says of itself.
    pub agent_version: Option<String>,
    /// It ends before its end.
    pub damage: Option<String>,
    /// Why it could not be looked into.
    pub unknown: Option<String>,
}

const CPIO: &[u8] = b"070701";
/// Longest name of a file.
const NAME_MAX: usize = 4096;
/// How long a program may unpack.
const UNPACK: Duration = Duration::from_secs(60);
/// Where the agent says its version, before the digits.
const AGENT_SAYS: &[u8] = b"testbox-agent ";
/// Archives that one initramfs may be made of.
const ARCHIVES_MAX: usize = 8;

/// Looks into an initramfs: archives of cpio one after the other, the last one packed.
pub(super) fn initrd(bytes: &[u8]) -> InitrdContent {
    let mut found = InitrdContent::default();
    let mut rest = bytes;
    for _ in 0..ARCHIVES_MAX {
        let zeros = rest.iter().take_while(|b| **b == 0).count();
        rest = rest.get(zeros..).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
        if rest.starts_with(CPIO) {
            match archive(&mut rest, &mut found) {
                Ok(()) => continue,
                Err(e) => found.damage = Some(format!("an archive in it is damaged: {e}")),
            }
            break;
        }
        let program = match rest {
            [0x1f, 0x8b, ..] => None,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
            [0xfd, b'7', b'z', b'X', ..] => Some("xz"),
            [0x02, 0x21, 0x4c, 0x18, ..] => Some("lz4"),
            _ => {
                found.damage = Some("it is not an initramfs, or its compression is unknown".into());
                break;
            }
        };
        packed(rest, program, &mut found);
        break;
    }
    found
}

fn packed(bytes: &[u8], program: Option<&str>, found: &mut InitrdContent) {
    let result = match program {
        None => {
            archive(&mut BufReader::with_capacity(1 << 16, flate2::read::MultiGzDecoder::new(bytes)), found)
        }
        Some(program) => match by_program(bytes, program, found) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                found.unknown = Some(format!(
                    "the initramfs is packed by {program}, which is not installed here: apt-get install {program}"
                ));
                return;
            }
            other => other,
        },
    };
    if let Err(e) = result {
        found.damage = Some(format!("it cannot be unpacked: {e}"));
    }
}

fn by_program(bytes: &[u8], program: &str, found: &mut InitrdContent) -> io::Result<()> {
    let mut command = Command::new(program);
    command.args(["-d", "-c", "-q"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else { return Err(io::ErrorKind::Other.into()) };
    let child = Arc::new(Mutex::new(child));
    let watched = child.clone();
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        if is_done.recv_timeout(UNPACK) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = watched.lock().unwrap_or_else(PoisonError::into_inner).kill();
        }
    });
    let read = std::thread::scope(|scope| {
        // It ends early where the program does.
        scope.spawn(move || drop(stdin.write_all(bytes)));
        let mut reader = BufReader::with_capacity(1 << 16, stdout);
        let read = archive(&mut reader, found);
        // What is left must be taken, or the program waits for ever.
        let _ = io::copy(&mut reader, &mut io::sink());
        read
    });
    drop(done);
    let status = child.lock().unwrap_or_else(PoisonError::into_inner).wait()?;
    read?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{program} ends with {status}"))) }
}

/// One archive, to its trailer (cpio(5), "New ASCII Format").
fn archive(from: &mut impl Read, found: &mut InitrdContent) -> io::Result<()> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let cut =
        |e: io::Error| if e.kind() == io::ErrorKind::UnexpectedEof { bad("it is cut short") } else { e };
    loop {
        let mut head = [0; 110];
        from.read_exact(&mut head).map_err(cut)?;
        let number = |at: usize| {
            let digits = head.get(at..at + 8).and_then(|digits| std::str::from_utf8(digits).ok());
            digits
                .and_then(|digits| u32::from_str_radix(digits, 16).ok())
                .ok_or_else(|| bad("a number is none"))
        };
        if !head.starts_with(CPIO) {
            return Err(bad("a head is none"));
        }
        let (size, name_size) = (u64::from(number(54)?), number(94)? as usize);
        if !(1..=NAME_MAX).contains(&name_size) {
            return Err(bad("a name is too long"));
        }
        let mut name = vec![0; name_size + (4 - (110 + name_size) % 4) % 4];
        from.read_exact(&mut name).map_err(cut)?;
        name.truncate(name_size - 1);
        let name = String::from_utf8_lossy(&name).into_owned();
        if name == "TRAILER!!!" {
            return Ok(());
        }
        let padded = size + (4 - size % 4) % 4;
        let mut content = from.take(padded);
        entry(name.trim_start_matches("./"), size, &mut content, found)?;
        let left = content.limit();
        if io::copy(&mut content, &mut io::sink())? < left {
            return Err(bad("it is cut short"));
        }
    }
}

fn entry(name: &str, size: u64, content: &mut impl Read, found: &mut InitrdContent) -> io::Result<()> {
    let name = name.strip_prefix("usr/").unwrap_or(name);
    if let Some(release) = name.strip_prefix("lib/modules/").filter(|rest| !rest.contains('/')) {
        found.modules.push(release.to_owned());
    }
    if name == "sbin/testbox-agent" {
        found.has_agent = true;
        let mut program = Vec::new();
        content.take(size.min(64 << 20)).read_to_end(&mut program)?;
        found.agent_version = version_in(&program);
    }
    Ok(())
}

/// The version that a program would print.
fn version_in(program: &[u8]) -> Option<String> {
    let first = *AGENT_SAYS.first()?;
    let mut at = 0;
    while let Some(next) = program.get(at..)?.iter().position(|b| *b == first) {
        at += next + 1;
        let Some(rest) = program.get(at - 1..)?.strip_prefix(AGENT_SAYS) else { continue };
        let text: Vec<u8> = rest
            .iter()
            .copied()
            .take(40)
            .take_while(|b| b.is_ascii_alphanumeric() || b".-+".contains(b))
            .collect();
        if text.first().is_some_and(u8::is_ascii_digit) && text.contains(&b'.') {
            return String::from_utf8(text).ok();
        }
    }
    None
}

/// A program of UEFI (PE/COFF): its machine, and its sections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EfiProgram {
    pub machine: u16,
    /// `.sbat`: what it is, component and generation.
    pub is: Vec<(String, u32)>,
    /// `.sbatlevel`: what it refuses to load below that generation. The latest of its two lists.
    pub demands: Vec<(String, u32)>,
}

/// Reads one; `None` for anything else. Total.
pub(super) fn efi_program(bytes: &[u8]) -> Option<EfiProgram> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?));
    if bytes.get(..2)? != b"MZ" {
        return None;
    }
    let head = u32_at(0x3c)? as usize;
    if bytes.get(head..head.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let (machine, sections, optional) = (u16_at(head + 4)?, u16_at(head + 6)?, u16_at(head + 20)?);
    let mut program = EfiProgram { machine, is: Vec::new(), demands: Vec::new() };
    for section in 0..usize::from(sections.min(96)) {
        let at = head + 24 + usize::from(optional) + section * 40;
        let name = bytes.get(at..at.checked_add(8)?)?;
        // Debian's names of more than eight letters are in a table that is not worth its reading.
        let (size, offset) = (u32_at(at + 16)? as usize, u32_at(at + 20)? as usize);
        let content = offset.checked_add(size).and_then(|end| bytes.get(offset..end)).unwrap_or_default();
        if name.starts_with(b".sbat\0") {
            program.is = sbat(content);
        } else if let Some(levels) = levels(content) {
            program.demands = levels;
        }
    }
    Some(program)
}

/// The lines of a list of SBAT: a component and its generation.
fn sbat(bytes: &[u8]) -> Vec<(String, u32)> {
    let text = String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned();
    let one = |line: &str| {
        let mut words = line.split(',');
        Some((words.next()?.to_owned(), words.next()?.trim().parse().ok()?))
    };
    text.lines().filter_map(one).filter(|(name, _)| name != "sbat").collect()
}

/// The last list of a section `.sbatlevel`: a version, and two offsets of lists (shim, `SBAT.md`).
fn levels(bytes: &[u8]) -> Option<Vec<(String, u32)>> {
    let offset = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    let (version, first, last) = (offset(0)?, offset(4)?, offset(8)?);
    let is_list = |at: usize| bytes.get(at + 4..).is_some_and(|list| list.starts_with(b"sbat,1,"));
    if version != 0 || first > 64 || last > 4096 || !is_list(first) || !is_list(last) {
        return None;
    }
    // The first is what is applied of itself; the last only where somebody asks for it.
    Some(sbat(bytes.get(first + 4..)?))
}

/// Why shim refuses a program that it loads; `None` where it does not.
pub(super) fn refused_by(shim: &EfiProgram, grub: &EfiProgram) -> Option<String> {
    let below = |(name, least): &&(String, u32)| {
        let own = grub.is.iter().find(|(component, _)| component == name);
        own.is_some_and(|(_, generation)| generation < least)
    };
    let (name, least) = shim.demands.iter().find(below)?;
    Some(format!("shim requires {name} of SBAT generation {least} or later, and this one is older"))
}

#[cfg(test)]
mod tests;
