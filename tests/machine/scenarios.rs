//! The engine from armed to rebooted, in memory: disks in, shares in, words in -> disks out, shares out, ending.

use crate::world::{HEX, HOLD, IP, Machine, NewMachine, REBOOT, contents, disk};
use std::io::Write;
use testbox::agent::world::Purpose;
use testbox::agent::{Ending, Mode};
use testbox::image::DEFAULT_CHUNK;
use testbox::share::{ShareFault, ShareOp};
use testbox::store::status::JobState;

over_both_kinds! {
    both: {
        backup_publishes_a_set_disarms_and_reboots,
        restore_brings_back_what_was_backed_up,
        a_foreign_gzip_of_another_size_wants_the_admins_word,
        backup_refuses_an_existing_image_and_leaves_everything,
        backup_again_takes_over_what_did_not_change,
        backup_again_keeps_the_originals_image_in_the_history,
        a_damaged_current_image_makes_restore_use_the_older_set,
        verify_of_a_damaged_set_fails_although_an_older_one_is_whole,
        a_flipped_bit_in_an_image_ends_the_restore_before_any_write,
        verify_reports_a_disk_that_differs_and_is_done,
        refresh_info_touches_no_disk_and_no_image,
        no_action_goes_on_into_debian_and_is_an_error_without_a_root,
        an_action_by_tftp_is_done_and_its_file_removed,
        a_share_without_room_is_refused_before_the_disk_is_read,
        leftovers_of_a_cut_attempt_are_removed,
        no_disk_is_an_error,
        a_job_is_done_once,
        attempts_are_counted_and_then_the_machine_holds,
        a_success_that_cannot_disarm_holds,
        on_error_shell_and_hold_are_obeyed,
        swapped_names_and_a_data_disk_in_place_write_nothing_wrong,
        the_keys_of_the_console_do_nothing_while_an_action_runs,
    },
    by_nfs: {
        /// The original's words name no job, and so no token.
        the_originals_gzip_goes_back_to_the_only_disk,
        /// A store prunes by its own rules: `serve::retention`, `serve clock::…`.
        backup_again_keeps_the_set_before_and_only_as_many_as_wanted,
        /// A store makes all of the image anew: `stored::a_base_that_is_damaged_on_the_server_spoils_no_new_set`.
        backup_again_mends_a_damaged_image_and_says_which_set_is_bad,
        /// A store copies on its own disk, and proves what it has copied.
        a_share_that_copies_badly_or_not_still_gets_a_good_set,
        /// Over a store whole leaves of the index are kept: `stored::a_cut_backup_goes_on_and_sends_only_the_rest`.
        a_cut_backup_goes_on_where_it_was,
        /// Counts the writes of a mounted share; a full store: `serve quota_and_reserve_…`, `faults::…`.
        a_cut_backup_leaves_no_part_if_full_or_at_the_last_attempt,
        /// A rescue has no session, and logs on the console alone.
        rescue_gives_the_shell_stays_armed_and_needs_no_share,
        /// Markers prove mounted shares; a store is proven by its key, and the job by the token.
        what_is_not_proven_ours_is_not_written_to,
        /// A store knows no job with such words: the console explains them.
        wrong_words_end_as_errors_that_the_log_explains,
        /// Looks between two mounts; a store asks itself: `serve a_disarmed_job_opens_and_publishes_nothing`.
        a_machine_armed_again_meanwhile_stays_armed,
        /// The agent removes it on a mounted share; a store removes it on its own disk.
        a_file_that_is_there_after_its_removal_is_looked_at,
        /// The same: what a store reads of its own disk is not old.
        what_the_boot_server_gives_counts_if_the_share_is_older,
    },
}

/// A machine whose set 1 is published, armed with nothing.
fn backed_up(new: NewMachine) -> Machine {
    let mut machine = new();
    machine.arm("testbox.action=backup testbox.job=first");
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    machine
}

