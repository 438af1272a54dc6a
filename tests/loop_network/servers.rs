//! DHCP servers with a pool of one address, 10.9.0.100, and the shortest lease that they give.

use crate::lab::Lab;
use std::fs;

/// A server program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Isc,
    Kea,
    Dnsmasq,
}

/// What the server says of the machine with the MAC `52:54:00:09:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Nothing: it gets the pool's address for so many seconds.
    One(u32),
    /// A reservation of 10.9.0.50, and no pool.
    Reserved(u32),
}

const FIRST: &str = "52:54:00:09:00:01";
const BOOT_FILE: &str = "pxelinux.0";

impl Server {
    /// Starts it with nothing that it remembers; one that runs already ends.
    pub fn start(self, lab: &Lab, pool: Pool) {
        self.start_giving(lab, pool, BOOT_FILE);
    }

    /// The same, with this boot file name.
    pub fn start_giving(self, lab: &Lab, pool: Pool, boot_file: &str) {
        let words = match self {
            Server::Isc => format!("filename \"{boot_file}\"; next-server 10.9.0.1;"),
            Server::Kea => format!(r#""boot-file-name": "{boot_file}", "next-server": "10.9.0.1""#),
            Server::Dnsmasq => format!("dhcp-boot={boot_file}"),
        };
        self.start_with(lab, pool, &words);
    }

    /// The same, with these words of its own about the boot, or none.
    pub fn start_with(self, lab: &Lab, pool: Pool, boot: &str) {
        lab.run("for pid in $(cat /run/dhcp.pid /run/kea/*.pid 2>/dev/null); do kill -9 $pid || true; done; rm -f /run/dhcp.pid /run/kea/*");
        let told = self.reservations(lab);
        let (config, command) = match self {
            Server::Isc => (isc(pool, &told, boot), ISC),
            Server::Kea => (kea(pool, &told, boot), KEA),
            Server::Dnsmasq => (dnsmasq(pool, &told, boot), DNSMASQ),
        };
        fs::write(lab.dir().join("conf"), config).unwrap();
        lab.run(command);
    }
}

impl Server {
    /// The reservation, as `testboxctl` tells it to this server.
    fn reservations(self, lab: &Lab) -> String {
        fs::write(
            lab.dir().join("reserved.toml"),
            format!("[m1]\naddress = \"10.9.0.50\"\nmac = \"{FIRST}\"\n"),
        )
        .unwrap();
        fs::write(lab.dir().join("reserved-settings.toml"), "machines = \"reserved.toml\"\n").unwrap();
        let of = format!("{self:?}").to_lowercase();
        let program = env!("CARGO_BIN_EXE_testboxctl");
        lab.run(&format!("{program} --config reserved-settings.toml machines reservations {of}"))
    }
}

const ISC: &str = "touch leases; : >leases; dhcpd -q -f -4 -cf conf -lf leases -pf /run/dhcp.pid --no-pid lab >isc.log 2>&1 & \
    sleep 0.5; echo $! >/run/dhcp.pid";
const KEA: &str = "KEA_PIDFILE_DIR=/run/kea KEA_LOCKFILE_DIR=/run/kea kea-dhcp4 -c conf >kea.log 2>&1 & \
    echo $! >/run/dhcp.pid; timeout 20 bash -c 'until grep -q DHCP4_STARTED kea.log; do sleep 0.1; done'";
const DNSMASQ: &str = "rm -f /run/leases; dnsmasq --conf-file=conf";

fn isc(pool: Pool, told: &str, boot: &str) -> String {
    let (seconds, inner) = match pool {
        Pool::One(seconds) => (seconds, "range 10.9.0.100 10.9.0.100;".to_owned()),
        Pool::Reserved(seconds) => (seconds, told.to_owned()),
    };
    format!(
        "authoritative; ping-check false; default-lease-time {seconds}; max-lease-time {seconds}; \
         min-lease-time {seconds};\nsubnet 10.9.0.0 netmask 255.255.255.0 {{ {inner} option routers 10.9.0.1; {boot} }}\n"
    )
}

fn kea(pool: Pool, told: &str, boot: &str) -> String {
    let (seconds, inner) = match pool {
        Pool::One(seconds) => (seconds, r#""pools": [ { "pool": "10.9.0.100 - 10.9.0.100" } ]"#.to_owned()),
        Pool::Reserved(seconds) => (seconds, format!(r#""reservations": {told}"#)),
    };
    let boot = if boot.is_empty() { String::new() } else { format!("{boot},") };
    format!(
        r#"{{ "Dhcp4": {{ "interfaces-config": {{ "interfaces": [ "lab" ], "dhcp-socket-type": "raw" }},
        "lease-database": {{ "type": "memfile", "persist": false }}, "valid-lifetime": {seconds}, "authoritative": true,
        "expired-leases-processing": {{ "reclaim-timer-wait-time": 1, "hold-reclaimed-time": 0 }},
        {boot}
        "subnet4": [ {{ "id": 1, "subnet": "10.9.0.0/24", {inner},
        "option-data": [ {{ "name": "routers", "data": "10.9.0.1" }} ] }} ],
        "loggers": [ {{ "name": "kea-dhcp4", "severity": "INFO",
        "output_options": [ {{ "output": "stdout" }} ] }} ] }} }}"#
    )
}

fn dnsmasq(pool: Pool, told: &str, boot: &str) -> String {
    let inner = match pool {
        Pool::One(seconds) => format!("dhcp-range=10.9.0.100,10.9.0.100,{seconds}"),
        Pool::Reserved(seconds) => {
            format!("dhcp-range=10.9.0.0,static,{seconds}\n{told}")
        }
    };
    format!(
        "port=0\ninterface=lab\nbind-dynamic\nno-ping\ndhcp-authoritative\nuser=root\ndhcp-leasefile=/run/leases\n\
         pid-file=/run/dhcp.pid\nlog-dhcp\nlog-facility=/run/dnsmasq.log\n{boot}\n{inner}\n"
    )
}
