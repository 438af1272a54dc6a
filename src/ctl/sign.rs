//! `sign`: signs sets of images, for machines whose initramfs demands that.

use super::config::SettingsFile;
use super::keys::{load_secret, load_trusted};
use super::machine::MachineNames;
use super::output::{Out, say};
use super::shares::{self, ShareFolder};
use super::{Answer, Error};
use crate::image::Image;
use crate::share::Files;
use crate::signature::{SET_NAMESPACE, SIGNATURE_LIMIT, SecretKey, SshSignature, Verdict};
use crate::store::layout::{BACKUP_EXPORT, RECORD, SIGNATURE};
use crate::store::record::{RECORD_LIMIT, Record, SetState};
use crate::text::ascii;
use crate::types::SetHash;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const AFTER_HELP: &str = "\
Writes backup.json.sig beside the backup.json of the current set. backup.json has the root hash of every image, so the \
signature binds every byte of them; that the images are there and have these root hashes is looked at first. What you \
sign is what the share holds at that moment: sign a set soon after its backup, compare the root hashes with the log on \
the machine's console, or 'arm ... verify' it before.

The signature is OpenSSH's, with the namespace testbox-set. A key with a passphrase, or in an agent, signs by
  ssh-keygen -Y sign -n testbox-set -f KEY backup.json
and anybody who has the public key checks by
  ssh-keygen -Y verify -n testbox-set -f SIGNERS -I NAME -s backup.json.sig < backup.json

Examples:
  testboxctl sign --sign-key ~/testbox-lab 10.42.1.20
  testboxctl sign --sign-key ~/testbox-lab /export/testbox-backup/10.42.1.20/history/3";

/// Arguments of `sign`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Machines, or folders that hold a backup.json (anything with a '/')
    #[arg(required = true, value_name = "IP|HOST|FOLDER")]
    sets: Vec<String>,
    /// Secret key of 'testboxctl keygen' or 'ssh-keygen -t ed25519'
    #[arg(long, value_name = "FILE")]
    sign_key: Option<PathBuf>,
    /// Root of the backup share [default: /export/testbox-backup]
    #[arg(long, value_name = "DIR")]
    backup_dir: Option<PathBuf>,
    /// For programs
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args, file: SettingsFile, out: &mut Out) -> Answer {
    let flags =
        SettingsFile { sign_key: args.sign_key, backup_dir: args.backup_dir, ..SettingsFile::default() };
    let settings = flags.or(file);
    let Some(key) = &settings.sign_key else {
        return Err(Error::usage("with which key: give --sign-key FILE; 'testboxctl keygen' makes one"));
    };
    let key = load_secret(key)?;
    // All of them are found before the first is signed.
    let folders = args.sets.iter().map(|word| folders_of(word, &settings)).collect::<Result<Vec<_>, _>>()?;
    let folders = folders.concat();
    let (mut is_done, mut all) = (true, Vec::new());
    for path in folders {
        let folder = path.display().to_string();
        match sign(&path, &key) {
            Ok((set, lines)) => {
                if !args.json {
                    lines.iter().try_for_each(|line| out.line(line))?;
                }
                all.push(json!({ "folder": folder, "signed": true, "set": set.to_string(), "error": null }));
            }
            Err(e) => {
                is_done = false;
                say(&format!("NOT signed: {e}"));
                all.push(json!({ "folder": folder, "signed": false, "set": null, "error": e.to_string() }));
            }
        }
    }
    if args.json {
        out.json(&Value::Array(all), false)?;
    }
    Ok(is_done)
}

fn folders_of(word: &str, settings: &SettingsFile) -> Result<Vec<PathBuf>, Error> {
    if word.contains('/') {
        return Ok(vec![word.into()]);
    }
    let machines = MachineNames::load(settings)?.resolve_all(&[word.to_owned()])?;
    let share = shares::open_backup_dir(settings)?.ok_or_else(|| {
        Error::usage(format!(
            "{} is not a backup share: give --backup-dir, or the folder of the set",
            BACKUP_EXPORT
        ))
    })?;
    Ok(machines.iter().map(|machine| share.path.join(machine.ip.to_string())).collect())
}