fn backup_publishes_a_set_disarms_and_reboots(new: NewMachine) {
    let machine = backed_up(new);
    assert!(!machine.is_armed());
    assert_eq!(machine.image("sda.raw.gz").unwrap(), contents(2, 1));
    let record = machine.record();
    assert_eq!((record.generation, record.job.as_deref()), (1, Some("first")));
    assert_eq!(record.images[0].identity.serial.as_deref(), Some("S1"));
    assert_eq!(machine.status().state, JobState::Done);
    for file in ["box1", HEX, "testbox-info.txt", "testbox-info.zip", "maintenance-output.log"] {
        assert!(machine.file(file).is_some(), "{file}");
    }
    let log = machine.text("maintenance.log");
    assert!(log.contains(&format!("{IP}: info: ")) && log.contains("backup: done"), "{log}");
    let global = String::from_utf8(machine.backup.get("maintenance.log").unwrap()).unwrap();
    assert!(global.contains("started: ") && global.contains("backup: done"), "{global}");
    assert!(!machine.backup.tree().keys().any(|k| k.contains(".part") || k.contains(".tmp")));
}

fn restore_brings_back_what_was_backed_up(new: NewMachine) {
    let mut machine = backed_up(new);
    machine.set_disks(vec![disk("sda S1 @1", vec![0xa5; 2 << 20])]);
    machine.arm("testbox.action=restore testbox.job=r");
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert_eq!(machine.disk_bytes("sda"), contents(2, 1));
    assert!(!machine.is_armed());
    assert!(seen.console.contains("D O N E"), "{}", seen.console);
}

fn the_originals_gzip_goes_back_to_the_only_disk(new: NewMachine) {
    let mut machine = new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&contents(2, 9)).unwrap();
    machine.backup.put(&format!("{IP}/sda.gz"), gzip.finish().unwrap());
    machine.arm("testbox-action-restore");
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert_eq!(machine.disk_bytes("sda"), contents(2, 9));
    assert!(!machine.is_armed());
}

/// pigz and igzip write several members; cut between two of them the file passes `gzip -t`.
fn a_foreign_gzip_of_another_size_wants_the_admins_word(new: NewMachine) {
    let mut machine = new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&contents(1, 9)).unwrap();
    machine.backup.put(&format!("{IP}/sda.raw.gz"), gzip.finish().unwrap());
    machine.arm("testbox.action=restore testbox.job=a");
    let seen = machine.boot();
    assert!(machine.is_armed() && seen.console.contains("unfit"), "{}", seen.console);
    assert_eq!(machine.disk_bytes("sda"), contents(2, 1), "nothing is written");
    machine.arm("testbox.action=restore testbox.job=b testbox.map=sda:serial=S1");
    assert_eq!(machine.boot().ending, REBOOT);
    assert_eq!(machine.disk_bytes("sda")[..1 << 20], contents(1, 9));
}

fn backup_refuses_an_existing_image_and_leaves_everything(new: NewMachine) {
    let mut machine = backed_up(new);
    let before = machine.file("sda.raw.gz");
    machine.arm("testbox.action=backup testbox.job=second");
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT);
    assert!(machine.is_armed(), "an error leaves the PXE config");
    assert_eq!(machine.file("sda.raw.gz"), before);
    let status = machine.status();
    assert_eq!((status.state, status.code), (JobState::Failed, Some(43)));
    assert!(
        seen.console.contains("F A I L E D") && seen.console.contains("backup-again"),
        "{}",
        seen.console
    );
    let global = String::from_utf8(machine.backup.get("maintenance.log").unwrap()).unwrap();
    assert!(global.contains("error: ") && global.contains("image-exists"), "{global}");
}

fn backup_again_keeps_the_set_before_and_only_as_many_as_wanted(new: NewMachine) {
    let mut machine = backed_up(new);
    for (round, seed) in [(2, 2u64), (3, 3), (4, 4)] {
        machine.set_disks(vec![disk("sda S1 @1", contents(2, seed))]);
        machine.arm(&format!("testbox.action=backup-again testbox.job=j{round}"));
        assert_eq!(machine.boot().ending, REBOOT);
        let sets = machine.good_sets();
        assert_eq!(sets.keys().copied().collect::<Vec<_>>(), [round - 1, round]);
        assert_eq!(sets[&round]["sda"], contents(2, seed));
        assert_eq!(sets[&(round - 1)]["sda"], contents(2, seed - 1));
    }
}

