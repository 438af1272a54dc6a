//! What `testboxctl init` prints for DHCP and TFTP, so that a test runs these lines and no others.
#![allow(dead_code)] // each test binary uses its own part of it

/// The text that `init` has printed.
pub struct Advice(pub String);

impl Advice {
    /// The lines for a file that stand behind the heading `# 3a.` or another, up to the next comment.
    pub fn file(&self, heading: &str) -> String {
        let behind = self.0.lines().skip_while(|line| !line.starts_with(heading)).skip(1);
        let lines: Vec<&str> = behind.take_while(|line| !line.starts_with('#')).collect();
        assert!(!lines.is_empty(), "nothing behind {heading:?}: {}", self.0);
        lines.join("\n") + "\n"
    }

    /// What a DHCP server is told in its own words: what stands behind `NAME:` in comments.
    pub fn words(&self, name: &str) -> String {
        let of = |line: &str| {
            Some(line.strip_prefix("#     ")?.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned())
        };
        let lines: Vec<String> = self.0.lines().filter_map(of).collect();
        assert!(!lines.is_empty(), "nothing for {name:?}: {}", self.0);
        lines.join("\n")
    }

    /// The command that makes a GRUB of the lab's own.
    pub fn grub_mkimage(&self) -> String {
        let lines = self.0.lines().skip_while(|line| !line.starts_with("#     grub-mkimage"));
        let lines: Vec<&str> = lines.map_while(|line| line.strip_prefix("#     ")).collect();
        assert!(!lines.is_empty(), "no grub-mkimage: {}", self.0);
        lines.join("\n")
    }

    /// The script for iPXE.
    pub fn ipxe_script(&self) -> String {
        let lines = self.0.lines().skip_while(|line| *line != "#     #!ipxe");
        let script: Vec<&str> = lines.map_while(|line| line.strip_prefix("#     ")).collect();
        assert!(!script.is_empty(), "no script for iPXE: {}", self.0);
        script.join("\n") + "\n"
    }
}
