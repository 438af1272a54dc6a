//! Who may use a machine's folder on the share: a lease with a heartbeat, for two agents that have one address.
//!
//! The shares are mounted without locks (NFSv3 has none that outlive a client), and no two clocks here agree. So the
//! lease rests on two operations that every NFS server does as a whole, link(2) and append, and on no clock but the
//! watcher's own:
//!
//! - `lease/<n>` is the lease number n; **the highest number counts**. It is one line of JSON, the [`Holder`], and after
//!   it one byte for each heartbeat. Only its holder writes it.
//! - To take the lease, an agent links a file that it has written and synced as `lease/<n+1>`. The server gives that
//!   name once: of two that try, one gets `EEXIST`. (A reply can get lost and the repeated request get `EEXIST` for its
//!   own success. So whatever the answer, the name is read, and the random session in it decides.) A number is free
//!   again only when a higher one is there, and who takes one looks for that: a late request takes nothing.
//! - A lease that was [released](RELEASED) is free at once. Any other is **watched** ([`Watcher`]): it changes, so its
//!   holder lives (or another one), and the watcher gives way; or it has not changed for a while by the watcher's
//!   monotonic clock, and the holder is taken for dead. No time that another machine has written is ever looked at. What
//!   counts is time in which the watcher saw: where a look comes back later than [`PROMPT`] after the one before (the
//!   server was away, for the holder as well; or this machine stood still), the time begins anew.
//!
//! How long it is watched: [`OWN`] where the holder was this same machine (a MAC in common, and no other system UUID).
//! A machine runs one boot at a time, so its lease is left from before a power cut; the few seconds are for virtual
//! machines, of which many have the same MAC and UUID behind their NATs. [`OTHER`] for another machine, which may only
//! be slow: a server that restarts, a network that is congested.
//!
//! # What it guarantees, and what not
//!
//! Of two agents that start, one gets the folder; the other writes nothing there but what names the machine. An agent
//! that lives and reaches the share keeps its lease.
//!
//! It is a lease and no fence: an agent that is paused, or cut off from the share, for longer than the others watch
//! loses it without knowing, and what it has asked of the server already may still happen. It notices at its next
//! heartbeat, and is made to look before each disk that it images or writes, before it publishes, and before it disarms.
//! What it may do between such a look and the operation that follows stays open; to keep that harmless, who takes over
//! from another machine makes every unfinished image anew, under a name that was removed before: an open file of the
//! other is then nowhere. Published images are never written in place in any case (invariant P), and what a record names
//! is known by its hash.
//!
//! Looking means listing the folder `lease`, which is opened for that: NFS clients then ask the server whether it has
//! changed (close-to-open consistency, nfs(5)), and do not answer from their caches. So `nocto`, and caches of attributes
//! longer than [`LONGEST_CACHE`], are not done.
//!
//! # NFSv4
//!
//! A server of version 4 keeps what its clients have open, and makes an open wait for two things that no heartbeat may
//! depend on. Times are those of Linux (`fs/nfsd/nfs4state.c`, `fs/nfs/nfs4proc.c`) unless changed there: the server's
//! lease of its clients 90 s, its grace period 90 s; a client that is told to wait asks again after 0.1 s, 0.2 s, ... 15 s.
//!
//! - **Grace** (RFC 8881 section 8.4.2). After a restart of the server opens, renames and removals wait for its end, 90 s
//!   and up to 15 s more; links, folder listings, and reads and writes of files whose open was reclaimed do not.
//! - **Delegations** (section 10.4). A file that is opened for reading only may be delegated to that client, also past its
//!   close; another one's open for writing waits until it is given back, which a dead client never does: until its 90 s are
//!   over (at once where they already are), and up to 15 s more.
//!
//! So the holder keeps its lease **open for writing** from before its name can be seen until it lets go: the server
//! delegates no file that another client has open for writing, and the open is reclaimed within the grace period. A heartbeat
//! then is a folder listing and a write, as with version 3. By name, it could be silent for 105 s after a restart or a
//! watcher's death, of [`OTHER`]'s 120 s, and longer than [`OWN`]. A server whose lease was set longer makes no
//! difference to it.
//!
//! The watcher opens the lease to read it, and is the one that waits: a look that comes back late begins the time anew
//! ([`PROMPT`]). What it has seen before a restart of the server does not count, and within grace it sees nothing. That holder
//! and watcher wait for different times does no harm: the holder's writes are back before the watcher's looks are.
//! A lease whose holder is dead may be delegated to that holder; it is removed only after [`OTHER`], or after [`OWN`] by the
//! holder's own next boot, which may have to wait for what is left of the 90 s.
//!
//! Two machines must not be one client to the server, or each mount ends the other's session. Machines that have address, MAC
//! and UUID in common are told apart by their lease only, after the mount; so the name of the client ends in a random number
//! (`Named::set_host_name`).
#![forbid(unsafe_code)]

mod holder;
mod watcher;

pub use holder::{LeaseHolder, Tell};
pub use watcher::{After, Next, Watcher};

