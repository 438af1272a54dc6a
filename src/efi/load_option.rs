//! `Boot####`: EFI_LOAD_OPTION (UEFI 2.10, 3.1.3) with the device path of its loader (10.3). What is not needed here is
//! kept as it is.

use crate::guid::Guid;
use serde::{Deserialize, Serialize};

/// Longest value that is looked at, in bytes. Lengths inside are 16 bits.
pub const VALUE_LIMIT: usize = 128 << 10;
/// Attributes of an entry: the firmware tries it; it is not shown; bits of its category, 0 for boot.
const ACTIVE: u32 = 1;
const HIDDEN: u32 = 8;
const CATEGORY: u32 = 0x1f00;

/// A boot entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOption {
    /// LOAD_OPTION_* bits.
    pub attributes: u32,
    /// Its name for people.
    pub name: String,
    /// The device path of the loader, without the node that ends it.
    pub path: Vec<PathNode>,
    /// Device paths behind the first, as they stand there.
    pub more_paths: Vec<u8>,
    /// What the loader is given: for a kernel its command line, for others whatever they made of it.
    pub options: Vec<u8>,
}

/// A node of a device path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathNode {
    /// A partition of a GPT (10.3.5.1).
    HardDrive(HardDrive),
    /// A file, or a part of its path (10.3.5.4).
    File(String),
    /// Anything else, by type and subtype.
    Other(u8, u8, Vec<u8>),
}

/// A partition of a GPT as a device path names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardDrive {
    /// Its place in the table, from 1.
    pub number: u32,
    /// First logical block.
    pub start: u64,
    /// Length in logical blocks.
    pub blocks: u64,
    /// Its own GUID.
    pub guid: Guid,
}

/// A value that is not a boot entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(&'static str);

/// The node that ends a device path.
const END: [u8; 4] = [0x7f, 0xff, 4, 0];
/// Format and kind of signature of a GPT partition.
const GPT: [u8; 2] = [2, 2];

impl LoadOption {
    /// An entry that the firmware tries, for a file on a partition; the path is the short form, which names no controller.
    pub fn new(name: &str, partition: HardDrive, file: &str) -> Self {
        LoadOption {
            attributes: ACTIVE,
            name: name.into(),
            path: vec![PathNode::HardDrive(partition), PathNode::File(file.into())],
            ..LoadOption::default()
        }
    }

    /// Reads the value of a `Boot####` variable.
    ///
    /// # Errors
    /// What of it is cut or contradicts itself.
    pub fn parse(value: &[u8]) -> Result<Self, Malformed> {
        if value.len() > VALUE_LIMIT {
            return Err(Malformed("it is too long"));
        }
        let (attributes, rest) = value.split_first_chunk().ok_or(Malformed("it is cut"))?;
        let (paths_len, rest) = rest.split_first_chunk().ok_or(Malformed("it is cut"))?;
        let (name, rest) = text(rest).ok_or(Malformed("its name does not end"))?;
        let paths_len = usize::from(u16::from_le_bytes(*paths_len));
        let (paths, options) = rest.split_at_checked(paths_len).ok_or(Malformed("its device path is cut"))?;
        let (path, more_paths) = nodes(paths)?;
        Ok(LoadOption {
            attributes: u32::from_le_bytes(*attributes),
            name,
            path,
            more_paths: more_paths.into(),
            options: options.into(),
        })
    }

