//! What will be written for each machine.

use super::super::Error;
use super::super::armed::Armed;
use super::super::config::{BootSetting, SettingsFile};
use super::super::machine::{self, MachineName};
use super::super::output::warn;
use super::super::shares::ShareFolder;
use super::What;
use super::served::Served;
use crate::job::Action;
use crate::job::Options;
use crate::job::job_text;
use crate::job::pxe::{ArmedBy, BootMode, HexIp, PxeFile, PxeJob, render};
use crate::net::netconf::IpWord;
use crate::serve::admin::ADMIN_VARIABLE;
use crate::serve::jobs::StoreJob;
use crate::signature::{JOB_NAMESPACE, SIGNATURE_LIMIT, SecretKey, Trust};
use crate::store::layout::{INITRD, KERNEL, RECORD, SIGNATURE};
use crate::store::record::RECORD_LIMIT;
use crate::types::{Expiry, HostName, JobId, JobSignature, SetHash, TftpPath, Token};
use std::net::Ipv4Addr;

/// What will be written for one machine.
pub(super) struct ArmedFile {
    pub machine: MachineName,
    pub file: String,
    pub job: JobId,
    pub text: String,
    pub before: Armed,
    /// What a store is told of it, where one keeps the backups, and the token that it knows it by.
    pub stored: Option<(Token, StoreJob)>,
}

/// The servers, as addresses.
pub(super) struct Servers {
    /// That of the shares.
    pub shares: Option<Ipv4Addr>,
    /// That of TFTP.
    pub boot: Option<Ipv4Addr>,
}

impl Servers {
    pub fn resolve(settings: &SettingsFile) -> Result<Servers, Error> {
        let resolve =
            |host: &Option<HostName>| host.as_ref().map(|h| machine::resolve(h.as_str())).transpose();
        let shares = resolve(&settings.server)?;
        Ok(Servers { shares, boot: resolve(&settings.boot_server)?.or(shares) })
    }
}

/// Renders the files of all machines.
pub(super) fn orders(
    cfg: &ShareFolder,
    settings: &SettingsFile,
    what: &What,
    machines: Vec<MachineName>,
    servers: &Servers,
    served: &Served,
) -> Result<Vec<ArmedFile>, Error> {
    let boot = match settings.boot.unwrap_or(BootSetting::Nfs) {
        BootSetting::Nfs => BootMode::NfsRoot(settings.nfsroot(servers.shares)?),
        BootSetting::Testbox => BootMode::AgentOnly,
    };
    let order = |machine: MachineName| {
        let job = what.job.clone().map_or_else(fresh_job, Ok)?;
        let set = match (what.set, &what.key) {
            (None, Some(key)) if what.action == Action::Restore => {
                Some(current_set(&machine, what.backup.as_ref(), key)?)
            }
            (set, _) => set,
        };
        let file = HexIp(machine.ip).to_string();
        let armed_file = served.path_of(&file)?;
        let stored = match settings.options().store {
            Some(_) => Some(stored(&machine, what, &job, &armed_file)?),
            None => None,
        };
        let mut pxe = PxeJob {
            program: concat!("testboxctl ", env!("CARGO_PKG_VERSION")).into(),
            armed_by: Some(ArmedBy::new(&who(), jiff::Timestamp::now())),
            action: what.action,
            job: job.clone(),
            signature: None,
            kernel: kernel(settings).into(),
            initrd: initrd(settings).into(),
            boot: boot.clone(),
            ip: ip_word(machine.ip, servers.shares, settings)?,
            options: Options {
                set,
                armed_file: Some(armed_file),
                token: stored.as_ref().map(|(token, _)| token.clone()),
                boot_server: servers.boot,
                expires: what.expires,
                ..settings.options()
            },
            consoles: settings.console.clone(),
            extra: settings.extra.clone(),
        };
        let mut text = render(&pxe).map_err(|e| Error::usage(e.to_string()))?;
        if let Some(key) = &what.key {
            // Over what the machine will read, and not over what was meant.
            let options = PxeFile::parse(&text).cmdline().options;
            let signed = job_text(machine.ip, what.action, &job, &options);
            pxe.signature = Some(JobSignature(key.sign(JOB_NAMESPACE, signed.as_bytes()).signature));
            text = render(&pxe).map_err(|e| Error::usage(e.to_string()))?;
        }
        let before = Armed::read(cfg, &file)?;
        Ok(ArmedFile { machine, file, job, text, before, stored })
    };
    machines.into_iter().map(order).collect()
}