/// What the log says of the imaging that came last, such as `1048576 compressed`.
fn imaging(machine: &Machine) -> String {
    let log = machine.text("maintenance.log");
    log.lines().rfind(|line| line.contains("bytes of image:")).expect("a line of figures").to_owned()
}

/// The number before these words in that line.
fn figure(machine: &Machine, words: &str) -> u64 {
    let line = imaging(machine);
    let (before, _) = line.split_once(words).expect("these words");
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Bytes of the longest data run.
const RUN: u64 = DEFAULT_CHUNK as u64;

fn backup_again_takes_over_what_did_not_change(new: NewMachine) {
    let mut machine = new();
    let mut bytes = contents(100, 1);
    machine.set_disks(vec![disk("sda S1 @1", bytes.clone())]);
    machine.arm("testbox.action=backup testbox.job=j1");
    assert_eq!(machine.boot().ending, REBOOT);
    assert!(imaging(&machine).contains(" 0 taken over"), "{}", imaging(&machine));
    bytes[42 << 20] ^= 1;
    machine.set_disks(vec![disk("sda S1 @1", bytes.clone())]);
    machine.arm("testbox.action=backup-again testbox.job=j2");
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    let (made, taken) = (figure(&machine, " compressed, 0 stored"), figure(&machine, " taken over"));
    assert_eq!(made + taken, 100 << 20);
    assert!(0 < made && made <= 2 * RUN, "{}", imaging(&machine));
    assert_eq!(machine.good_sets()[&2]["sda"], bytes);
    assert_eq!(machine.good_sets()[&1]["sda"], contents(100, 1));
    assert!(machine.status().notes.is_empty());
}

fn backup_again_mends_a_damaged_image_and_says_which_set_is_bad(new: NewMachine) {
    let mut machine = new();
    machine.set_disks(vec![disk("sda S1 @1", contents(8, 1))]);
    machine.arm("testbox.action=backup testbox.job=j1");
    assert_eq!(machine.boot().ending, REBOOT);
    let mut image = machine.file("sda.raw.gz").unwrap();
    let middle = image.len() / 2;
    image[middle] ^= 1;
    machine.backup.put(&format!("{IP}/sda.raw.gz"), image.clone());
    machine.arm("testbox.action=backup-again testbox.job=j2");
    assert_eq!(machine.boot().ending, REBOOT);
    assert_eq!(machine.good_sets()[&2]["sda"], contents(8, 1));
    let taken = figure(&machine, " taken over");
    assert!(((8 << 20) - RUN..8 << 20).contains(&taken), "{}", imaging(&machine));
    let note = &machine.status().notes[0];
    assert!(note.starts_with("DAMAGED: sda.raw.gz of the set before"), "{note}");
    assert_eq!(
        machine.file("history/1/sda.raw.gz").unwrap(),
        image,
        "it is published: nothing writes into it"
    );
}

/// The share copies what did not change by itself; it may be unable to, and it may do it wrong.
fn a_share_that_copies_badly_or_not_still_gets_a_good_set(new: NewMachine) {
    use testbox::share::{ShareFault, ShareOp};
    for (fault, made_again) in [
        (ShareFault::Errno(libc::EXDEV), false),
        (ShareFault::Short(5000), false),
        (ShareFault::Dropped, true),
    ] {
        let mut machine = new();
        machine.set_disks(vec![disk("sda S1 @1", contents(8, 1))]);
        machine.arm("testbox.action=backup testbox.job=j1");
        assert_eq!(machine.boot().ending, REBOOT);
        machine.backup.fail_nth_of(ShareOp::AppendFrom, 0, fault);
        machine.arm("testbox.action=backup-again testbox.job=j2");
        assert_eq!(machine.boot().ending, REBOOT);
        assert!(imaging(&machine).contains(&format!("{} taken over", 8 << 20)), "{}", imaging(&machine));
        assert_eq!(machine.good_sets()[&2]["sda"], contents(8, 1));
        assert_eq!(machine.text("maintenance.log").contains("made again"), made_again, "{fault:?}");
        assert!(machine.status().notes.is_empty(), "the old set is good");
    }
}

fn a_cut_backup_goes_on_where_it_was(new: NewMachine) {
    use testbox::block::mem::{DiskFault, DiskOp};
    let mut machine = new();
    let bad = disk("sda S1 @1", contents(8, 1));
    bad.bytes.inject(DiskOp::Read, 5 << 20..6 << 20, DiskFault::Errno(libc::EIO), u64::MAX);
    machine.set_disks(vec![bad]);
    machine.arm("testbox.action=backup testbox.job=j1");
    assert_eq!(machine.boot().ending, REBOOT);
    assert!(machine.is_armed());
    let part = machine.file("sda.raw.gz.part").expect("what was done is kept");
    machine.set_disks(vec![disk("sda S1 @1", contents(8, 1))]);
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    let kept = figure(&machine, " kept from a cut attempt");
    assert!(((5 << 20) - RUN..=5 << 20).contains(&kept), "{}", imaging(&machine));
    assert_eq!(machine.good_sets()[&1]["sda"], contents(8, 1));
    assert_eq!(machine.file("sda.raw.gz").unwrap()[..part.len()], part);
    assert!(machine.file("sda.raw.gz.part").is_none());
}

/// Nothing goes on with it then, and a share has other machines too.
fn a_cut_backup_leaves_no_part_if_full_or_at_the_last_attempt(new: NewMachine) {
    use testbox::block::mem::{DiskFault, DiskOp};
    for full in [true, false] {
        let mut machine = new();
        let bad = disk("sda S1 @1", contents(8, 1));
        if !full {
            bad.bytes.inject(DiskOp::Read, 6 << 20..7 << 20, DiskFault::Errno(libc::EIO), u64::MAX);
        }
        machine.set_disks(vec![bad]);
        machine.arm("testbox.action=backup testbox.job=j1 testbox.attempts=2");
        for _ in 0..2 {
            if full {
                let writes = machine.backup.operations().iter().filter(|op| **op == ShareOp::Write).count();
                machine.backup.fail_nth_of(ShareOp::Write, writes + 12, ShareFault::Errno(libc::ENOSPC));
            }
            let seen = machine.boot();
            assert!(machine.is_armed(), "{}", seen.console);
            assert_eq!(seen.console.contains("no-space"), full, "{}", seen.console);
            let is_left = machine.file("sda.raw.gz.part").is_some();
            assert_eq!(is_left, !full && seen.ending == REBOOT, "{}", seen.console);
        }
    }
}

fn backup_again_keeps_the_originals_image_in_the_history(new: NewMachine) {
    let mut machine = new();
    machine.backup.put(&format!("{IP}/sda.gz"), "old gzip");
    machine.arm("testbox.action=backup-again testbox.job=j");
    assert_eq!(machine.boot().ending, REBOOT);
    assert_eq!(machine.text("history/1/sda.gz"), "old gzip");
    assert!(machine.file("sda.gz").is_none());
    assert_eq!(machine.good_sets()[&2]["sda"], contents(2, 1));
}

fn a_damaged_current_image_makes_restore_use_the_older_set(new: NewMachine) {
    let mut machine = backed_up(new);
    machine.set_disks(vec![disk("sda S1 @1", contents(2, 2))]);
    machine.arm("testbox.action=backup-again testbox.job=j2");
    machine.boot();
    let mut image = machine.file("sda.raw.gz").unwrap();
    image.truncate(image.len() - 4096);
    machine.backup.put(&format!("{IP}/sda.raw.gz"), image);
    machine.arm("testbox.action=restore testbox.job=j3");
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert_eq!(machine.disk_bytes("sda"), contents(2, 1));
    assert!(seen.console.contains("USING THE OLDER SET 1"), "{}", seen.console);
    assert!(machine.status().notes[0].contains("USING THE OLDER SET 1"));
}

fn verify_of_a_damaged_set_fails_although_an_older_one_is_whole(new: NewMachine) {
    let mut machine = backed_up(new);
    machine.arm("testbox.action=backup-again testbox.job=j2");
    machine.boot();
    machine.backup.put(&format!("{IP}/sda.raw.gz"), "gone");
    machine.arm("testbox.action=verify testbox.job=j3");
    let seen = machine.boot();
    assert!(machine.is_armed() && seen.console.contains("bad-image"), "{}", seen.console);
    assert_eq!(machine.status().state, JobState::Failed);
}

fn a_flipped_bit_in_an_image_ends_the_restore_before_any_write(new: NewMachine) {
    let mut machine = backed_up(new);
    let mut image = machine.file("sda.raw.gz").unwrap();
    let middle = image.len() / 2;
    image[middle] ^= 1;
    machine.backup.put(&format!("{IP}/sda.raw.gz"), image);
    machine.arm("testbox.action=restore testbox.job=j3");
    let seen = machine.boot();
    assert!(machine.is_armed() && seen.console.contains("bad-image"), "{}", seen.console);
    assert_eq!(machine.disk_bytes("sda"), contents(2, 1));
}

fn verify_reports_a_disk_that_differs_and_is_done(new: NewMachine) {
    let mut machine = backed_up(new);
    machine.arm("testbox.action=verify testbox.job=v1");
    assert_eq!(machine.boot().ending, REBOOT);
    assert!(machine.status().notes[0].contains("sda is what sda.raw.gz holds"));
    let mut changed = contents(2, 1);
    changed[1 << 20] ^= 1;
    machine.set_disks(vec![disk("sda S1 @1", changed)]);
    machine.arm("testbox.action=verify testbox.job=v2");
    assert_eq!(machine.boot().ending, REBOOT);
    assert!(!machine.is_armed());
    let note = &machine.status().notes[0];
    assert!(note.starts_with("DIFFERS") && note.contains("LBA"), "{note}");
}

fn refresh_info_touches_no_disk_and_no_image(new: NewMachine) {
    let mut machine = backed_up(new);
    machine.set_disks(Vec::new());
    machine.arm("testbox.action=refresh-info testbox.job=i");
    assert_eq!(machine.boot().ending, REBOOT);
    assert!(machine.text("testbox-info.txt").contains("Hostname: box1"));
    assert!(!machine.is_armed());
}

fn rescue_gives_the_shell_stays_armed_and_needs_no_share(new: NewMachine) {
    let mut machine = new();
    machine.arm("testbox.action=rescue testbox.job=r");
    assert_eq!(machine.boot().ending, Ending::RescueShell);
    assert!(machine.is_armed());
    assert!(machine.text("maintenance.log").contains("rescue"));
    assert!(machine.text("maintenance.log").contains("ssh host key of this boot: SHA256:of-this-boot"));
    // A human may need them.
    assert!(!machine.system.lines().iter().any(|call| call.starts_with("sysctl")));
    assert_eq!(machine.boot_as(&Mode::NfsRoot("/root".into())).ending, Ending::Continue);
    machine.unreachable = vec![Purpose::Backup, Purpose::Tftp];
    assert_eq!(machine.boot().ending, Ending::RescueShell);
}

fn no_action_goes_on_into_debian_and_is_an_error_without_a_root(new: NewMachine) {
    let machine = new();
    assert_eq!(machine.boot_as(&Mode::NfsRoot("/root".into())).ending, Ending::Continue);
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT);
    assert!(seen.console.contains("no-action"), "{}", seen.console);
    assert!(machine.file("status.json").is_none(), "nothing is written");
}

