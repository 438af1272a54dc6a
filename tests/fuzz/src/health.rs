//! What a disk's firmware answers: pages and sense data out of the fuzzer's bytes.

use std::cell::Cell;
use std::io;
use testbox::block::passthrough::DiskFirmware;
use testbox::inventory::Health;
use testbox::inventory::health::Language;

/// Answers with the bytes in turn: a page takes 512 of them, sense data what its first byte says, of 63 at most.
struct Bytes<'a>(Cell<&'a [u8]>);

impl Bytes<'_> {
    fn take(&self, len: usize) -> Vec<u8> {
        let bytes = self.0.get();
        let (taken, rest) = bytes.split_at(len.min(bytes.len()));
        self.0.set(rest);
        taken.to_vec()
    }

    fn page(&self, data: &mut [u8]) {
        let page = self.take(data.len());
        data[..page.len()].copy_from_slice(&page);
    }
}

impl DiskFirmware for Bytes<'_> {
    fn ata(&self, _: &[u8; 16], data: &mut [u8]) -> io::Result<Vec<u8>> {
        self.page(data);
        let len = self.take(1).first().copied().unwrap_or(0) % 64;
        Ok(self.take(len.into()))
    }

    fn nvme_log(&self, _: u8, data: &mut [u8]) -> io::Result<()> {
        self.page(data);
        Ok(())
    }
}

/// Nothing is hidden of a disk whose size is another than the one that it shows; 0 bytes are no disk's.
pub fn health(bytes: &[u8]) {
    let Some((head, bytes)) = bytes.split_at_checked(9) else { return };
    let language = if head[0] & 1 == 0 { Language::Ata } else { Language::Nvme };
    let size = u64::from_le_bytes(head[1..].try_into().unwrap_or_default());
    let Ok(health) = Health::ask(&Bytes(Cell::new(bytes)), language, size) else { return };
    assert!(health.hidden == 0 || (language == Language::Ata && size % 2 == 0));
    assert!(health.to_string().is_empty() == (health == Health::default()));
}