/// A token for one machine, one job, one action, and what the store is told of it.
fn stored(
    machine: &MachineName,
    what: &What,
    job: &JobId,
    armed_file: &TftpPath,
) -> Result<(Token, StoreJob), Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)
        .map_err(|e| Error::failed(format!("no random bytes for the token: {e}; nothing was written")))?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let token = digits.parse().map_err(|e| Error::failed(format!("{e}")))?;
    Ok((
        token,
        StoreJob {
            ip: machine.ip.to_string(),
            job: job.to_string(),
            action: what.action.to_string(),
            armed_file: armed_file.as_str().to_owned(),
            by: who(),
            armed: jiff::Timestamp::now(),
            expires: what.expires.map(Expiry::at),
        },
    ))
}

/// Who arms: the admin that a server works for, or the user of this process.
pub(in super::super) fn who() -> String {
    let var = |name: &str| std::env::var(name).ok();
    let uid = rustix::process::getuid().as_raw();
    var(ADMIN_VARIABLE).unwrap_or_else(|| match ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(var) {
        Some(name) => format!("{name} (uid {uid})"),
        None => format!("uid {uid}"),
    })
}

/// The set that a signed restore names where the admin names none: the current one.
fn current_set(
    machine: &MachineName,
    backup: Option<&ShareFolder>,
    key: &SecretKey,
) -> Result<SetHash, Error> {
    let (label, ip) = (machine.label(), machine.ip);
    let unknown = |what: &str| {
        Error::failed(format!(
            "{label}: {what}: a signed restore names its set; give --backup-dir, or --set SHA256"
        ))
    };
    let share = backup.ok_or_else(|| unknown("the backup share is not here"))?;
    let read = |file: &str, limit| share.read(&format!("{ip}/{file}"), limit);
    let record = read(RECORD, RECORD_LIMIT)?.ok_or_else(|| unknown("there is no current set"))?;
    let own = Trust::new([("", key.public().line().as_bytes())], false);
    let signature = read(SIGNATURE, SIGNATURE_LIMIT)?;
    if let Some(why) = own.of_set(&record, signature.as_deref()).why_not() {
        warn(&format!(
            "{label}: the current set {why}; its machine restores it only if a key that it trusts has signed it"
        ));
    }
    Ok(SetHash::of(&record))
}

pub(super) fn kernel(settings: &SettingsFile) -> &str {
    settings.kernel.as_deref().unwrap_or(KERNEL)
}

pub(super) fn initrd(settings: &SettingsFile) -> &str {
    settings.initrd.as_deref().unwrap_or(INITRD)
}

fn ip_word(ip: Ipv4Addr, server: Option<Ipv4Addr>, settings: &SettingsFile) -> Result<IpWord, Error> {
    let name: HostName = "maintenance".parse().map_err(|e| Error::failed(format!("{e}")))?;
    Ok(IpWord::for_machine(ip, server, settings.gateway, settings.netmask, name))
}

/// A job id that sorts by time and never comes twice: `20171017T142602-0123456789abcdef`.
pub(in crate::ctl) fn fresh_job() -> Result<JobId, Error> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)
        .map_err(|e| Error::failed(format!("no random bytes for the job id: {e}; nothing was written")))?;
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S");
    format!("{now}-{:016x}", u64::from_be_bytes(random)).parse().map_err(|e| Error::failed(format!("{e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_are_fresh_and_sort_by_time() {
        let (a, b) = (fresh_job().unwrap(), fresh_job().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.as_str().len(), "20171017T142602-0123456789abcdef".len());
        assert!(a.as_str()[..15] <= b.as_str()[..15]);
    }
}