fn an_action_by_tftp_is_done_and_its_file_removed(new: NewMachine) {
    let mut machine = new();
    machine.cmdline =
        "boot=testbox testbox.backup=10.0.0.1:/b testbox.tftp=10.0.0.1:/t testbox.settle=1".into();
    machine.tftp.put(
        &format!("testbox.cfg/{HEX}"),
        "testbox.action=backup\ntestbox.job=t1 # a comment\ntestbox.name=named\n",
    );
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT, "{}", seen.console);
    assert!(machine.tftp.get(&format!("testbox.cfg/{HEX}")).is_none());
    assert_eq!(machine.record().machine.hostname, "named");
    assert_eq!(machine.good_sets()[&1]["sda"], contents(2, 1));
    // A file for many machines never orders an action that writes.
    machine.tftp.put("testbox.cfg/default", "testbox.action=backup-again\n");
    let seen = machine.boot();
    assert!(seen.console.contains("not the file of this one machine"), "{}", seen.console);
    assert_eq!(machine.good_sets().len(), 1);
}

/// Each ends as the error policy says: the PXE config stays, nothing is written where the share is not proven ours.
fn what_is_not_proven_ours_is_not_written_to(new: NewMachine) {
    type Spoil = fn(&mut Machine);
    let rows: [(&str, Spoil, &str); 7] = [
        (
            "no PXE config of its own",
            |m| m.net_conf[0] = m.net_conf[0].replace(IP, "10.40.41.99"),
            "not-armed",
        ),
        ("no backup marker", |m| m.backup = testbox::share::MemFiles::new(), "not-the-share"),
        ("no TFTP marker", |m| m.tftp = testbox::share::MemFiles::new(), "not-the-share"),
        ("no server", |m| m.unreachable = vec![Purpose::Tftp], "share-unreachable"),
        ("no backup server", |m| m.unreachable = vec![Purpose::Backup], "share-unreachable"),
        ("no address", |m| m.net_conf.clear(), "network"),
        (
            "armed anew before it was read",
            |m| m.put_pxe("testbox.action=restore testbox.job=other"),
            "not-armed",
        ),
    ];
    for (name, spoil, word) in rows {
        let mut machine = new();
        machine.arm("testbox.action=backup testbox.job=j");
        spoil(&mut machine);
        let before = (machine.backup.tree(), machine.tftp.tree());
        let seen = machine.boot();
        assert_eq!(seen.ending, REBOOT, "{name}");
        assert_eq!((machine.backup.tree(), machine.tftp.tree()), before, "{name}: nothing is written");
        assert!(
            seen.console.contains(word) && seen.console.contains("What to do"),
            "{name}: {}",
            seen.console
        );
    }
}

