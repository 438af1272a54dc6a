use super::*;
use crate::block::mem::MemDisk;
use crate::text::with_sources;

fn disk() -> MemDisk {
    MemDisk::new("sdx", vec![0; 1 << 20], 4096)
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

/// Every way to make one that has a source.
fn with_source() -> Vec<(ImageError, ErrorKind, &'static str)> {
    let disk = disk();
    let gone = io::Error::from_raw_os_error(libc::ENXIO);
    let denied = || io::Error::from_raw_os_error(libc::EPERM);
    vec![
        (
            ImageError::transfer(&disk, ImageOp::Read, 8192, 4096, eio()),
            ErrorKind::Medium,
            "sdx: cannot read 4096 bytes at byte 8192 (LBA 2): ",
        ),
        (
            ImageError::transfer(&disk, ImageOp::Zero, 8192, 4096, denied()),
            ErrorKind::Io,
            "sdx: cannot zero 4096 bytes at byte 8192 (LBA 2): ",
        ),
        (
            ImageError::transfer(&disk, ImageOp::Write, 0, 512, gone),
            ErrorKind::Gone,
            "sdx: the disk is gone: ",
        ),
        (ImageError::disk_call(&disk, ImageOp::Flush, eio()), ErrorKind::Io, "sdx: cannot flush: "),
        (ImageError::read(7, eio()), ErrorKind::Io, "cannot read the image at byte 7: "),
        (
            ImageError::sink(ImageOp::Sync, 9, eio()),
            ErrorKind::Io,
            "cannot sync the image after 9 bytes of it: ",
        ),
        (ImageError::resource(ImageOp::StartThread, eio()), ErrorKind::Resource, "cannot start a thread: "),
    ]
}

#[test]
fn the_os_error_is_told_once_and_only_by_the_chain() {
    for unfinished in [false, true] {
        for (error, kind, text) in with_source() {
            assert_eq!(error.kind, kind, "{error}");
            let error = if unfinished { error.unfinished(&disk(), (3, 8), "The disk is bad") } else { error };
            let own = error.to_string();
            let all = with_sources(&error);
            let reason = error.io_source().unwrap().to_string();
            assert!(reason.contains("os error") && !own.contains("os error"), "{own}");
            assert_eq!(all.matches("os error").count(), 1, "{all}");
            assert!(all.contains(text) && all.ends_with(&reason), "{all}");
            assert_eq!(error.disk_was_touched(), unfinished);
            assert_eq!(own.starts_with("sdx: 3 of 8 bytes were handled. The disk is bad. Why: "), unfinished);
        }
    }
}

#[test]
fn an_error_without_a_source_says_where_and_what() {
    let disk = disk();
    for (error, text) in [
        (ImageError::refused(&disk, "too small"), "sdx: too small"),
        (ImageError::refused_range(&(1..9), 8), "bytes 1 to 9 are not on a disk of 8 bytes"),
        (ImageError::not_an_image("too short"), "not a whole testbox image: too short"),
        (ImageError::damaged(5, "a hash"), "the image is damaged at byte 5 of the file: a hash"),
        (ImageError::foreign(5, "cut"), "the gzip file is damaged after 5 bytes of content: cut"),
        (
            ImageError::differs(&disk, &(4096..8192), ImageOp::Compare),
            "sdx: 4096 bytes at byte 4096 (LBA 1) are not what the image holds",
        ),
        (
            ImageError::differs(&disk, &(4096..8192), ImageOp::ReadBack),
            "sdx: 4096 bytes at byte 4096 (LBA 1) are not what the image holds although it was just written: the disk \
             loses or changes writes",
        ),
        (
            ImageError::failing(&disk, 7, 9),
            "sdx: more than 7 bytes cannot be read, up to byte 9: the disk is failing",
        ),
        (ImageError::internal("x"), "internal error, please report: x"),
        (ImageError::cancelled(), "cancelled"),
    ] {
        assert_eq!(with_sources(&error), text);
        assert_eq!(error.is_internal(), error.kind == ErrorKind::Internal);
    }
    let resized = MemDisk::new("sdx", vec![0; 1 << 20], 512);
    resized.set_size_now(4096);
    let error = check_size(&resized).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Resized);
    assert!(error.to_string().contains("4096 bytes now, it had 1048576"), "{error}");
}

/// Callers decide by kind, operation and subject: no two of these questions overlap.
#[test]
fn only_a_failed_read_of_a_disk_is_a_bad_sector() {
    let disk = disk();
    let bad = ImageError::transfer(&disk, ImageOp::Read, 0, 512, eio());
    assert!(bad.is_bad_sector() && !bad.is_of_image());
    for (error, _, _) in with_source().into_iter().skip(1) {
        assert!(!error.is_bad_sector(), "{error}");
        assert_eq!(error.is_of_image(), error.what == Subject::Image && error.op == ImageOp::Read, "{error}");
    }
    // So much is unreadable that zeros are no answer.
    assert!(!ImageError::failing(&disk, 7, 9).is_bad_sector());
    assert!(ImageError::damaged(0, "x").is_of_image() && !ImageError::foreign(0, "x").is_of_image());
    assert_eq!(ImageError::read(1, eio()).into_read_error().unwrap().raw_os_error(), Some(libc::EIO));
    assert!(ImageError::sink(ImageOp::Write, 1, eio()).into_read_error().is_err());
    assert!(ImageError::damaged(0, "x").into_read_error().is_err());
}

#[test]
fn an_error_is_small_enough_to_be_returned_by_value() {
    assert!(size_of::<ImageError>() <= 128, "{}", size_of::<ImageError>());
}
