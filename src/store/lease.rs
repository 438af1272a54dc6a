//! Who may use a machine's folder on the share: a lease with a heartbeat, for two agents that have one address.
//!
//! The shares are mounted without locks, NFSv3 has none that outlive a client, and no two clocks here agree. So the
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
#![forbid(unsafe_code)]

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
pub struct Seen {
    /// Its number.
    pub number: u64,
    /// All of its file.
    bytes: Vec<u8>,
}

impl Seen {
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
pub fn read(files: &dyn Files, dir: &str, number: u64) -> io::Result<Option<Seen>> {
    match files.read_limited(&format!("{dir}/{number}"), LIMIT) {
        Ok(bytes) => Ok(Some(Seen { number, bytes })),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        // A link, a folder, a file of any size: it counts, and nobody beats in it.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge) => {
            Ok(Some(Seen { number, bytes: Vec::new() }))
        }
        Err(e) => Err(e),
    }
}

/// The lease that counts in the folder `dir`.
///
/// # Errors
/// Those of the share.
pub fn current(files: &dyn Files, dir: &str) -> io::Result<Option<Seen>> {
    for _ in 0..LOOKS {
        let Some(number) = newest(files, dir)? else { return Ok(None) };
        if let Some(seen) = read(files, dir, number)? {
            return Ok(Some(seen));
        }
        // Its successor has removed it since.
    }
    Err(io::Error::other(format!("{dir} shows files that are not there")))
}

/// What an agent that wants the lease has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Take the lease of this number.
    Claim(u64, After),
    /// Look again a little later: the holder may be dead. For how long at most, from the first look.
    Watch(Duration),
    /// Give way: the holder lives.
    GiveWay,
}

/// Whose lease is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Nobody's.
    Nobody,
    /// That of this machine before it was cut.
    Itself,
    /// That of another machine, which has fallen silent.
    Another,
}

/// Decides from one look after the other. No I/O, and no clock but the one that is handed in.
#[derive(Debug)]
pub struct Watcher {
    me: Holder,
    seen: Option<Watched>,
}

/// A lease that has not changed.
#[derive(Debug)]
struct Watched {
    lease: Seen,
    /// Since when, without a moment in which the watcher could not see.
    since: Duration,
    /// When the last look came back.
    last: Duration,
}

impl Watcher {
    /// One for the agent `me`.
    pub fn new(me: Holder) -> Self {
        Watcher { me, seen: None }
    }

