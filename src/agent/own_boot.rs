//! The machine's own system starts where nothing is asked of it: GRUB is told its loader, or the firmware to start it next.

use super::Journal;
use super::firmware;
use super::network::AgentNetwork;
use super::proven::BootFiles;
use crate::agent::world::World;
use crate::job::pxe::{HexIp, own_loader_script};
use crate::store::layout::own_loader_file;

/// Writes down what the firmware of this machine would start without the network, where it is not written already: the
/// script of the boot server's GRUB tries it before all loaders that it knows. A machine without UEFI has none.
pub fn tell_loader(world: &dyn World, journal: &Journal, network: &AgentNetwork, boot: &BootFiles) {
    let Some(platform) = world.efi() else { return };
    let Some(path) = firmware::state(&platform).ok().and_then(|state| state.own_loader()) else { return };
    let (file, text) = (own_loader_file(HexIp(network.address)), own_loader_script(&path));
    let (written, name) = match boot {
        BootFiles::Kept(keeper) => (keeper.tell_loader(&path), "the store"),
        BootFiles::Mounted(tftp) => match tftp.files.read_limited(&file, text.len() + 1) {
            Ok(there) if there == text.as_bytes() => return,
            _ => (tftp.files.write_atomic(&file, text.as_bytes()), tftp.name.as_str()),
        },
    };
    match written {
        Ok(()) => journal.info(&format!("{file}: where it is not armed, the machine starts {path}")),
        Err(e) => journal.warn(&format!(
            "{file} on {name}: cannot write it: {e}; where the machine is not armed, GRUB starts the first loader that it knows"
        )),
    }
}

/// Has the firmware start the machine's own system at the next boot, once; what that is.
///
/// # Errors
/// There is no UEFI here, no such entry, or the firmware does not take it.
pub fn start_own_system(world: &dyn World) -> Result<String, String> {
    let platform = world.efi().ok_or("this machine was not started by UEFI")?;
    let state = firmware::state(&platform)?;
    let number = state.own_system().ok_or("its firmware has no entry but the network's")?;
    firmware::set_next(&platform, number)?;
    let name = state.entries.get(&number).map_or("", |entry| &entry.name);
    Ok(format!("Boot{number} '{name}'"))
}
