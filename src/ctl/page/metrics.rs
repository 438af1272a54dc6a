//! What Prometheus is told. Without a token that is the number of machines in each state.

use super::super::sets::{ListedSet, MachineSets};
use super::super::{images, status};
use super::glance::{STATES, counts};
use super::look::{ImagesSeen, LabSeen, shown};
use std::fmt::Write;

/// What only an admin is told.
pub(super) struct AdminFigures<'a> {
    pub images: &'a ImagesSeen,
    /// Machines at work, and in line, of the store.
    pub line: (usize, usize),
}

/// One family of metrics in Prometheus' text format.
struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl<'a> Family<'a> {
    fn new(text: &'a mut String, name: &'static str, help: &str) -> Family<'a> {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
        Family { text, name }
    }

    fn add(&mut self, labels: &[(&str, &str)], value: u64) {
        let label = |(name, value): &(&str, &str)| format!("{name}=\"{}\"", escaped(value));
        let labels = labels.iter().map(label).collect::<Vec<_>>().join(",");
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }
}

/// The value of a label: it ends at its own quote.
fn escaped(text: &str) -> String {
    shown(text, 100).replace('\\', "\\\\").replace('"', "\\\"")
}

fn word(state: &'static str) -> &'static str {
    if state == "-" { "idle" } else { state }
}

/// A set that a restore can take: whole, as far as anybody knows.
fn is_good(set: &ListedSet) -> bool {
    set.images.iter().all(|image| image.place.is_some() && !image.is_damaged && !image.is_degraded)
}

/// All of it.
pub(super) fn text(lab: &LabSeen, of_admin: Option<AdminFigures<'_>>) -> String {
    let mut text = String::new();
    let mut family = Family::new(&mut text, "testbox_machines", "Machines in each state.");
    for (state, count) in counts(lab) {
        family.add(&[("state", word(state))], count as u64);
    }
    let Some(figures) = of_admin else { return text };
    let mut family = Family::new(&mut text, "testbox_machine_state", "1 for the state that a machine is in.");
    for machine in &lab.machines {
        let (ip, name) = (machine.news.ip.to_string(), machine.label());
        let now = status::state(&machine.news, lab.at);
        for state in STATES {
            let labels = [("machine", ip.as_str()), ("name", name.as_str()), ("state", word(state))];
            family.add(&labels, u64::from(state == now));
        }
    }
    of_sets(&mut text, figures.images);
    let (at_work, in_line) = figures.line;
    Family::new(&mut text, "testbox_store_jobs_at_work", "Machines at work on the store.")
        .add(&[], at_work as u64);
    Family::new(&mut text, "testbox_store_jobs_in_line", "Machines that wait in line.")
        .add(&[], in_line as u64);
    text
}

/// How a figure of one machine comes about.
type MachineFigure = fn(&MachineSets) -> Option<u64>;

fn of_sets(text: &mut String, seen: &ImagesSeen) {
    let last_good: MachineFigure = |machine| {
        let good = machine.sets.iter().filter(|set| is_good(set)).map(|set| set.finished).max()?;
        u64::try_from(good.as_second()).ok()
    };
    let families: [(&str, &str, MachineFigure); 3] = [
        (
            "testbox_last_good_backup_timestamp_seconds",
            "When its newest set was made that has all images, none degraded or damaged.",
            last_good,
        ),
        ("testbox_sets", "Sets of a machine.", |machine| Some(machine.sets.len() as u64)),
        ("testbox_sets_bytes", "Bytes that its sets take on the file system.", |machine| {
            Some(images::FileUsers::together(&machine.sets))
        }),
    ];
    for (name, help, figure) in families {
        let mut family = Family::new(text, name, help);
        for machine in &seen.machines {
            let known = seen.names.list().iter().find(|known| known.address == machine.ip);
            let name = known.map(|known| known.name.as_str()).or(machine.host.as_deref()).unwrap_or_default();
            let ip = machine.ip.to_string();
            figure(machine)
                .into_iter()
                .for_each(|value| family.add(&[("machine", &ip), ("name", name)], value));
        }
    }
    if let Some((free, size)) = seen.room {
        Family::new(text, "testbox_share_free_bytes", "Free bytes on the backup share.").add(&[], free);
        Family::new(text, "testbox_share_size_bytes", "Size of its file system in bytes.").add(&[], size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_ends_where_it_should() {
        let mut text = String::new();
        Family::new(&mut text, "x", "help").add(&[("name", "a\"} 1\nb\\")], 7);
        assert_eq!(text.lines().last().unwrap(), r#"x{name="a\"} 1\\nb\\"} 7"#);
    }
}
