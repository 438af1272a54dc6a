//! The search for the file that tells a machine its job.

use crate::job::Cmdline;
use crate::job::pxe::{Candidate, CandidateKind, PxeFile};
use crate::types::TftpPath;

/// Which kind of file a job came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobSource {
    /// `testbox.cfg/<id>`: the words themselves.
    TestboxCfg,
    /// `pxelinux.cfg/<id>`: the words are on the APPEND line of the default label.
    PxelinuxCfg,
}

impl JobSource {
    /// Both, in the order of the search.
    pub const ALL: [JobSource; 2] = [JobSource::TestboxCfg, JobSource::PxelinuxCfg];

    /// The folder below the TFTP root.
    pub const fn folder(self) -> &'static str {
        match self {
            JobSource::TestboxCfg => "testbox.cfg",
            JobSource::PxelinuxCfg => "pxelinux.cfg",
        }
    }

    /// Where the file with this name may be, below each of the folders.
    pub fn paths(self, folders: &[String], candidate: &Candidate) -> impl Iterator<Item = String> {
        folders.iter().map(move |folder| format!("{folder}{}/{}", self.folder(), candidate.name))
    }
}

/// A file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundJob {
    /// Which kind.
    pub source: JobSource,
    /// Which name of the machine it carries, and whether that names this one machine.
    pub candidate: Candidate,
    /// Path on the TFTP server.
    pub path: String,
    /// Content.
    pub bytes: Vec<u8>,
}

impl FoundJob {
    /// The file at this path, which carries the name of one machine.
    pub fn of_machine(path: &TftpPath, bytes: Vec<u8>) -> FoundJob {
        let folder = path.as_str().rsplit('/').nth(1).unwrap_or_default();
        let is_cfg = folder == JobSource::TestboxCfg.folder();
        let source = if is_cfg { JobSource::TestboxCfg } else { JobSource::PxelinuxCfg };
        let candidate = Candidate { name: path.file_name().to_owned(), kind: CandidateKind::HexIp };
        FoundJob { source, candidate, path: path.as_str().to_owned(), bytes }
    }

    /// The words in the file. Bytes that are not UTF-8 end up in a problem, unless they stand in a comment.
    pub fn cmdline(&self) -> Cmdline {
        let text = String::from_utf8_lossy(&self.bytes);
        match self.source {
            JobSource::TestboxCfg => Cmdline::parse_file(&text),
            JobSource::PxelinuxCfg => PxeFile::parse(&text).cmdline(),
        }
    }
}

