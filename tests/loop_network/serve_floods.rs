//! Somebody on the network who asks the boot services without end: the lab's machines do not notice.

use crate::boot_servers::{MACHINE, fetch, init};
use crate::lab::Lab;
use crate::serve_dhcp::udhcpc;
use crate::serve_tftp::{log, serve};
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use testbox::net::tftp::Packet;
use testbox::sys::udp_on_device;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

#[test]
fn loop_floods_hold_up_no_known_machine() {
    let lab = Lab::new();
    init(&lab);
    fs::write(
        lab.dir().join("machines.toml"),
        "[tb1]\naddress = \"10.9.0.100\"\nmac = \"52:54:00:09:00:01\"\n",
    )
    .unwrap();
    serve(
        &lab,
        "",
        "--tftp --dhcp 10.9.0.90-10.9.0.110 --unknown-machines allow --interface lab --machines machines.toml --state-dir state",
    );
    // Files that are asked for and never taken.
    lab.run("ip -n m2 address add 10.9.0.102/24 dev eth0");
    let options = vec![("windowsize".to_owned(), "64".to_owned())];
    let request = Packet::ReadRequest { file: "pxelinux.0".into(), mode: "octet".into(), options }.encode();
    let sockets: Vec<UdpSocket> = lab.within("m2", || {
        let socket = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let sockets: Vec<UdpSocket> = (0..300).map(|_| socket()).collect();
        for socket in &sockets {
            socket.send_to(&request, (SERVER, 69)).unwrap();
        }
        sockets
    });
    assert_eq!(fetch(&lab, SERVER, "pxelinux.0").unwrap(), "pxelinux.0", "{}", log(&lab));
    assert!(log(&lab).contains("10.9.0.102 must wait"), "{}", log(&lab));
    drop(sockets);
    // Cards that nobody has: they take the range, each by an offer and by a request.
    lab.within("m2", || {
        let wire = udp_on_device("eth0", 68).unwrap();
        for card in 0..2000u16 {
            for (kind, wanted) in [(1, None), (3, Some([10, 9, 0, 90 + (card % 21) as u8]))] {
                let mut bytes = vec![0; 240];
                bytes[..3].copy_from_slice(&[1, 1, 6]);
                bytes[28..32].copy_from_slice(&[2, 0, 0, 1]);
                bytes[32..34].copy_from_slice(&card.to_be_bytes());
                bytes[236..].copy_from_slice(&[99, 130, 83, 99]);
                bytes.extend([53, 1, kind]);
                bytes.extend(wanted.into_iter().flat_map(|ip: [u8; 4]| [[50, 4].as_slice(), &ip].concat()));
                bytes.push(255);
                wire.send_to(&bytes, (Ipv4Addr::BROADCAST, 67)).unwrap();
            }
        }
    });
    assert_eq!(udhcpc(&lab, "m1"), Some(MACHINE), "{}", log(&lab));
    lab.run(
        "timeout 20 bash -c 'until grep -q \"all of the range are taken\" serve.log; do sleep 0.1; done'",
    );
    assert_eq!(udhcpc(&lab, "m2"), None, "what is taken is taken: {}", log(&lab));
    let leases = lab.run("cat state/leases");
    assert!(leases.lines().count() <= 20 && !leases.contains("10.9.0.100 "), "no reserved address: {leases}");
    assert!(log(&lab).lines().count() < 600, "{} lines", log(&lab).lines().count());
}
