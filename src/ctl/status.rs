//! `status`: what machines are doing, and what they are armed with. Shown without control characters.

use super::Answer;
use super::armed::Armed;
use super::config::SettingsFile;
use super::machine::MachineNames;
use super::news::{NewsFlags, Newsroom, StatusNews, age};
use super::output::Out;
use super::table::{self, cut, short, since};
use crate::store::record::SetState;
use crate::store::status::{JobState, Status};
use crate::text::{ascii, human_bytes, human_time};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Longest host name in the table.
const HOST_WIDTH: usize = 12;

const AFTER_HELP: &str = "\
States: armed (it has not come yet; AGE is how long it is armed); expired (it has not come, and will be refused); running; done; failed (it will try again); holding \
(it waits for a human); stale (it says that it is running, and has said nothing for 30 s); - (it has never said \
anything). Exit code 1: one that is shown has failed, holds, is stale, is not known, has a damaged image, or \
its job has expired.

Examples:
  testboxctl status --backup-dir /mnt/testbox-backup
  testboxctl status rack3
  testboxctl status --json | jq -r '.[] | select(.status.state == \"failed\") | .ip'";

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Machines [default: all that have a folder]
    #[arg(value_name = "IP|HOST")]
    pub machines: Vec<String>,
    /// The same as 'testboxctl watch'
    #[arg(short, long)]
    pub watch: bool,
    /// For programs
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub folders: NewsFlags,
}

pub(super) fn run(args: Args, file: SettingsFile, out: &mut Out) -> Answer {
    let names = MachineNames::load(&file)?;
    let named: Vec<Ipv4Addr> = names.resolve_all(&args.machines)?.into_iter().map(|m| m.ip).collect();
    let room = Newsroom::open(&args.folders.or(file))?;
    let (news, now) = (room.all(&named)?, Timestamp::now());
    if args.json {
        out.json(&to_json(&news, now), false)?;
    } else {
        out.text(&table(&news, now))?;
    }
    Ok(!news.iter().any(|news| news.is_in_trouble(now)))
}

fn word(state: JobState) -> &'static str {
    match state {
        JobState::Running => "running",
        JobState::Done => "done",
        JobState::Failed => "failed",
        JobState::Holding => "holding",
    }
}

const HEAD: [&str; 9] = ["ADDRESS", "HOST", "STATE", "ACTION", "DONE", "MB/s", "ETA", "TRY", "AGE"];

/// What a machine does, in a word: see [`AFTER_HELP`].
pub(super) fn state(news: &StatusNews, now: Timestamp) -> &'static str {
    match &news.status {
        _ if news.expired(now).is_some() => "expired",
        _ if news.not_come().is_some() => "armed",
        Some(_) if news.is_stale(now) => "stale",
        Some(status) => word(status.state),
        None => "-",
    }
}

/// Percent of its step, where it works and knows.
pub(super) fn percent(status: &Status) -> Option<u64> {
    let percent = (u128::from(status.bytes_done) * 100).checked_div(status.bytes_total.into());
    let percent = percent.filter(|_| status.state == JobState::Running)?;
    Some(u64::try_from(percent.min(100)).unwrap_or(100))
}

/// The figures of one machine, in the columns of [`HEAD`].
pub(super) fn row(news: &StatusNews, now: Timestamp) -> [String; 9] {
    let none = || "-".to_owned();
    let ip = news.ip.to_string();
    if let Some(armed) = news.not_come() {
        let of_record = || news.record.as_ref().map(|record| host(&record.machine.hostname));
        let named = news.status.as_ref().map(|status| host(&status.hostname)).or_else(of_record);
        let action = armed.action.as_deref().map_or_else(none, |action| cut(&ascii(action), 12));
        let since = armed.since.map_or_else(none, |at| short(since(at, now)));
        let name = named.unwrap_or_else(none);
        return [ip, name, state(news, now).into(), action, none(), none(), none(), none(), since];
    }
    let Some(status) = &news.status else {
        let host = news.record.as_ref().map_or_else(none, |r| host(&r.machine.hostname));
        return [ip, host, none(), none(), none(), none(), none(), none(), none()];
    };
    let is_running = status.state == JobState::Running;
    [
        ip,
        host(&status.hostname),
        state(news, now).to_owned(),
        cut(&ascii(&status.action), 12),
        percent(status).map_or_else(none, |p| format!("{p}%")),
        if is_running && status.rate > 0 { (status.rate / 1_000_000).to_string() } else { none() },
        status
            .eta
            .filter(|_| is_running)
            .map_or_else(none, |s| human_time(Duration::from_secs(s.min(359_999)))),
        status.attempt.to_string(),
        short(age(status, now)),
    ]
}

