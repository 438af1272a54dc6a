//! What was found on the disk when it was imaged, as texts of the header. For people: no byte of the disk rests on it.
#![forbid(unsafe_code)]

use crate::image::format::member::MAX_TEXT;
use crate::text::without_controls;
use crate::used::FoundVolume;

/// Tag of a text that describes one partition.
const PARTITION: u8 = 7;
/// Tag of the number of partitions beyond those.
const MORE: u8 = 8;
/// Bytes that all partitions together may take: with the longest other texts the header stays below 12 KiB, so that
/// its padding cannot make the extra field longer than gzip readers take.
const ROOM: usize = 5 << 10;

/// The partitions that a header lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundTexts {
    /// In the order of the disk, shortened where they are too long.
    pub list: Vec<FoundVolume>,
    /// How many more there were.
    pub more: u64,
}

impl FoundTexts {
    /// As much of what was found as a header holds.
    pub fn new(found: &[FoundVolume]) -> Self {
        let mut list = Vec::new();
        let mut room = ROOM;
        for one in found {
            let (one, len) = fitting(one);
            let Some(left) = room.checked_sub(4 + len) else { break };
            room = left;
            list.push(one);
        }
        let more = (found.len() - list.len()) as u64;
        FoundTexts { list, more }
    }

    /// Tags and texts in the order of the header.
    pub(super) fn tagged(&self) -> impl Iterator<Item = (u8, String)> {
        let more = (self.more > 0).then(|| (MORE, self.more.to_string()));
        self.list.iter().map(|one| (PARTITION, json(one))).chain(more)
    }

    /// Takes up a text of the header; what it cannot be read as is left out.
    pub(super) fn read(&mut self, tag: u8, text: &str) {
        match tag {
            PARTITION => self.list.extend(serde_json::from_str::<FoundVolume>(text)),
            MORE => self.more = text.parse().unwrap_or(0),
            _ => {}
        }
    }
}

fn json(one: &FoundVolume) -> String {
    serde_json::to_string(one).unwrap_or_default()
}

/// `one` with texts that fit into one text of the header, and the length of that.
fn fitting(one: &FoundVolume) -> (FoundVolume, usize) {
    let clean = |text: &str| -> String { without_controls(text).chars().take(MAX_TEXT).collect() };
    let mut one = FoundVolume {
        number: one.number,
        start: one.start,
        size: one.size,
        partition_type: one.partition_type.as_deref().map(clean),
        name: one.name.as_deref().map(clean),
        logical_volume: one.logical_volume.as_deref().map(clean),
        kind: clean(&one.kind),
        label: one.label.as_deref().map(clean),
        skipped: one.skipped,
        behind: one.behind,
        why_all: one.why_all.as_deref().map(clean),
    };
    loop {
        let len = json(&one).len();
        if len <= MAX_TEXT {
            return (one, len);
        }
        // The longest text gives a quarter of itself: the numbers alone always fit.
        let texts = [
            &mut one.partition_type,
            &mut one.name,
            &mut one.logical_volume,
            &mut one.label,
            &mut one.why_all,
        ];
        let texts = texts.into_iter().flatten().chain([&mut one.kind]);
        if let Some(longest) = texts.max_by_key(|text| text.len()) {
            let keep = longest.chars().count() * 3 / 4;
            *longest = longest.chars().take(keep).collect();
        }
    }
}