/// Signs the set in a folder; gives which one it is, and what to tell about it.
fn sign(path: &Path, key: &SecretKey) -> Result<(SetHash, Vec<String>), Error> {
    let folder = ShareFolder::open(path)?;
    shares::refuse_newer(&folder, "")?;
    let read = || folder.read(RECORD, RECORD_LIMIT);
    let failed = |what: String| Error::failed(format!("{}: {what}", path.display()));
    let bytes = read()?.ok_or_else(|| failed(format!("there is no {RECORD}, so no set to sign")))?;
    let record = Record::parse(&bytes).map_err(|e| failed(format!("{RECORD} cannot be used: {e}")))?;
    let mut lines = vec![format!(
        "{}: set {} of {}, made {} by job {}, SHA-256 {}",
        path.display(),
        record.generation,
        ascii(&record.machine.ip),
        record.finished,
        record.job.as_deref().map_or_else(|| "?".into(), ascii),
        SetHash::of(&bytes)
    )];
    for image in &record.images {
        let file =
            folder.files.open(&image.file()).map_err(|e| folder.error(&image.file(), "open it", &e))?;
        let found =
            Image::open(file).map_err(|e| failed(format!("{}: {e}", image.file())))?.summary().root_hash;
        if found != image.root_hash {
            return Err(failed(format!("{} is not the image that {RECORD} names", image.file())));
        }
        let state = if image.state == SetState::Degraded { ", DEGRADED" } else { "" };
        lines.push(format!("    {} root hash {}{state}", image.file(), image.root_hash));
    }
    let signature = key.sign(SET_NAMESPACE, &bytes);
    folder
        .files
        .write_atomic(SIGNATURE, signature.to_file().as_bytes())
        .map_err(|e| folder.error(SIGNATURE, "write it", &e))?;
    // A machine may have published its next set meanwhile.
    if read()?.as_deref() != Some(&bytes[..]) {
        folder.files.remove(SIGNATURE).map_err(|e| folder.error(SIGNATURE, "remove it", &e))?;
        return Err(failed("a new set was published meanwhile; look at that one, and sign again".into()));
    }
    lines.push(format!("    signed by {}", key.public()));
    Ok((SetHash::of(&bytes), lines))
}

/// What is said of the signature of the set that an image belongs to; `None` where there is neither.
pub(super) fn about(
    image: &Path,
    root_hash: &blake3::Hash,
    trusted: &[PathBuf],
) -> Result<Option<String>, Error> {
    let dir = image.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = ShareFolder::open(dir)?;
    let Some(record) = folder.read(RECORD, RECORD_LIMIT)? else { return Ok(None) };
    let names_it = Record::parse(&record).is_ok_and(|r| r.images.iter().any(|i| i.root_hash == *root_hash));
    if !names_it {
        return Ok(None);
    }
    let Some(signature) = folder.read(SIGNATURE, SIGNATURE_LIMIT)? else {
        return Ok(Some("not signed".into()));
    };
    if !trusted.is_empty() {
        return Ok(Some(match load_trusted(trusted)?.of_set(&record, Some(&signature)) {
            Verdict::By(who) => format!("signed by {who}"),
            Verdict::Unsigned => "not signed".into(),
            Verdict::Not(why) => format!("BAD SIGNATURE: {why}"),
        }));
    }
    Ok(Some(match SshSignature::parse(&signature) {
        Ok(s) if s.namespace == SET_NAMESPACE && s.key.verifies(SET_NAMESPACE, &record, &s.signature) => {
            format!("signed by key {}; whether you trust it, --trusted-key tells", s.key.id())
        }
        Ok(s) => format!("BAD SIGNATURE: that of key {} is of other bytes", s.key.id()),
        Err(e) => format!("BAD SIGNATURE: {e}"),
    }))
}
