//! Key files, and `keygen`, which makes a pair of them.

use super::output::Out;
use super::target::{ImageTarget, sync_folder};
use super::{Answer, Error};
use crate::share::ownership::{SECRET_FILE, SERVED_FILE};
use crate::signature::{SecretKey, Trust};
use serde_json::json;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Largest key file that is read, in bytes.
const LIMIT: u64 = 64 << 10;

const AFTER_HELP: &str = "\
Writes the secret key FILE (mode 0600) and the public key FILE.pub, in OpenSSH's formats: 'ssh-keygen -t ed25519' makes \
such keys too. Whoever has the secret key can sign sets and jobs: keep it off the shares and off the server that exports \
them. The public key goes into the initramfs: scripts/make-nfsroot --trusted-key FILE.pub.

Example:
  testboxctl keygen ~/testbox-lab";

/// Arguments of `keygen`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct KeygenArgs {
    /// Where the secret key goes; the public one goes beside it, with '.pub' appended
    file: PathBuf,
    /// What the log of a machine calls the key, beside its id [default: the name of the file]
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// For programs
    #[arg(long)]
    json: bool,
}

pub(super) fn keygen(args: &KeygenArgs, out: &mut Out) -> Answer {
    let path = &args.file;
    let public = public_path(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let comment = args.comment.as_deref().unwrap_or(&name);
    let random = |bytes: &mut [u8]| {
        getrandom::fill(bytes)
            .map_err(|e| Error::failed(format!("no random bytes: {e}; nothing was written")))
    };
    let (mut seed, mut check) = ([0; 32], [0; 4]);
    random(&mut seed)?;
    random(&mut check)?;
    let key = SecretKey::new(&seed, comment).map_err(|e| Error::failed(format!("no key was made: {e}")))?;
    // The public one first: a secret key without it would look like a whole pair.
    let public = write(&public, &(key.public().line() + "\n"), SERVED_FILE)?;
    if let Err(e) = write(path, &key.to_file(check), SECRET_FILE) {
        // It is of no use without the secret one. The first error is the one that counts.
        public.remove();
        return Err(e);
    }
    let public = &public.path;
    let lines = [
        format!("{}: secret key {}; keep it to yourself", path.display(), key.public()),
        format!("{}: public key, for scripts/make-nfsroot --trusted-key", public.display()),
    ];
    let value = json!({
        "secret_file": path.display().to_string(),
        "public_file": public.display().to_string(),
        "public_key": key.public().line(),
    });
    out.result(args.json, &value, &lines).map(|()| true)
}

/// Makes one file of the pair, durable with its name.
fn write(path: &Path, text: &str, mode: u32) -> Result<ImageTarget, Error> {
    let target = ImageTarget::create(path, mode)?;
    let written = target.fill(text.as_bytes()).and_then(|()| {
        sync_folder(path)
            .map_err(|e| Error::failed(format!("{}: cannot make its name durable: {e}", path.display())))
    });
    written.inspect_err(|_| target.remove())?;
    Ok(target)
}

fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

fn read(path: &Path) -> Result<(Vec<u8>, fs::Metadata), Error> {
    let unreadable = |e: io::Error| Error::failed(format!("{}: cannot read the key: {e}", path.display()));
    let file = fs::File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok((bytes, about))
}

/// Reads a secret key. One that others may read is refused, as OpenSSH does.
pub(super) fn load_secret(path: &Path) -> Result<SecretKey, Error> {
    let (bytes, about) = read(path)?;
    if about.mode() & 0o077 != 0 {
        return Err(Error::failed(format!(
            "{}: others may read this secret key: chmod 600 it, and think about who has read it",
            path.display()
        )));
    }
    SecretKey::parse(&bytes)
        .map_err(|e| Error::failed(format!("{}: not taken as a key: {e}", path.display())))
}

/// Reads public keys. One that cannot be read is an error here: somebody has named it.
pub(super) fn load_trusted(paths: &[PathBuf]) -> Result<Trust, Error> {
    let mut files = Vec::new();
    for path in paths {
        files.push((path.display().to_string(), read(path)?.0));
    }
    let trust = Trust::new(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())), false);
    if trust.problems.is_empty() { Ok(trust) } else { Err(Error::failed(trust.problems.join("\n"))) }
}