fn host(name: &str) -> String {
    cut(&ascii(name), HOST_WIDTH)
}

fn table(all: &[StatusNews], now: Timestamp) -> String {
    if all.is_empty() {
        return "no machine has a folder on the backup share yet\n".into();
    }
    let rows: Vec<Vec<String>> = all.iter().map(|news| row(news, now).to_vec()).collect();
    let mut lines = table::lines(&HEAD, &rows, &[4, 5, 6, 7, 8]).into_iter();
    let mut text = lines.next().unwrap_or_default() + "\n";
    for (news, line) in all.iter().zip(lines) {
        text += &line;
        text.push('\n');
        for more in details(news, now) {
            text += &format!("    {}\n", ascii(&more));
        }
    }
    text
}

/// What does not fit into columns.
pub(super) fn details(news: &StatusNews, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    if !news.is_known {
        lines.push("it has no folder on the backup share, and is not armed".into());
    }
    match &news.armed {
        Armed::No => {}
        Armed::With(job) if news.expired(now).is_some() => {
            lines.push(format!(
                "armed with {job}: it never came, and will be refused; arm it again, or disarm it"
            ));
        }
        Armed::With(job) if news.not_come().is_some() => {
            lines.push(format!("armed with {job}; it has not come yet"));
        }
        Armed::With(job) => lines.push(format!("armed with {job}")),
        Armed::ByHand => lines.push("armed with a configuration that somebody has made by hand".into()),
        Armed::Link(to) => lines.push(format!("armed with a link to {to}")),
        Armed::NotAFile => lines.push("what should arm it is not a file".into()),
    }
    if let Some(status) = &news.status {
        if status.state == JobState::Running {
            let disk = status.disk.as_ref().map(|d| format!("{d}: ")).unwrap_or_default();
            lines.push(format!("step: {disk}{}", status.step));
        }
        if let Some(error) = &status.error {
            let code = status.code.map(|c| format!(" (code {c})")).unwrap_or_default();
            lines.push(format!("error: {error}{code}"));
        }
        let own = env!("CARGO_PKG_VERSION");
        if status.version != own {
            lines.push(format!("note: its agent is of version {}, this program of {own}", status.version));
        }
        lines.extend(status.notes.iter().map(|note| format!("note: {note}")));
    }
    // Whether that agent lives only a second look would tell, and AGE tells it too.
    if let Some(lease) = news.lease.as_ref().filter(|lease| !lease.is_released()) {
        lines.push(format!("folder held by {}", lease.who()));
    }
    if let Some(record) = &news.record {
        let degraded = if record.is_complete() { "complete" } else { "DEGRADED" };
        let bytes = record.images.iter().fold(0u64, |sum, image| sum.saturating_add(image.image_size));
        let names: Vec<_> = record.images.iter().map(|image| image.name.as_str()).collect();
        lines.push(format!(
            "backup: set {} of {}, {}, {}, {degraded}",
            record.generation,
            record.finished.strftime("%Y-%m-%d %H:%M UTC"),
            names.join(" "),
            human_bytes(bytes)
        ));
    }
    lines.extend(news.damaged.iter().map(|what| format!("DAMAGED: {what}")));
    lines.extend(news.problems.iter().map(|problem| format!("problem: {problem}")));
    lines
}

fn armed_json(news: &StatusNews, now: Timestamp) -> Value {
    match news.armed.job() {
        Some(job) => json!({
            "action": job.action,
            "job": job.job,
            "by": job.by,
            "since": job.since,
            "expires": job.expires,
            "expired": news.expired(now).is_some(),
            "has_come": news.not_come().is_none(),
            "problems": job.problems,
        }),
        None => Value::Null,
    }
}

/// What `--json` prints.
pub(super) fn to_json(all: &[StatusNews], now: Timestamp) -> Value {
    Value::Array(all.iter().map(|news| one_as_json(news, now)).collect())
}

