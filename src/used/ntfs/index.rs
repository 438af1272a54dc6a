//! The root directory of NTFS: it is read as a whole, so that no order of names and no tree has to be believed.
#![forbid(unsafe_code)]

use super::doubt::doubt;
use super::files::{INDEX_ALLOCATION, INDEX_ROOT, NtfsContent, NtfsFiles, in_file};
use super::record::{Wrong, fix_up};
use crate::bytes::le;
use crate::used::Doubt;

const ROOT: u64 = 5;
const BITMAP: u32 = 0xb0;
/// The longest root directory that is read: some hundred thousand names.
const LONGEST: u64 = 64 << 20;

/// References of the files in the root directory that have one of these names, ASCII in lower case.
pub(super) fn in_root(files: &NtfsFiles<'_>, names: &[&str]) -> Result<Vec<(usize, u64)>, Doubt> {
    let wrong = |why: Wrong| doubt(format!("root directory: {why}"));
    if !files.record(ROOT)?.directory {
        return Err(wrong("it is none"));
    }
    let Some(NtfsContent::Resident(root)) = files.attribute(ROOT, INDEX_ROOT, b"$I30")? else {
        return Err(wrong("it has no index root"));
    };
    if le::u32(&root, 0) != Some(0x30)
        || le::u32(&root, 8).map(|size| size as usize) != Some(files.boot.index)
    {
        return Err(wrong("it is not an index of names, or has records of another size"));
    }
    let mut found = Vec::new();
    let large = entries(&root, 16, names, &mut found).map_err(wrong)?;
    if large {
        let nodes = files.stream(ROOT, INDEX_ALLOCATION, b"$I30")?;
        let bits = match files.attribute(ROOT, BITMAP, b"$I30")? {
            Some(NtfsContent::Resident(bits)) => bits,
            Some(NtfsContent::Stream(bits))
                if bits.flags == 0 && bits.initialized == bits.size && bits.size <= LONGEST =>
            {
                files.read(&bits, 0, bits.size as usize)?
            }
            _ => return Err(wrong("it has no bitmap of its nodes")),
        };
        let size = files.boot.index as u64;
        if nodes.size > LONGEST
            || nodes.initialized != nodes.size
            || bits.len() as u64 * 8 < nodes.size / size
        {
            return Err(in_file(ROOT, "its nodes are too many, or their bitmap is too short"));
        }
        for node in 0..nodes.size / size {
            if bits[node as usize / 8] >> (node % 8) & 1 == 0 {
                continue;
            }
            let mut bytes = files.read(&nodes, node * size, size as usize)?;
            fix_up(&mut bytes, b"INDX").map_err(wrong)?;
            // Nodes are numbered in clusters, or in 512 bytes where they are shorter than a cluster.
            let unit = if files.boot.cluster <= size { files.boot.cluster } else { 512 };
            if le::u64(&bytes, 16) != Some(node * size / unit) {
                return Err(wrong("a node is not where it says"));
            }
            entries(&bytes, 24, names, &mut found).map_err(wrong)?;
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The entries behind an index header at `header`; gives whether there are nodes below.
fn entries(
    bytes: &[u8],
    header: usize,
    names: &[&str],
    found: &mut Vec<(usize, u64)>,
) -> Result<bool, Wrong> {
    let cut = "its entries are cut";
    let (Some(first), Some(len)) = (le::u32(bytes, header), le::u32(bytes, header + 4)) else {
        return Err(cut);
    };
    let large = le::u8(bytes, header + 12).ok_or(cut)? & 1 != 0;
    let index = bytes.get(header..header.saturating_add(len as usize)).ok_or(cut)?;
    let mut rest = index.get(first as usize..).filter(|_| first >= 16).ok_or(cut)?;
    loop {
        let len = usize::from(le::u16(rest, 8).ok_or(cut)?);
        let entry = rest.get(..len).filter(|_| len >= 16 && len % 8 == 0).ok_or(cut)?;
        if le::u16(entry, 12).ok_or(cut)? & 2 != 0 {
            return Ok(large);
        }
        let units = 2 * usize::from(le::u8(entry, 16 + 64).ok_or(cut)?);
        let name = entry.get(16 + 66..16 + 66 + units).ok_or(cut)?;
        if let Some(which) = names.iter().position(|wanted| same_letters(name, wanted)) {
            found.push((which, le::u64(entry, 0).ok_or(cut)?));
        }
        rest = &rest[len..];
    }
}

/// Whether a name in UTF-16 is this one in ASCII, in letters of any case.
fn same_letters(utf16: &[u8], lower: &str) -> bool {
    utf16.len() == 2 * lower.len()
        && utf16
            .chunks_exact(2)
            .zip(lower.bytes())
            .all(|(unit, letter)| unit[1] == 0 && unit[0].to_ascii_lowercase() == letter)
}
