//! The page of one machine: what it does, its disks, sets, jobs and log.

use super::super::sets::ListedSet;
use super::super::{armed, status};
use super::act::offered;
use super::frame::{ago, badge};
use super::glance::doing;
use super::logins::ActionSaid;
use super::look::{MachineSeen, shown};
use crate::serve::admin::AdminLine;
use crate::store::record::{ImageRecord, SetState};
use crate::text::{human_bytes, human_time};
use crate::used::FoundVolume;
use maud::{Markup, html};
use std::time::Duration;

/// What the last action has come to.
fn said(said: &ActionSaid) -> Markup {
    let is_good = said.result.code == 0;
    html! {
        div class=(if is_good { "note good" } else { "note bad" }) role=(if is_good { "status" } else { "alert" }) {
            p { b { (shown(&said.what, 200)) } @if is_good { ": done" } @else { ": not done (exit code " (said.result.code) ")" } }
            @for line in said.result.lines.iter().take(40) {
                @match line {
                    AdminLine::Out(text) | AdminLine::Err(text) => { p { (shown(text, 600)) } }
                    AdminLine::Exit(_) => {}
                }
            }
        }
    }
}

/// The part that changes.
pub(super) fn live(seen: &MachineSeen) -> Markup {
    let news = &seen.machine.news;
    let state = status::state(news, seen.at);
    html! {
        div.card.(format!("is-{state}")) {
            p.head { (badge(state)) @if let Some(lease) = news.lease.as_ref().filter(|lease| !lease.is_released()) {
                span.dim { "folder held by " (shown(&lease.who(), 120)) }
            } }
            (doing(&seen.machine, seen.at))
            @match &news.armed {
                armed::Armed::With(job) if news.not_come().is_none() => { p.dim { "Armed with " (shown(&job.to_string(), 300)) } }
                armed::Armed::ByHand => { p { "Armed with a configuration that somebody has made by hand." } }
                armed::Armed::Link(to) => { p { "Armed with a link to " (shown(to, 200)) "." } }
                armed::Armed::NotAFile => { p.reason { "Its boot configuration is not a file." } }
                _ => {}
            }
            @if news.status.is_none() && news.armed == armed::Armed::No {
                p.dim { "No status from this machine yet." }
            }
        }
    }
}

/// All of it but the frame.
pub(super) fn page(seen: &MachineSeen, note: Option<&ActionSaid>, address: &str) -> Markup {
    let ip = seen.machine.news.ip;
    html! {
        p.crumb { a href="/machines" { "Machines" } }
        h1 { (seen.machine.label()) @if seen.machine.label() != ip.to_string() { " " span.ip { (ip) } } }
        @if let Some(note) = note { (said(note)) }
        p #lost .note.bad hidden role="alert" { "No answer from the server: what is shown is old." }
        div #live data-from=(address) { (live(seen)) }
        (offered(seen))
        (disks(seen))
        (sets(seen))
        (jobs(seen))
        (stages(seen))
        (log(seen))
    }
}

fn volume(volume: &FoundVolume) -> Markup {
    let name = volume.logical_volume.clone().unwrap_or_else(|| match volume.number {
        0 => "whole disk".into(),
        number => number.to_string(),
    });
    html! {
        tr {
            th scope="row" data-th="Number" { (shown(&name, 60)) }
            td data-th="Holds" { (shown(&volume.kind, 30)) }
            td data-th="Label" { (volume.label.as_deref().or(volume.name.as_deref()).map_or_else(|| "–".into(), |label| shown(label, 60))) }
            td.right data-th="Size" { (human_bytes(volume.size)) }
            td.right data-th="Not imaged, free" { (human_bytes(volume.skipped)) }
        }
    }
}

fn disk(image: &ImageRecord) -> Markup {
    let identity = &image.identity;
    let or_none = |text: Option<&str>| text.map_or_else(|| "–".into(), |text| shown(text, 120));
    html! {
        div.card {
            h3 {
                (shown(&image.name, 30)) " " span.dim { (human_bytes(image.disk_size)) }
                @if image.state == SetState::Degraded { " " span.badge.failed { "degraded" } }
                @if image.carried { " " span.dim { "carried over from the set before" } }
            }
            dl {
                div { dt { "Model" } dd { (or_none(identity.model.as_deref())) } }
                div { dt { "Serial" } dd { (or_none(identity.serial.as_deref())) } }
                div { dt { "WWN" } dd { (or_none(identity.wwn.as_deref())) } }
                div { dt { "Where" } dd { (or_none(Some(image.location.as_str()).filter(|place| !place.is_empty()))) } }
                div { dt { "Image" } dd { (human_bytes(image.image_size)) } }
                @if image.unreadable_bytes > 0 { div { dt { "Unreadable" } dd { (human_bytes(image.unreadable_bytes)) } } }
            }
            @if !image.partitions.is_empty() {
                table {
                    caption.hidden { "Partitions of " (shown(&image.name, 30)) }
                    thead { tr {
                        th scope="col" { "Partition" } th scope="col" { "Holds" } th scope="col" { "Label" }
                        th.right scope="col" { "Size" } th.right scope="col" { "Free, not imaged" }
                    } }
                    tbody { @for one in image.partitions.iter().take(128) { (volume(one)) } }
                }
            }
        }
    }
}

