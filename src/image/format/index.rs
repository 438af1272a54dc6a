//! The index: a tree of hashes that grows while the image is written, one open node per level.
#![forbid(unsafe_code)]

use crate::bytes::{array, le};
use crate::image::format::member::{self, MemberKind, Reason};
use crate::image::format::run::{Run, check_entry};
use blake3::Hash;

/// Entries of a full node.
pub const FANOUT: usize = 150;
/// Highest level of a node: 150^8 runs are more than any disk has.
pub const MAX_LEVEL: u8 = 7;
const LEAF_ENTRY: usize = 80;
const INNER_ENTRY: usize = 64;
const NODE_HEAD: usize = 48;
/// Longest member that a node takes.
pub const MAX_NODE: u32 = 12_288;

/// A node that is listed by its parent, or by the footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildNode {
    /// Its level.
    pub level: u8,
    /// Kinds of runs below it, as [`MemberKind::bit`]s.
    pub kinds: u8,
    /// First byte of disk below it.
    pub offset: u64,
    /// Bytes of disk below it.
    pub disk: u64,
    /// File position of the first member below it.
    pub start: u64,
    /// Bytes of file below it; the node itself stands at `start + file`.
    pub file: u64,
    /// Runs below it.
    pub runs: u64,
    /// Length of its member.
    pub length: u32,
    /// Hash of its member.
    pub hash: Hash,
}

/// In a leaf's entry: the run's member lists gaps.
const HAS_GAPS: u8 = 1;

/// What a node lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entries {
    /// Level 0.
    Runs(Vec<Run>),
    /// Higher levels.
    Nodes(Vec<ChildNode>),
}

/// A node that is being filled.
#[derive(Debug, Default)]
struct OpenNode {
    entries: Vec<u8>,
    count: usize,
    kinds: u8,
    offset: u64,
    disk: u64,
    start: u64,
    file: u64,
    runs: u64,
}

/// Collects runs and makes index members of them. Memory: one node per level.
#[derive(Debug, Default)]
pub struct IndexWriter {
    levels: Vec<OpenNode>,
}

impl IndexWriter {
    /// Adds a run whose member was just written; the index members to write directly behind it are appended to `out`.
    pub fn push(&mut self, run: &Run, out: &mut Vec<u8>) {
        let mut entry = [0; LEAF_ENTRY];
        entry[0] = run.kind as u8;
        entry[1] = if run.has_gaps { HAS_GAPS } else { 0 };
        entry[4..8].copy_from_slice(&run.member_length.to_le_bytes());
        entry[8..16].copy_from_slice(&run.length.to_le_bytes());
        entry[16..48].copy_from_slice(run.hash.as_bytes());
        entry[48..80].copy_from_slice(run.member_hash.as_bytes());
        self.add(
            0,
            &entry,
            run.kind.bit(),
            (run.offset, run.length),
            (run.position, run.member_length.into()),
            1,
        );
        self.close_from(0, false, out);
    }

    /// Closes what is open, appends it to `out`, and returns the root; nothing where there was no run.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Option<ChildNode> {
        self.close_from(0, true, out)
    }

    fn add(&mut self, level: usize, entry: &[u8], kinds: u8, disk: (u64, u64), file: (u64, u64), runs: u64) {
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, OpenNode::default);
        }
        let open = &mut self.levels[level];
        if open.count == 0 {
            (open.offset, open.start) = (disk.0, file.0);
        }
        open.entries.extend_from_slice(entry);
        open.count += 1;
        open.kinds |= kinds;
        open.disk += disk.1;
        open.file += file.1;
        open.runs += runs;
    }

    /// Closes full nodes upwards from `level`, or with `all` every open node; returns the root with `all`.
    fn close_from(&mut self, mut level: usize, all: bool, out: &mut Vec<u8>) -> Option<ChildNode> {
        while let Some(open) = self.levels.get_mut(level) {
            if open.count < FANOUT && !all {
                return None;
            }
            if open.count > 0 {
                let open = std::mem::take(open);
                let child = open.encode(level as u8, out);
                let higher = self.levels.iter().skip(level + 1).any(|l| l.count > 0);
                if all && !higher {
                    return Some(child);
                }
                let mut entry = [0; INNER_ENTRY];
                entry[0] = child.kinds;
                entry[4..8].copy_from_slice(&child.length.to_le_bytes());
                entry[8..16].copy_from_slice(&child.disk.to_le_bytes());
                entry[16..24].copy_from_slice(&child.file.to_le_bytes());
                entry[24..32].copy_from_slice(&child.runs.to_le_bytes());
                entry[32..64].copy_from_slice(child.hash.as_bytes());
                let file = (child.start, child.file + u64::from(child.length));
                self.add(level + 1, &entry, child.kinds, (child.offset, child.disk), file, child.runs);
            }
            level += 1;
        }
        None
    }
}