/// The same of one machine.
pub(super) fn one_as_json(news: &StatusNews, now: Timestamp) -> Value {
    let backup = news.record.as_ref().map(|record| {
        let images = record.images.iter().map(|image| {
            json!({
                "name": image.name,
                "disk_bytes": image.disk_size,
                "image_bytes": image.image_size,
                "root_hash": image.root_hash.to_string(),
                "complete": image.state == SetState::Complete,
            })
        });
        json!({
            "generation": record.generation,
            "finished": record.finished,
            "job": record.job,
            "complete": record.is_complete(),
            "images": images.collect::<Vec<_>>(),
        })
    });
    json!({
        "ip": news.ip,
        "known": news.is_known,
        "status": news.status,
        "age_seconds": news.status.as_ref().map(|s| age(s, now).as_secs()),
        "stale": news.is_stale(now),
        "armed": armed_json(news, now),
        "backup": backup,
        "lease": news.lease.as_ref().map(|lease| json!({
            "number": lease.number,
            "holder": lease.holder(),
            "released": lease.is_released(),
        })),
        "damaged": news.damaged,
        "problems": news.problems,
    })
}

#[cfg(test)]
mod tests {
    use super::super::armed::ArmedJob;
    use super::super::news;
    use super::super::output::printable;
    use super::*;
    use crate::share::{Files, MemFiles};
    use crate::store::record::RECORD_LIMIT;

