//! Transfers over bad networks.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

/// A server that sends windows of blocks, as RFC 7440 has it; without options a window is one block.
pub struct Sender {
    pub file: Vec<u8>,
    pub options: Vec<(&'static str, String)>,
    block_size: usize,
    window: u64,
    /// Last block that the client acknowledged.
    acknowledged: u64,
}

impl Sender {
    pub fn new(file: Vec<u8>, options: Vec<(&'static str, String)>) -> Sender {
        let get = |name| options.iter().find(|o| o.0 == name).and_then(|o| o.1.parse().ok());
        let block_size = get("blksize").unwrap_or(PLAIN_BLOCK);
        let window = get("windowsize").unwrap_or(1) as u64;
        Sender { file, options, block_size, window, acknowledged: 0 }
    }

    fn window(&self) -> Vec<Vec<u8>> {
        let last = (self.file.len() / self.block_size) as u64 + 1;
        (self.acknowledged + 1..=(self.acknowledged + self.window).min(last))
            .map(|block| {
                let at = (block as usize - 1) * self.block_size;
                let data = &self.file[at..self.file.len().min(at + self.block_size)];
                Packet::Data { block: block as u16, data }.encode()
            })
            .collect()
    }

    pub fn answer(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        match Packet::parse(bytes).unwrap() {
            Packet::ReadRequest { .. } if self.options.is_empty() => self.window(),
            Packet::ReadRequest { .. } => {
                let options = self.options.iter().map(|(n, v)| (n.to_string(), v.clone())).collect();
                vec![Packet::OptionAck { options }.encode()]
            }
            Packet::Ack { block } => {
                // The newest block with this number that can be meant.
                let behind = (self.acknowledged + self.window).wrapping_sub(block.into()) & 0xffff;
                let acknowledged = (self.acknowledged + self.window).saturating_sub(behind);
                if acknowledged < self.acknowledged {
                    return vec![];
                }
                self.acknowledged = acknowledged;
                self.window()
            }
            other => panic!("{other:?}"),
        }
    }
}

fn options(block: usize, window: usize) -> Vec<(&'static str, String)> {
    vec![("blksize", block.to_string()), ("windowsize", window.to_string())]
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 7 % 251) as u8).collect()
}

/// Runs a transfer over a network that treats each datagram as `fates` says: 0 lost, 1 doubled, 2 overtaken by
/// the next one, else delivered. When the fates are used up the network is good.
fn run(mut sender: Sender, fates: &[u8]) -> Result<Vec<u8>, TftpError> {
    let limits = Limits { max_bytes: 1 << 27, retries: 1000, ..Limits::default() };
    let mut transfer = Transfer::new("f", limits, !sender.options.is_empty())?;
    let mut fates = fates.iter().copied();
    let mut deliver = |queue: &mut VecDeque<Vec<u8>>, datagram: Vec<u8>| match fates.next() {
        Some(0) => {}
        Some(1) => queue.extend([datagram.clone(), datagram]),
        Some(2) => queue.push_front(datagram),
        _ => queue.push_back(datagram),
    };
    let (mut up, mut down) = (VecDeque::new(), VecDeque::new());
    deliver(&mut up, transfer.request().to_vec());
    loop {
        while let Some(datagram) = up.pop_front() {
            sender.answer(&datagram).into_iter().for_each(|d| deliver(&mut down, d));
        }
        let reply = match down.pop_front() {
            Some(datagram) => transfer.on_datagram(&datagram),
            None => transfer.on_timeout(),
        };
        match reply? {
            TftpReply::Wait => {}
            TftpReply::Send(datagram) => deliver(&mut up, datagram),
            TftpReply::Done(_) => return Ok(transfer.into_data()),
        }
    }
}

#[test]
fn files_of_every_awkward_length() {
    for len in [0, 1, 511, 512, 513, 1023, 1024, 5000] {
        let file = content(len);
        assert_eq!(run(Sender::new(file.clone(), vec![]), &[]).unwrap(), file, "{len} plain");
        for (block, window) in [(8, 1), (8, 4), (1408, 4), (512, 3)] {
            let sender = Sender::new(file.clone(), options(block, window));
            assert_eq!(run(sender, &[]).unwrap(), file, "{len} {block} {window}");
        }
    }
}