impl OpenNode {
    fn encode(self, level: u8, out: &mut Vec<u8>) -> ChildNode {
        let mut payload = vec![0; NODE_HEAD];
        payload[8] = level;
        payload[12..16].copy_from_slice(&(self.count as u32).to_le_bytes());
        payload[16..24].copy_from_slice(&self.offset.to_le_bytes());
        payload[24..32].copy_from_slice(&self.start.to_le_bytes());
        payload[32..40].copy_from_slice(&self.disk.to_le_bytes());
        payload[40..48].copy_from_slice(&self.file.to_le_bytes());
        payload.extend_from_slice(&self.entries);
        let member = member::empty_member(MemberKind::Index, &payload, None);
        out.extend_from_slice(&member);
        ChildNode {
            level,
            kinds: self.kinds,
            offset: self.offset,
            disk: self.disk,
            start: self.start,
            file: self.file,
            runs: self.runs,
            length: member.len() as u32,
            hash: blake3::hash(&member),
        }
    }
}

/// What a parent knows of a node before it is read; `None` where the footer does not say.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedNode {
    /// The level, unless it is the root.
    pub level: Option<u8>,
    /// Kinds below, unless it is the root.
    pub kinds: Option<u8>,
    /// First byte of disk.
    pub offset: u64,
    /// Bytes of disk.
    pub disk: u64,
    /// File position of the first member.
    pub start: u64,
    /// Bytes of file before the node.
    pub file: u64,
    /// Runs below.
    pub runs: u64,
    /// Hash of the member.
    pub hash: Hash,
}

impl From<&ChildNode> for ExpectedNode {
    fn from(c: &ChildNode) -> Self {
        ExpectedNode {
            level: Some(c.level),
            kinds: Some(c.kinds),
            offset: c.offset,
            disk: c.disk,
            start: c.start,
            file: c.file,
            runs: c.runs,
            hash: c.hash,
        }
    }
}

