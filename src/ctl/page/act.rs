//! What can be done with a machine: the buttons, the question before each, and the command that does it.

use super::super::armed::Armed;
use super::look::{MachineSeen, shown};
use crate::job::Action;
use crate::text::human_bytes;
use crate::types::SetHash;
use maud::{Markup, html};
use std::net::Ipv4Addr;

/// Longest text for when a job expires.
const EXPIRES_LIMIT: usize = 40;

/// Something that an admin wants done with one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PageAction {
    /// To arm it.
    Arm {
        action: Action,
        set: Option<SetHash>,
        expires: Option<String>,
        /// And to switch its power off and on.
        is_cycled: bool,
    },
    /// To disarm it.
    Disarm,
}

impl PageAction {
    /// From the texts of a form or an order.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn arm(
        action: &str,
        set: Option<&str>,
        expires: Option<&str>,
        power: Option<&str>,
    ) -> Result<PageAction, String> {
        let action: Action = action.parse().map_err(|e| format!("{e}"))?;
        let set = set
            .filter(|set| !set.is_empty())
            .map(|set| set.parse().map_err(|e| format!("{e}")))
            .transpose()?;
        let is_time = |text: &str| {
            let is_part = |b: u8| b.is_ascii_alphanumeric() || b"-:+.".contains(&b);
            text.len() <= EXPIRES_LIMIT && text.bytes().all(is_part)
        };
        let expires = expires.filter(|text| !text.is_empty());
        if expires.is_some_and(|text| !is_time(text)) {
            return Err("expires: how long from now, as 12h, or a time, as 2026-12-01T06:00".into());
        }
        let is_cycled = match power {
            None | Some("") => false,
            Some("cycle") => true,
            Some(_) => return Err("power: only \"cycle\" is known".into()),
        };
        Ok(PageAction::Arm { action, set, expires: expires.map(str::to_owned), is_cycled })
    }

    /// The words of the command. Nothing in them is a text of the machine's.
    pub fn words(&self, ip: Ipv4Addr) -> Vec<String> {
        match self {
            PageAction::Disarm => vec!["disarm".into(), ip.to_string()],
            PageAction::Arm { action, set, expires, is_cycled } => {
                let set = set.map(|set| format!("--set={set}"));
                let expires = expires.as_ref().map(|when| format!("--expires={when}"));
                let cycle = is_cycled.then(|| "--power=cycle".to_owned());
                let options = set.into_iter().chain(expires).chain(cycle);
                ["arm".into()]
                    .into_iter()
                    .chain(options)
                    .chain([ip.to_string(), action.to_string()])
                    .collect()
            }
        }
    }

    /// What it is, for the admin who has asked for it.
    pub fn title(&self, label: &str) -> String {
        match self {
            PageAction::Disarm => format!("Disarm {label}"),
            PageAction::Arm { action, .. } => format!("Arm {label} with {action}"),
        }
    }
}

/// The buttons of a machine.
pub(super) fn offered(seen: &MachineSeen) -> Markup {
    let news = &seen.machine.news;
    let ip = news.ip;
    let has_sets = !seen.sets.sets.is_empty();
    let backup = if news.record.is_some() { Action::BackupAgain } else { Action::Backup };
    let actions = [
        (backup, true),
        (Action::Restore, has_sets),
        (Action::Verify, has_sets),
        (Action::RefreshInfo, true),
        (Action::Rescue, true),
    ];
    html! {
        nav.actions aria-label="Actions" {
            @for (action, is_there) in actions {
                @if is_there { a.button href={ "/machines/" (ip) "/arm?action=" (action.as_str()) } { (action.as_str()) "…" } }
            }
            @if news.armed != Armed::No { a.button.danger href={ "/machines/" (ip) "/disarm" } { "disarm…" } }
        }
    }
}