#[test]
fn block_numbers_wrap() {
    let file = content(8 * 70_000 + 3);
    assert_eq!(run(Sender::new(file.clone(), options(8, 4)), &[]).unwrap(), file);
}

/// RFC 2347 to 2349 and 7440: a server lowers values, it does not raise them or add options.
#[test]
fn option_acknowledgements_are_checked() {
    let answer = |name: &str, value: &str| {
        let mut transfer = Transfer::new("f", Limits::default(), true).unwrap();
        let options = vec![(name.to_owned(), value.to_owned())];
        transfer.on_datagram(&Packet::OptionAck { options }.encode())
    };
    for (name, value) in
        [("blksize", "8"), ("BLKSIZE", "1408"), ("windowsize", "1"), ("timeout", "1"), ("tsize", "65536")]
    {
        assert!(answer(name, value).is_ok(), "{name}={value}");
    }
    for (name, value) in [
        ("blksize", "7"),
        ("blksize", "1409"),
        ("blksize", ""),
        ("blksize", "+9"),
        ("windowsize", "0"),
        ("windowsize", "5"),
        ("timeout", "2"),
        ("multicast", "1"),
        ("tsize", "99999999999999999999999"),
    ] {
        assert!(matches!(answer(name, value), Err(TftpError::Protocol(_))), "{name}={value}");
    }
    assert!(matches!(answer("tsize", "65537"), Err(TftpError::TooLarge(65536))));
}

#[test]
fn errors_end_the_transfer() {
    let answer = |packet: Packet<'_>, with_options| {
        Transfer::new("f", Limits::default(), with_options)
            .unwrap()
            .on_datagram(&packet.encode())
            .unwrap_err()
    };
    let error = |code| Packet::Error { code: ErrorCode(code), message: "x\n".into() };
    assert!(matches!(answer(error(1), true), TftpError::NotFound { code: 1, .. }));
    assert!(matches!(answer(error(8), true), TftpError::OptionsRefused));
    assert!(matches!(answer(error(8), false), TftpError::Refused { code: 8, .. }));
    assert_eq!(answer(error(2), true).to_string(), "the server refuses: error 2, 'x\\n'");
    assert!(matches!(answer(Packet::Ack { block: 0 }, true), TftpError::Protocol(_)));
    assert!(matches!(answer(Packet::Data { block: 2, data: b"" }, true), TftpError::Protocol(_)));
    assert!(matches!(answer(Packet::Data { block: 1, data: &[0; 513] }, true), TftpError::Protocol(_)));
    assert!(matches!(answer(Packet::OptionAck { options: vec![] }, false), TftpError::Protocol(_)));
}

/// The reason stands behind the path, which may be long; what says no more than RFC 1350's own words is no reason.
#[test]
fn what_a_server_says_of_a_file_is_kept() {
    let long = format!("cannot access /srv/{}: Permission denied", "x/".repeat(60));
    for (code, said, refusal) in [
        (1, "File not found", None),
        (1, "file /x not found for 10.0.0.9", None),
        (1, "No such file or directory", None),
        (1, "", None),
        (1, "Access violation", Some("error 1, 'Access violation'".to_owned())),
        (0, "Permission denied", Some("error 0, 'Permission denied'".to_owned())),
        (2, "", Some("error 2, ''".to_owned())),
        (2, "\u{1b}[2J", Some("error 2, '\\u{1b}[2J'".to_owned())),
        (2, long.as_str(), Some(format!("error 2, '{long}'"))),
    ] {
        let error = TftpError::NotFound { code, said: super::said(said) };
        assert_eq!(error.refusal(), refusal, "{code} {said}");
        assert_eq!(error.to_string().contains(", or may not read it: "), refusal.is_some(), "{error}");
    }
    let endless = TftpError::NotFound { code: 2, said: super::said(&"x".repeat(60_000)) };
    assert!(endless.to_string().len() < 300, "{endless}");
}