/// Reads a node (`bytes` is its whole member) and checks it: its hash, and that what it lists fills its part of
/// the disk and of the file without gap or overlap, as its parent says.
pub fn decode(bytes: &[u8], expected: &ExpectedNode, chunk: u32, block: u32) -> Result<Entries, Reason> {
    const SHORT: Reason = "an index member is too short";
    if blake3::hash(bytes) != expected.hash {
        return Err("an index member's hash is wrong");
    }
    let member = member::parse(bytes)?;
    if member.kind != MemberKind::Index || member.len != bytes.len() {
        return Err("this is not an index member");
    }
    let payload = member.payload;
    let level = *payload.get(8).ok_or(SHORT)?;
    let count = le::u32(payload, 12).ok_or(SHORT)? as usize;
    let head = [le::u64(payload, 16), le::u64(payload, 24), le::u64(payload, 32), le::u64(payload, 40)];
    let wanted = [expected.offset, expected.start, expected.disk, expected.file].map(Some);
    if head != wanted || payload.get(9..12) != Some(&[0; 3]) || expected.level.is_some_and(|l| l != level) {
        return Err("an index member does not cover what its parent says");
    }
    if level > MAX_LEVEL || !(1..=FANOUT).contains(&count) {
        return Err("an index member has an impossible level or count");
    }
    let size = if level == 0 { LEAF_ENTRY } else { INNER_ENTRY };
    let list = payload.get(NODE_HEAD..NODE_HEAD + count * size).ok_or(SHORT)?;
    let (mut offset, mut position) = (expected.offset, expected.start);
    let (mut runs, mut kinds) = (0u64, 0);
    let mut leaf = Vec::new();
    let mut inner = Vec::new();
    for entry in list.chunks_exact(size) {
        let has_gaps = level == 0 && entry.get(1) == Some(&HAS_GAPS);
        if entry.get(1..4) != Some(&[u8::from(has_gaps), 0, 0]) {
            return Err("an index entry has wrong fields");
        }
        let length = le::u32(entry, 4).ok_or(SHORT)?;
        let disk = le::u64(entry, 8).ok_or(SHORT)?;
        let hash_at = |at| array(entry, at).map(Hash::from_bytes).ok_or(SHORT);
        let (file, more_runs) = if level == 0 {
            let kind =
                entry.first().and_then(|b| MemberKind::from_byte(*b)).ok_or("an unknown kind of run")?;
            let run = Run {
                kind,
                offset,
                length: disk,
                position,
                member_length: length,
                hash: hash_at(16)?,
                has_gaps,
                member_hash: hash_at(48)?,
            };
            check_entry(kind, disk, length, run.hash, has_gaps, chunk)?;
            kinds |= kind.bit();
            leaf.push(run);
            (u64::from(length), 1)
        } else {
            let below = le::u64(entry, 16).ok_or(SHORT)?;
            let child = ChildNode {
                level: level - 1,
                kinds: entry.first().copied().unwrap_or_default(),
                offset,
                disk,
                start: position,
                file: below,
                runs: le::u64(entry, 24).ok_or(SHORT)?,
                length,
                hash: hash_at(32)?,
            };
            if length == 0
                || length > MAX_NODE
                || !(length as usize).is_multiple_of(member::UNIT)
                || disk == 0
            {
                return Err("an index entry has impossible lengths");
            }
            kinds |= child.kinds;
            inner.push(child);
            (below.checked_add(length.into()).ok_or("index sums overflow")?, child.runs)
        };
        if disk % u64::from(block) != 0 {
            return Err("a run is not a whole number of logical blocks");
        }
        offset = offset.checked_add(disk).ok_or("index sums overflow")?;
        position = position.checked_add(file).ok_or("index sums overflow")?;
        runs = runs.checked_add(more_runs).ok_or("index sums overflow")?;
    }
    let end = (expected.offset.checked_add(expected.disk), expected.start.checked_add(expected.file));
    if (Some(offset), Some(position)) != end
        || runs != expected.runs
        || expected.kinds.is_some_and(|k| k != kinds)
    {
        return Err("an index member's entries do not add up");
    }
    Ok(if level == 0 { Entries::Runs(leaf) } else { Entries::Nodes(inner) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks the tree as a reader does, checking every node against its parent.
    fn walk(nodes: &[u8], node: &ChildNode, at: &dyn Fn(u64) -> usize, runs: &mut Vec<Run>) {
        let from = at(node.start + node.file);
        let bytes = &nodes[from..from + node.length as usize];
        match decode(bytes, &node.into(), 1 << 20, 512).unwrap() {
            Entries::Runs(list) => runs.extend(list),
            Entries::Nodes(list) => list.iter().for_each(|child| walk(nodes, child, at, runs)),
        }
    }

    #[test]
    fn trees_of_all_heights_list_every_run_once_in_order() {
        for (count, height) in [
            (1, 0),
            (149, 0),
            (150, 1),
            (151, 1),
            (300, 1),
            (22_499, 1),
            (22_500, 2),
            (22_501, 2),
            (30_001, 2),
        ] {
            let (mut writer, mut wanted, mut nodes) = (IndexWriter::default(), Vec::new(), Vec::new());
            // File position of each node, and where it stands in `nodes`.
            let mut places = vec![];
            let (mut position, mut offset) = (4096u64, 0);
            for i in 0..count {
                let run = Run {
                    kind: MemberKind::Data,
                    offset,
                    length: 512 * (1 + i % 7),
                    position,
                    member_length: 4096,
                    hash: blake3::hash(&u64::to_le_bytes(i)),
                    has_gaps: i % 3 == 0,
                    member_hash: blake3::hash(b"m"),
                };
                (offset, position) = (offset + run.length, position + 4096);
                wanted.push(run);
                let before = nodes.len();
                writer.push(&run, &mut nodes);
                places.push((position, before));
                position += (nodes.len() - before) as u64;
                assert!(
                    writer.levels.iter().all(|l| l.entries.len() < FANOUT * LEAF_ENTRY),
                    "bounded memory"
                );
            }
            places.push((position, nodes.len()));
            let root = writer.finish(&mut nodes).unwrap();
            assert_eq!((root.level, root.disk, root.runs), (height, offset, count));
            let at = |p: u64| {
                let i = places.partition_point(|(position, _)| *position <= p) - 1;
                places[i].1 + (p - places[i].0) as usize
            };
            let mut runs = Vec::new();
            walk(&nodes, &root, &at, &mut runs);
            assert!(runs == wanted);
        }
    }

    #[test]
    fn no_run_no_root() {
        assert_eq!(IndexWriter::default().finish(&mut Vec::new()), None);
    }
}
