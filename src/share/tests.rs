//! One table of rules, run against the real folder (with and without openat2) and the one in memory.

use super::*;
use crate::io::ReadAt;
use std::path::Path;

/// Runs `check` against every implementation; `setup` puts a link to a file, a link to the folder above, and a FIFO
/// into the real ones.
fn for_each(check: impl Fn(&str, &dyn Files)) {
    for (what, plain) in [("openat2", true), ("openat", false)] {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        std::fs::create_dir_all(temp.path().join("outside")).unwrap();
        std::fs::write(temp.path().join("outside/secret"), "x").unwrap();
        std::fs::create_dir(&root).unwrap();
        specials(&root);
        let files = DirFiles::open(&root).unwrap();
        check(what, &if plain { files } else { files.without_openat2() });
    }
    let mem = MemFiles::new();
    mem.put_special("link");
    mem.put_special("up");
    mem.put_special("fifo");
    check("memory", &mem);
}

fn specials(root: &Path) {
    std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();
    std::os::unix::fs::symlink("..", root.join("up")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
}

fn write(files: &dyn Files, path: &str, bytes: &[u8]) {
    let mut file = files.create(path).unwrap();
    file.write_all(bytes).unwrap();
    file.sync().unwrap();
}

fn read(files: &dyn Files, path: &str) -> Vec<u8> {
    files.read_limited(path, 1 << 20).unwrap()
}

fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
    result.err().expect("an error").kind()
}

#[test]
fn files_are_gone_on_with_where_they_are_cut() {
    use io::ErrorKind::*;
    for_each(|what, files| {
        write(files, "part", b"0123456789");
        drop(files.reopen("part").unwrap());
        assert_eq!(read(files, "part"), b"0123456789", "{what}: nothing changes before");
        let mut file = files.reopen("part").unwrap();
        file.resume_at(4).unwrap();
        file.write_all(b"new").unwrap();
        file.sync().unwrap();
        assert_eq!(read(files, "part"), b"0123new", "{what}");
        files.hard_link("part", "published").unwrap();
        assert_eq!(kind(files.reopen("part")), InvalidInput, "{what}: it has a second name");
        assert_eq!(kind(files.reopen("none")), NotFound, "{what}");
        assert_eq!(kind(files.reopen("link")), InvalidInput, "{what}");
    });
}

#[test]
fn files_are_created_once_appended_renamed_linked_removed() {
    use io::ErrorKind::*;
    for_each(|what, files| {
        files.make_dir("d").unwrap();
        files.make_dir("d").unwrap();
        write(files, "d/a", b"one");
        assert_eq!(kind(files.create("d/a")), AlreadyExists, "{what}");
        files.append("d/a", b" two").unwrap();
        files.append("d/log", b"new\n").unwrap();
        assert_eq!(read(files, "d/a"), b"one two", "{what}");
        assert_eq!(read(files, "d/log"), b"new\n", "{what}");

        files.hard_link("d/a", "d/b").unwrap();
        assert_eq!(kind(files.hard_link("d/a", "d/b")), AlreadyExists, "{what}");
        files.append("d/b", b"!").unwrap();
        assert_eq!(read(files, "d/a"), b"one two!", "{what}: a hard link is the same file");
        files.rename("d/a", "d/b").unwrap();
        assert_eq!(files.list("d").unwrap(), ["a", "b", "log"], "{what}: two names of one file stay");
        files.rename("d/log", "d/a").unwrap();
        assert_eq!(read(files, "d/a"), b"new\n", "{what}");
        assert_eq!(read(files, "d/b"), b"one two!", "{what}");

        files.make_dir("d/sub").unwrap();
        files.rename("d/sub", "moved").unwrap();
        files.rename("d/a", "moved/a").unwrap();
        assert_eq!(files.list("").unwrap(), ["d", "fifo", "link", "moved", "up"], "{what}");
        assert_eq!(kind(files.remove("moved")), DirectoryNotEmpty, "{what}");
        files.remove("moved/a").unwrap();
        files.remove("moved").unwrap();
        assert_eq!(kind(files.open("moved/a")), NotFound, "{what}");
        assert_eq!(kind(files.remove("moved")), NotFound, "{what}");
        assert_eq!(kind(files.list("moved")), NotFound, "{what}");
        assert_eq!(kind(files.make_dir("no/such")), NotFound, "{what}");
        assert_eq!(kind(files.make_dir("d/b")), NotADirectory, "{what}");
        assert_eq!(kind(files.open("d/b/c")), NotADirectory, "{what}");
        files.sync_dir("d").unwrap();
        files.sync_dir("").unwrap();
        assert!(files.free_bytes("").unwrap() > 0, "{what}");
    });
}

