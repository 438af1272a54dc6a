//! The TFTP client against the servers of Debian, each as its own manual starts it.

use crate::lab::Lab;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use testbox::net::tftp::{Limits, PORT, TftpClient, TftpError};

/// Name, a command that returns when the server runs, and what it says of a file that it may not read: atftpd no more
/// than of one that is not there. A daemon's working directory is the root.
const SERVERS: [(&str, &str, &str); 3] = [
    ("tftpd-hpa", "in.tftpd --listen --user nobody --address 10.9.0.1:69 --secure $PWD/tftp", "ermission"),
    ("atftpd", "atftpd --daemon --user nobody.nogroup --bind-address 10.9.0.1 $PWD/tftp", ""),
    (
        "dnsmasq",
        "dnsmasq --conf-file=/dev/null --port=0 --interface=lab --bind-dynamic --user=nobody --enable-tftp \
         --tftp-root=$PWD/tftp --pid-file=/run/tftp.pid",
        "Permission denied",
    ),
];

/// What the client says of a name, in a word.
fn asked(client: &TftpClient, path: &str) -> Result<Vec<u8>, String> {
    client.fetch(SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 1), PORT), path).map_err(|e| match e {
        TftpError::NotFound { .. } => "not found".to_owned(),
        other => other.to_string(),
    })
}

#[test]
fn loop_every_tftp_server_gives_files_and_names_what_it_lacks() {
    for (name, command, denied) in SERVERS {
        let lab = Lab::new();
        let root = lab.dir().join("tftp");
        // The server is another account.
        fs::set_permissions(lab.dir(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(root.join("pxelinux.cfg")).unwrap();
        // Nothing, less than a block, whole blocks of each size that is asked for, several windows.
        let sizes = [0, 1, 511, 512, 1408, 4 * 1408, 60_000];
        for size in sizes {
            let bytes: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
            fs::write(root.join(format!("pxelinux.cfg/{size}")), bytes).unwrap();
        }
        fs::write(root.join("secret"), "x").unwrap();
        fs::set_permissions(root.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        lab.run(command);
        lab.run("ip -n m1 addr add 10.9.0.100/24 dev eth0");
        lab.within("m1", || {
            let client = TftpClient::new(Limits { timeout: Duration::from_secs(2), ..Limits::default() });
            for size in sizes {
                let expected = fs::read(root.join(format!("pxelinux.cfg/{size}"))).unwrap();
                assert_eq!(
                    asked(&client, &format!("pxelinux.cfg/{size}")),
                    Ok(expected),
                    "{name}: {size} bytes"
                );
            }
            for absent in ["pxelinux.cfg/0A090064", "no/folder/at.all"] {
                assert_eq!(asked(&client, absent), Err("not found".to_owned()), "{name}: {absent}");
            }
            // A file that another account cannot read is told by the same word: the codes are 0, 1 or 2.
            assert_eq!(asked(&client, "secret"), Err("not found".to_owned()), "{name}: not readable");
            let server = SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 1), PORT);
            let refusal = client.fetch(server, "secret").unwrap_err().refusal().unwrap_or_default();
            assert!(refusal.contains(denied), "{name}: the server's own words: {refusal:?}");
            let refusal = client.fetch(server, "pxelinux.cfg/0A090064").unwrap_err().refusal();
            assert_eq!(refusal, None, "{name}: what is plainly not there");
        });
    }
}