use crate::share::{Files, LONGEST_CACHE};
use crate::text::ascii;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::time::Duration;

/// What a holder appends when it is done with the folder.
pub const RELEASED: &[u8] = b"\nreleased\n";
/// What it appends for each heartbeat.
pub const BEAT: &[u8] = b".";
/// How long the lease of this same machine must be silent. More than three heartbeats.
pub const OWN: Duration = Duration::from_secs(12);
/// How long the lease of another machine must be silent.
pub const OTHER: Duration = Duration::from_secs(120);
/// Time between two looks at somebody else's lease.
pub const POLL: Duration = Duration::from_secs(1);
/// Looks that come back within this of each other have seen all of the time between them: a second is slept, and a server
/// that takes longer than the rest is away. Less than two heartbeats.
pub const PROMPT: Duration = Duration::from_secs(5);
/// How long a server may be so slow that nobody's silence can be told, before the watcher says so and ends.
pub const BLIND: Duration = Duration::from_secs(3600);
// While a lease is watched, the server is asked at least twice, however long a client caches.
const _: () = assert!(LONGEST_CACHE.as_secs() * 2 <= OTHER.as_secs());

/// Largest lease that is read, in bytes: the heartbeats of months.
const LIMIT: usize = 8 << 20;
/// A lease whose holder is taken over in between is looked for again; that often.
const LOOKS: u32 = 5;

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Random, new for each run of the agent.
    pub session: String,
    /// System UUID of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// MACs of the machine's NICs.
    #[serde(default)]
    pub macs: Vec<String>,
    /// Host name, or `unknown`.
    pub hostname: String,
    /// What it does there.
    pub action: String,
    /// Id of its job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

impl Holder {
    /// True where both are one machine. MACs are unique in a network, UUIDs are not (boards leave the factory with the
    /// same one); so a MAC in common decides, unless the UUIDs contradict.
    pub fn is_same_machine(&self, other: &Holder) -> bool {
        let has_other_uuid = self.uuid.is_some() && other.uuid.is_some() && self.uuid != other.uuid;
        !has_other_uuid && self.macs.iter().any(|mac| other.macs.contains(mac))
    }

    /// The content of a new lease.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It comes from the share: what is in it must neither act on a terminal nor fill it.
        let short = |text: &str| ascii(text).chars().take(64).collect::<String>();
        let macs: Vec<String> = self.macs.iter().take(4).map(|mac| short(mac)).collect();
        write!(f, "{} ({}), {}", short(&self.hostname), macs.join(", "), short(&self.action))?;
        self.job.as_ref().map_or(Ok(()), |job| write!(f, ", job {}", short(job)))
    }
}

/// A lease as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenLease {
    /// Its number.
    pub number: u64,
    /// All of its file.
    bytes: Vec<u8>,
}

impl SeenLease {
    /// Its holder; `None` where the file is none that an agent has written.
    pub fn holder(&self) -> Option<Holder> {
        serde_json::from_slice(self.bytes.split(|b| *b == b'\n').next()?).ok()
    }

    /// True where its holder has let go of it.
    pub fn is_released(&self) -> bool {
        self.bytes.ends_with(RELEASED)
    }

    /// The holder in words.
    pub fn who(&self) -> String {
        self.holder().map_or_else(|| "somebody who has left no name".into(), |holder| holder.to_string())
    }
}

/// The number of the lease that counts in the folder `dir`; `None` where there is none.
///
/// # Errors
/// Those of the share.
pub fn newest(files: &dyn Files, dir: &str) -> io::Result<Option<u64>> {
    let names = match files.list(dir) {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    Ok(names.iter().filter_map(|name| number(name)).max())
}

/// The number that a file name says: only as an agent spells it, and of at most 18 digits.
pub fn number(name: &str) -> Option<u64> {
    let number: u64 = name.parse().ok().filter(|_| name.len() <= 18)?;
    (number.to_string() == name).then_some(number)
}

/// The lease `number` in the folder `dir`; `None` where it is not there.
///
/// # Errors
/// Those of the share.
pub fn read(files: &dyn Files, dir: &str, number: u64) -> io::Result<Option<SeenLease>> {
    match files.read_limited(&format!("{dir}/{number}"), LIMIT) {
        Ok(bytes) => Ok(Some(SeenLease { number, bytes })),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        // A link, a folder, a file of any size: it counts, and nobody beats in it.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge) => {
            Ok(Some(SeenLease { number, bytes: Vec::new() }))
        }
        Err(e) => Err(e),
    }
}

/// The lease that counts in the folder `dir`.
///
/// # Errors
/// Those of the share.
pub fn current(files: &dyn Files, dir: &str) -> io::Result<Option<SeenLease>> {
    for _ in 0..LOOKS {
        let Some(number) = newest(files, dir)? else { return Ok(None) };
        if let Some(seen) = read(files, dir, number)? {
            return Ok(Some(seen));
        }
        // Its successor has removed it since.
    }
    Err(io::Error::other(format!("{dir} shows files that are not there")))
}

#[cfg(test)]
mod tests;
