//! What machines have come to, as events for hooks: each end of a job once, by agents of both kinds, across restarts.

use crate::share::Files;
use crate::store::layout::{STATUS, STORE_TOLD};
use crate::store::status::{JobState, STATUS_LIMIT, Status};
use crate::text::plain;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;

/// Largest file of what was told, in bytes: some ten thousand machines.
const TOLD_LIMIT: usize = 4 << 20;

/// What has become of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobEvent {
    /// `done`; `failed`, it may try again; `holding`, it waits for a human.
    pub event: JobState,
    /// The machine's address.
    pub ip: Ipv4Addr,
    /// What it calls itself.
    pub hostname: String,
    /// What it was armed with.
    pub action: String,
    /// Id of the job, where it has one.
    pub job: Option<String>,
    /// Which attempt it was.
    pub attempt: u32,
    /// Why it failed, in the machine's own words.
    pub error: Option<String>,
    /// Code of the failure.
    pub code: Option<u8>,
    /// Results beside that.
    pub notes: Vec<String>,
}

/// What an event is known again by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    job: Option<String>,
    state: JobState,
    attempt: u32,
    started: jiff::Timestamp,
}

/// Looks for events.
pub struct JobEvents<'a> {
    files: &'a dyn Files,
    told: BTreeMap<Ipv4Addr, Told>,
}

impl<'a> JobEvents<'a> {
    /// Goes on where the last one ended. The first of all takes what it finds as told: nobody wants a hundred events of last
    /// year.
    ///
    /// # Errors
    /// Those of the folder.
    pub fn open(files: &'a dyn Files) -> io::Result<JobEvents<'a>> {
        let mut events = JobEvents { files, told: BTreeMap::new() };
        match files.read_limited(STORE_TOLD, TOLD_LIMIT) {
            Ok(bytes) => events.told = serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                for (event, told) in events.look()? {
                    events.told.insert(event.ip, told);
                }
                events.save()?;
            }
            Err(e) => return Err(e),
        }
        Ok(events)
    }

    /// The next event that nobody was told of. It comes again until [`JobEvents::is_told`] says otherwise.
    ///
    /// # Errors
    /// Those of the folder.
    pub fn next(&self) -> io::Result<Option<JobEvent>> {
        Ok(self.look()?.into_iter().next().map(|(event, _)| event))
    }

    /// Whoever wanted to know of an event knows, or cannot be reached. It is read anew, so that nothing newer is lost.
    ///
    /// # Errors
    /// Those of the folder.
    pub fn is_told(&mut self, event: &JobEvent) -> io::Result<()> {
        for (now, told) in self.look()?.into_iter().filter(|(now, _)| now == event) {
            self.told.insert(now.ip, told);
        }
        self.save()
    }

    fn save(&self) -> io::Result<()> {
        super::jobs::make_folder(self.files, crate::store::layout::STORE_JOBS)?;
        self.files.write_atomic(STORE_TOLD, &serde_json::to_vec(&self.told).unwrap_or_default())
    }

    /// All that was not told, in the order of addresses.
    fn look(&self) -> io::Result<Vec<(JobEvent, Told)>> {
        let names = self.files.list("")?;
        let mut machines: Vec<Ipv4Addr> = names.iter().filter_map(|name| name.parse().ok()).collect();
        machines.sort();
        let one = |ip: Ipv4Addr| {
            // A status that is damaged or being replaced is none yet.
            let bytes = self.files.read_limited(&format!("{ip}/{STATUS}"), STATUS_LIMIT).ok()?;
            let status = Status::parse(&bytes).filter(|status| status.state != JobState::Running)?;
            let told = Told {
                job: status.job.clone(),
                state: status.state,
                attempt: status.attempt,
                started: status.started,
            };
            (self.told.get(&ip) != Some(&told)).then(|| (event(ip, status), told))
        };
        Ok(machines.into_iter().filter_map(one).collect())
    }
}

/// Texts of machines are plain before they reach a program of the admin's.
fn event(ip: Ipv4Addr, status: Status) -> JobEvent {
    JobEvent {
        event: status.state,
        ip,
        hostname: plain(&status.hostname),
        action: plain(&status.action),
        job: status.job.as_deref().map(plain),
        attempt: status.attempt,
        error: status.error.as_deref().map(plain),
        code: status.code,
        notes: status.notes.iter().map(|note| plain(note)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::MemFiles;

    fn says(files: &MemFiles, ip: &str, state: &str, attempt: u32) {
        let text = format!(
            r#"{{"state":"{state}","action":"backup","job":"j","ip":"{ip}","hostname":"tb\u001b1","step":"","bytes_done":0,
               "bytes_total":0,"rate":0,"attempt":{attempt},"error":"no disk","code":40,"started":"2026-01-01T00:00:00Z",
               "updated":"2026-01-01T00:00:00Z","version":"0"}}"#
        );
        files.put(&format!("{ip}/status.json"), text);
    }

    fn next(files: &MemFiles) -> Option<JobEvent> {
        JobEvents::open(files).unwrap().next().unwrap()
    }

    #[test]
    fn each_end_of_a_job_is_told_once_even_across_restarts() {
        let files = MemFiles::new();
        says(&files, "10.0.0.1", "done", 1);
        assert_eq!(next(&files), None, "what was before the first start is nobody's news");
        says(&files, "10.0.0.1", "running", 1);
        assert_eq!(next(&files), None);
        says(&files, "10.0.0.2", "failed", 1);
        for _ in 0..2 {
            let event = next(&files).unwrap();
            assert_eq!((event.event, event.error.as_deref()), (JobState::Failed, Some("no disk")));
            assert_eq!(event.hostname, "tb\\u{1b}1", "nothing that a terminal or a shell acts on");
        }
        let mut events = JobEvents::open(&files).unwrap();
        let event = events.next().unwrap().unwrap();
        // It has failed again before somebody was told: that is news, too.
        says(&files, "10.0.0.2", "failed", 2);
        events.is_told(&event).unwrap();
        assert_eq!(events.next().unwrap().unwrap().attempt, 2);
        let event = events.next().unwrap().unwrap();
        events.is_told(&event).unwrap();
        assert_eq!(events.next().unwrap(), None);
        assert_eq!(next(&files), None);
        says(&files, "10.0.0.2", "holding", 2);
        assert_eq!(next(&files).unwrap().event, JobState::Holding);
    }

    #[test]
    fn what_is_damaged_is_no_event_and_stops_none() {
        let files = MemFiles::new();
        files.put(".store/told", "{");
        files.put("10.0.0.1/status.json", "{");
        says(&files, "10.0.0.2", "done", 1);
        assert_eq!(next(&files).unwrap().ip, Ipv4Addr::new(10, 0, 0, 2));
    }
}
