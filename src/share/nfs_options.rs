//! The words of `HOST:/path,options`, and the option string that mount(2) gets for them.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Longest time that a client may be told to answer from its cache of attributes: half of what another machine's
/// [lease](crate::store::lease::OTHER) is watched, so that the server is asked at least twice meanwhile. It is also what Linux
/// takes where nothing is said (`acregmax`, `acdirmax`, nfs(5)).
pub const LONGEST_CACHE: Duration = Duration::from_secs(60);

/// A version of NFS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 1813.
    V3,
    /// RFC 7530.
    V4_0,
    /// RFC 8881.
    V4_1,
    /// RFC 7862.
    V4_2,
}

impl Version {
    /// The value of the option `vers=`.
    fn number(self) -> &'static str {
        match self {
            Version::V3 => "3",
            Version::V4_0 => "4.0",
            Version::V4_1 => "4.1",
            Version::V4_2 => "4.2",
        }
    }

    /// The versions that a value of `vers=` names; `4` is all of them, the newest first.
    fn parse(text: &str) -> Option<Vec<Version>> {
        use Version::*;
        match text {
            "4" => Some(vec![V4_2, V4_1, V4_0]),
            text => [V3, V4_0, V4_1, V4_2].into_iter().find(|v| v.number() == text).map(|v| vec![v]),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NFSv{}", self.number())
    }
}

/// The options of one share, merged with what testbox always wants: `hard`, TCP, no locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NfsOptions {
    /// The versions to try, in order.
    pub versions: Vec<Version>,
    /// True where `ro` was asked for.
    pub read_only: bool,
    /// What was asked for and is not done, and why: to be shown.
    pub notes: Vec<String>,
    /// Options that the kernel gets as they are, `name=value` or `name`, for every version.
    common: Vec<String>,
    /// Those that only NFSv3 knows.
    v3_only: Vec<String>,
}

impl Default for NfsOptions {
    /// 4.2 first, by which the server shares what images have in common, then 3 where that is refused.
    fn default() -> Self {
        NfsOptions {
            versions: vec![Version::V4_2, Version::V3],
            read_only: false,
            notes: Vec::new(),
            common: Vec::new(),
            v3_only: Vec::new(),
        }
    }
}

/// An option after the path is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOption {
    /// It is not one of those known.
    #[error(
        "unknown NFS option '{0}': known are vers= (3, 4, 4.0, 4.1, 4.2), tcp, ro, rw, port=, mountport=, mountvers=, timeo=, \
         retrans=, rsize=, wsize=, nconnect=, actimeo=, acregmin=, acregmax=, acdirmin=, acdirmax=, noac, noacl, nordirplus, \
         noresvport, sec=sys"
    )]
    Unknown(String),
    /// Its value is out of range.
    #[error("NFS option '{0}': the value must be {1}")]
    Value(String, String),
    /// UDP was asked for.
    #[error("NFS option '{0}': NFS goes over TCP only, UDP can corrupt data (nfs(5), 'Using NFS over UDP')")]
    Udp(String),
}

/// Options with a number: name, smallest and largest value.
const NUMBERS: [(&str, u64, u64); 12] = [
    ("port", 1, 65535),
    ("timeo", 1, 6000),
    ("retrans", 0, 100),
    ("rsize", 1024, 1 << 20),
    ("wsize", 1024, 1 << 20),
    ("nconnect", 1, 16),
    ("actimeo", 0, 3600),
    ("acregmin", 0, 3600),
    ("acregmax", 0, 3600),
    ("acdirmin", 0, 3600),
    ("acdirmax", 0, 3600),
    ("retry", 0, 100_000),
];
/// Those that are seconds for which the client answers from its cache.
const CACHES: [&str; 5] = ["actimeo", "acregmin", "acregmax", "acdirmin", "acdirmax"];
const NUMBERS_V3: [(&str, u64, u64); 2] = [("mountport", 1, 65535), ("mountvers", 1, 3)];
const FLAGS: [&str; 4] = ["noac", "noresvport", "resvport", "sec=sys"];
const FLAGS_V3: [&str; 3] = ["noacl", "nordirplus", "rdirplus"];
/// Words of fstab and of mount programs that ask for what is done anyway, or mean nothing here.
const IDLE: [&str; 18] = [
    "hard",
    "cto",
    "tcp",
    "proto=tcp",
    "mountproto=tcp",
    "nolock",
    "nosharecache",
    "defaults",
    "auto",
    "noauto",
    "_netdev",
    "fg",
    "bg",
    "intr",
    "nointr",
    "nosuid",
    "nodev",
    "noexec",
];

