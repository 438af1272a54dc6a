//! File systems that the kernel wrote: clean after an unmount, and only then.

use crate::scratch::scratch;
use crate::tools::{Random, doubt_of, free_of, made, parse, rounds, shell, told_by_xfs_db};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Version 4 is not in current kernels.
const OPTIONS: [&str; 7] = [
    "-l size=64m",
    "-m rmapbt=1,reflink=1 -b size=1024 -l size=64m",
    "-m reflink=0,finobt=0,inobtcount=0,bigtime=0 -l size=64m -d agcount=1",
    "-l size=64m,su=256k",
    "-l size=65m,su=32k -i nrext64=1 -b size=2048",
    "-s size=4096 -l size=64m -i sparse=0",
    "-d su=64k,sw=4 -m rmapbt=1",
];

/// A mounted image, unmounted when dropped.
struct Mounted {
    image: PathBuf,
    path: PathBuf,
}

impl Mounted {
    fn new(image: &Path) -> Mounted {
        let path = PathBuf::from(format!("{}.mnt", image.display()));
        fs::create_dir_all(&path).unwrap();
        shell(&format!("mount -t xfs -o loop,nouuid \"$IMG\" {}", path.display()), image).unwrap();
        Mounted { image: image.to_owned(), path }
    }

    fn unmount(self) {
        let line = format!("umount {}", self.path.display());
        // Between its fork and its exec, a program that another test starts has all our files open.
        while let Err(said) = shell(&line, &self.image) {
            assert!(said.contains("busy"), "{said}");
        }
        std::mem::forget(self);
    }

    /// What is in the image at this moment.
    fn snapshot(&self) -> PathBuf {
        let copy = self.image.with_extension("copy");
        shell(&format!("cp --sparse=always \"$IMG\" {}", copy.display()), &self.image).unwrap();
        copy
    }

    /// Everything that was written so far is on the disk or in the log.
    fn sync(&self) {
        rustix::fs::syncfs(File::open(&self.path).unwrap()).unwrap();
    }