#[test]
fn a_file_over_the_limit_of_untold_size_is_refused() {
    let limits = Limits { max_bytes: 700, ..Limits::default() };
    let mut transfer = Transfer::new("f", limits, false).unwrap();
    let block = |block| Packet::Data { block, data: &[0; 512] }.encode();
    assert!(transfer.on_datagram(&block(1)).is_ok());
    assert!(matches!(transfer.on_datagram(&block(2)), Err(TftpError::TooLarge(700))));
}

#[test]
fn retries_are_bounded_and_begin_anew_with_progress() {
    let limits = Limits { retries: 2, ..Limits::default() };
    let mut transfer = Transfer::new("f", limits, false).unwrap();
    let request = transfer.request().to_vec();
    assert_eq!(transfer.on_timeout().unwrap(), TftpReply::Send(request.clone()));
    assert_eq!(transfer.on_timeout().unwrap(), TftpReply::Send(request));
    transfer.on_datagram(&Packet::Data { block: 1, data: &[0; 512] }.encode()).unwrap();
    assert!(transfer.on_timeout().is_ok());
    assert!(transfer.on_timeout().is_ok());
    assert!(matches!(transfer.on_timeout(), Err(TftpError::Timeout)));
}

/// RFC 7440 section 4: after silence inside a window, what has arrived is acknowledged, not the window before it.
#[test]
fn part_of_a_window_is_acknowledged_after_silence() {
    let mut transfer = Transfer::new("f", Limits::default(), true).unwrap();
    let options = vec![("windowsize".to_owned(), "4".to_owned())];
    transfer.on_datagram(&Packet::OptionAck { options }.encode()).unwrap();
    for block in [1, 2] {
        let data = Packet::Data { block, data: &[0; 512] }.encode();
        assert_eq!(transfer.on_datagram(&data).unwrap(), TftpReply::Wait);
    }
    let ack = TftpReply::Send(Packet::Ack { block: 2 }.encode());
    assert_eq!(transfer.on_timeout().unwrap(), ack);
    assert_eq!(transfer.on_timeout().unwrap(), ack);
}

/// The sorcerer's apprentice: doubled data must not make a doubled stream of acknowledgements.
#[test]
fn a_burst_of_old_blocks_is_answered_once() {
    let mut transfer = Transfer::new("f", Limits::default(), false).unwrap();
    let first = Packet::Data { block: 1, data: &[0; 512] }.encode();
    assert!(matches!(transfer.on_datagram(&first), Ok(TftpReply::Send(_))));
    assert!(matches!(transfer.on_datagram(&first), Ok(TftpReply::Send(_))));
    for _ in 0..9 {
        assert_eq!(transfer.on_datagram(&first).unwrap(), TftpReply::Wait);
    }
}

#[test]
fn file_names_that_cannot_be_asked_for() {
    for bad in ["", "a\0b", "a\nb", "ü", &"x".repeat(500)] {
        assert!(matches!(Transfer::new(bad, Limits::default(), true), Err(TftpError::FileName(_))), "{bad}");
    }
}

proptest! {
    #[test]
    fn the_file_arrives_whole_over_any_network(
        len in 0usize..3000,
        window in 1usize..=4,
        plain in any::<bool>(),
        fates in prop::collection::vec(0u8..6, 0..200),
    ) {
        let file = content(len);
        let options = if plain { vec![] } else { options(64, window) };
        prop_assert_eq!(run(Sender::new(file.clone(), options), &fates).unwrap(), file);
    }

    #[test]
    fn datagrams_never_panic(datagrams in prop::collection::vec(any::<Vec<u8>>(), 0..8), opcode in 0u8..8) {
        let mut transfer = Transfer::new("f", Limits::default(), true).unwrap();
        for bytes in datagrams {
            let _ = transfer.on_datagram(&bytes);
            let _ = transfer.on_datagram(&[&[0, opcode, 0], bytes.as_slice()].concat());
            let _ = transfer.on_timeout();
        }
    }
}