fn disks(seen: &MachineSeen) -> Markup {
    let Some(record) = &seen.machine.news.record else { return html! {} };
    html! {
        section {
            h2 { "Disks" }
            p.dim { "As set " (record.generation) " has them, " (ago(record.finished, seen.at)) "." }
            @for image in record.images.iter().take(64) { (disk(image)) }
            @if !record.others.is_empty() {
                p.dim { "Seen and not imaged: "
                    @for (number, other) in record.others.iter().take(32).enumerate() {
                        @if number > 0 { ", " } (shown(&other.name, 30))
                    } "."
                }
            }
        }
    }
}

/// What is special about a set, as badges.
pub(super) fn words(words: &[&str]) -> Markup {
    html! {
        @for word in words {
            span class={ "badge " (if matches!(*word, "DAMAGED" | "INCOMPLETE" | "degraded" | "UNREADABLE") { "failed" } else { "plain" }) } { (word) } " "
        }
    }
}

fn set(seen: &MachineSeen, set: &ListedSet) -> Markup {
    let ip = seen.machine.news.ip;
    html! {
        tr {
            th scope="row" data-th="Set" { (set.generation) }
            td data-th="Made" { (ago(set.finished, seen.at)) }
            td data-th="State" { (words(&set.words(seen.sets.is_previous(set)))) }
            td.right data-th="Disks" { (human_bytes(set.disk_bytes())) }
            td.right data-th="Files" { (human_bytes(set.room())) }
            td.right data-th="Its own" { (human_bytes(seen.costs.own(set))) }
            td.right data-th="" {
                a href={ "/machines/" (ip) "/arm?action=restore&set=" (set.set.to_string()) } aria-label={ "Restore set " (set.generation) } { "Restore…" }
            }
        }
    }
}

fn sets(seen: &MachineSeen) -> Markup {
    let cost = super::super::images::FileUsers::together(&seen.sets.sets);
    html! {
        section {
            h2 { "Sets " span.count { (seen.sets.sets.len()) } }
            @for problem in seen.sets.problems.iter().take(8) { p.note.bad { (shown(problem, 300)) } }
            @if seen.sets.sets.is_empty() {
                p.dim { "No set yet." }
            } @else {
                p.dim { "They take " b { (human_bytes(cost)) } " of the disk; a file that several sets have counts once." }
                table {
                    caption.hidden { "Sets, the newest first" }
                    thead { tr {
                        th scope="col" { "Set" } th scope="col" { "Made" } th scope="col" { "State" }
                        th.right scope="col" { "Disks" } th.right scope="col" { "Files" } th.right scope="col" { "Its own" }
                        td {}
                    } }
                    tbody { @for one in seen.sets.sets.iter().take(200) { (set(seen, one)) } }
                }
            }
        }
    }
}

fn jobs(seen: &MachineSeen) -> Markup {
    html! {
        section {
            h2 { "Jobs" }
            @if seen.jobs.is_empty() {
                p.dim { "The log has no job of this machine." }
            } @else {
                table {
                    caption.hidden { "Its last jobs, the newest first" }
                    thead { tr {
                        th scope="col" { "Action" } th scope="col" { "Result" } th scope="col" { "Began" }
                        th.right scope="col" { "Took" } th.right scope="col" { "Tries" } th scope="col" { "By" }
                    } }
                    tbody {
                        @for job in seen.jobs.iter().rev() {
                            tr {
                                th scope="row" data-th="Action" { (shown(&job.action, 40)) }
                                td data-th="Result" {
                                    (badge(job.result.word()))
                                    @if let Some(reason) = &job.reason { p.reason { (shown(reason, 400)) } }
                                }
                                td data-th="Began" { @match job.begin() { Some(at) => { (ago(at, seen.at)) } None => { "–" } } }
                                td.right data-th="Took" { @match job.took() { Some(time) => { (human_time(time)) } None => { "–" } } }
                                td.right data-th="Tries" { (job.tries) }
                                td data-th="By" { (job.by.as_deref().map_or_else(|| "–".into(), |by| shown(by, 60))) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Where the time of the last boot went.
fn stages(seen: &MachineSeen) -> Markup {
    let stages = seen.machine.news.status.as_ref().map_or(&[][..], |status| &status.stages);
    html! {
        @if !stages.is_empty() {
            section {
                h2 { "Where its last boot spent its time" }
                dl.card {
                    @for stage in stages.iter().take(32) {
                        div { dt { (shown(&stage.stage, 30)) } dd { (human_time(Duration::from_millis(stage.milliseconds))) } }
                    }
                }
            }
        }
    }
}

fn log(seen: &MachineSeen) -> Markup {
    html! {
        section {
            h2 #log-title { "Log" }
            @if seen.log.is_empty() {
                p.dim { "It has written no log yet." }
            } @else {
                pre.log tabindex="0" role="region" aria-labelledby="log-title" {
                    @for line in &seen.log { (line) "\n" }
                }
            }
        }
    }
}
