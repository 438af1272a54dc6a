//! Texts and packets: kernel command line, PXE configuration, job files, settings, records, TFTP, DNS, quotas.

use testbox::agent::bootnet::{self, BootNetPlan};
use testbox::ctl::check_settings;
use testbox::job::Cmdline;
use testbox::job::pxe::{BootMode, PxeFile, PxeJob, render};
use testbox::net::dns;
use testbox::net::netconf::{IpWord, NetConf};
use testbox::net::quota::{self, QuotaSubject};
use testbox::net::tftp::{Limits, Packet, TftpReply, Transfer, folders};
use testbox::share::{MemFiles, NfsOptions};
use testbox::signature::{PublicKey, SecretKey, SshSignature, parse_keys};
use testbox::store::disk_list;
use testbox::store::layout::is_disk_name;
use testbox::store::lease::{self, Watcher};
use testbox::store::protocol::StoreCall;
use testbox::store::record::Record;
use testbox::store::status::Status;
use testbox::text::is_plain;
use testbox::types::{
    DiskName, DiskSelector, Expiry, HostName, JobId, JobSignature, MacAddr, MapEntry, NfsSource, Redactor,
    SetHash, TftpPath, Uuid, percent_decode, percent_encode, redacted,
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn cmdline(bytes: &[u8]) {
    let text = text(bytes);
    let line = Cmdline::parse(&text);
    // Every word is used, or somebody hears of it; and the same words say the same again.
    assert_eq!(line, Cmdline::parse(&text));
    let _ = Cmdline::parse_file(&text);
    // What is printed parses to the same options, without a complaint.
    let printed = line.options.words().join(" ");
    let again = Cmdline::parse(&printed);
    assert!(again.options == line.options && again.problems.is_empty(), "{printed:?}: {:?}", again.problems);
    assert!(line.problems.iter().flat_map(|p| p.chars()).all(is_plain), "{:?}", line.problems);
    // What the boot script evaluates is assignments of plain values.
    if let BootNetPlan::Ready(lines) = bootnet::plan(&text, &[]) {
        assert!(lines.lines().all(|l| l.matches('\'').count() == 2 && l.ends_with('\'')), "{lines:?}");
    }
    let secret = "0123456789abcdef";
    let with = format!("{} x.password={secret}", text.replace('"', ""));
    assert!(!redacted(&with).contains(secret) || text.contains(secret), "{with:?}");
    let _ = Redactor::of(&with).line(&text);
}

pub fn netconf(bytes: &[u8]) {
    let conf = NetConf::parse(&text(bytes));
    let folders = folders(conf.filename.as_deref());
    assert!(
        folders.iter().all(|f| !f.starts_with('/') && !f.split('/').any(|name| name == "..")),
        "{folders:?}"
    );
    assert!(
        conf.filename.is_none_or(|name| name.len() <= 128 && name.chars().all(|c| (' '..='~').contains(&c)))
    );
}

/// What a value prints is what it was made of.
fn round<T: std::str::FromStr + ToString + PartialEq + std::fmt::Debug>(text: &str) {
    round_but::<T>(text, |_| {});
}

/// The same of a value without what `forget` takes from it.
fn round_but<T: std::str::FromStr + ToString + PartialEq + std::fmt::Debug>(text: &str, forget: fn(&mut T)) {
    if let Ok(mut value) = text.parse::<T>() {
        forget(&mut value);
        let printed = value.to_string();
        assert!(printed.parse::<T>().is_ok_and(|again| again == value), "{printed:?}");
        assert!(!printed.chars().any(char::is_control), "{printed:?}");
    }
}

pub fn values(bytes: &[u8]) {
    let text = text(bytes);
    round::<DiskName>(&text);
    round::<DiskSelector>(&text);
    round::<HostName>(&text);
    round::<JobId>(&text);
    round::<MacAddr>(&text);
    round::<MapEntry>(&text);
    round::<NfsSource>(&text);
    round::<Uuid>(&text);
    round::<JobSignature>(&text);
    round::<SetHash>(&text);
    round::<TftpPath>(&text);
    round::<Expiry>(&text);
    // DNS servers are read and never written.
    round_but::<IpWord>(&text, |word| {
        if let IpWord::Fields(fields) = word {
            fields.dns.clear();
        }
    });
    assert_eq!(percent_decode(&percent_encode(&text)).ok().as_deref(), Some(&text[..]));
    if let Ok(name) = text.parse::<DiskName>() {
        assert!(!name.as_str().contains('/') && !name.as_str().starts_with('.'));
    }
}

pub fn nfs_options(bytes: &[u8]) {
    let (server, client) = ([10, 0, 0, 1].into(), Some([10, 0, 0, 2].into()));
    let Ok(options) = NfsOptions::parse(text(bytes).split(',')) else { return };
    for version in &options.versions {
        // Whatever was asked for: a mount that waits for its server, and nothing that ends the string.
        let data = options.data(*version, server, client);
        assert!(
            data.split(',').any(|word| word == "hard") && !data.split(',').any(|word| word == "soft"),
            "{data:?}"
        );
        assert!(data.chars().all(|c| matches!(c, '!'..='~')), "{data:?}");
    }
}

pub fn pxe(bytes: &[u8]) {
    let file = PxeFile::parse(&text(bytes));
    let asked = file.cmdline();
    // A file that arms a machine with the same options says the same when it is read.
    let (Some(action), Some(job)) = (asked.action, asked.job) else { return };
    let armed = PxeJob {
        armed_by: None,
        program: "fuzz".into(),
        action,
        job,
        signature: None,
        kernel: "k".into(),
        initrd: "i".into(),
        boot: BootMode::AgentOnly,
        ip: IpWord::Dhcp,
        options: asked.options,
        consoles: Vec::new(),
        extra: Vec::new(),
    };
    if let Ok(rendered) = render(&armed) {
        let read = PxeFile::parse(&rendered).cmdline();
        assert_eq!(
            (read.action, read.job, read.options),
            (Some(action), Some(armed.job), armed.options),
            "{rendered}"
        );
    }
}

pub fn disks_list(bytes: &[u8]) {
    if let Ok(list) = disk_list::parse(&text(bytes)) {
        let printed: String = list.iter().map(|selector| format!("{selector}\n")).collect();
        assert!(disk_list::parse(&printed).is_ok_and(|again| again == list));
    }
}

pub fn settings(bytes: &[u8]) {
    let _ = check_settings(&text(bytes));
}

pub fn record(bytes: &[u8]) {
    if let Ok(record) = Record::parse(bytes) {
        assert!(record.images.iter().all(|image| is_disk_name(&image.name) && !image.file().contains('/')));
        assert!(Record::parse(&record.to_bytes()).is_ok_and(|again| again == record));
    }
}

pub fn status(bytes: &[u8]) {
    if let Some(status) = Status::parse(bytes) {
        assert_eq!(Status::parse(&status.to_bytes()).as_ref(), Some(&status));
    }
}

/// A lease: whoever wrote it, who has it is told in a short plain line, what is written again is the same, and nobody
/// takes it at the first look unless it was released.
pub fn lease(bytes: &[u8]) {
    let files = MemFiles::new();
    files.put("lease/7", bytes);
    let look = || {
        lease::current(&files, "lease")
            .unwrap_or_else(|e| panic!("{e}"))
            .unwrap_or_else(|| panic!("it is gone"))
    };
    let seen = look();
    let who = seen.who();
    assert!(who.chars().count() < 1000 && !who.chars().any(char::is_control), "{who:?}");
    let Some(holder) = seen.holder() else { return };
    let is_released = seen.is_released();
    let next = Watcher::new(holder.clone()).look(Some(seen), std::time::Duration::ZERO);
    assert_eq!(matches!(next, lease::Next::Claim(8, _)), is_released, "{next:?}");
    files.put("lease/9", holder.to_bytes());
    assert_eq!(look().holder(), Some(holder));
}

/// Key files and signature files: what is read is what would be written.
pub fn signature(bytes: &[u8]) {
    // Base64 is what no fuzzer writes by chance: what it holds is tried by itself too.
    for signature in [SshSignature::parse(bytes), SshSignature::from_blob(bytes)].into_iter().flatten() {
        let again = SshSignature::parse(signature.to_file().as_bytes());
        assert!(again.is_ok_and(|again| again == signature));
    }
    for key in parse_keys(&text(bytes)).into_iter().flatten() {
        assert!(PublicKey::parse(&key.line()).is_ok_and(|again| again == key), "{}", key.line());
        assert!(!key.to_string().chars().any(char::is_control));
    }
    for key in [SecretKey::parse(bytes), SecretKey::from_blob(bytes)].into_iter().flatten() {
        let again = SecretKey::parse(key.to_file(*b"chck").as_bytes());
        assert!(again.is_ok_and(|again| again.public() == key.public()));
    }
}

/// A server that sends whatever it likes: datagrams of the lengths that the bytes say.
pub fn tftp(bytes: &[u8]) {
    if let Ok(packet) = Packet::parse(bytes) {
        // What is left out of an error's message cannot come back.
        if !matches!(packet, Packet::Error { .. }) {
            assert_eq!(Packet::parse(&packet.encode()), Ok(packet));
        }
    }
    let most = 4096;
    let limits = Limits { max_bytes: most, ..Limits::default() };
    let Ok(mut transfer) = Transfer::new("testbox.cfg/C0A80001", limits, true) else { return };
    let mut rest = bytes;
    while let Some((len, after)) = rest.split_first() {
        let (datagram, after) = after.split_at(usize::from(*len).min(after.len()));
        rest = after;
        match transfer.on_datagram(datagram) {
            Ok(TftpReply::Done(_)) => {
                assert!(transfer.into_data().len() <= most);
                return;
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

pub fn dns(bytes: &[u8]) {
    let (Ok(name), ip) = ("host.example".parse::<HostName>(), [10, 0, 0, 1].into()) else { return };
    for query in [dns::Query::NameOf(ip), dns::Query::AddressOf(name)] {
        if let dns::DnsAnswer::Name(name) = dns::parse_answer(bytes, 7, &query) {
            assert!(name.as_str().len() <= 253);
        }
    }
}

/// A file server that answers whatever it likes to transaction 77.
pub fn quota(bytes: &[u8]) {
    if let Some(quota::QuotaAnswer::Is(port)) = quota::parse_port(77, bytes) {
        assert_ne!(port, 0);
    }
    for of in [QuotaSubject::User(65534), QuotaSubject::Group(65534)] {
        if let Some(quota::QuotaAnswer::Is(quota)) = quota::parse_quota(77, bytes, of) {
            assert!(quota.of == of && quota.hard != Some(0));
            assert!(
                quota
                    .room()
                    .is_none_or(|room| quota.is_active && quota.hard.is_some_and(|hard| room <= hard))
            );
        }
    }
}

/// A request of the store's protocol has one spelling, and none of its paths leaves the folder.
pub fn store_call(bytes: &[u8]) {
    let text = text(bytes);
    let mut lines = text.lines();
    let (Some(method), Some(target)) = (lines.next().and_then(StoreCall::method), lines.next()) else {
        return;
    };
    let range = lines.next();
    let Ok(call) = StoreCall::parse(method, target, range) else { return };
    assert_eq!((call.target(), call.range().as_deref()), ((method, target.to_owned()), range));
    assert!(!target.split(['/', '?', '&', '=']).any(|name| name == ".." || name == "."), "{target:?}");
}