fn wrong_words_end_as_errors_that_the_log_explains(new: NewMachine) {
    for (words, named) in [
        ("testbox.action=format testbox.job=j", "format"),
        ("testbox.action=backup testbox.job=j testbox.disk=sda", "testbox.disk"),
        ("testbox.action=backup testbox.job=j testbox.disks=sdq", "sdq"),
    ] {
        let mut machine = new();
        machine.arm(words);
        let seen = machine.boot();
        assert_eq!(seen.ending, REBOOT, "{words}: {}", seen.console);
        assert!(machine.is_armed());
        let log = machine.text("maintenance.log");
        assert!(log.contains("error: ") && log.contains(named), "{words}: {log}");
        assert!(machine.file("sda.raw.gz").is_none());
    }
}

fn a_share_without_room_is_refused_before_the_disk_is_read(new: NewMachine) {
    let mut machine = new();
    machine.backup.set_capacity(32 << 20);
    machine.arm("testbox.action=backup testbox.job=j");
    let seen = machine.boot();
    assert!(machine.is_armed() && seen.console.contains("no-space"), "{}", seen.console);
    assert!(!seen.console.contains("imaging sda"));
}

fn leftovers_of_a_cut_attempt_are_removed(new: NewMachine) {
    let mut machine = new();
    machine.backup.put(&format!("{IP}/sdz.raw.gz.part"), "half");
    machine.arm("testbox.action=backup testbox.job=j");
    assert_eq!(machine.boot().ending, REBOOT);
    assert!(machine.file("sdz.raw.gz.part").is_none());
}

