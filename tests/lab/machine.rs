//! One emulated machine: QEMU without KVM, boot order network then disks, its serial console in a log.

use super::console::Console;
use super::{Disk, Lab, Station, Uefi, disk::Bus, poll, server};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// Where the server has the ssh port of the machine behind NAT.
pub(super) const SSH_PORT: u16 = 2222;

/// Machines that run at once, on two cores: each waits half of the time, for disks, links and deadlines.
const MACHINES: usize = 3;
static RUNNING: Mutex<usize> = Mutex::new(0);
static ONE_ENDED: Condvar = Condvar::new();

/// The right to run one machine.
pub(super) struct Permit;

impl Permit {
    /// All of them or none yet: two that wait for each other's second machine would wait for ever.
    pub(super) fn take<const N: usize>() -> [Permit; N] {
        const { assert!(N <= MACHINES) };
        let running = RUNNING.lock().unwrap_or_else(|e| e.into_inner());
        *ONE_ENDED.wait_while(running, |n| *n + N > MACHINES).unwrap_or_else(|e| e.into_inner()) += N;
        [const { Permit }; N]
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(|e| e.into_inner()) -= 1;
        ONE_ENDED.notify_all();
    }
}

/// What a machine is made of; [`Setup::power_on`] starts it.
pub struct Setup<'a> {
    lab: &'a Lab,
    station: Station,
    disks: Vec<Option<&'a Disk>>,
    /// Where the writes and flushes of the last disk are recorded.
    log: Option<&'a Path>,
    memory_mib: u32,
    cpus: u32,
    is_direct: bool,
    uefi: Option<&'a Uefi>,
    is_disk_first: bool,
    boot_file: &'a str,
}

impl Lab {
    /// A machine on the given place of the network, without disks.
    pub fn machine(&self, station: Station) -> Setup<'_> {
        Setup {
            lab: self,
            station,
            disks: Vec::new(),
            log: None,
            memory_mib: 512,
            cpus: 1,
            is_direct: false,
            uefi: None,
            is_disk_first: false,
            boot_file: "pxelinux.0",
        }
    }
}

impl<'a> Setup<'a> {
    /// Plugs in the next disk: the order is that of the slots, and so of the kernel's names on one bus.
    pub fn disk(mut self, disk: &'a Disk) -> Self {
        self.disks.push(Some(disk));
        self
    }

    /// Plugs in the last disk, every write and flush of which goes into the log too: see `replay`.
    pub fn recorded_disk(mut self, disk: &'a Disk, log: &'a Path) -> Self {
        self.log = Some(log);
        self.disk(disk)
    }

    /// Leaves the next slot empty.
    pub fn empty_slot(mut self) -> Self {
        self.disks.push(None);
        self
    }

    /// Memory in MiB (512).
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// CPUs (1).
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Started without loader and network boot, see [`super::direct`]; every boot of it is the same.
    pub fn direct(mut self) -> Self {
        self.is_direct = true;
        self
    }

    /// UEFI in place of the BIOS, on its processor. Behind NAT, DHCP gives it shim.
    pub fn uefi(self, firmware: &'a Uefi) -> Self {
        let boot_file = if firmware.is_arm64() { "shimaa64.efi" } else { "shimx64.efi" };
        Setup { uefi: Some(firmware), boot_file, ..self }.memory(1024)
    }

    /// The firmware tries the first disk before the network.
    pub fn disk_first(self) -> Self {
        Setup { is_disk_first: true, ..self }
    }

    /// What DHCP gives the loader of the network card, behind NAT (`pxelinux.0`, and with UEFI `shimx64.efi`).
    pub fn boot_file(mut self, name: &'a str) -> Self {
        self.boot_file = name;
        self
    }

    fn is_arm64(&self) -> bool {
        self.uefi.is_some_and(Uefi::is_arm64)
    }

