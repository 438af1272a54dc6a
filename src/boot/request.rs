//! What a datagram at TFTP's port asks for.

use crate::net::tftp::{ErrorCode, Packet};

/// Longest path in bytes that is looked for.
const PATH_MAX: usize = 512;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TftpAsk {
    /// This file below the root, with these options.
    File {
        /// Names between single slashes.
        path: String,
        /// Options as they came.
        options: Vec<(String, String)>,
    },
    /// Nothing that is given: what to answer.
    Refuse(ErrorCode, &'static str),
    /// Nothing at all.
    Ignore,
}

/// Takes a datagram apart. Total: any bytes may come.
pub fn asked(datagram: &[u8]) -> TftpAsk {
    let (file, mode, options) = match Packet::parse(datagram) {
        Ok(Packet::ReadRequest { file, mode, options }) => (file, mode, options),
        Err(_) if datagram.starts_with(&[0, 2]) => {
            return TftpAsk::Refuse(ErrorCode::DENIED, "nothing is written here");
        }
        Err(_) if datagram.starts_with(&[0, 1]) => {
            return TftpAsk::Refuse(
                ErrorCode::ILLEGAL,
                "not a request: options in pairs, of printable ASCII",
            );
        }
        // To answer what may itself be an answer could go on for ever.
        _ => return TftpAsk::Ignore,
    };
    if !mode.eq_ignore_ascii_case("octet") {
        return TftpAsk::Refuse(ErrorCode::ILLEGAL, "only the mode octet (binary)");
    }
    match path_of(&file) {
        Some(path) => TftpAsk::File { path, options },
        None => TftpAsk::Refuse(ErrorCode::NOT_FOUND, "file not found"),
    }
}

/// Loaders write a slash before a path, or two in it, GRUB and shim dots. What leads out of a folder leads nowhere.
fn path_of(file: &str) -> Option<String> {
    let names: Vec<&str> = file.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    let is_file = !names.is_empty() && !names.contains(&"..") && file.len() <= PATH_MAX;
    is_file.then(|| names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ask(file: &str, mode: &str) -> TftpAsk {
        asked(&Packet::ReadRequest { file: file.into(), mode: mode.into(), options: Vec::new() }.encode())
    }

    #[test]
    fn paths_as_loaders_write_them() {
        for (file, path) in [
            ("pxelinux.0", "pxelinux.0"),
            ("/grub/grub.cfg", "grub/grub.cfg"),
            ("//pxelinux.cfg//default", "pxelinux.cfg/default"),
            ("./grubx64.efi", "grubx64.efi"),
        ] {
            let expected = TftpAsk::File { path: path.into(), options: Vec::new() };
            assert_eq!(ask(file, "octet"), expected, "{file}");
            assert_eq!(ask(file, "OCTET"), expected, "{file}");
        }
        for file in ["", "/", ".", "..", "a/../../b", "../x", "a/..", &"a/".repeat(300)] {
            assert!(matches!(ask(file, "octet"), TftpAsk::Refuse(ErrorCode::NOT_FOUND, _)), "{file}");
        }
    }

    #[test]
    fn what_is_no_read_request_is_refused_or_ignored() {
        assert!(matches!(ask("a", "netascii"), TftpAsk::Refuse(ErrorCode::ILLEGAL, _)));
        assert!(matches!(asked(b"\0\x02a\0octet\0"), TftpAsk::Refuse(ErrorCode::DENIED, _)));
        assert!(matches!(asked(b"\0\x01a\xff\0octet\0"), TftpAsk::Refuse(ErrorCode::ILLEGAL, _)));
        for answer in
            [&b""[..], b"\0", b"\0\x03\0\x01x", b"\0\x04\0\x01", b"\0\x05\0\x01no\0", b"\0\x06", b"\x01\x01"]
        {
            assert_eq!(asked(answer), TftpAsk::Ignore, "{answer:?}");
        }
    }

    proptest! {
        #[test]
        fn no_path_leads_out(bytes in any::<Vec<u8>>(), file in "[./a-c]{0,12}") {
            for ask in [asked(&bytes), asked(&[b"\0\x01", bytes.as_slice()].concat()), ask(&file, "octet")] {
                if let TftpAsk::File { path, .. } = ask {
                    prop_assert!(path.split('/').all(|name| !matches!(name, "" | "." | "..")), "{}", path);
                }
            }
        }
    }
}