    fn status() -> Status {
        let started = Timestamp::from_second(1_000_000).unwrap();
        Status {
            state: JobState::Running,
            action: "backup-again".into(),
            job: Some("j1".into()),
            ip: "255.255.255.255".into(),
            hostname: "a-very-long-host-name.example.com".into(),
            step: "image sda".into(),
            disk: Some("sda".into()),
            bytes_done: 999,
            bytes_total: 1000,
            rate: u64::MAX,
            eta: Some(u64::MAX),
            attempt: 1000,
            error: None,
            code: None,
            stages: Vec::new(),
            notes: Vec::new(),
            started,
            updated: started,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    #[test]
    fn an_agent_of_another_version_is_said() {
        let old = Status { version: "0.0.9".into(), ..status() };
        let text = table(&[news_of(old)], Timestamp::UNIX_EPOCH);
        assert!(text.contains("note: its agent is of version 0.0.9"), "{text}");
        assert!(!table(&[news_of(status())], Timestamp::UNIX_EPOCH).contains("its agent"));
    }

    fn news_of(status: Status) -> StatusNews {
        StatusNews {
            ip: Ipv4Addr::BROADCAST,
            is_known: true,
            status: Some(status),
            record: None,
            lease: None,
            armed: Armed::No,
            damaged: Vec::new(),
            problems: Vec::new(),
        }
    }

    #[test]
    fn the_widest_real_row_fits_80_columns() {
        let wide = Status { rate: 99_999_000_000, attempt: 999, ..status() };
        let now = Timestamp::from_second(1_000_000 + 119).unwrap();
        let text = table(&[news_of(wide)], now);
        assert!(text.lines().take(2).all(|line| line.len() <= 80), "{text}");
        assert!(text.contains("99% ") && text.contains("99:59:59"), "{text}");
    }

    #[test]
    fn running_without_news_for_30_seconds_is_stale() {
        for (state, seconds, word) in [
            (JobState::Running, 30, "running"),
            (JobState::Running, 31, "stale"),
            (JobState::Running, -100, "running"),
            (JobState::Done, 500, "done"),
            (JobState::Failed, 500, "failed"),
            (JobState::Holding, 500, "holding"),
        ] {
            let now = Timestamp::from_second(1_000_000 + seconds).unwrap();
            assert_eq!(row(&news_of(Status { state, ..status() }), now)[2], word, "{state:?} {seconds}");
        }
    }

    #[test]
    fn a_machine_that_never_came_is_shown_as_armed() {
        let job = ArmedJob {
            action: Some("restore".into()),
            job: Some("j2".into()),
            by: Some("alice (uid 1000)".into()),
            since: Timestamp::from_second(1_000_000).ok(),
            ..ArmedJob::default()
        };
        let now = Timestamp::from_second(1_000_000 + 7300).unwrap();
        let done = Status { state: JobState::Done, ..status() };
        let news = StatusNews { armed: Armed::With(job.clone()), ..news_of(done.clone()) };
        assert_eq!(row(&news, now)[2..4], ["armed", "restore"]);
        assert_eq!(row(&news, now)[8], "2h");
        let text = table(&[news], now);
        let line =
            "armed with restore, job j2, by alice (uid 1000), 1970-01-12 13:46 UTC; it has not come yet";
        assert!(text.contains(line), "{text}");
        let late = ArmedJob { expires: Timestamp::from_second(1_007_300).ok(), ..job.clone() };
        let news = StatusNews { armed: Armed::With(late), ..news_of(done.clone()) };
        let before = Timestamp::from_second(1_007_299).unwrap();
        assert_eq!((row(&news, before)[2].as_str(), news.is_in_trouble(before)), ("armed", false));
        assert_eq!((row(&news, now)[2].as_str(), news.is_in_trouble(now)), ("expired", true));
        let text = table(&[news], now);
        assert!(text.contains("expires 1970-01-12 15:48 UTC: it never came, and will be refused"), "{text}");
        // It has come as soon as it says so.
        let come = Status { job: Some("j2".into()), ..done };
        let news = StatusNews { armed: Armed::With(job), ..news_of(come) };
        assert_eq!(row(&news, now)[2], "done");
        assert_eq!(to_json(&[news], now)[0]["armed"]["has_come"], true);
    }

    /// A machine's texts must not act on the admin's terminal.
    #[test]
    fn hostile_texts_are_shown_without_control_characters() {
        let evil = "\u{1b}[2J\u{9b}1mx\u{7f}\n".to_owned();
        let status = Status {
            action: evil.clone(),
            hostname: evil.clone(),
            step: evil.clone(),
            disk: Some(evil.clone()),
            error: Some(evil.clone()),
            notes: vec![evil],
            ..status()
        };
        let all = [news_of(status)];
        let now = Timestamp::from_second(1_000_000).unwrap();
        for text in [table(&all, now), printable(&format!("{:#}", to_json(&all, now)))] {
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        }
        let json = printable(&to_json(&all, now).to_string());
        assert_eq!(
            serde_json::from_str::<Value>(&json).unwrap()[0]["status"]["hostname"],
            "\u{1b}[2J\u{9b}1mx\u{7f}\n"
        );
    }

    #[test]
    fn who_holds_the_folder_is_shown_until_it_is_released() {
        let (files, ip) = (MemFiles::new(), Ipv4Addr::new(10, 0, 0, 1));
        let holder = br#"{"session":"s","macs":["52:54:00:12:34:56"],"hostname":"box1","action":"backup"}"#;
        files.put("10.0.0.1/lease/6", [holder.as_slice(), b"\n..\nreleased\n"].concat());
        let of = |files: &MemFiles| table(&[news::read(files, ip)], Timestamp::UNIX_EPOCH);
        assert!(!of(&files).contains("held"), "{}", of(&files));
        files.put("10.0.0.1/lease/7", [holder.as_slice(), b"\n.."].concat());
        assert!(of(&files).contains("folder held by box1 (52:54:00:12:34:56), backup\n"), "{}", of(&files));
        let json = to_json(&[news::read(&files, ip)], Timestamp::UNIX_EPOCH);
        assert_eq!(json[0]["lease"]["number"], 7);
        assert_eq!(json[0]["lease"]["holder"]["hostname"], "box1");
    }

    #[test]
    fn what_is_damaged_is_named_and_stops_nothing() {
        let files = MemFiles::new();
        let ip = Ipv4Addr::new(10, 0, 0, 1);
        files.make_dir("10.0.0.1").unwrap();
        files.write_atomic("10.0.0.1/status.json", b"{").unwrap();
        files.write_atomic("10.0.0.1/backup.json", &vec![b' '; RECORD_LIMIT + 1]).unwrap();
        let news = news::read(&files, ip);
        assert!(news.status.is_none() && news.record.is_none());
        assert_eq!(news.problems.len(), 2, "{:?}", news.problems);
        assert!(table(&[news], Timestamp::UNIX_EPOCH).contains("problem: "));
    }
}
