//! What UEFI machines boot by: shim, GRUB, and GRUB's script.

use super::super::Error;
use super::super::shares::ShareFolder;
use crate::job::pxe::{GRUB_HEAD, grub_config};
use crate::share::Files;
use crate::store::layout::{GRUB, GRUB_CFG, SHIM};
use std::path::{Path, PathBuf};

/// The loaders that this computer has: those of Debian's packages, which follow its security updates; else those of testbox-boot, in
/// this folder.
pub(super) fn installed(packaged: &Path) -> (PathBuf, PathBuf) {
    let debian =
        ["/usr/lib/shim/shimx64.efi.signed", "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"];
    let [shim, grub] = debian.map(PathBuf::from);
    let own = (packaged.join(SHIM), packaged.join(GRUB));
    let is_there = |pair: &(PathBuf, PathBuf)| pair.0.is_file() && pair.1.is_file();
    let debian = (shim, grub);
    if !is_there(&debian) && is_there(&own) { own } else { debian }
}

/// The loaders to copy and where to; none where this computer has neither.
pub(super) fn sources(shim: &Path, grub: &Path) -> Result<Vec<(PathBuf, String)>, Error> {
    match (shim.is_file(), grub.is_file()) {
        (true, true) => Ok(vec![(shim.into(), SHIM.into()), (grub.into(), GRUB.into())]),
        (false, false) => Ok(Vec::new()),
        (is_shim, _) => {
            let (there, missing) = if is_shim { (shim, grub) } else { (grub, shim) };
            Err(Error::failed(format!(
                "{}: it is not there, and {} is: UEFI machines need both (apt-get install shim-signed grub-efi-amd64-signed)",
                missing.display(),
                there.display()
            )))
        }
    }
}

/// Writes GRUB's script, in place of an older one of ours. False where there is another: it may boot machines into anything.
pub(super) fn config(root: &ShareFolder, said: &mut Vec<String>) -> Result<bool, Error> {
    let (path, wanted) = (root.path.join(GRUB_CFG), grub_config());
    let there = root.read(GRUB_CFG, 1 << 20)?;
    let is_ours = there.as_ref().is_none_or(|text| text.starts_with(GRUB_HEAD.as_bytes()));
    if !is_ours {
        said.push(format!(
            "{}: it is not testbox's and was left alone: UEFI machines do not do what 'arm' says. Remove it, and run init again",
            path.display()
        ));
    } else if there.as_deref() != Some(wanted.as_bytes()) {
        root.files
            .write_atomic(GRUB_CFG, wanted.as_bytes())
            .map_err(|e| root.error(GRUB_CFG, "write it", &e))?;
        said.push(format!("{}: UEFI machines boot by the same files as others", path.display()));
    }
    let has = |name| root.path.join(name).is_file();
    if !has(SHIM) || !has(GRUB) {
        said.push(format!(
            "{}: no {SHIM} and {GRUB} there: UEFI machines cannot boot by network (scripts/make-nfsroot puts them there; or \
             apt-get install shim-signed grub-efi-amd64-signed, and run init again)",
            root.path.display()
        ));
    }
    Ok(is_ours)
}