fn no_disk_is_an_error(new: NewMachine) {
    let mut machine = new();
    machine.set_disks(Vec::new());
    machine.arm("testbox.action=backup testbox.job=j");
    let seen = machine.boot();
    assert!(machine.is_armed() && seen.console.contains("no-disk"), "{}", seen.console);
}

fn a_job_is_done_once(new: NewMachine) {
    let mut machine = backed_up(new);
    machine.set_disks(vec![disk("sda S1 @1", vec![0x11; 2 << 20])]);
    machine.arm("testbox.action=restore testbox.job=r1");
    machine.boot();
    // The same file again, as after a power cut between the status and the disarming: the disk has moved on.
    machine.set_disks(vec![disk("sda S1 @1", vec![0x22; 2 << 20])]);
    machine.arm("testbox.action=restore testbox.job=r1");
    let seen = machine.boot();
    assert_eq!(seen.ending, REBOOT);
    assert_eq!(machine.disk_bytes("sda"), vec![0x22; 2 << 20], "not restored again");
    assert!(!machine.is_armed());
    assert!(seen.console.contains("done already"), "{}", seen.console);
}

fn a_machine_armed_again_meanwhile_stays_armed(new: NewMachine) {
    let mut machine = new();
    machine.arm("testbox.action=backup testbox.job=a");
    let tftp = machine.tftp.clone();
    // The backup share is mounted after the arming was looked at.
    *machine.on_mount.lock().unwrap() = Some(Box::new(move |purpose| {
        if purpose == Purpose::Backup {
            let file = "DEFAULT m\nLABEL m\nKERNEL k\nAPPEND testbox.action=verify testbox.job=b\n";
            tftp.put(&format!("pxelinux.cfg/{HEX}"), file);
        }
    }));
    assert_eq!(machine.boot().ending, REBOOT);
    assert!(machine.is_armed());
    assert_eq!(machine.status().state, JobState::Done);
    assert_eq!(machine.good_sets().len(), 1);
}

