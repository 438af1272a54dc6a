//! The README's first lines, as they stand there, in a clean Debian: from its packages to the first verified backup of an emulated machine.
//! Then what a lab does with it: an ordinary user who arms, and a group that is switched by its BMC.

use crate::lab::{
    Bus, Lab, Machine, Setup, Station::Bridge, browser_tools, emulators, first_block_of_the_readme,
    next_event, poll, run,
};
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use testbox::types::SetHash;

/// What is started for a scenario, and ends with it.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The server of a lab, in this root, with two machines.
pub struct CleanServer<'a> {
    lab: &'a Lab,
    root: &'a Path,
    serving: Option<Started>,
}

/// Of an admin who looks at the page.
const TOKEN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// What emulated machines on a busy computer need beside the settings that `init` has written.
const EMULATED: &str =
    "console = [\"tty0\", \"ttyS0,115200\"]\nextra = [\"no_timer_check\"]\nsettle = 2\nmount-wait = 20\n";

impl<'a> CleanServer<'a> {
    /// Runs all commands of the README's first block, with the packages in `/srv`. Nothing else is done to the server but what an
    /// emulated machine needs, and what systemd would do.
    pub fn begin(lab: &'a Lab, root: &'a Path) -> CleanServer<'a> {
        let commands = first_block_of_the_readme();
        let begins = [
            "apt install ",
            "testboxctl init ",
            "systemctl enable ",
            "testboxctl machines ",
            "testboxctl arm ",
        ];
        assert!(
            commands.len() == begins.len()
                && commands.iter().zip(begins).all(|(c, begin)| c.starts_with(begin)),
            "the README's first screen: {commands:#?}"
        );
        let started = Instant::now();
        run(lab.inside("sh").arg("-ec").arg(
            "ip link set lab down && ip link set lab name eth1 && ip link set eth1 up && ip address add 10.42.1.1/24 dev eth1
             mount -t proc proc \"$0/proc\"",
        ).arg(root));
        let mut server = CleanServer { lab, root, serving: None };
        let told = server.within(&commands[0]);
        assert!(told.contains("Setting up testboxctl (0.0.1)"), "{told}");
        let told = server.within(&commands[1]);
        assert!(told.contains(&format!("\n  {}\n", commands[2])), "init says what is next: {told}");
        // Again, it changes nothing.
        let settings = fs::read_to_string(root.join("etc/testbox.toml")).unwrap();
        assert!(server.within(&commands[1]).contains("as it should be"));
        let listener = lab.listener();
        let webhook = format!("webhook = \"http://{}/told\"\n", listener.local_addr().unwrap());
        // For the page in a browser; before the table [serve] ends.
        let admins = "[serve]\nadmin-tokens = \"/etc/testbox/admin-tokens\"\n";
        assert!(settings.contains("\n[serve]\n"), "{settings}");
        let settings = settings.replace("[serve]\n", admins);
        server.within(&format!(
            "umask 077; echo alice {TOKEN} >/etc/testbox/admin-tokens; chown testbox: /etc/testbox/admin-tokens"
        ));
        fs::write(root.join("etc/testbox.toml"), [EMULATED, &settings, &webhook].concat()).unwrap();
        // No systemd runs there: units are enabled, and the scenario starts what they start.
        assert!(commands[2].contains(" --now "), "{commands:#?}");
        server.within(&commands[2].replace(" --now", ""));
        server.start("testbox-store.service");
        server.an_ordinary_user_arms();

        let disks = ["V1", "V2"].map(|serial| lab.small_disk(Bus::Virtio, serial, 48));
        let [one, two] = [1, 2].map(|port| lab.machine(Bridge(port)).disk(&disks[usize::from(port) - 1]));
        let mut machines = Setup::power_on_together([one, two]);
        server.both_are_seen();
        let learned = server.within(&commands[3]);
        assert!(learned.contains("2 machines added to /etc/testbox/machines.toml"), "{learned}");
        let first = if learned.contains(&format!("tb1: 10.42.1.100 {}", Bridge(1).mac())) { 0 } else { 1 };

        let mut armed = server.spawn(&commands[4]);
        server.is_armed("0A2A0164");
        machines[first].reset();
        let output = ended(&mut armed, &mut machines);
        assert!(output.status.success(), "{}", text(&output));
        let event = next_event(&listener);
        assert_eq!((&event["event"], &event["ip"]), (&"done".into(), &"10.42.1.100".into()), "{event}");
        println!("from a clean Debian to the first verified backup: {} s", started.elapsed().as_secs());
        server.within("testboxctl image verify /export/testbox-backup/10.42.1.100/vda.raw.gz");