    fn arguments(&self, qmp: &str) -> Vec<String> {
        let board = if self.is_arm64() { "virt -cpu cortex-a57" } else { "q35,graphics=off -vga none" };
        let mut words = format!(
            "-nodefaults -no-user-config -M {board} -accel tcg,thread=multi -display none \
             -smp {} -m {} -serial stdio -qmp unix:{qmp},server=on,wait=off",
            self.cpus, self.memory_mib
        );
        words += &match self.station {
            Station::Bridge(port) => format!(" -netdev tap,id=net,ifname=tap{port},script=no,downscript=no"),
            Station::Wire => format!(" -netdev socket,id=net,connect={}", server::CABLE),
            Station::Nat => format!(
                " -netdev user,id=net,tftp=/export/testbox-tftp,bootfile={},hostfwd=tcp:127.0.0.1:{SSH_PORT}-:22",
                self.boot_file
            ),
        };
        // Not virtio: Debian's 6.1 driver can spin for ever when the machine reboots with traffic under way. But OVMF drives
        // no other card by itself, and by the ROM it would be iPXE that boots.
        let (card, boot) = match self.uefi {
            Some(_) if self.is_disk_first => ("virtio-net-pci", "romfile=,bootindex=9"),
            Some(_) => ("virtio-net-pci", "romfile=,bootindex=0"),
            None if self.is_direct => ("e1000e", "romfile="),
            None => ("e1000e", "bootindex=0"),
        };
        words += &format!(" -device {card},netdev=net,mac={},addr=2,{boot}", self.station.mac());
        words += &self.uefi.map_or_else(String::new, Uefi::arguments);
        let plugged = || self.disks.iter().enumerate().filter_map(|(n, disk)| Some((n, (*disk)?)));
        if plugged().any(|(_, d)| d.bus == Bus::Scsi) {
            words += " -device virtio-scsi-pci,id=scsi,addr=3";
        }
        for (n, disk) in plugged() {
            let Disk { path, serial, .. } = disk;
            let device = match disk.bus {
                Bus::Virtio => format!("virtio-blk-pci,addr={:#x}", 0x10 + n),
                Bus::Nvme => {
                    let warning = if disk.is_failing { 1 << 2 } else { 0 };
                    format!("nvme,smart_critical_warning={warning},addr={:#x}", 0x10 + n)
                }
                Bus::Sata => format!("ide-hd,bus=ide.{n}"),
                Bus::Scsi => format!("scsi-hd,bus=scsi.0,scsi-id={n}"),
                Bus::Card => {
                    format!("sdhci-pci,id=reader{n},addr={:#x} -device sd-card,bus=sd-bus", 0x10 + n)
                }
            };
            let serial = if disk.bus == Bus::Card {
                String::new()
            } else {
                format!(",serial={serial},bootindex={}", n + 1)
            };
            let drive = match self.log.filter(|_| n + 1 == self.disks.len()) {
                None => {
                    let format = path.extension().filter(|is| *is == "qcow2").map_or("raw", |_| "qcow2");
                    format!("format={format},discard=unmap,file={}", path.display())
                }
                Some(log) => format!(
                    "driver=blklogwrites,log-super-update-interval=1,file.driver=file,file.filename={},log.driver=file,\
                     log.filename={}",
                    path.display(),
                    log.display()
                ),
            };
            words += &format!(" -drive if=none,id=disk{n},{drive} -device {device},drive=disk{n}{serial}");
        }
        let direct = if self.is_direct { self.lab.direct_start(self.station) } else { Vec::new() };
        words.split_whitespace().map(str::to_owned).chain(direct).collect()
    }

    /// Starts the machine, as soon as it may run.
    pub fn power_on(self) -> Machine {
        // Whoever runs the server has the right to run its client.
        if self.station == Station::Wire {
            return self.start(None);
        }
        let [machine] = Setup::power_on_together([self]);
        machine
    }

