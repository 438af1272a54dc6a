//! What an action that nobody watches leaves open to others: nothing.

use crate::lab::{Bus, Lab, Station::Nat};

/// A program beside the agent that tells the console what listens, how the shares are mounted, and which keys of the
/// console do something, each once. init reads the file at its start, and goes on.
const WATCH: &str = r#"(
said=
say() { case "$said" in *"|$*|"*) ;; *) said="$said|$*|"; echo "<1>watch: $*" >/dev/kmsg ;; esac; }
while :; do
	for kind in tcp tcp6 udp udp6 raw raw6; do
		[ -r /proc/net/$kind ] || continue
		while read -r number local remote state rest; do
			case "$kind:$state" in
			tcp*:0A) say "LISTENS $kind $local" ;;
			udp*:07) say "UNCONNECTED $kind" ;;
			raw*:07) say "LISTENS $kind $local" ;;
			esac
		done </proc/net/$kind
	done
	while read -r what where type flags rest; do
		case "$where" in /run/testbox/*) say "MOUNT $where $flags" ;; esac
	done </proc/mounts
	read -r sysrq </proc/sys/kernel/sysrq
	read -r cad </proc/sys/kernel/ctrl-alt-del
	say "KEYS $sysrq $cad"
	sleep 0.1
done
) &
"#;

/// No listener, no key that reboots, and shares that cannot bring programs or devices; images by a mount that cannot
/// write them.
#[test]
fn backup_and_restore_listen_nowhere() {
    let lab = Lab::new("closed");
    let overlay = lab.overlay(&[("conf/conf.d/watch", 0o644, WATCH)]);
    let disk = lab.small_disk(Bus::Virtio, "V1", 64);
    for action in ["backup", "restore"] {
        let words = format!("testbox.action={action} testbox.job={action}");
        let said = lab.run_once_with(Nat, &[&disk], &words, Some(&overlay));
        let seen: Vec<&str> =
            said.lines().filter_map(|line| Some(line.split_once("watch: ")?.1.trim())).collect();
        println!("{action}: {seen:#?}");
        assert!(seen.contains(&"KEYS 0 0"), "SysRq and Ctrl-Alt-Del are off: {seen:?}");
        assert!(!seen.iter().any(|line| line.starts_with("LISTENS")), "{action} listens: {seen:?}");
        let mounts: Vec<&&str> = seen.iter().filter(|line| line.starts_with("MOUNT")).collect();
        for name in ["backup", "tftp"].into_iter().chain((action == "restore").then_some("images")) {
            let start = format!("MOUNT /run/testbox/{name} {}", if name == "images" { "ro" } else { "rw" });
            assert!(mounts.iter().any(|line| line.starts_with(&start)), "{start}: {mounts:?}");
        }
        for flag in ["nosuid", "nodev", "noexec"] {
            assert!(
                mounts.iter().all(|line| line.split([' ', ',']).any(|f| f == flag)),
                "{flag}: {mounts:?}"
            );
        }
    }
}
