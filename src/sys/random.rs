//! Numbers for queries and sessions.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;

/// A number that is another one each time and hard to guess. Not for keys: it does not wait until the kernel has enough
/// entropy for those, which on a processor without a generator of its own is seconds after the start (getrandom(2),
/// GRND_INSECURE; Linux before 5.6 does not know that, and waits).
///
/// # Errors
/// The kernel has no getrandom(2).
pub fn random_id() -> io::Result<u64> {
    let mut bytes = [0; 8];
    let filled = match getrandom(&mut bytes, GetRandomFlags::INSECURE) {
        Err(Errno::INVAL) => getrandom(&mut bytes, GetRandomFlags::empty())?,
        filled => filled?,
    };
    // A read of so few bytes is never cut short (getrandom(2)).
    if filled == bytes.len() {
        Ok(u64::from_ne_bytes(bytes))
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