impl NfsOptions {
    /// Takes the words of nfs(5), one by one as [`crate::types::NfsSource`] has them. None is the default.
    ///
    /// # Errors
    /// The word, and why it is refused.
    pub fn parse<W: AsRef<str>>(words: impl IntoIterator<Item = W>) -> Result<Self, BadOption> {
        let mut options = NfsOptions::default();
        for word in words {
            options.add(word.as_ref())?;
        }
        Ok(options)
    }

    fn add(&mut self, word: &str) -> Result<(), BadOption> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match word {
            "" => {}
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "v3" => self.versions = vec![Version::V3],
            "soft" | "softerr" => self.notes.push(format!(
                "'{word}' is not done: with it data is lost silently when the server is slow; mounted 'hard'"
            )),
            "nocto" => self.notes.push(
                "'nocto' is not done: with it another agent's heartbeat is not seen, and its folder taken for free".into(),
            ),
            "lock" => self.notes.push("'lock' is not done: there is no lock service in the initramfs".into()),
            "udp" | "proto=udp" | "mountproto=udp" => return Err(BadOption::Udp(word.to_owned())),
            _ if IDLE.contains(&word) => {}
            _ if FLAGS.contains(&word) => replace(&mut self.common, word),
            _ if FLAGS_V3.contains(&word) => replace(&mut self.v3_only, word),
            _ if name == "vers" || name == "nfsvers" => {
                self.versions = Version::parse(value)
                    .ok_or_else(|| BadOption::Value(word.to_owned(), "3, 4, 4.0, 4.1 or 4.2".into()))?;
            }
            _ => match word.strip_prefix('v').and_then(Version::parse) {
                Some(versions) => self.versions = versions,
                None => self.add_number(word, name, value)?,
            },
        }
        Ok(())
    }

    fn add_number(&mut self, word: &str, name: &str, value: &str) -> Result<(), BadOption> {
        let range =
            |table: &[(&str, u64, u64)]| table.iter().find(|(n, _, _)| *n == name).map(|t| (t.1, t.2));
        let (list, (low, high)) = match (range(&NUMBERS), range(&NUMBERS_V3)) {
            (Some(range), _) => (&mut self.common, range),
            (_, Some(range)) => (&mut self.v3_only, range),
            _ => return Err(BadOption::Unknown(word.to_owned())),
        };
        // Digits only: parse() would take "+5".
        let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        match value.parse::<u64>() {
            Ok(number) if digits && (low..=high).contains(&number) => {
                match name {
                    // How long to retry is the caller's to say, not the kernel's.
                    "retry" => {}
                    _ if CACHES.contains(&name) && number > LONGEST_CACHE.as_secs() => self.notes.push(format!(
                        "'{word}' is not done: with more than {} s of cached attributes another agent's heartbeat is seen \
                         too late",
                        LONGEST_CACHE.as_secs()
                    )),
                    _ => replace(list, &format!("{name}={number}")),
                }
                Ok(())
            }
            _ => Err(BadOption::Value(word.to_owned(), format!("a number from {low} to {high}"))),
        }
    }

    /// The data argument of mount(2) for one version. `server` is the address of the server, `client` this
    /// machine's, which NFSv4.0 passes on for callbacks.
    ///
    /// `nosharecache` gives each mount a cache and a superblock of its own: a read-only mount and a writable one of
    /// the same export stay independent, and what was written through one is read from the server by the other.
    pub fn data(&self, version: Version, server: Ipv4Addr, client: Option<Ipv4Addr>) -> String {
        let mut words =
            vec![format!("addr={server}"), format!("vers={}", version.number()), "proto=tcp".into()];
        if version == Version::V3 {
            words.extend(["mountproto=tcp".into(), format!("mountaddr={server}")]);
        } else {
            words.extend(client.map(|client| format!("clientaddr={client}")));
        }
        words.extend(["hard".into(), "nosharecache".into()]);
        if version == Version::V3 {
            words.push("nolock".into());
            words.extend(self.v3_only.iter().cloned());
        }
        words.extend(self.common.iter().cloned());
        words.join(",")
    }
}