    /// Random work: files created, written at random places, cloned, punched, truncated and deleted.
    fn age(&self, random: &mut Random, steps: u64) {
        for _ in 0..steps {
            let dir = self.path.join(format!("dir{}", random.below(5)));
            let _ = fs::create_dir(&dir);
            let (path, other) = (dir.join(format!("file{}", random.below(40))), dir.join("clone"));
            let open = || File::options().create(true).truncate(false).write(true).read(true).open(&path);
            let done = match random.below(8) {
                0..4 => open().and_then(|mut file| {
                    file.write_all_at(&vec![7; 1 + random.below(60_000) as usize], random.below(1 << 20))?;
                    file.flush()
                }),
                4 => fs::remove_file(&path),
                5 => open().and_then(|file| file.set_len(random.below(1 << 20))),
                6 => open().and_then(|file| {
                    let flags =
                        rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
                    let at = random.below(200) * 4096;
                    Ok(rustix::fs::fallocate(&file, flags, at, 4096 * (1 + random.below(20)))?)
                }),
                _ => open().and_then(|file| Ok(rustix::fs::ioctl_ficlone(File::create(&other)?, &file)?)),
            };
            // Full, not there, or no clones here: the next step does something else.
            drop(done);
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

fn is_said(doubt: &str) {
    assert!(doubt.contains("needs recovery"), "{doubt}");
}

#[test]
fn loop_only_what_was_unmounted_is_clean() {
    let (mut random, _) = Random::of_this_run();
    let dir = scratch();
    for options in OPTIONS {
        let image = made(dir.path(), 300, options);
        for round in 0..rounds(2) {
            let mounted = Mounted::new(&image);
            mounted.age(&mut random, 300);
            mounted.sync();
            is_said(&doubt_of(&mounted.snapshot()));
            mounted.age(&mut random, 300);
            mounted.unmount();
            assert_eq!(free_of(&image), told_by_xfs_db(&image), "{options}, round {round}");
        }
        shell("xfs_repair -n -o force_geometry \"$IMG\"", &image).unwrap();
    }
}

#[test]
fn loop_what_crashed_is_clean_after_the_next_unmount() {
    let (mut random, _) = Random::of_this_run();
    let dir = scratch();
    for options in OPTIONS {
        let image = made(dir.path(), 300, options);
        for flush in ["-f", ""] {
            let mounted = Mounted::new(&image);
            mounted.age(&mut random, 200);
            mounted.sync();
            mounted.age(&mut random, 100);
            let line = format!("xfs_io -x -c 'shutdown {flush}' {}", mounted.path.display());
            shell(&line, &image).unwrap();
            mounted.unmount();
            is_said(&doubt_of(&image));
            Mounted::new(&image).unmount();
            assert_eq!(free_of(&image), told_by_xfs_db(&image), "{options}");
        }
    }
}

/// As the root of a machine is left when it is switched off.
#[test]
fn loop_what_was_remounted_read_only_is_clean() {
    let (mut random, _) = Random::of_this_run();
    let dir = scratch();
    for options in OPTIONS {
        let image = made(dir.path(), 300, options);
        let mounted = Mounted::new(&image);
        mounted.age(&mut random, 300);
        shell(&format!("mount -o remount,ro {}", mounted.path.display()), &image).unwrap();
        let copy = mounted.snapshot();
        assert_eq!(free_of(&copy), told_by_xfs_db(&copy), "{options}");
        mounted.unmount();
    }
}

/// xfs_admin 6.1 writes a log that it does not fill, whose head even the kernel only guesses.
#[test]
fn loop_a_new_uuid_is_known_after_a_mount() {
    let (mut random, _) = Random::of_this_run();
    let dir = scratch();
    let image = made(dir.path(), 300, "-m rmapbt=1");
    for _ in 0..2 {
        let mounted = Mounted::new(&image);
        mounted.age(&mut random, 50);
        mounted.unmount();
        shell("xfs_admin -U generate \"$IMG\"", &image).unwrap();
        let said = doubt_of(&image);
        assert!(said.contains("a hole"), "{said}");
        Mounted::new(&image).unmount();
        assert_eq!(free_of(&image), told_by_xfs_db(&image));
    }
}

/// Whatever moment: where there is no doubt, the free space may be overwritten and nothing is lost.
#[test]
fn loop_a_copy_without_doubt_is_whole_at_any_moment() {
    let (mut random, _) = Random::of_this_run();
    let dir = scratch();
    let (mut clean, mut unclean) = (0, 0);
    for _ in 0..rounds(3) {
        let image = made(dir.path(), 300, "-l size=64m");
        let mounted = Mounted::new(&image);
        fs::write(mounted.path.join("kept"), vec![9; 3 << 20]).unwrap();
        mounted.unmount();
        let mounted = Mounted::new(&image);
        for step in 0..6 {
            let copy = mounted.snapshot();
            match parse(&File::open(&copy).unwrap()) {
                Err(doubt) => {
                    is_said(&doubt.to_string());
                    unclean += 1;
                }
                Ok((_, free)) => {
                    let file = File::options().write(true).open(&copy).unwrap();
                    for range in free {
                        file.write_all_at(&vec![0xa5; (range.end - range.start) as usize], range.start)
                            .unwrap();
                    }
                    shell("xfs_repair -n -o force_geometry \"$IMG\"", &copy).unwrap();
                    let mounted = Mounted::new(&copy);
                    assert!(fs::read(mounted.path.join("kept")).unwrap() == vec![9; 3 << 20]);
                    mounted.unmount();
                    clean += 1;
                }
            }
            mounted.age(&mut random, step * 5);
            if step == 3 {
                mounted.sync();
            }
        }
        mounted.unmount();
    }
    assert!(clean > 0 && unclean > 0, "{clean} clean, {unclean} not");
}

/// Records of unmounts all around the log, and over its end.
#[test]
fn loop_every_place_of_an_unmount_record_is_found() {
    let dir = scratch();
    let mut random = Random(1);
    for options in ["-l su=256k", "", "-b size=1024 -m rmapbt=1"] {
        let image = made(dir.path(), 40, options);
        let mut cycle = 0;
        for round in 0..rounds(40) {
            let mounted = Mounted::new(&image);
            for i in 0..random.below(2000) {
                fs::create_dir_all(mounted.path.join(format!("{}/{i}", round % 2))).unwrap();
            }
            let _ = fs::remove_dir_all(mounted.path.join(format!("{}", (round + 1) % 2)));
            mounted.unmount();
            free_of(&image);
            let said =
                shell("xfs_logprint -t \"$IMG\"; xfs_db -r -c 'sb 0' -c 'p lsn' \"$IMG\"", &image).unwrap();
            assert!(said.contains("<CLEAN>"), "{said}");
            let lsn = said.trim().rsplit_once("0x").unwrap().1;
            cycle = u64::from_str_radix(lsn, 16).unwrap() >> 32;
        }
        println!("{options}: cycle {cycle}");
        assert!(cycle > 2, "{options}: the log was gone round {cycle} times only");
    }
}