    /// The value of its variable; `None` where it is longer than such a value can be.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut paths = Vec::new();
        for node in &self.path {
            node.write(&mut paths)?;
        }
        paths.extend(END);
        paths.extend(&self.more_paths);
        let mut bytes = self.attributes.to_le_bytes().to_vec();
        bytes.extend(u16::try_from(paths.len()).ok()?.to_le_bytes());
        write_text(&mut bytes, &self.name);
        bytes.extend(paths);
        bytes.extend(&self.options);
        (bytes.len() <= VALUE_LIMIT).then_some(bytes)
    }

    /// True where the firmware's boot manager tries it on its own: active, shown, and no application such as its set-up.
    pub fn is_tried(&self) -> bool {
        self.attributes & (ACTIVE | HIDDEN | CATEGORY) == ACTIVE
    }

    /// The partition and the file that it starts, where it is such an entry: its path ends in both.
    pub fn loader(&self) -> Option<(HardDrive, String)> {
        let at = self.path.iter().position(|node| matches!(node, PathNode::HardDrive(_)))?;
        let (Some(PathNode::HardDrive(partition)), files) = (self.path.get(at), self.path.get(at + 1..)?)
        else {
            return None;
        };
        let parts: Option<Vec<&str>> = files
            .iter()
            .map(|node| if let PathNode::File(part) = node { Some(&**part) } else { None })
            .collect();
        let parts = parts.filter(|parts| !parts.is_empty())?;
        let mut file = String::new();
        for part in parts {
            if !file.ends_with('\\') && !part.starts_with('\\') {
                file.push('\\');
            }
            file.push_str(part);
        }
        Some((*partition, file))
    }

    /// True where the path names no controller: the firmware looks for the partition on all disks.
    pub fn is_short_form(&self) -> bool {
        matches!(self.path.first(), Some(PathNode::HardDrive(_)))
    }

    /// True for an entry that boots from the network: its path has a MAC address, or is of IP or a URI (10.3.4).
    pub fn is_network(&self) -> bool {
        self.path.iter().any(|node| matches!(node, PathNode::Other(3, 0x0b | 0x0c | 0x0d | 0x18, _)))
    }

    /// What its path is made of, in short: `02.01/01.01/03.0b/03.0c`, types and subtypes.
    pub fn short_text(&self) -> String {
        let node = |node: &PathNode| match node {
            PathNode::HardDrive(_) => "04.01".into(),
            PathNode::File(_) => "04.04".into(),
            PathNode::Other(kind, subtype, _) => format!("{kind:02x}.{subtype:02x}"),
        };
        self.path.iter().take(16).map(node).collect::<Vec<String>>().join("/")
    }
}

impl PathNode {
    fn parse(kind: u8, subtype: u8, body: &[u8]) -> PathNode {
        let known = match (kind, subtype) {
            (4, 1) => HardDrive::parse(body).map(PathNode::HardDrive),
            // One that does not end in its only NUL is kept as it is.
            (4, 4) => text(body).filter(|(_, rest)| rest.is_empty()).map(|(path, _)| PathNode::File(path)),
            _ => None,
        };
        known.unwrap_or_else(|| PathNode::Other(kind, subtype, body.into()))
    }

    fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        let (kind, subtype, body) = match self {
            PathNode::HardDrive(partition) => (4, 1, partition.to_bytes()),
            PathNode::File(path) => {
                let mut body = Vec::new();
                write_text(&mut body, path);
                (4, 4, body)
            }
            PathNode::Other(kind, subtype, body) => (*kind, *subtype, body.clone()),
        };
        out.extend([kind, subtype]);
        out.extend(u16::try_from(body.len() + 4).ok()?.to_le_bytes());
        out.extend(body);
        Some(())
    }
}

impl HardDrive {
    fn parse(body: &[u8]) -> Option<Self> {
        let (number, rest) = body.split_first_chunk()?;
        let (start, rest) = rest.split_first_chunk()?;
        let (blocks, rest) = rest.split_first_chunk()?;
        let (guid, rest) = rest.split_first_chunk()?;
        (rest == GPT).then(|| HardDrive {
            number: u32::from_le_bytes(*number),
            start: u64::from_le_bytes(*start),
            blocks: u64::from_le_bytes(*blocks),
            guid: Guid(*guid),
        })
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.number.to_le_bytes().to_vec();
        bytes.extend(self.start.to_le_bytes());
        bytes.extend(self.blocks.to_le_bytes());
        bytes.extend(self.guid.0);
        bytes.extend(GPT);
        bytes
    }
}

/// The nodes of the first device path of a list, and what stands behind it.
fn nodes(mut list: &[u8]) -> Result<(Vec<PathNode>, &[u8]), Malformed> {
    let mut nodes = Vec::new();
    loop {
        let ([kind, subtype, low, high], _) =
            list.split_first_chunk().ok_or(Malformed("its device path does not end"))?;
        let len = usize::from(u16::from_le_bytes([*low, *high]));
        let (node, rest) = list.split_at_checked(len).ok_or(Malformed("a node of its device path is cut"))?;
        let body = node.get(END.len()..).ok_or(Malformed("a node of its device path is too short"))?;
        if node == END {
            return Ok((nodes, rest));
        }
        nodes.push(PathNode::parse(*kind, *subtype, body));
        list = rest;
    }
}

/// A text in UCS-2 up to its NUL, and what stands behind it.
fn text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    let rest = bytes.get(2 * units.len() + 2..)?;
    Some((String::from_utf16_lossy(&units), rest))
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
}