/// Adds an option; the last one of a name counts.
fn replace(list: &mut Vec<String>, word: &str) {
    let name = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    list.retain(|old| name(old) != name(word));
    list.push(word.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data(options: &str) -> Vec<String> {
        let options = NfsOptions::parse(options.split(',')).unwrap();
        let (server, client) = (Ipv4Addr::new(10, 0, 2, 2), Some(Ipv4Addr::new(10, 0, 2, 15)));
        options.versions.iter().map(|version| options.data(*version, server, client)).collect()
    }

    #[test]
    fn options_become_the_data_of_mount() {
        let v3 = "addr=10.0.2.2,vers=3,proto=tcp,mountproto=tcp,mountaddr=10.0.2.2,hard,nosharecache,nolock";
        let v4 =
            |minor| format!("addr=10.0.2.2,vers=4.{minor},proto=tcp,clientaddr=10.0.2.15,hard,nosharecache");
        let table: [(&str, Vec<String>); 12] = [
            ("", vec![v4(2), v3.into()]),
            ("vers=3", vec![v3.into()]),
            ("nfsvers=3,tcp", vec![v3.into()]),
            ("v3,rw,nolock,hard,intr,_netdev,retry=5", vec![v3.into()]),
            ("vers=4", vec![v4(2), v4(1), v4(0)]),
            ("v4.1", vec![v4(1)]),
            ("vers=3,vers=4.2", vec![v4(2)]),
            ("vers=3,port=2049,mountport=20048", vec![format!("{v3},mountport=20048,port=2049")]),
            ("vers=4.2,port=2049,mountport=20048", vec![format!("{},port=2049", v4(2))]),
            ("vers=3,timeo=600,retrans=2,timeo=0050", vec![format!("{v3},retrans=2,timeo=50")]),
            (
                "vers=3,rsize=1048576,wsize=65536,nconnect=4",
                vec![format!("{v3},rsize=1048576,wsize=65536,nconnect=4")],
            ),
            ("vers=3,noacl,sec=sys,,noac", vec![format!("{v3},noacl,sec=sys,noac")]),
        ];
        for (options, expected) in table {
            assert_eq!(data(options), expected, "{options}");
        }
    }

    #[test]
    fn soft_and_lock_are_overridden_with_a_note() {
        for word in ["soft", "softerr", "lock"] {
            let options = NfsOptions::parse(["vers=3", word]).unwrap();
            assert!(options.notes[0].contains(word));
            let data = options.data(Version::V3, Ipv4Addr::LOCALHOST, None);
            assert!(!data.split(',').any(|w| w == word) && data.contains(",hard,"), "{data}");
        }
    }

    #[test]
    fn what_hides_a_heartbeat_never_reaches_the_kernel() {
        let rows = [
            "nocto",
            "actimeo=61",
            "actimeo=3600",
            "acregmin=61",
            "acregmax=600",
            "acdirmin=61",
            "acdirmax=0061",
        ];
        for word in rows {
            let options = NfsOptions::parse(["actimeo=30", word]).unwrap();
            assert!(matches!(&options.notes[..], [note] if note.contains(word)), "{:?}", options.notes);
            for version in options.versions.clone() {
                let data = options.data(version, Ipv4Addr::LOCALHOST, None);
                assert!(data.ends_with(",actimeo=30") && !data.contains("cto"), "{word}: {data}");
            }
        }
        for word in ["noac", "actimeo=0", "actimeo=60", "acregmax=60", "acdirmin=1"] {
            let options = NfsOptions::parse([word]).unwrap();
            assert!(options.notes.is_empty(), "{word}");
            let data = options.data(Version::V3, Ipv4Addr::LOCALHOST, None);
            assert!(data.ends_with(&format!(",{word}")), "{data}");
        }
    }

    #[test]
    fn what_is_not_known_or_out_of_range_is_refused_and_named() {
        for word in [
            "frob",
            "udp",
            "proto=udp",
            "proto=rdma",
            "vers=2",
            "vers=",
            "vers=4.3",
            "port=0",
            "port=65536",
            "port=+1",
            "port=",
            "port",
            "port= 1",
            "rsize=1",
            "timeo=-1",
            "sec=krb5",
            "addr=1.2.3.4",
            "local_lock=all",
            "exec",
            "suid",
        ] {
            let error = NfsOptions::parse([word]).unwrap_err().to_string();
            assert!(error.contains(&format!("'{word}'")), "{error}");
        }
    }

    #[test]
    fn ro_and_rw_the_last_counts() {
        assert!(NfsOptions::parse(["rw", "ro"]).unwrap().read_only);
        assert!(!NfsOptions::parse(["ro", "rw"]).unwrap().read_only);
    }

    proptest! {
        /// No option text may smuggle a word into the data that testbox decides itself.
        #[test]
        fn the_fixed_words_stay_as_they_are(text in "[a-z0-9=,.]{0,40}") {
            if let Ok(options) = NfsOptions::parse(text.split(',')) {
                for version in &options.versions {
                    let data = options.data(*version, Ipv4Addr::LOCALHOST, None);
                    for name in ["addr", "vers", "proto", "mountaddr"] {
                        let count = data.split(',').filter(|w| w.split('=').next() == Some(name)).count();
                        prop_assert!(count <= 1, "{}", data);
                    }
                    prop_assert!(!data.contains("soft") && data.contains(",hard,"), "{}", data);
                    prop_assert!(!data.contains("nocto"), "{}", data);
                    for word in data.split(',').filter(|word| word.starts_with("ac")) {
                        let seconds: u64 = word.split_once('=').unwrap().1.parse().unwrap();
                        prop_assert!(seconds <= LONGEST_CACHE.as_secs(), "{}", data);
                    }
                }
            }
        }
    }
}
