//! Where PXELINUX's and our files may lie, by the boot file name that DHCP gave.

/// Folders that are tried at most; what DHCP says is a hint from anyone who answered.
const FOLDERS_MAX: usize = 8;

/// The folders below the TFTP root, each with its final `/`, in which a machine may find the files that name it: those
/// that the boot file name suggests, the likeliest first, and the root, which is the empty text, at the end.
///
/// The name is a hint and no more. It is asked for without the loader's own user class, so it may be that of another
/// loader (`ipxe/undionly.kpxe`), an URL (`http://10.0.0.1/boot.ipxe`), a path on the server's disk
/// (`/srv/tftp/pxelinux.0`), or written with backslashes. Each folder is therefore also tried without those before it.
pub fn folders(boot_file: Option<&str>) -> Vec<String> {
    let path = boot_file.unwrap_or_default().replace('\\', "/");
    let path = match path.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_host, path)| path),
        None => &path,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    let (_, names) = names.split_last().unwrap_or((&"", &[]));
    let mut found: Vec<String> = Vec::new();
    // Nothing that leads out of a folder is asked for.
    if !names.iter().any(|name| matches!(*name, "." | "..")) {
        let tails = (0..names.len()).filter_map(|at| names.get(at..));
        found.extend(tails.map(|tail| tail.join("/") + "/").take(FOLDERS_MAX));
    }
    found.push(String::new());
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_of_boot_file_name_gives_folders() {
        for (name, expected) in [
            ("", &[""][..]),
            ("pxelinux.0", &[""]),
            ("/pxelinux.0", &[""]),
            ("//pxelinux.0", &[""]),
            ("bios/pxelinux.0", &["bios/", ""]),
            ("ipxe/undionly.kpxe", &["ipxe/", ""]),
            ("http://10.0.0.1/boot.ipxe", &[""]),
            ("http://10.0.0.1:8080/a/boot.ipxe?mac=1/2#x", &["a/", ""]),
            ("tftp://10.0.0.1//bios/pxelinux.0", &["bios/", ""]),
            ("http://10.0.0.1", &[""]),
            ("/srv/tftp/pxelinux.0", &["srv/tftp/", "tftp/", ""]),
            ("boot\\x86\\pxelinux.0", &["boot/x86/", "x86/", ""]),
            ("../pxelinux.0", &[""]),
            ("a/./../pxelinux.0", &[""]),
            ("bios/", &[""]),
        ] {
            assert_eq!(folders(Some(name)), expected, "{name}");
        }
        assert_eq!(folders(None), [""]);
        assert_eq!(folders(Some(&"a/".repeat(60))).len(), FOLDERS_MAX + 1);
    }

    proptest! {
        #[test]
        fn folders_stay_below_the_root(name in "[!-~]{0,128}") {
            let found = folders(Some(&name));
            prop_assert!(found.len() <= FOLDERS_MAX + 1 && found.last().is_some_and(String::is_empty));
            for folder in found {
                prop_assert!(!folder.starts_with('/') && !folder.split('/').any(|name| name == ".."));
            }
        }
    }
}
