//! The file of machines: names, groups and ranges in every command.

use super::Lab;

const MACHINES: &[u8] = b"[tb1]\naddress = \"10.42.1.20\"\nmac = \"52:54:00:12:34:56\"\ngroups = [\"rack3\"]\n\
                          [tb2]\naddress = \"10.42.1.21\"\ngroups = [\"rack3\"]\n[tb3]\naddress = \"10.42.1.22\"\n";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("machines.toml", MACHINES);
    lab.write(
        "settings.toml",
        b"machines = \"machines.toml\"\ntftp-dir = \"t\"\nbackup-dir = \"b\"\nboot = \"testbox\"\nbackup = \"10.42.1.1:/b\"\n",
    );
    lab
}

#[test]
fn a_group_is_armed_shown_and_disarmed_by_its_name() {
    let lab = lab();
    lab.run(&["arm", "rack3", "backup"])
        .expect(0, &["10.42.1.20 (tb1): armed", "10.42.1.21 (tb2): armed", "2 of 2"]);
    assert!(lab.path("t/pxelinux.cfg/0A2A0115").exists() && !lab.path("t/pxelinux.cfg/0A2A0116").exists());
    lab.run(&["status", "tb[1-2]"]).expect(0, &["10.42.1.20", "10.42.1.21"]);
    lab.run(&["disarm", "tb[1,2]"]).expect(0, &["10.42.1.21 (tb2): disarmed"]);
    lab.run(&["arm", "--dry-run", "10.42.1.77", "backup"]).expect(0, &["nothing was"]);
}

/// One wrong word, and nothing is done to any machine.
#[test]
fn a_file_of_machines_that_is_wrong_stops_every_command() {
    let lab = lab();
    lab.write("machines.toml", b"[tb1]\naddress = \"10.42.1.20\"\n[tb2]\naddress = \"10.42.1.20\"\n");
    let before = lab.snapshot();
    for words in [&["arm", "tb1", "backup"][..], &["disarm", "tb1"], &["status", "tb1"]] {
        let run = lab.run(words);
        assert_eq!(run.code, 2, "{words:?}: {}", run.err);
    }
    lab.run(&["status"]).expect(2, &["machines.toml: [tb1] and [tb2] have the same address"]);
    assert_eq!(lab.snapshot(), before);
}

/// From a DHCP server's leases into the file, and from there into the configuration of three servers.
#[test]
fn machines_are_learned_and_told_to_dhcp_servers() {
    let lab = lab();
    lab.write(
        "leases",
        b"1700000000 52:54:00:00:00:44 10.42.1.44 tb44 *\n1700000000 52:54:00:12:34:56 10.42.1.45 x *\n",
    );
    lab.run(&["machines", "learn", "--leases", "leases", "--dry-run"]).expect(0, &["tb44: 10.42.1.44"]);
    let json =
        lab.run(&["machines", "learn", "--leases", "leases", "--dry-run", "--json"]).expect(0, &[]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["added"][0]["name"], &json["written"]), (&"tb44".into(), &false.into()), "{json}");
    assert_eq!(lab.read("machines.toml"), MACHINES);
    lab.run(&["machines", "learn", "--leases", "leases"]).expect(0, &["1 machines added to machines.toml"]);
    lab.run(&["machines", "learn", "--leases", "leases"]).expect(0, &["nothing new"]);
    assert!(lab.read("machines.toml").starts_with(MACHINES), "what was there stays");
    lab.run(&["machines", "list"]).expect(0, &["tb44 10.42.1.44      52:54:00:00:00:44", "rack3"]);
    lab.run(&["arm", "tb44", "backup"]).expect(0, &["10.42.1.44 (tb44): armed"]);
    let told = |server: &str| lab.run(&["machines", "reservations", server]).expect(0, &[]).out;
    assert!(told("dnsmasq").contains("dhcp-host=52:54:00:00:00:44,10.42.1.44,tb44\n"));
    assert!(
        told("isc").contains("host tb44 { hardware ethernet 52:54:00:00:00:44; fixed-address 10.42.1.44; ")
    );
    let kea: serde_json::Value = serde_json::from_str(&told("kea")).unwrap();
    assert_eq!(kea[1]["hw-address"], "52:54:00:00:00:44");
}