    /// Starts these machines at the same time, as soon as all of them may run.
    pub fn power_on_together<const N: usize>(setups: [Setup<'a>; N]) -> [Machine; N] {
        let mut permits = Permit::take::<N>().into_iter();
        setups.map(|setup| setup.start(permits.next()))
    }

    fn start(self, permit: Option<Permit>) -> Machine {
        if let Some(log) = self.log {
            File::create(log).unwrap();
        }
        let program = if self.is_arm64() { "qemu-system-aarch64" } else { "qemu-system-x86_64" };
        let arguments = |qmp: &str| self.arguments(qmp);
        Machine::start(self.lab, program, &self.station.ip(), arguments, permit.into_iter().collect())
    }
}

/// A machine that runs. Dropping it pulls the plug.
pub struct Machine {
    child: Child,
    stdin: ChildStdin,
    console: Console,
    qmp: PathBuf,
    /// Given back as soon as the machine is off: a scenario may want the next one while it still knows this one.
    permits: Vec<Permit>,
}

impl Machine {
    /// Starts QEMU beside the servers. `name` is that of its console logs, one for each start.
    pub(super) fn start(
        lab: &Lab,
        program: &str,
        name: &str,
        arguments: impl FnOnce(&str) -> Vec<String>,
        permits: Vec<Permit>,
    ) -> Machine {
        let log = (1..)
            .map(|n| lab.logs.join(format!("{name}-{n}.console.log")))
            .find(|log| !log.exists())
            .unwrap();
        let qmp = lab.file(&format!("{name}.qmp"));
        let _ = std::fs::remove_file(&qmp);
        let open = |path: &Path| File::options().create(true).append(true).open(path).unwrap();
        let mut child = lab
            .inside(program)
            .args(arguments(qmp.to_str().unwrap()))
            .stdin(Stdio::piped())
            .stdout(open(&log))
            .stderr(open(&lab.logs.join("qemu.log")))
            .spawn()
            .expect("nsenter of util-linux");
        let stdin = child.stdin.take().unwrap();
        Machine { child, stdin, console: Console::new(&log), qmp, permits }
    }

    /// Waits until the console says this, after what earlier waits have seen.
    pub fn wait_for(&mut self, pattern: &str, seconds: u64) {
        self.wait_for_any(&[pattern], seconds);
    }

    /// Waits until the console says one of these; which one came first.
    pub fn wait_for_any(&mut self, patterns: &[&str], seconds: u64) -> usize {
        let child = &mut self.child;
        let ended = || !matches!(child.try_wait(), Ok(None));
        self.console.wait_for_any(patterns, Duration::from_secs(seconds), ended)
    }

    /// Waits until the firmware starts (the first time, or once more).
    pub fn wait_for_reset(&mut self, seconds: u64) {
        self.wait_for("SeaBIOS (version", seconds);
    }

    /// Waits until the machine has switched itself off.
    pub fn wait_for_power_off(&mut self, seconds: u64) {
        let ended = poll(Duration::from_secs(seconds), || self.child.try_wait().unwrap());
        self.permits.clear();
        if !ended.is_some_and(|status| status.success()) {
            self.console.fail(&format!("waiting {seconds} s for the machine to switch off: {ended:?}"));
        }
    }

    /// All that the console has said.
    pub fn said(&self) -> String {
        self.console.text()
    }

    /// Ends the scenario with the tail of the console log.
    pub fn fail(&self, why: &str) -> ! {
        self.console.fail(why)
    }

    /// Types a line on the serial console.
    pub fn type_line(&mut self, line: &str) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Plugs the network cable in or out.
    pub fn set_link(&mut self, up: bool) {
        self.monitor("set_link", &format!(r#"{{"name": "net", "up": {up}}}"#)).unwrap();
    }

    /// Pulls the power plug; disks keep what they had acknowledged.
    pub fn cut_power(&mut self) {
        // QEMU may be gone before it has answered.
        let _ = self.monitor("quit", "{}");
        let _ = self.child.wait();
        self.permits.clear();
    }

    /// Presses the reset button.
    pub fn reset(&mut self) {
        self.monitor("system_reset", "{}").unwrap();
    }

    /// The socket that [`Machine::reset`] and others talk to, for another program.
    pub fn monitor_socket(&self) -> &Path {
        &self.qmp
    }

    /// One command on QEMU's machine protocol (QMP).
    fn monitor(&mut self, command: &str, arguments: &str) -> std::io::Result<()> {
        let connect = || UnixStream::connect(&self.qmp).ok();
        let stream = poll(Duration::from_secs(5), connect).ok_or(std::io::ErrorKind::NotConnected)?;
        let mut answers = BufReader::new(stream.try_clone()?).lines();
        let say = |line: String| (&stream).write_all(line.as_bytes());
        say(r#"{"execute": "qmp_capabilities"}"#.to_owned())?;
        say(format!(r#"{{"execute": "{command}", "arguments": {arguments}}}"#))?;
        let mut done = 0;
        while done < 2 {
            let line = answers.next().unwrap_or(Err(std::io::ErrorKind::UnexpectedEof.into()))?;
            assert!(!line.contains(r#""error""#), "QMP {command}: {line}");
            done += usize::from(line.contains(r#""return""#));
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.cut_power();
        }
    }
}