/// The question before an action, and its form.
pub(super) fn question(seen: &MachineSeen, action: &PageAction, form_key: &str) -> Markup {
    let (ip, label) = (seen.machine.news.ip, seen.machine.label());
    let (path, is_destructive) = match action {
        PageAction::Disarm => ("disarm", false),
        PageAction::Arm { action, .. } => ("arm", *action == Action::Restore),
    };
    html! {
        p.crumb { a href="/machines" { "Machines" } " / " a href={ "/machines/" (ip) } { (label) } }
        h1 { (action.title(&label)) "?" }
        form.card method="post" action={ "/machines/" (ip) "/" (path) } {
            (consequences(seen, action))
            input type="hidden" name="key" value=(form_key);
            @if let PageAction::Arm { action, set, .. } = action {
                input type="hidden" name="action" value=(action.as_str());
                @if let Some(set) = set { input type="hidden" name="set" value=(set.to_string()); }
                @if seen.has_power {
                    p { label {
                        input type="checkbox" name="power" value="cycle";
                        " Switch its power off and on, so that it begins now"
                    } }
                } @else {
                    p.dim { "It begins when you reboot it: nothing says how its power is switched." }
                }
            }
            div.actions {
                button type="submit" class=(if is_destructive { "main danger" } else { "main" }) { (action.title(&label)) }
                a.button href={ "/machines/" (ip) } { "Cancel" }
            }
        }
    }
}

fn consequences(seen: &MachineSeen, action: &PageAction) -> Markup {
    let news = &seen.machine.news;
    let PageAction::Arm { action, set, .. } = action else {
        let with = news.armed.job().map(|job| shown(&job.to_string(), 300));
        return html! {
            p { "The machine boots its own disk at its next reboot." }
            @if let Some(with) = with { p.dim { "It is armed with " (with) "." } }
        };
    };
    let wanted = match set {
        Some(set) => seen.sets.sets.iter().find(|one| one.set == *set),
        None => seen.sets.sets.first(),
    };
    let [does, refuses, _] = action.about().map(|text| text.replace('`', ""));
    html! {
        @match (wanted, set) {
            (Some(wanted), Some(_)) if *action == Action::Restore => {
                p { "At its next reboot it writes the images of set " (wanted.generation) " onto their disks." }
            }
            _ => { p { "At its next reboot it " (does) "." } }
        }
        @if !refuses.is_empty() { p.dim { "Refused " (refuses) "." } }
        @if *action == Action::Restore {
            @if let Some(set) = wanted {
                p {
                    b { "These disks are overwritten" } " with set " (set.generation) ", made "
                    (super::frame::ago(set.finished, seen.at)) ": "
                    @for (number, image) in set.images.iter().take(64).enumerate() {
                        @if number > 0 { ", " } b { (shown(&image.name, 30)) } " (" (human_bytes(image.disk_bytes)) ")"
                    } "."
                }
                @if set.images.iter().any(|image| image.is_damaged) { p.reason { "An image of this set was found damaged." } }
            }
        }
        @if let Some(job) = news.armed.job() { p { "It is armed already, with " (shown(&job.to_string(), 300)) ": that is replaced." } }
        @if super::super::status::state(news, seen.at) == "running" { p.reason { "It is at work now: this takes effect at its next reboot." } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_has_no_options_of_strangers() {
        let ip = Ipv4Addr::new(10, 0, 0, 1);
        let words = |action: &str, set: Option<&str>, expires: Option<&str>| {
            PageAction::arm(action, set, expires, None).map(|action| action.words(ip).join(" "))
        };
        assert_eq!(words("restore", None, Some("12h")).unwrap(), "arm --expires=12h 10.0.0.1 restore");
        let set = "ab".repeat(32);
        let sent = words("verify", Some(&set), None).unwrap();
        assert_eq!(sent, format!("arm --set={set} 10.0.0.1 verify"));
        assert_eq!(words("backup", Some(""), Some("")).unwrap(), "arm 10.0.0.1 backup");
        let cycled = PageAction::arm("backup", None, None, Some("cycle")).unwrap();
        assert_eq!(cycled.words(ip), ["arm", "--power=cycle", "10.0.0.1", "backup"]);
        assert!(PageAction::arm("backup", None, None, Some("off --all")).is_err());
        assert_eq!(PageAction::Disarm.words(ip), ["disarm", "10.0.0.1"]);
        for (action, set, expires) in [
            ("jump", None, None),
            ("--force", None, None),
            ("restore", Some("x"), None),
            ("restore", None, Some("1h --force")),
            ("restore", None, Some("1\u{e4}")),
        ] {
            assert!(words(action, set, expires).is_err(), "{action} {set:?} {expires:?}");
        }
    }
}