/// The server says that the file is removed, and it is there: the job again, or another one by now.
fn a_file_that_is_there_after_its_removal_is_looked_at(new: NewMachine) {
    for (again, ending) in [("a", HOLD), ("b", REBOOT)] {
        let mut machine = new();
        machine.arm("testbox.action=backup testbox.job=a");
        let (tftp, path) = (machine.tftp.clone(), format!("pxelinux.cfg/{HEX}"));
        tftp.fail_nth_of(ShareOp::Remove, tftp.count(ShareOp::Remove), ShareFault::Dropped);
        let file = |job: &str| {
            format!("DEFAULT m\nLABEL m\nKERNEL k\nAPPEND testbox.action=backup testbox.job={job}\n")
        };
        // What TFTP gives is asked for just before the removal.
        machine.served.lock().unwrap().insert(path.clone(), file("a").into());
        let new = file(again);
        *machine.on_fetch.lock().unwrap() = Some(Box::new(move || tftp.put(&path, new.clone())));
        let seen = machine.boot();
        assert_eq!(seen.ending, ending, "{again}: {}", seen.console);
        assert!(machine.is_armed(), "{again}");
        assert_eq!(seen.console.contains("there again"), again == "a", "{}", seen.console);
    }
}

/// A file server that still shows the old file must not make the agent remove the new one.
fn what_the_boot_server_gives_counts_if_the_share_is_older(new: NewMachine) {
    let path = format!("pxelinux.cfg/{HEX}");
    let file =
        |job: &str| format!("DEFAULT m\nLABEL m\nKERNEL k\nAPPEND testbox.action=backup testbox.job={job}\n");
    for (served, ending) in [("new", REBOOT), ("a", HOLD)] {
        let mut machine = new();
        machine.arm("testbox.action=backup testbox.job=a");
        machine.served.lock().unwrap().insert(path.clone(), file(served).into());
        let seen = machine.boot();
        assert_eq!(seen.ending, ending, "{served}: {}", seen.console);
        // The second: gone from the share, and TFTP gives it all the same. The next boot would do the job again.
        assert_eq!(machine.is_armed(), served == "new", "{served}");
        assert_eq!(machine.status().state, JobState::Done);
    }
}

fn attempts_are_counted_and_then_the_machine_holds(new: NewMachine) {
    let mut machine = backed_up(new);
    machine.arm("testbox.action=backup testbox.job=again testbox.attempts=3");
    for attempt in 1..=2 {
        assert_eq!(machine.boot().ending, REBOOT);
        assert_eq!((machine.status().attempt, machine.status().state), (attempt, JobState::Failed));
    }
    assert_eq!(machine.boot().ending, HOLD);
    assert_eq!((machine.status().attempt, machine.status().state), (3, JobState::Holding));
    // Switched off and on without being armed anew: it holds at once.
    let seen = machine.boot();
    assert_eq!(seen.ending, HOLD);
    assert!(seen.console.contains("too-many-attempts"), "{}", seen.console);
}

