//! Starting a machine with the kernel, the initrd and the words of its own PXELINUX file, as the loader would, without
//! the firmware, DHCP and TFTP that take longer than many a scenario; of the initrd's drivers, those of the lab's machines.
//! Each reset starts the same once more.

use super::{Lab, Station, assets};
use std::fs;

impl Lab {
    /// QEMU's options for it.
    pub(super) fn direct_start(&self, at: Station) -> Vec<String> {
        let file = fs::read_to_string(self.pxe_file(at)).unwrap();
        let value = |key: &str| {
            let line = file.lines().find_map(|line| line.trim().strip_prefix(key)).expect(key);
            line.trim().to_owned()
        };
        let append = value("APPEND ");
        let (initrds, words) = append.strip_prefix("initrd=").and_then(|rest| rest.split_once(' ')).unwrap();
        let all = initrds.split(',').map(|name| match name {
            "maintenance-boot/initrd.img" => fs::read(assets::small_initrd()).unwrap(),
            overlay => fs::read(self.tftp().join(overlay)).unwrap(),
        });
        let initrd = self.file("direct-initrd");
        fs::write(&initrd, all.collect::<Vec<_>>().concat()).unwrap();
        // What SYSAPPEND 2 adds.
        let words = format!("{words} BOOTIF=01-{}", at.mac().replace(':', "-"));
        let kernel = self.tftp().join(value("KERNEL ")).display().to_string();
        ["-kernel", &kernel, "-initrd", initrd.to_str().unwrap(), "-append", &words].map(str::to_owned).into()
    }
}
