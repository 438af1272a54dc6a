//! Programs of another root: started with that root as their own, waited for no longer than their limit.

use rustix::fs::MemfdFlags;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Where programs of the administrator are, first to last.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// How often a running program is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long one may take to die that was killed: it can be stuck in the kernel.
const DEATH: Duration = Duration::from_secs(10);
/// Most bytes of output that are kept.
const OUTPUT: u64 = 64 << 10;

/// A program to be run.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// The root that it sees.
    pub root: &'a Path,
    /// Its name.
    pub name: &'a str,
    /// Its arguments.
    pub args: &'a [&'a str],
    /// When it is killed.
    pub limit: Duration,
}

/// A program that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; 128 and the number of the signal that ended it, as in a shell.
    pub code: i32,
    /// The first of what it said, errors included.
    pub output: String,
}

/// The path of a program below a root.
pub(super) fn find(root: &Path, name: &str) -> Option<PathBuf> {
    let mut paths = FOLDERS.iter().map(|folder| Path::new(folder).join(name));
    // A link can lead to an absolute path of that root, which is another one here.
    paths.find(|path| path.strip_prefix("/").is_ok_and(|path| root.join(path).symlink_metadata().is_ok()))
}

pub(super) fn run(program: &Program<'_>) -> io::Result<Ran> {
    let path = find(program.root, program.name);
    let path = path.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is not there"))?;
    // In memory, and not through a pipe: what a program leaves behind could keep that open for ever.
    let mut output: File = rustix::fs::memfd_create("output", MemfdFlags::CLOEXEC)?.into();
    let mut command = Command::new(path);
    command
        .args(program.args)
        .env_clear()
        .env("PATH", FOLDERS.join(":"))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .process_group(0);
    let root = CString::new(program.root.as_os_str().as_bytes())?;
    let enter = move || {
        rustix::process::chroot(&root)?;
        Ok(rustix::process::chdir(c"/")?)
    };
    // SAFETY: between fork and exec it makes two system calls with strings that are there, and allocates nothing.
    unsafe { command.pre_exec(enter) };
    let status = wait(&mut command.spawn()?, program.limit)?;
    output.rewind()?;
    let mut said = Vec::new();
    output.take(OUTPUT).read_to_end(&mut said)?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
    Ok(Ran { code, output: String::from_utf8_lossy(&said).into_owned() })
}

fn wait(child: &mut Child, limit: Duration) -> io::Result<ExitStatus> {
    let ended = |child: &mut Child, limit: Duration| {
        let start = Instant::now();
        loop {
            match child.try_wait()? {
                Some(status) => return Ok::<_, io::Error>(Some(status)),
                None if start.elapsed() >= limit => return Ok(None),
                None => std::thread::sleep(LOOK),
            }
        }
    };
    if let Some(status) = ended(child, limit)? {
        return Ok(status);
    }
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL)?;
    }
    let how = if ended(child, DEATH)?.is_some() { "it was killed" } else { "and it cannot be killed" };
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("it has not ended within {} s, {how}", limit.as_secs()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> io::Result<Ran> {
        run(&Program { root: Path::new("/"), name: "sh", args: &["-c", script], limit })
    }

    /// chroot(2) is for root only.
    fn may_not() -> bool {
        let not = !rustix::process::geteuid().is_root();
        if not {
            eprintln!("skipped: not root");
        }
        not
    }

    #[test]
    fn a_program_gives_its_code_and_all_that_it_says() {
        if may_not() {
            return;
        }
        let hour = Duration::from_secs(3600);
        let ran = shell("echo one; echo two >&2; pwd; read x || exit 3", hour).unwrap();
        assert_eq!(ran, Ran { code: 3, output: "one\ntwo\n/\n".into() });
        assert_eq!(shell("kill -TERM $$", hour).unwrap().code, 143);
        let long = shell("yes 0123456789 | head -c 1000000", hour).unwrap();
        assert_eq!(long.output.len() as u64, OUTPUT);
    }

    #[test]
    fn a_program_is_killed_after_its_limit_with_its_children() {
        if may_not() {
            return;
        }
        let error = shell("sleep 1000 & sleep 1000", Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("it was killed"), "{error}");
    }

    #[test]
    fn a_program_is_looked_for_below_its_root() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(find(root.path(), "grow"), None);
        std::fs::create_dir_all(root.path().join("sbin")).unwrap();
        std::os::unix::fs::symlink("/nowhere/grow", root.path().join("sbin/grow")).unwrap();
        assert_eq!(find(root.path(), "grow"), Some("/sbin/grow".into()));
        let args = &[];
        let absent = Program { root: root.path(), name: "none", args, limit: Duration::ZERO };
        assert_eq!(run(&absent).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
