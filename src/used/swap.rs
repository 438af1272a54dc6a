//! Linux swap areas. Layout: `union swap_header` of the kernel's include/linux/swap.h, and mkswap(8).
//!
//! The first page says everything. What the other pages hold is worth nothing after a reboot, unless the machine is
//! hibernated: then the first page carries another signature. So all pages behind the first one are free here, and who
//! asks decides whether swap content may be left out at all.
#![forbid(unsafe_code)]

use super::fixed::is_boot_area;
use super::{Doubt, Free, Volume, VolumeAbout};
use crate::bytes::le;
use crate::text;
use std::ops::Range;

pub(super) const KIND: &str = "swap";
/// The signature stands in the last ten bytes of the first page; nobody knows the page size before.
const PAGES: [usize; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];
const SIGNATURE: usize = 10;
/// What stands there instead while the memory of a hibernated machine is in the area (swsusp, uswsusp, TuxOnIce and
/// older ones, as libblkid knows them).
const HIBERNATED: [&[u8]; 5] =
    [b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001", b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c"];
/// Where the header and its list of bad pages begin.
const HEADER: usize = 1024;
const BAD_PAGES: usize = 1536;
/// Between the label and the bad pages: zeros.
const PADDING: Range<usize> = HEADER + 44..BAD_PAGES;
/// Bytes before the end of the page where a hibernation that is over leaves something (`struct swsusp_header`).
const RESUME: usize = 64;

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The pages of a swap area behind the first one, bad ones left out.
///
/// # Errors
/// Why the area is imaged whole.
pub fn parse(volume: &Volume<'_>, free: &mut Free) -> Result<Option<VolumeAbout>, Doubt> {
    let doubt = |why: String| Doubt::new(KIND, why);
    let mut found: Vec<Vec<u8>> = Vec::new();
    for size in PAGES {
        let Some(page) = volume.peek(0, size) else { break };
        let signature = &page[size - SIGNATURE..];
        if HIBERNATED.iter().any(|known| signature.starts_with(known)) {
            return Err(doubt("a hibernated machine's memory is in it".into()));
        }
        if signature == b"SWAP-SPACE" {
            return Err(doubt("a swap area of version 0".into()));
        }
        if signature == b"SWAPSPACE2" {
            found.push(page);
        }
    }
    let page = match found.as_slice() {
        [] => return Ok(None),
        [page] => page,
        _ => return Err(doubt("it has signatures for more than one page size".into())),
    };
    let size = page.len() as u64;
    let number = |at| le::u32(page, at).ok_or_else(|| doubt("its header is cut".into()));

    let version = number(HEADER)?;
    if version != 1 {
        return Err(doubt(format!("version {version}, or of a machine with the other byte order")));
    }
    let pages = u64::from(number(HEADER + 4)?) + 1;
    if pages < 2 || pages * size > volume.size() {
        return Err(doubt(format!("{pages} pages of {size} bytes, in {} bytes", volume.size())));
    }
    let bad = number(HEADER + 8)? as usize;
    if bad > (page.len() - SIGNATURE - BAD_PAGES) / 4 {
        return Err(doubt(format!("{bad} bad pages are more than its header can name")));
    }
    let mut kept = Vec::with_capacity(bad);
    for i in 0..bad {
        let at = u64::from(number(BAD_PAGES + 4 * i)?);
        if at == 0 || at >= pages {
            return Err(doubt(format!("bad page {at} of {pages}")));
        }
        kept.push(at);
    }
    kept.sort_unstable();
    if !is_boot_area(page.get(..HEADER).unwrap_or_default())
        || page.get(PADDING).is_none_or(|bytes| !is_zero(bytes))
    {
        return Err(doubt(
            "its first page is not as mkswap leaves it: it may be an old one below encryption".into(),
        ));
    }
    let unused = BAD_PAGES + 4 * bad..page.len() - RESUME;
    if page.get(unused).is_some_and(|bytes| !is_zero(bytes)) {
        return Err(doubt("there is something between its bad pages and its signature".into()));
    }

    let mut next = 1;
    for at in kept {
        free.add(next * size..at * size);
        next = at + 1;
    }
    free.add(next * size..pages * size);
    let text = page.get(HEADER + 28..HEADER + 44).unwrap_or_default();
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Some(VolumeAbout { kind: KIND, label: text::label(&String::from_utf8_lossy(text)) }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{hostile, made, parsed, run, try_parse, whole};
    use super::*;

    fn area(args: &[&str], bytes: u64) -> Vec<u8> {
        made(bytes, |file| run("mkswap", &[&["-q"], args, &[file]].concat()))
    }

    #[test]
    fn every_page_size_of_mkswap() {
        for page in PAGES {
            let mut image = area(&["-p", &page.to_string(), "-L", "spare room"], 4 << 20);
            // The area does not end with a page: the rest is nobody's.
            image.extend([0xa5; 1000]);
            let (about, free) = parsed(parse, &image);
            assert_eq!(about, VolumeAbout { kind: "swap", label: Some("spare room".into()) });
            assert_eq!(free, vec![page as u64..4 << 20], "{page}");
        }
    }

    #[test]
    fn bad_pages_stay() {
        let mut image = area(&[], 1 << 20);
        image[HEADER + 8] = 4;
        for (i, bad) in [255u8, 7, 1, 7].into_iter().enumerate() {
            image[BAD_PAGES + 4 * i] = bad;
        }
        let (_, free) = parsed(parse, &image);
        assert_eq!(free, vec![2 * 4096..7 * 4096, 8 * 4096..255 * 4096]);
        image[BAD_PAGES + 1] = 1;
        assert!(whole(parse, &image).contains("bad page 511 of 256"));
        image[BAD_PAGES..BAD_PAGES + 2].fill(0);
        assert!(whole(parse, &image).contains("bad page 0 of 256"));
        image[HEADER + 10] = 1;
        assert!(whole(parse, &image).contains("bad pages are more"));
    }

    #[test]
    fn a_hibernated_machine_is_kept() {
        for (text, why) in [
            ("S1SUSPEND\0", "hibernated"),
            ("S2SUSPEND\0", "hibernated"),
            ("ULSUSPEND\0", "hibernated"),
            ("LINHIB0001", "hibernated"),
            ("SWAP-SPACE", "version 0"),
        ] {
            for page in PAGES {
                let mut image = area(&["-p", &page.to_string()], 1 << 20);
                image[page - 10..page].copy_from_slice(text.as_bytes());
                assert!(whole(parse, &image).contains(why), "{text} {page}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_doubted() {
        let image = area(&[], 1 << 20);
        assert!(whole(parse, &image[..(1 << 20) - 1].to_vec()).contains("256 pages"));
        for (at, byte, why) in
            [(HEADER, 2, "version 2"), (HEADER + 3, 1, "byte order"), (HEADER + 7, 1, "pages of")]
        {
            let mut image = image.clone();
            image[at] = byte;
            assert!(whole(parse, &image).contains(why), "{why}");
        }
        let mut both = image.clone();
        both[8192 - 10..8192].copy_from_slice(b"SWAPSPACE2");
        assert!(whole(parse, &both).contains("more than one page size"));
        let mut none = image;
        none[4090] = 0;
        assert_eq!(try_parse(parse, &none), Ok(None));
    }

    #[test]
    fn hostile_headers() {
        let image = area(&[], 1 << 20);
        hostile(parse, &image, &[1024..1100, 1536..1600, 4086..4096], 3000);
    }
}