    /// What follows from the lease that counts, as a look has shown it that came back at `now`, by the own monotonic
    /// clock.
    pub fn look(&mut self, lease: Option<Seen>, now: Duration) -> Next {
        let Some(lease) = lease else { return Next::Claim(1, After::Nobody) };
        let next = lease.number.saturating_add(1);
        if lease.is_released() {
            return Next::Claim(next, After::Nobody);
        }
        let is_own = lease.holder().is_some_and(|holder| holder.is_same_machine(&self.me));
        let (patience, after) = if is_own { (OWN, After::Itself) } else { (OTHER, After::Another) };
        let Some(watched) = &mut self.seen else {
            self.seen = Some(Watched { lease, since: now, last: now });
            return Next::Watch(patience);
        };
        if watched.lease != lease {
            // A heartbeat, or somebody was quicker.
            return Next::GiveWay;
        }
        if now.saturating_sub(watched.last) > PROMPT {
            watched.since = now;
        }
        watched.last = now;
        let is_dead = now.saturating_sub(watched.since) >= patience;
        if is_dead { Next::Claim(next, after) } else { Next::Watch(patience) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::MemFiles;
    use proptest::prelude::*;

    fn holder(session: &str, mac: &str, uuid: Option<&str>) -> Holder {
        Holder {
            session: session.into(),
            uuid: uuid.map(Into::into),
            macs: vec![mac.into()],
            hostname: "box1".into(),
            action: "backup".into(),
            job: Some("j".into()),
        }
    }

    fn seen(number: u64, holder: &Holder, more: &[u8]) -> Seen {
        Seen { number, bytes: [&holder.to_bytes(), more].concat() }
    }

    /// Looks of one agent: when, what it sees, what it does.
    #[test]
    fn a_lease_is_taken_only_where_nobody_holds_it_or_its_holder_is_silent() {
        use Next::{Claim, GiveWay, Watch};
        let me = holder("me", "a", Some("u"));
        let (own, other) = (holder("cut", "a", Some("u")), holder("x", "b", Some("u")));
        let third = holder("y", "c", None);
        type Look = (u64, Option<Seen>, Next);
        let rows: Vec<(&str, Vec<Look>)> = vec![
            ("there is none", vec![(0, None, Claim(1, After::Nobody))]),
            ("it was released", vec![(0, Some(seen(7, &other, RELEASED)), Claim(8, After::Nobody))]),
            (
                "released while it is watched",
                vec![
                    (0, Some(seen(7, &other, b"..")), Watch(OTHER)),
                    (5, Some(seen(7, &other, b"..\nreleased\n")), Claim(8, After::Nobody)),
                ],
            ),
            (
                "another machine that lives, however slowly",
                vec![
                    (0, Some(seen(7, &other, b".")), Watch(OTHER)),
                    (119, Some(seen(7, &other, b".")), Watch(OTHER)),
                    (120, Some(seen(7, &other, b"..")), GiveWay),
                ],
            ),
            (
                "another machine that is dead",
                vec![
                    (1000, Some(seen(7, &other, b".")), Watch(OTHER)),
                    (1119, Some(seen(7, &other, b".")), Watch(OTHER)),
                    (1120, Some(seen(7, &other, b".")), Claim(8, After::Another)),
                ],
            ),
            (
                "this machine before a power cut",
                vec![
                    (0, Some(seen(7, &own, b".")), Watch(OWN)),
                    (11, Some(seen(7, &own, b".")), Watch(OWN)),
                    (12, Some(seen(7, &own, b".")), Claim(8, After::Itself)),
                ],
            ),
            (
                "a twin of this machine that lives",
                vec![(0, Some(seen(7, &own, b".")), Watch(OWN)), (3, Some(seen(7, &own, b"..")), GiveWay)],
            ),
            (
                "a dead one's lease that somebody else takes over",
                vec![
                    (0, Some(seen(7, &other, b"")), Watch(OTHER)),
                    (119, Some(seen(8, &third, b"")), GiveWay),
                ],
            ),
            (
                "what no agent has written, or half of it",
                vec![
                    (0, Some(Seen { number: 1, bytes: b"{\"session".to_vec() }), Watch(OTHER)),
                    (120, Some(Seen { number: 1, bytes: b"{\"session".to_vec() }), Claim(2, After::Another)),
                ],
            ),
        ];
        for (what, looks) in rows {
            let mut watcher = Watcher::new(me.clone());
            let mut before: Option<Look> = None;
            for (now, lease, next) in looks {
                // A look each second: what lies between them does not count.
                if let Some((then, lease, next)) = before.take() {
                    for between in then + 1..now {
                        let seen = watcher.look(lease.clone(), Duration::from_secs(between));
                        assert_eq!(seen, next, "{what}, at {between}");
                    }
                }
                assert_eq!(watcher.look(lease.clone(), Duration::from_secs(now)), next, "{what}, at {now}");
                before = Some((now, lease, next));
            }
        }
    }

    /// When each look came back, and when the lease may be taken at the earliest; every look before that watches.
    #[test]
    fn time_in_which_the_watcher_was_blind_is_not_silence() {
        let me = holder("me", "a", None);
        let each = |from: u64, to: u64| (from..=to).collect::<Vec<_>>();
        let rows: Vec<(&str, &str, Vec<u64>, bool)> = vec![
            ("own", "a", each(0, 12), true),
            ("another's", "b", each(0, 120), true),
            ("one look, a minute late", "a", vec![0, 61], false),
            ("one look, an hour late", "b", vec![0, 3600], false),
            ("a minute blind at the end", "a", [each(0, 11), vec![71]].concat(), false),
            ("and as long again", "a", [each(0, 11), each(71, 82)].concat(), false),
            ("and seen all along", "a", [each(0, 11), each(71, 83)].concat(), true),
            ("every look takes too long", "a", (0..100).map(|n| n * 6).collect(), false),
            ("every look takes long, but not too long", "a", vec![0, 5, 10, 15], true),
            ("blind again and again", "b", [each(0, 119), each(126, 245), each(252, 371)].concat(), false),
        ];
        for (what, mac, looks, is_taken) in rows {
            let mut watcher = Watcher::new(me.clone());
            let (last, before) = looks.split_last().unwrap();
            let mut look =
                |at: u64| watcher.look(Some(seen(7, &holder("x", mac, None), b".")), Duration::from_secs(at));
            before.iter().for_each(|at| assert!(matches!(look(*at), Next::Watch(_)), "{what}, at {at}"));
            assert_eq!(matches!(look(*last), Next::Claim(8, _)), is_taken, "{what}");
        }
    }

    #[test]
    fn a_machine_is_known_by_its_mac_unless_the_uuid_is_another() {
        for (mac, uuid, is_same) in [
            ("a", Some("u"), true),
            ("a", None, true),
            ("a", Some("v"), false),
            ("b", Some("u"), false),
            ("b", None, false),
        ] {
            let same = holder("me", "a", Some("u")).is_same_machine(&holder("x", mac, uuid));
            assert_eq!(same, is_same, "{mac} {uuid:?}");
        }
    }

    #[test]
    fn the_highest_number_counts_and_hostile_names_are_none() {
        let files = MemFiles::new();
        assert_eq!(current(&files, "10.0.0.1/lease").unwrap(), None);
        for name in ["2", "10", "9", "claim-x", "+99", "18446744073709551615", "-1", "0x7", "011", "+12"] {
            files.put(&format!("10.0.0.1/lease/{name}"), name);
        }
        assert_eq!(current(&files, "10.0.0.1/lease").unwrap().unwrap().number, 10);
        files.put_special("10.0.0.1/lease/11");
        let special = current(&files, "10.0.0.1/lease").unwrap().unwrap();
        assert!(special.number == 11 && special.holder().is_none() && !special.is_released());
    }

    #[test]
    fn a_hostile_holder_is_shown_short_and_without_control_characters() {
        let mut evil = holder("s", &"\u{1b}[2J".repeat(100), None);
        evil.hostname = "\u{9b}1m\n".repeat(1000);
        let text = evil.to_string();
        assert!(text.len() < 400 && text.chars().all(|c| !c.is_control()), "{text:?}");
    }

    proptest! {
        /// However looks come back: before a lease is taken it was seen not to change for long enough without a gap.
        #[test]
        fn a_lease_is_only_taken_after_silence_that_was_seen(gaps in proptest::collection::vec(0u64..9000, 1..200), mac in "[ab]") {
            let mut watcher = Watcher::new(holder("me", "a", None));
            let patience = if mac == "a" { OWN } else { OTHER };
            let (mut now, mut silent) = (Duration::ZERO, None);
            for gap in gaps {
                let gap = Duration::from_millis(gap);
                now += gap;
                let watched = match silent {
                    Some(silent) if gap <= PROMPT => silent + gap,
                    _ => Duration::ZERO,
                };
                silent = Some(watched);
                let next = watcher.look(Some(seen(7, &holder("x", &mac, None), b".")), now);
                prop_assert_eq!(matches!(next, Next::Claim(..)), watched >= patience);
                if watched >= patience {
                    break;
                }
            }
        }

        /// Whatever stands in the folder: it is read, shown, and watched.
        #[test]
        fn never_panics(bytes in any::<Vec<u8>>(), near in "\\{\"session\":\"[a-z]{0,3}\",\"macs\":\\[\"a\"\\],.{0,40}") {
            for bytes in [bytes, near.into_bytes()] {
                let seen = Seen { number: 1, bytes };
                prop_assert!(seen.who().chars().all(|c| !c.is_control()));
                let mut watcher = Watcher::new(holder("me", "a", None));
                let is_free = seen.is_released();
                let next = watcher.look(Some(seen), Duration::ZERO);
                prop_assert_eq!(next == Next::Claim(2, After::Nobody), is_free);
            }
        }

        #[test]
        fn what_a_holder_writes_is_read_back(session in ".{0,20}", macs in proptest::collection::vec(".{0,20}", 0..3), beats in 0usize..9) {
            let holder = Holder { session, macs, ..holder("", "", None) };
            let seen = seen(1, &holder, &BEAT.repeat(beats));
            prop_assert_eq!(seen.holder(), Some(holder));
            prop_assert!(!seen.is_released());
        }
    }
}