#[test]
fn links_fifos_and_folders_are_no_files_and_no_way_out() {
    use io::ErrorKind::*;
    for_each(|what, files| {
        files.make_dir("d").unwrap();
        for path in ["link", "fifo", "d"] {
            assert_eq!(kind(files.open(path)), InvalidInput, "{what} open {path}");
            assert_eq!(kind(files.create(path)), AlreadyExists, "{what} create {path}");
            assert!(files.append(path, b"x").is_err(), "{what} append {path}");
            assert_eq!(kind(files.hard_link(path, "linked")), InvalidInput, "{what} link {path}");
        }
        // The kernel's walk without openat2 says "not a folder" for a link in the way.
        let refused = |kind| matches!(kind, InvalidInput | NotADirectory);
        assert!(refused(kind(files.open("up/outside/secret"))), "{what}");
        assert!(refused(kind(files.create("up/outside/x"))), "{what}");
        assert!(refused(kind(files.create("up/x"))), "{what}");
        assert!(refused(kind(files.append("up/outside/secret", b"x"))), "{what}");
        assert!(refused(kind(files.remove("up/outside/secret"))), "{what}");
        for path in ["", "/etc/passwd", "../x", "d/../x", "d//x", "./d", "d/", "d/.", "a\0b"] {
            assert_eq!(kind(files.open(path)), InvalidInput, "{what} {path:?}");
            assert_eq!(kind(files.remove(path)), InvalidInput, "{what} {path:?}");
        }
        assert_eq!(files.list("").unwrap(), ["d", "fifo", "link", "up"], "{what}");
    });
}

#[test]
fn positioned_reads_end_where_the_file_ends() {
    for_each(|what, files| {
        write(files, "f", b"0123456789");
        let file = files.open("f").unwrap();
        assert_eq!(file.size().unwrap(), 10, "{what}");
        let mut buf = [0; 4];
        assert_eq!(file.read_at(&mut buf, 8).unwrap(), 2, "{what}");
        assert_eq!(&buf[..2], b"89", "{what}");
        assert_eq!(file.read_at(&mut buf, u64::from(u32::MAX)).unwrap(), 0, "{what}");
        assert_eq!(kind(file.read_exact_at(&mut buf, 8)), io::ErrorKind::UnexpectedEof, "{what}");
    });
}

#[test]
fn read_limited_takes_up_to_the_limit() {
    for_each(|what, files| {
        write(files, "f", b"12345");
        write(files, "empty", b"");
        assert_eq!(files.read_limited("f", 5).unwrap(), b"12345", "{what}");
        assert_eq!(kind(files.read_limited("f", 4)), io::ErrorKind::FileTooLarge, "{what}");
        assert_eq!(files.read_limited("empty", 0).unwrap(), b"", "{what}");
        assert!(files.exists("f").unwrap() && !files.exists("none").unwrap(), "{what}");
        assert!(files.exists("fifo").is_err(), "{what}");
        assert!(!files.exists("f/below").unwrap() && !files.exists("fifo/below").unwrap(), "{what}");
    });
}

