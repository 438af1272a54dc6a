//! The machine's own system: what its firmware starts where the network has nothing for it.

use super::number::BootNumber;
use super::state::BootState;

/// Longest path that a loader's script gets, in bytes.
const PATH_MAX: usize = 200;

impl BootState {
    /// The first entry in the order that the firmware tries, and that does not boot from the network.
    pub fn own_system(&self) -> Option<BootNumber> {
        self.order.iter().copied().find(|number| self.is_tried(*number) && !self.is_network(*number))
    }

    /// The file that the own system starts by, as GRUB spells it: `/EFI/debian/shimx64.efi`. `None` where the entry names no
    /// file, or one whose name would be more than a name in a script.
    pub fn own_loader(&self) -> Option<String> {
        let (_, file) = self.entries.get(&self.own_system()?)?.loader()?;
        let path = file.replace('\\', "/");
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/._+-".contains(&b);
        let is_path = path.starts_with('/') && path.len() <= PATH_MAX && path.bytes().all(is_plain);
        (is_path && !path.split('/').any(|part| part == "..")).then_some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{loader, network, set_up, state};

    #[test]
    fn the_own_system_is_the_first_that_is_not_the_network() {
        let debian = loader("debian", 1, "\\EFI\\debian\\shimx64.efi");
        let windows = loader("Windows", 1, "\\EFI\\Microsoft\\Boot\\bootmgfw.efi");
        let mut off = debian.clone();
        off.attributes = 0;
        for (entries, order, expected) in [
            (
                vec![network("n"), debian.clone(), windows.clone()],
                vec![0, 1, 2],
                Some((1, Some("/EFI/debian/shimx64.efi"))),
            ),
            (
                vec![network("n"), debian.clone(), windows.clone()],
                vec![0, 2, 1],
                Some((2, Some("/EFI/Microsoft/Boot/bootmgfw.efi"))),
            ),
            (
                vec![network("n"), off, windows.clone()],
                vec![1, 2, 0],
                Some((2, Some("/EFI/Microsoft/Boot/bootmgfw.efi"))),
            ),
            (
                vec![set_up(), network("n"), debian.clone()],
                vec![0, 1, 2],
                Some((2, Some("/EFI/debian/shimx64.efi"))),
            ),
            (vec![network("n"), loader("odd", 1, "\\EFI\\a;reboot")], vec![0, 1], Some((1, None))),
            (vec![network("n"), loader("odd", 1, "\\EFI\\..\\x.efi")], vec![0, 1], Some((1, None))),
            (vec![network("n"), debian.clone()], vec![0], None),
            (vec![network("n")], vec![0], None),
        ] {
            let state = state(&entries, &order);
            let found = state.own_system().map(|number| (number.0, state.own_loader()));
            assert_eq!(found, expected.map(|(number, path)| (number, path.map(str::to_owned))), "{order:?}");
        }
    }
}
