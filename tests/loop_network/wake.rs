//! Wake-on-LAN, as the card of a machine that is off hears it.

use crate::lab::Lab;
use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

#[test]
fn loop_a_card_hears_the_packet_that_wakes_it() {
    let lab = Lab::new();
    lab.run("ip -n m1 address replace 10.9.0.100/24 dev eth0");
    let machines = "[tb1]\naddress = \"10.9.0.100\"\nmac = [\"52:54:00:09:00:01\", \"52-54-00-09-00-AB\"]\npower = { wake = true }\n";
    fs::write(lab.dir().join("machines.toml"), machines).unwrap();
    fs::write(lab.dir().join("settings.toml"), "machines = \"machines.toml\"\n").unwrap();
    let card = lab.within("m1", || UdpSocket::bind("0.0.0.0:9").unwrap());
    card.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let program = env!("CARGO_BIN_EXE_testboxctl");
    let said = lab.run(&format!("{program} --config settings.toml power on tb1"));
    assert_eq!(said, "10.9.0.100 (tb1): woken\n");
    for last in [0x01, 0xab] {
        let mut packet = [0; 200];
        let (length, from) = card.recv_from(&mut packet).unwrap();
        // Wherever it stands in a frame: six bytes of ones, then the card's address sixteen times.
        let mac = [0x52, 0x54, 0, 9, 0, last];
        assert_eq!(packet[..length], [[0xff; 6].as_slice(), &mac.repeat(16)].concat(), "from {from}");
    }
    let refused = lab.run(&format!("! {program} --config settings.toml power status tb1"));
    assert!(refused.contains("can only switch on"), "{refused}");
}
