use super::*;
use proptest::prelude::*;
use std::process::Command;

fn entry_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = CPIO.to_vec();
    for at in 0..13 {
        let number = match at {
            6 => content.len(),
            11 => name.len() + 1,
            _ => 0,
        };
        bytes.extend(format!("{number:08X}").bytes());
    }
    bytes.extend(name.bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn cpio(agent: &[u8]) -> Vec<u8> {
    [
        entry_of("usr/lib/modules/6.1.0-1-amd64", b""),
        entry_of("usr/lib/modules/6.1.0-1-amd64/x.ko", b"abc"),
        entry_of("usr/sbin/testbox-agent", agent),
        entry_of("TRAILER!!!", b""),
    ]
    .concat()
}

fn packed_by(program: &str, bytes: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    std::fs::write(&path, bytes).unwrap();
    let format = if program == "lz4" { ["-l", "-c"] } else { ["-c", "-q"] };
    Command::new(program).args(format).arg(path).output().unwrap().stdout
}

#[test]
fn an_initramfs_tells_its_modules_and_its_agent() {
    let wanted = InitrdContent {
        modules: vec!["6.1.0-1-amd64".into()],
        has_agent: true,
        agent_version: Some("0.1.0".into()),
        ..InitrdContent::default()
    };
    let plain = cpio(b"testbox-agent is/run/testboxtestbox-agent 0.1.0\nusage");
    assert_eq!(initrd(&plain), wanted);
    let early =
        [entry_of("kernel/x86/microcode/x.bin", b"m"), entry_of("TRAILER!!!", b""), vec![0; 300]].concat();
    for program in ["gzip", "zstd", "xz", "lz4"] {
        let bytes = [early.clone(), packed_by(program, &plain)].concat();
        assert_eq!(initrd(&bytes), wanted, "{program}");
        let cut = initrd(&bytes[..bytes.len() - 20]);
        assert!(cut.damage.is_some(), "{program}: {cut:?}");
    }
    assert!(initrd(&plain[..plain.len() - 150]).damage.unwrap().contains("cut short"));
    assert!(initrd(b"not one").damage.is_some());
    assert_eq!(initrd(&cpio(b"nothing")).agent_version, None);
}

#[test]
fn a_kernel_tells_its_release() {
    let mut kernel = vec![0; 0x400];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel[0x20e] = 0x50;
    kernel[0x250..0x262].copy_from_slice(b"6.1.0-1-amd64 (x@y");
    assert_eq!(kernel_release(&kernel).as_deref(), Some("6.1.0-1-amd64"));
    assert_eq!(kernel_release(b"x"), None);
    for len in 0..kernel.len() {
        let _ = kernel_release(&kernel[..len]);
    }
}

fn efi(sections: &[(&[u8; 8], &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 0x200];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x40;
    bytes[0x40..0x46].copy_from_slice(b"PE\0\0\x64\x86");
    bytes[0x46] = sections.len() as u8;
    for (n, (name, content)) in sections.iter().enumerate() {
        let at = 0x58 + n * 40;
        let offset = bytes.len() as u32;
        bytes[at..at + 8].copy_from_slice(*name);
        bytes[at + 16..at + 20].copy_from_slice(&(content.len() as u32).to_le_bytes());
        bytes[at + 20..at + 24].copy_from_slice(&offset.to_le_bytes());
        bytes.extend(*content);
    }
    bytes
}

#[test]
fn shim_and_grub_fit_or_not_by_their_generations() {
    let list = |grub: u32| format!("sbat,1,SBAT Version,x\ngrub,{grub},FSF,grub,2.06,https://x\n\0\0");
    let mut levels = vec![0, 0, 0, 0, 8, 0, 0, 0, 0x29, 0, 0, 0];
    levels.extend(b"sbat,1,2025021800\nshim,4\ngrub,5\n\0sbat,1,2025051000\nshim,4\ngrub,6\n\0");
    let shim =
        efi_program(&efi(&[(b"/26\0\0\0\0\0", &levels), (b".sbat\0\0\0", b"sbat,1,x\nshim,4,x\n")])).unwrap();
    assert_eq!(shim.demands, [("shim".to_owned(), 4), ("grub".to_owned(), 5)]);
    for (generation, fits) in [(4, false), (5, true), (6, true)] {
        let grub = efi_program(&efi(&[(b".sbat\0\0\0", list(generation).as_bytes())])).unwrap();
        assert_eq!((grub.machine, refused_by(&shim, &grub).is_none()), (0x8664, fits), "{generation}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600), at in 0usize..700, byte: u8) {
        let _ = (kernel_release(&bytes), efi_program(&bytes), initrd(&bytes));
        let mut near = cpio(b"testbox-agent 0.1.0");
        let len = near.len();
        near[at % len] = byte;
        let _ = initrd(&near);
        let mut near = efi(&[(b"/26\0\0\0\0\0", b"\0\0\0\0\x08\0\0\0\x08\0\0\0sbat,1,x\n")]);
        let len = near.len();
        near[at % len] = byte;
        let _ = efi_program(&near);
    }
}
