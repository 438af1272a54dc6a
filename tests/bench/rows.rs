//! What is measured: commands in tables, all of one table taking turns in one run.
//!
//! In commands `$DISK` and `$TARGET` are whole disks, `$PART` and `$PART_TARGET` loop devices of their ext4, `$USED` the
//! bytes that it uses, `$IMAGE` the image that rows of one name share, `$BASE` an image of the disk as it was before 1 %
//! of it changed, `$CTL` this project's program, `$HASH` a program that reads and hashes a disk in chunks on all cores,
//! `$MOVE` one that moves all bytes of a restore that reads back and computes nothing.

/// One row of a table.
pub struct Row {
    pub name: &'static str,
    /// Rows of the same image share this name; a row of a backup makes it.
    pub image: &'static str,
    pub command: &'static str,
    /// What is on the target before each run.
    pub target: Target,
    /// How the result is checked, once.
    pub check: Check,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Target {
    /// Not written.
    None,
    /// Other data everywhere.
    Other,
    /// The disk, but for so many thousandths of its bytes.
    Changed(u64),
}

#[derive(Clone, Copy, PartialEq)]
pub enum Check {
    /// Nothing to check.
    None,
    /// The whole target equals the disk.
    SameDisk,
    /// The target's ext4 is sound; blocks that it does not use may differ.
    SoundExt4,
}

/// `ours` is to be at least `times` as fast as `theirs`.
pub struct Goal {
    pub ours: &'static str,
    pub theirs: &'static str,
    pub times: f64,
}

pub struct Table {
    pub title: &'static str,
    pub rows: &'static [Row],
    pub goals: &'static [Goal],
}

const ORIGINAL: &str = "dd bs=256K | gzip -c (original)";
const IGZIP: &str = "igzip -1";
const ZSTD: &str = "zstd -1 -T2";
const OURS: &str = "testboxctl image create --no-verify";
const OURS_VERIFIED: &str = "testboxctl image create (and verify)";
const ORIGINAL_BACK: &str = "gunzip -c | dd (original)";
const PIGZ_BACK: &str = "pigz -dc | dd";
const ZSTD_BACK: &str = "zstd -dc | dd";
const ZSTD_READ_BACK: &str = "zstd -dc | dd, then read and hashed";
const OURS_BACK: &str = "testboxctl image restore --no-verify";
const READ_AND_HASH: &str = "(reading and hashing the disk)";
const TARGET_HASHED: &str = "(reading and hashing a disk with 1 % changed)";
const HASH_AND_COPY: &str = "(reading and hashing the disk, cp of the image)";
const DELTA_1: &str = "restore onto a disk with 1 % changed";
const AGAIN: &str = "backup again, 1 % changed";
const USED_ALONE: &str = "(reading and compressing the used bytes alone)";
const PARTCLONE: &str = "partclone | zstd -1 -T2";
const PARTCLONE_BACK: &str = "zstd -dc | partclone";
const USED: &str = "testboxctl image create --no-verify";
const MOVING: &str = "(only moving the bytes of the rows below)";
const USED_BACK: &str = "testboxctl image restore --no-verify";

pub const TABLES: &[Table] = &[
    Table {
        title: "Backup",
        rows: &[
            row("(only reading the disk)", "", "dd if=$DISK of=/dev/null bs=1M iflag=direct"),
            row(ORIGINAL, "original", "dd if=$DISK bs=256K | gzip -c >$IMAGE && sync $IMAGE"),
            row("pigz -6", "pigz6", "pigz -6 -c <$DISK >$IMAGE && sync $IMAGE"),
            row("pigz -1", "pigz", "pigz -1 -c <$DISK >$IMAGE && sync $IMAGE"),
            row("bgzip -l1 -@2", "bgzip", "bgzip -l1 -@2 -c <$DISK >$IMAGE && sync $IMAGE"),
            row(IGZIP, "igzip", "igzip -1 -c <$DISK >$IMAGE && sync $IMAGE"),
            row(ZSTD, "zstd", "zstd -q -1 -T2 -c <$DISK >$IMAGE && sync $IMAGE"),
            row("zstd -3 -T2", "zstd3", "zstd -q -3 -T2 -c <$DISK >$IMAGE && sync $IMAGE"),
            row(
                "testboxctl, one thread",
                "testbox1",
                "$CTL image create --no-verify --used off --threads 1 $DISK $IMAGE",
            ),
            row(OURS, "testbox", "$CTL image create --no-verify --used off $DISK $IMAGE"),
            row(OURS_VERIFIED, "testbox", "$CTL image create --used off $DISK $IMAGE"),
        ],
        goals: &[goal(OURS, ORIGINAL, 25.0), goal(OURS, IGZIP, 1.8), goal(OURS, ZSTD, 1.6)],
    },
    Table {
        title: "Verify",
        rows: &[
            row("gzip -t (original)", "original", "gzip -t <$IMAGE"),
            row("zstd -t", "zstd", "zstd -q -t <$IMAGE"),
            row("testboxctl image verify", "testbox", "$CTL image verify $IMAGE"),
            row("testboxctl image verify --scrub", "testbox", "$CTL image verify --scrub $IMAGE"),
        ],
        goals: &[],
    },
    Table {
        title: "Restore (onto a disk full of other data)",
        rows: &[
            onto(
                Target::Other,
                row(
                    "(only writing a disk)",
                    "",
                    "dd if=/dev/zero of=$TARGET bs=1M count=4096 oflag=direct conv=notrunc,fsync",
                ),
            ),
            same(ORIGINAL_BACK, "original", "gunzip -c <$IMAGE | dd of=$TARGET bs=256K conv=notrunc,fsync"),
            same(PIGZ_BACK, "pigz", "pigz -dc <$IMAGE | dd of=$TARGET bs=256K conv=notrunc,fsync"),
            same(ZSTD_BACK, "zstd", "zstd -q -dc <$IMAGE | dd of=$TARGET bs=256K conv=notrunc,fsync"),
            // The others do not read back: what they take when they do, and what the disk alone takes for that.
            same(
                ZSTD_READ_BACK,
                "zstd",
                "zstd -q -dc <$IMAGE | dd of=$TARGET bs=256K conv=notrunc,fsync && $HASH $TARGET",
            ),
            onto(Target::Other, row(MOVING, "testbox", "$MOVE $IMAGE $TARGET")),
            same(
                "testboxctl, one thread",
                "testbox",
                "$CTL image restore --overwrite --no-verify --threads 1 $IMAGE $TARGET",
            ),
            same(OURS_BACK, "testbox", "$CTL image restore --overwrite --no-verify $IMAGE $TARGET"),
            same(
                "testboxctl image restore (and check first)",
                "testbox",
                "$CTL image restore --overwrite $IMAGE $TARGET",
            ),
        ],
        goals: &[
            goal(OURS_BACK, ORIGINAL_BACK, 6.0),
            goal(OURS_BACK, PIGZ_BACK, 1.0),
            goal(OURS_BACK, ZSTD_BACK, 1.0),
            goal(OURS_BACK, ZSTD_READ_BACK, 1.0),
            goal(OURS_BACK, MOVING, 1.0 / 1.1),
        ],
    },
    Table {
        title: "Only what is used",
        rows: &[
            row(USED_ALONE, "used-alone", "$CTL image create --no-verify --used off $USED $IMAGE"),
            row("(partclone alone)", "", "partclone.ext4 -c -L $IMAGE.log -s $PART -o - >/dev/null"),
            row(
                PARTCLONE,
                "used-zstd",
                "partclone.ext4 -c -L $IMAGE.log -s $PART -o - | zstd -q -1 -T2 -c >$IMAGE && sync $IMAGE",
            ),
            row(
                "partclone | pigz -1",
                "used-pigz",
                "partclone.ext4 -c -L $IMAGE.log -s $PART -o - | pigz -1 -c >$IMAGE && sync $IMAGE",
            ),
            row(USED, "used", "$CTL image create --no-verify $DISK $IMAGE"),
        ],
        goals: &[goal(USED, PARTCLONE, 4.0), goal(USED, USED_ALONE, 1.0 / 1.15)],
    },
    Table {
        title: "Only what is used, back onto a disk full of other data",
        rows: &[
            sound(
                PARTCLONE_BACK,
                "used-zstd",
                "zstd -q -dc <$IMAGE | partclone.ext4 -r -L $IMAGE.log -s - -o $PART_TARGET && sync $PART_TARGET && sync $TARGET",
            ),
            sound(USED_BACK, "used", "$CTL image restore --overwrite --no-verify $IMAGE $TARGET"),
        ],
        goals: &[goal(USED_BACK, PARTCLONE_BACK, 1.0)],
    },
    Table {
        title: "What did not change",
        rows: &[
            row(READ_AND_HASH, "", "$HASH $DISK"),
            // A disk that was written lately may read slower.
            onto(Target::Changed(10), row(TARGET_HASHED, "", "$HASH $TARGET")),
            changed(DELTA_1, 10),
            changed("restore onto a disk with 10 % changed", 100),
            // Where the file system cannot share blocks, members are copied.
            row(HASH_AND_COPY, "copy", "$HASH $DISK && cp --reflink=auto $BASE $IMAGE && sync $IMAGE"),
            row(AGAIN, "again", "$CTL image create --no-verify --used off --base $BASE $DISK $IMAGE"),
            row("its verify", "again", "$CTL image verify --base $BASE $IMAGE"),
        ],
        // Within 10 and 15 % of reading and hashing.
        goals: &[
            goal(DELTA_1, TARGET_HASHED, 1.0 / 1.1),
            goal(AGAIN, READ_AND_HASH, 1.0 / 1.15),
            goal(AGAIN, HASH_AND_COPY, 1.0),
        ],
    },
];

const fn row(name: &'static str, image: &'static str, command: &'static str) -> Row {
    Row { name, image, command, target: Target::None, check: Check::None }
}

const fn onto(target: Target, row: Row) -> Row {
    Row { target, ..row }
}

/// A restore of the whole disk.
const fn same(name: &'static str, image: &'static str, command: &'static str) -> Row {
    Row { check: Check::SameDisk, ..onto(Target::Other, row(name, image, command)) }
}

/// A restore of what is used of the disk.
const fn sound(name: &'static str, image: &'static str, command: &'static str) -> Row {
    Row { check: Check::SoundExt4, ..onto(Target::Other, row(name, image, command)) }
}

/// A restore onto a disk that is right but for some thousandths.
const fn changed(name: &'static str, thousandths: u64) -> Row {
    let restore = row(name, "testbox", "$CTL image restore --overwrite $IMAGE $TARGET");
    Row { check: Check::SameDisk, ..onto(Target::Changed(thousandths), restore) }
}

const fn goal(ours: &'static str, theirs: &'static str, times: f64) -> Goal {
    Goal { ours, theirs, times }
}
