//! The kernel's ways past the block layer, to a disk's own firmware: SG_IO (`scsi/sg.h`) and NVME_IOCTL_ADMIN_CMD
//! (`linux/nvme_ioctl.h`). Both take a limit of time with them, and only commands that read are sent.

use super::real::device_number;
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The way to a disk's firmware. Each call ends within a few seconds, or the disk hangs in the kernel too.
pub trait DiskFirmware {
    /// Sends an ATA command in the SCSI command ATA PASS-THROUGH (16). `data` is filled with what the disk sends,
    /// and empty where it sends nothing. What comes back is the sense data: empty where the status is GOOD.
    ///
    /// # Errors
    /// Those of the ioctl, and a status that is neither GOOD nor comes with sense data.
    fn ata(&self, command: &[u8; 16], data: &mut [u8]) -> io::Result<Vec<u8>>;

    /// Fills `data` with a log page of the NVMe controller; a whole number of 4-byte words.
    ///
    /// # Errors
    /// Those of the ioctl, and the controller's status where it refuses.
    fn nvme_log(&self, page: u8, data: &mut [u8]) -> io::Result<()>;
}

/// How long one command may take, in milliseconds. A disk that stood still spins up meanwhile.
const TIMEOUT_MS: u32 = 10_000;

/// `struct sg_io_hdr`.
#[repr(C)]
struct SgIoHeader {
    interface_id: i32,
    dxfer_direction: i32,
    cmd_len: u8,
    mx_sb_len: u8,
    iovec_count: u16,
    dxfer_len: u32,
    dxferp: *mut u8,
    cmdp: *const u8,
    sbp: *mut u8,
    timeout: u32,
    flags: u32,
    pack_id: i32,
    usr_ptr: *mut u8,
    status: u8,
    masked_status: u8,
    msg_status: u8,
    sb_len_wr: u8,
    host_status: u16,
    driver_status: u16,
    resid: i32,
    duration: u32,
    info: u32,
}

const SG_DXFER_NONE: i32 = -1;
const SG_DXFER_FROM_DEV: i32 = -3;
/// SAM-5 section 5.3: the two statuses that a command which was carried out can have.
const GOOD: u8 = 0x00;
const CHECK_CONDITION: u8 = 0x02;

/// `struct nvme_admin_cmd`.
#[repr(C)]
#[derive(Default)]
struct NvmeAdminCommand {
    opcode: u8,
    flags: u8,
    rsvd1: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    addr: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}

const _: () = assert!(size_of::<NvmeAdminCommand>() == 72);
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<SgIoHeader>() == 88);

/// Get Log Page (NVM Express Base Specification 2.0, section 5.16).
const GET_LOG_PAGE: u8 = 0x02;
/// The controller's own log, and no namespace's.
const ALL_NAMESPACES: u32 = u32::MAX;

mod ioctl {
    nix::ioctl_readwrite_bad!(sg_io, 0x2285, super::SgIoHeader);
    nix::ioctl_readwrite!(nvme_admin, b'N', 0x41, super::NvmeAdminCommand);
}

/// An open device node whose firmware can be asked.
#[derive(Debug)]
pub struct Passthrough(File);

impl Passthrough {
    /// Opens a device node. Nobody is kept from using the disk, and a medium is not waited for.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::NONBLOCK.bits() as i32;
        OpenOptions::new().read(true).custom_flags(flags).open(path).map(Passthrough)
    }

    /// Major and minor number of the disk that is open; `None` for what is not a block device.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn device_number(&self) -> io::Result<Option<(u32, u32)>> {
        device_number(&self.0)
    }
}

fn length(data: &[u8]) -> io::Result<u32> {
    u32::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl DiskFirmware for Passthrough {
    fn ata(&self, command: &[u8; 16], data: &mut [u8]) -> io::Result<Vec<u8>> {
        let mut sense = [0u8; 64];
        let mut header = SgIoHeader {
            interface_id: i32::from(b'S'),
            dxfer_direction: if data.is_empty() { SG_DXFER_NONE } else { SG_DXFER_FROM_DEV },
            cmd_len: command.len() as u8,
            mx_sb_len: sense.len() as u8,
            iovec_count: 0,
            dxfer_len: length(data)?,
            dxferp: data.as_mut_ptr(),
            cmdp: command.as_ptr(),
            sbp: sense.as_mut_ptr(),
            timeout: TIMEOUT_MS,
            flags: 0,
            pack_id: 0,
            usr_ptr: std::ptr::null_mut(),
            status: 0,
            masked_status: 0,
            msg_status: 0,
            sb_len_wr: 0,
            host_status: 0,
            driver_status: 0,
            resid: 0,
            duration: 0,
            info: 0,
        };
        // SAFETY: the header is the kernel's struct sg_io_hdr; its three pointers are to buffers that live until the
        // call returns, each with its length beside it, and the kernel writes no more than that.
        unsafe { ioctl::sg_io(self.0.as_raw_fd(), &mut header) }?;
        let SgIoHeader { host_status, status, sb_len_wr, .. } = header;
        match (host_status, status) {
            (0, GOOD | CHECK_CONDITION) => {
                Ok(sense.get(..usize::from(sb_len_wr)).unwrap_or_default().to_vec())
            }
            _ => Err(io::Error::other(format!("SCSI status {status:#x}, host status {host_status:#x}"))),
        }
    }

    fn nvme_log(&self, page: u8, data: &mut [u8]) -> io::Result<()> {
        let words = length(data)? / 4;
        let last_word = words.checked_sub(1).ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = NvmeAdminCommand {
            opcode: GET_LOG_PAGE,
            nsid: ALL_NAMESPACES,
            addr: data.as_mut_ptr() as u64,
            data_len: words * 4,
            // The number of words, less one, in two halves.
            cdw10: u32::from(page) | last_word << 16,
            cdw11: last_word >> 16,
            timeout_ms: TIMEOUT_MS,
            ..NvmeAdminCommand::default()
        };
        // SAFETY: the command is the kernel's struct nvme_admin_cmd; `addr` is a buffer of at least `data_len` bytes
        // that lives until the call returns.
        match unsafe { ioctl::nvme_admin(self.0.as_raw_fd(), &mut command) }? {
            0 => Ok(()),
            status => Err(io::Error::other(format!("NVMe status {status:#x}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A regular file knows no such request: an error, and no crash.
    #[test]
    fn what_is_no_such_disk_says_so() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let firmware = Passthrough::open(file.path()).unwrap();
        let mut page = [0; 512];
        assert_eq!(firmware.ata(&[0; 16], &mut page).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        assert_eq!(firmware.nvme_log(2, &mut page).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        assert_eq!(firmware.nvme_log(2, &mut []).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