/// Looks for `testbox.cfg/<id>` for every candidate, then for `pxelinux.cfg/<id>`, and gives the first file that is
/// there; later ones are not looked at, as PXELINUX does not.
///
/// Each name is looked for in all `folders` (see [`folders`](crate::net::tftp::folders)) before the next one: what names one machine
/// goes before what names many. `fetch` gives `None` for a file that is not there; its error ends the search, because a
/// file that could not be read may be the one that counts.
///
/// # Errors
/// The first error of `fetch`.
pub fn find_job_file<E>(
    folders: &[String],
    candidates: &[Candidate],
    mut fetch: impl FnMut(&str) -> Result<Option<Vec<u8>>, E>,
) -> Result<Option<FoundJob>, E> {
    for source in JobSource::ALL {
        for candidate in candidates {
            for path in source.paths(folders, candidate) {
                if let Some(bytes) = fetch(&path)? {
                    return Ok(Some(FoundJob { source, candidate: candidate.clone(), path, bytes }));
                }
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Action;
    use crate::job::pxe::{MachineIds, candidates};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    fn ids() -> Vec<Candidate> {
        candidates(&MachineIds {
            uuid: None,
            mac: "52:54:00:12:34:56".parse().ok(),
            ip: Ipv4Addr::new(10, 40, 41, 42),
        })
    }

    fn find(files: &[(&str, &str)]) -> (Option<FoundJob>, Vec<String>) {
        let files: BTreeMap<&str, &str> = files.iter().copied().collect();
        let mut asked = Vec::new();
        let found = find_job_file(&[String::new()], &ids(), |path| {
            asked.push(path.to_owned());
            Ok::<_, ()>(files.get(path).map(|text| text.as_bytes().to_vec()))
        });
        (found.unwrap(), asked)
    }

    #[test]
    fn testbox_cfg_for_every_id_before_pxelinux_cfg() {
        let (found, asked) = find(&[]);
        assert_eq!(found, None);
        assert_eq!(asked.len(), 20);
        let ids = [
            "01-52-54-00-12-34-56",
            "0A28292A",
            "0A28292",
            "0A2829",
            "0A282",
            "0A28",
            "0A2",
            "0A",
            "0",
            "default",
        ];
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(asked[at], format!("testbox.cfg/{id}"));
            assert_eq!(asked[at + 10], format!("pxelinux.cfg/{id}"));
        }
    }

    #[test]
    fn the_first_file_counts_and_says_whether_it_names_one_machine() {
        let pxe = "DEFAULT m\nLABEL m\nKERNEL k\nAPPEND testbox.action=restore testbox.job=p1\n";
        for (files, path, action, one) in [
            (vec![("pxelinux.cfg/0A28292A", pxe)], "pxelinux.cfg/0A28292A", Some(Action::Restore), true),
            (
                vec![("pxelinux.cfg/0A28292A", pxe), ("testbox.cfg/default", "testbox.action=rescue\n")],
                "testbox.cfg/default",
                Some(Action::Rescue),
                false,
            ),
            (vec![("pxelinux.cfg/0A28", pxe)], "pxelinux.cfg/0A28", Some(Action::Restore), false),
            (
                vec![("pxelinux.cfg/default", "DEFAULT l\nLABEL l\nLOCALBOOT 0\n")],
                "pxelinux.cfg/default",
                None,
                false,
            ),
        ] {
            let found = find(&files).0.unwrap();
            assert_eq!((found.path.as_str(), found.candidate.names_one_machine()), (path, one));
            assert_eq!(found.cmdline().action, action, "{path}");
            assert_eq!(found.cmdline().problems, Vec::<String>::new());
        }
    }

    #[test]
    fn a_file_of_one_machine_goes_before_any_of_many() {
        let files = ["bios/pxelinux.cfg/default", "pxelinux.cfg/0A28292A"];
        let folders = ["bios/".to_owned(), String::new()];
        let fetch = |path: &str| Ok::<_, ()>(files.contains(&path).then(Vec::new));
        assert_eq!(find_job_file(&folders, &ids(), fetch).unwrap().unwrap().path, files[1]);
    }

    #[test]
    fn a_file_that_cannot_be_read_ends_the_search() {
        let mut asked = 0;
        let result = find_job_file(&["bios/".into()], &ids(), |path| {
            asked += 1;
            assert!(path.starts_with("bios/testbox.cfg/"));
            if asked == 2 { Err("timeout") } else { Ok(None) }
        });
        assert_eq!((result, asked), (Err("timeout"), 2));
    }

    #[test]
    fn bytes_that_are_not_text_are_a_problem_not_a_word() {
        let candidate = ids().remove(0);
        let bytes = b"testbox.job=\xff\xfe".to_vec();
        let found = FoundJob { source: JobSource::TestboxCfg, candidate, path: String::new(), bytes };
        assert_eq!((found.cmdline().job, found.cmdline().problems.len()), (None, 1));
    }

    proptest! {
        #[test]
        fn hostile_files_never_panic(bytes in any::<Vec<u8>>()) {
            for source in JobSource::ALL {
                let found = FoundJob { source, candidate: ids().remove(0), path: String::new(), bytes: bytes.clone() };
                let _ = found.cmdline();
            }
        }
    }
}