fn a_success_that_cannot_disarm_holds(new: NewMachine) {
    let mut machine = backed_up(new);
    machine.set_disks(vec![disk("sda S1 @1", vec![0x11; 2 << 20])]);
    machine.arm("testbox.action=restore testbox.job=r1");
    let removed = machine.tftp.operations().iter().filter(|op| **op == ShareOp::Remove).count();
    machine.tftp.fail_nth_of(ShareOp::Remove, removed, ShareFault::Errno(libc::EROFS));
    let seen = machine.boot();
    assert_eq!(seen.ending, HOLD, "{}", seen.console);
    assert_eq!(machine.disk_bytes("sda"), contents(2, 1));
    assert!(machine.is_armed() && seen.console.contains("[disarm 60]"), "{}", seen.console);
    assert_eq!(machine.status().state, JobState::Done, "the restore itself is done, and is not done again");
}

fn on_error_shell_and_hold_are_obeyed(new: NewMachine) {
    for (word, ending) in [("shell", Ending::ErrorShell), ("hold", HOLD)] {
        let mut machine = backed_up(new);
        machine.arm(&format!("testbox.action=backup testbox.job=x testbox.on-error={word}"));
        assert_eq!(machine.boot().ending, ending);
    }
}

fn swapped_names_and_a_data_disk_in_place_write_nothing_wrong(new: NewMachine) {
    let mut machine = new();
    let (system, data) = (contents(2, 1), contents(3, 2));
    machine.backup.put(&format!("{IP}/disk-devices.lst"), "sda # the system disk\n");
    machine.set_disks(vec![disk("sda SYS @1", system.clone()), disk("sdb DATA @2", data.clone())]);
    machine.arm("testbox.action=backup testbox.job=b");
    assert_eq!(machine.boot().ending, REBOOT);
    assert_eq!(machine.record().others[0].name, "sdb");

    // The kernel names have changed places.
    machine.set_disks(vec![disk("sda DATA @2", data.clone()), disk("sdb SYS @1", vec![1; 2 << 20])]);
    machine.arm("testbox.action=restore testbox.job=r1");
    assert_eq!(machine.boot().ending, REBOOT);
    assert_eq!(machine.disk_bytes("sda"), data);
    assert_eq!(machine.disk_bytes("sdb"), system);

    // The system disk is dead, and the data disk is called sda.
    for place in ["@2", "@1"] {
        machine.set_disks(vec![disk(&format!("sda DATA {place}"), data.clone())]);
        machine.arm(&format!("testbox.action=restore testbox.job=r{}", &place[1..]));
        let seen = machine.boot();
        assert_eq!(machine.disk_bytes("sda"), data, "{place}");
        assert!(machine.is_armed() && seen.console.contains("ambiguous"), "{place}: {}", seen.console);
        assert!(seen.console.contains("testbox.map=sda:"), "{place}: {}", seen.console);
    }
}

/// A cat on the keyboard, or a break on the serial line, must not reboot a machine that writes its disk; and a kernel
/// without these settings is no reason not to do it.
fn the_keys_of_the_console_do_nothing_while_an_action_runs(new: NewMachine) {
    let mut machine = new();
    machine.arm("testbox.action=backup testbox.job=b");
    assert_eq!(machine.boot().ending, REBOOT);
    let lines = machine.system.lines();
    let keys: Vec<&String> = lines.iter().filter(|call| call.starts_with("sysctl")).collect();
    assert_eq!(keys, ["sysctl kernel/sysrq=0", "sysctl kernel/ctrl-alt-del=0"]);

    machine.system.fail_when(|call| call.to_string().starts_with("sysctl").then_some(libc::ENOENT));
    machine.arm("testbox.action=verify testbox.job=v");
    assert_eq!(machine.boot().ending, REBOOT);
    assert!(!machine.is_armed());
    assert!(machine.text("maintenance.log").contains("cannot set kernel/sysrq to 0"));
}