#[test]
fn read_limited_reads_past_the_size_where_the_file_grows() {
    /// Like a file of /proc: says 0 bytes, has more.
    struct Growing;
    impl ReadAt for Growing {
        fn size(&self) -> io::Result<u64> {
            Ok(0)
        }
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            ReadAt::read_at(&b"0123456789".to_vec(), buf, offset)
        }
    }
    struct One;
    impl Files for One {
        fn open(&self, _: &str) -> io::Result<Arc<dyn ReadAt>> {
            Ok(Arc::new(Growing))
        }
        fn create(&self, _: &str) -> io::Result<Box<dyn SyncWrite>> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn append(&self, _: &str, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn rename(&self, _: &str, _: &str) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn hard_link(&self, _: &str, _: &str) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn remove(&self, _: &str) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn make_dir(&self, _: &str) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn list(&self, _: &str) -> io::Result<Vec<String>> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn sync_dir(&self, _: &str) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn free_bytes(&self, _: &str) -> io::Result<u64> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn owner(&self, _: &str) -> io::Result<Owner> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
    assert_eq!(One.read_limited("f", 10).unwrap(), b"0123456789");
    assert_eq!(kind(One.read_limited("f", 9)), io::ErrorKind::FileTooLarge);
}

#[test]
fn write_atomic_replaces_the_file_and_a_leftover_of_its_own() {
    for_each(|what, files| {
        files.make_dir("d").unwrap();
        write(files, "d/.f.tmp", b"leftover of a cut run, longer than what comes");
        for contents in [b"first".as_slice(), b"second", b""] {
            files.write_atomic("d/f", contents).unwrap();
            assert_eq!(read(files, "d/f"), contents, "{what}");
        }
        files.write_atomic("top", b"x").unwrap();
        assert_eq!(files.list("d").unwrap(), ["f"], "{what}");
        assert_eq!(files.list("").unwrap(), ["d", "fifo", "link", "top", "up"], "{what}");
    });
}

#[test]
fn write_atomic_leaves_the_old_or_the_new_contents() {
    let prepared = || {
        let files = MemFiles::new();
        files.put("d/f", "old");
        files
    };
    let whole = prepared();
    whole.write_atomic("d/f", b"new").unwrap();
    let count = whole.operations().len();
    assert_eq!(whole.durable_tree()["d/f"], b"new");
    for nth in 0..count {
        for survivors in [Survivors::SyncedNames, Survivors::AllNames] {
            for fault in [ShareFault::Errno(libc::EIO), ShareFault::Errno(libc::ENOSPC), ShareFault::Short(1)]
            {
                let files = prepared();
                files.fail_nth(nth, fault);
                let result = files.write_atomic("d/f", b"new");
                assert_eq!(result.is_err(), matches!(fault, ShareFault::Errno(_)), "{nth} {fault:?}");
                let seen = files.get("d/f").unwrap();
                assert!(seen == b"old" || seen == b"new", "{nth} {fault:?}: {seen:?}");
                files.crash(survivors);
                let left = files.get("d/f").unwrap();
                assert!(left == b"new" || (result.is_err() && left == b"old"), "{nth} {fault:?}: {left:?}");
            }
        }
    }
}

#[test]
fn create_new_replaces_nothing_but_its_own_leftover() {
    for_each(|what, files| {
        files.make_dir("d").unwrap();
        write(files, &format!("d/.f.{}.tmp", std::process::id()), b"leftover of a cut run");
        files.create_new("d/f", b"first").unwrap();
        assert_eq!(kind(files.create_new("d/f", b"second")), io::ErrorKind::AlreadyExists, "{what}");
        assert_eq!(kind(files.create_new("link", b"x")), io::ErrorKind::AlreadyExists, "{what}");
        assert_eq!(
            (read(files, "d/f"), files.list("d").unwrap()),
            (b"first".into(), vec!["f".into()]),
            "{what}"
        );
        assert!(files.remove_if_exists("d/f").unwrap() && !files.remove_if_exists("d/f").unwrap(), "{what}");
        assert!(files.remove_if_exists("../f").is_err(), "{what}");
    });
}

#[test]
fn create_new_leaves_all_of_a_file_or_none_whatever_fails() {
    let whole = MemFiles::new();
    whole.create_new("f", b"new").unwrap();
    assert_eq!(whole.durable_tree()["f"], b"new");
    for nth in 0..whole.operations().len() {
        for survivors in [Survivors::SyncedNames, Survivors::AllNames] {
            let files = MemFiles::new();
            files.fail_nth(nth, ShareFault::Errno(libc::EIO));
            let result = files.create_new("f", b"new");
            files.crash(survivors);
            let left = files.get("f");
            assert!(left.is_none() || left.as_deref() == Some(b"new"), "{nth}: {left:?}");
            assert!(left.is_some() || result.is_err(), "{nth}: said to be there");
        }
    }
}

#[test]
fn a_crash_leaves_synced_contents_under_synced_names_only() {
    let make = || {
        let files = MemFiles::new();
        files.make_dir("d").unwrap();
        files.sync_dir("").unwrap();
        write(&files, "d/named", b"both");
        files.sync_dir("d").unwrap();
        write(&files, "d/unnamed", b"data only");
        let mut open = files.create("d/empty").unwrap();
        open.write_all(b"never synced").unwrap();
        files.append("d/named", b" appended").unwrap();
        (files, open)
    };
    let (files, mut open) = make();
    files.crash(Survivors::SyncedNames);
    assert_eq!(files.tree(), [("d/named".into(), b"both appended".to_vec())].into());
    assert_eq!(open.write(b"x").unwrap_err().raw_os_error(), Some(libc::ESTALE));

    let (files, _open) = make();
    files.crash(Survivors::AllNames);
    let tree = files.tree();
    assert_eq!(tree["d/unnamed"], b"data only");
    assert_eq!(tree["d/empty"], b"");
}

#[test]
fn a_failed_sync_is_followed_by_syncs_that_lie() {
    let files = MemFiles::new();
    files.fail_nth_of(ShareOp::Sync, 0, ShareFault::Errno(libc::EIO));
    let mut file = files.create("f").unwrap();
    file.write_all(b"x").unwrap();
    assert!(file.sync().is_err());
    assert!(file.sync().is_ok());
    files.sync_dir("").unwrap();
    assert_eq!(files.durable_tree()["f"], b"");
}

#[test]
fn a_full_share_shows_at_the_sync_dropped_writes_when_read_back() {
    let files = MemFiles::new();
    files.set_capacity(4);
    let mut file = files.create("f").unwrap();
    file.write_all(b"12345").unwrap();
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(files.free_bytes("").unwrap(), 0);

    let files = MemFiles::new();
    files.fail_nth_of(ShareOp::Write, 0, ShareFault::Dropped);
    write(&files, "f", b"abc");
    assert_eq!(files.get("f").unwrap(), [0, 0, 0]);
}