        server.a_group_is_switched_and_followed(first, &mut machines, &listener);
        server
    }

    /// Runs a line in the clean Debian, in the folder with the packages, and gives what it says; its failure ends the scenario.
    fn within(&self, line: &str) -> String {
        run(&mut self.command(line))
    }

    fn command(&self, line: &str) -> Command {
        let mut command = self.lab.inside("chroot");
        command.arg(self.root).args(["sh", "-ec", &format!("cd /srv; {line}")]);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    fn spawn(&self, line: &str) -> Started {
        Started(self.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Starts the unit's own command as its user, with its rights, without what only systemd can do.
    fn start(&mut self, unit: &str) {
        assert!(
            self.root.join("etc/systemd/system/multi-user.target.wants").join(unit).is_symlink(),
            "it starts with the computer"
        );
        self.within("install -d -o testbox -g testbox -m 755 /run/testbox /var/lib/testbox");
        let unit = fs::read_to_string(self.root.join("usr/lib/systemd/system").join(unit)).unwrap();
        let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let rights = "+net_bind_service,+net_raw";
        let mut serve = self.lab.inside("chroot");
        serve.arg(self.root).args(["setpriv", "--reuid", "testbox", "--regid", "testbox", "--clear-groups"]);
        serve.args(["--inh-caps", rights, "--ambient-caps", rights, "--no-new-privs", "--pdeathsig", "KILL"]);
        serve.args(["sh", "-c", &format!("umask 027; exec {}", line.replace("$SERVE_OPTIONS", ""))]);
        let log = fs::File::create(self.lab.logs.join("store.log")).unwrap();
        self.serving = Some(Started(serve.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()));
        let is_open = || self.root.join("run/testbox/admin.sock").exists().then_some(());
        poll(Duration::from_secs(60), is_open).unwrap_or_else(|| panic!("it does not start: {}", self.log()));
    }

    fn log(&self) -> String {
        fs::read_to_string(self.lab.logs.join("store.log")).unwrap_or_default()
    }

    /// A member of its group arms and looks, by the server; nobody else does.
    fn an_ordinary_user_arms(&self) {
        self.within("useradd -G testbox alice");
        let alice = |words: &str| {
            self.within(&format!("runuser -u alice -- testboxctl --via /run/testbox/admin.sock {words}"))
        };
        let armed = alice("arm --expires 12h 10.42.1.20 backup");
        assert!(armed.contains("10.42.1.20: armed with backup"), "{armed}");
        let status = alice("status");
        assert!(status.contains("10.42.1.20 -    armed"), "{status}");
        assert!(status.contains("by alice (uid ") && status.contains(", expires "), "{status}");
        self.within("test \"$(stat -c %U /export/testbox-tftp/pxelinux.cfg/0A2A0114)\" = testbox");
        self.within("! runuser -u nobody -- testboxctl --via /run/testbox/admin.sock status");
        let disarmed = alice("disarm 10.42.1.20");
        assert!(disarmed.contains("10.42.1.20"), "{disarmed}");
    }

    /// Until the server has seen both machines boot; neither is known or armed.
    fn both_are_seen(&self) {
        let both = || {
            let told = self.command("testboxctl machines learn --dry-run").output().unwrap();
            let told = text(&told);
            [1, 2].iter().all(|port| told.contains(&Bridge(*port).mac())).then_some(())
        };
        poll(Duration::from_secs(300), both).unwrap_or_else(|| panic!("not both are seen: {}", self.log()));
    }

    fn is_armed(&self, hexip: &str) {
        let file = self.root.join("export/testbox-tftp/pxelinux.cfg").join(hexip);
        poll(Duration::from_secs(60), || file.exists().then_some(())).expect("it is armed");
    }

    /// Both machines get a job at once by their BMC. One is done; of the other, which has no image, everybody hears why it fails.
    fn a_group_is_switched_and_followed(
        &self,
        first: usize,
        machines: &mut [Machine; 2],
        listener: &TcpListener,
    ) {
        let _bmc = self.bmc(first, machines);
        let mut browser = self.browser();
        let line = "testboxctl arm --power cycle --wait --force rack restore";
        let mut armed = self.spawn(line);
        let mut told = [next_event(listener), next_event(listener)];
        told.sort_by_key(|event| event["event"].to_string());
        let [done, failed] = told;
        let who = |event: &Value| (event["event"].clone(), event["ip"].clone());
        assert_eq!(who(&done), ("done".into(), "10.42.1.100".into()), "{done}");
        assert_eq!(who(&failed), ("failed".into(), "10.42.1.101".into()), "{failed}");
        // It would try again; an admin has seen enough.
        self.within("testboxctl disarm tb2");
        let output = ended(&mut armed, machines);
        let said = text(&output);
        let why = failed["error"].as_str().unwrap();
        assert!(output.status.code() == Some(1) && said.contains(why), "{why}: {said}");
        assert!(
            said.contains("10.42.1.100 (tb1): cycled") && said.contains("10.42.1.101 (tb2): cycled"),
            "{said}"
        );
        let output = self.command("testboxctl status").output().unwrap();
        assert!(output.status.code() == Some(1) && text(&output).contains(why), "{}", text(&output));
        let output = ended(&mut browser, machines);
        let said = text(&output);
        assert!(output.status.success() && said.contains(why), "the page: {why}: {said}");
    }

    /// An admin's browser, which looks at the page until one machine is done and the other has failed.
    fn browser(&self) -> Started {
        let tools = browser_tools();
        let (venv, chromium) = tools.split_once('\n').unwrap();
        let shots = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/page");
        fs::create_dir_all(&shots).unwrap();
        let mut command = self.lab.inside("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(format!("{venv}/bin/python"));
        command.args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/follow.py"), chromium]);
        command.args(["https://10.42.1.1:7443", TOKEN]).arg(shots.join("group.png")).args(["tb1", "tb2"]);
        let mut browser = Started(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        // It looks before anything is armed.
        let mut begin = [0; 6];
        let read = browser.0.stdout.as_mut().unwrap().read_exact(&mut begin);
        if read.is_err() || &begin != b"looks\n" {
            let mut why = String::new();
            let _ = browser.0.stderr.take().unwrap().read_to_string(&mut why);
            panic!("the browser shows no page: {why}");
        }
        browser
    }

    /// An emulated BMC of both machines, and what the server is told of it.
    fn bmc(&self, first: usize, machines: &[Machine; 2]) -> Started {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["bmc".to_owned()]).unwrap().self_signed(&key).unwrap();
        let pin = SetHash::of(&key.subject_public_key_info()).to_string();
        let [cert, secret] = ["bmc-cert.pem", "bmc-key.pem"].map(|name| self.lab.file(name));
        fs::write(&cert, certificate.pem()).unwrap();
        fs::write(&secret, key.serialize_pem()).unwrap();
        let mut command = self.lab.inside("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(format!("{}.venv/bin/python", emulators()));
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testboxctl/redfish.py"));
        command.args(["8443"]).args([&cert, &secret]).args(["admin", "s3cret-bmc"]);
        command.args(machines.iter().map(Machine::monitor_socket));
        let log = fs::File::create(self.lab.logs.join("bmc.log")).unwrap();
        let bmc = Started(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());

        let path = self.root.join("etc/testbox/machines.toml");
        let mut known = fs::read_to_string(&path).unwrap();
        for (n, name) in [(first, "tb1"), (1 - first, "tb2")] {
            let node = format!("0000000{}-0000-0000-0000-000000000000", n + 1);
            let more = format!(
                "groups = [\"rack\"]\npower = {{ redfish = \"https://127.0.0.1:8443\", key = \"{pin}\", system = \"{node}\" }}\n"
            );
            known = known.replace(&format!("[\"{name}\"]\n"), &format!("[{name}]\n{more}"));
        }
        fs::write(&path, known).unwrap();
        let logins = self.root.join("etc/testbox/bmc.toml");
        fs::write(&logins, "[default]\nuser = \"admin\"\npassword = \"s3cret-bmc\"\n").unwrap();
        fs::set_permissions(&logins, fs::Permissions::from_mode(0o600)).unwrap();
        let is_up =
            || self.command("testboxctl power status rack").output().unwrap().status.success().then_some(());
        poll(Duration::from_secs(120), is_up).expect("the BMC answers");
        bmc
    }
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// What a command has said at its end; the machines' consoles, where it does not end.
fn ended(started: &mut Started, machines: &mut [Machine; 2]) -> Output {
    let end = poll(Duration::from_secs(600), || started.0.try_wait().unwrap());
    if end.is_none() {
        let _ = writeln!(std::io::stderr(), "{}", machines[1].said());
        machines[0].fail("the command does not end");
    }
    let read = |from: Option<&mut dyn std::io::Read>| {
        let mut bytes = Vec::new();
        from.unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    Output {
        status: end.unwrap(),
        stdout: read(started.0.stdout.as_mut().map(|from| from as _)),
        stderr: read(started.0.stderr.as_mut().map(|from| from as _)),
    }
}
