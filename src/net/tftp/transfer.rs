//! One read transfer as a state machine: datagrams and timeouts in, datagrams out, no I/O.

use super::packet::{ErrorCode, Packet};
use crate::text::quoted;
use std::time::Duration;

/// Block size in bytes of a server without options (RFC 1350).
const PLAIN_BLOCK: usize = 512;
/// Block size in bytes that we ask for: fits an Ethernet frame with room for a tunnel's header.
const WANTED_BLOCK: usize = 1408;
/// Blocks in flight that we ask for (RFC 7440).
const WANTED_WINDOW: usize = 4;
/// Longest request in bytes: what every server can take.
const REQUEST_MAX: usize = 512;

/// What a transfer may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest file in bytes.
    pub max_bytes: usize,
    /// How long to wait for a datagram before sending the last one again.
    pub timeout: Duration,
    /// How many times in a row that is done.
    pub retries: u32,
    /// How long the whole transfer may take.
    pub deadline: Duration,
}

impl Default for Limits {
    /// 64 KiB, five retries of 1 s, 30 s in all.
    fn default() -> Self {
        Limits {
            max_bytes: 64 * 1024,
            timeout: Duration::from_secs(1),
            retries: 5,
            deadline: Duration::from_secs(30),
        }
    }
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum TftpError {
    /// The server has no such file.
    #[error("the server has no such file")]
    NotFound,
    /// The server ended the transfer.
    #[error("the server refuses: error {code}, {message}")]
    Refused {
        /// TFTP error code.
        code: u16,
        /// The server's text, quoted.
        message: String,
    },
    /// The server refuses the options that we asked for; a request without any may succeed.
    #[error("the server refuses options")]
    OptionsRefused,
    /// The file is larger than [`Limits::max_bytes`].
    #[error("the file is larger than {0} bytes")]
    TooLarge(usize),
    /// No answer, or no end.
    #[error("no answer from the server (is its TFTP service running, and UDP port 69 open?)")]
    Timeout,
    /// The server does not speak TFTP as the RFCs have it.
    #[error("the server breaks the protocol: {0}")]
    Protocol(String),
    /// The file name cannot be asked for.
    #[error("the file name {0} is empty, too long or not printable")]
    FileName(String),
    /// The local network fails.
    #[error("UDP: {0}")]
    Io(#[from] std::io::Error),
}

/// What to do after a datagram or a timeout.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// Wait for the next datagram.
    Wait,
    /// Send this one to the server, then wait.
    Send(Vec<u8>),
    /// Send the last acknowledgement; the file is whole.
    Done(Vec<u8>),
}

/// The state of a read transfer.
#[derive(Debug)]
pub struct Transfer {
    limits: Limits,
    with_options: bool,
    started: bool,
    block_size: usize,
    window: usize,
    /// Blocks that have arrived in order.
    blocks: u64,
    /// Of those, the ones since our last acknowledgement.
    unacknowledged: usize,
    /// A block out of order was answered already: answering each one would multiply the traffic.
    resyncing: bool,
    retries: u32,
    last_sent: Vec<u8>,
    data: Vec<u8>,
}

impl Transfer {
    /// Begins to read `file`. The first datagram to send is [`Transfer::request`].
    pub fn new(file: &str, limits: Limits, with_options: bool) -> Result<Transfer, TftpError> {
        let mut options = Vec::new();
        if with_options {
            options.push(("blksize".to_owned(), WANTED_BLOCK.to_string()));
            options.push(("tsize".to_owned(), "0".to_owned()));
            options.push(("windowsize".to_owned(), WANTED_WINDOW.to_string()));
            // RFC 2349 counts whole seconds from 1 to 255.
            if (1..=255).contains(&limits.timeout.as_secs()) {
                options.push(("timeout".to_owned(), limits.timeout.as_secs().to_string()));
            }
        }
        let printable = !file.is_empty() && file.bytes().all(|b| matches!(b, b' '..=b'~'));
        let request =
            Packet::ReadRequest { file: file.to_owned(), mode: "octet".to_owned(), options }.encode();
        if !printable || request.len() > REQUEST_MAX {
            return Err(TftpError::FileName(quoted(file)));
        }
        Ok(Transfer {
            limits,
            with_options,
            started: false,
            block_size: PLAIN_BLOCK,
            window: 1,
            blocks: 0,
            unacknowledged: 0,
            resyncing: false,
            retries: 0,
            last_sent: request,
            data: Vec::new(),
        })
    }

    /// The read request.
    pub fn request(&self) -> &[u8] {
        &self.last_sent
    }

    /// The file, once [`Reply::Done`] came.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// Nothing arrived for [`Limits::timeout`]: the last datagram again, until the retries are used up.
    pub fn on_timeout(&mut self) -> Result<Reply, TftpError> {
        if self.retries >= self.limits.retries {
            return Err(TftpError::Timeout);
        }
        self.retries += 1;
        self.resyncing = false;
        if self.unacknowledged > 0 {
            return Ok(self.acknowledge());
        }
        Ok(Reply::Send(self.last_sent.clone()))
    }

    /// A datagram from the server. An error is final; [`error_packet`] is what to tell the server.
    pub fn on_datagram(&mut self, bytes: &[u8]) -> Result<Reply, TftpError> {
        let packet = Packet::parse(bytes).map_err(|e| TftpError::Protocol(e.to_string()))?;
        match packet {
            Packet::Data { block, data } => self.on_data(block, data),
            Packet::OptionAck { options } => self.on_options(&options),
            Packet::Error { code: ErrorCode::NOT_FOUND, .. } => Err(TftpError::NotFound),
            Packet::Error { code: ErrorCode::OPTIONS, .. } if self.with_options && !self.started => {
                Err(TftpError::OptionsRefused)
            }
            Packet::Error { code, message } => {
                Err(TftpError::Refused { code: code.0, message: quoted(&message) })
            }
            Packet::ReadRequest { .. } | Packet::Ack { .. } => {
                Err(TftpError::Protocol("a packet that only a client sends".to_owned()))
            }
        }
    }

    fn acknowledge(&mut self) -> Reply {
        self.unacknowledged = 0;
        // Block numbers wrap: 65536 is block 0 on the wire.
        let block = (self.blocks & 0xffff) as u16;
        self.last_sent = Packet::Ack { block }.encode();
        Reply::Send(self.last_sent.clone())
    }

    fn on_options(&mut self, options: &[(String, String)]) -> Result<Reply, TftpError> {
        if self.started {
            // Our acknowledgement of them was lost, or this is an echo.
            let repeat = self.blocks == 0 && self.last_sent == (Packet::Ack { block: 0 }).encode();
            return Ok(if repeat { Reply::Send(self.last_sent.clone()) } else { Reply::Wait });
        }
        let broken = |name: &str, value: &str| {
            TftpError::Protocol(format!("option {}={} was not asked for", quoted(name), quoted(value)))
        };
        if !self.with_options {
            return Err(TftpError::Protocol("options were not asked for".to_owned()));
        }
        for (name, value) in options {
            let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            let number = value.parse::<usize>().ok().filter(|_| digits).ok_or_else(|| broken(name, value))?;
            // A server may lower what was asked for, never raise it (RFC 2348, RFC 7440).
            match name.to_ascii_lowercase().as_str() {
                "blksize" if (8..=WANTED_BLOCK).contains(&number) => self.block_size = number,
                "windowsize" if (1..=WANTED_WINDOW).contains(&number) => self.window = number,
                "tsize" if number > self.limits.max_bytes => {
                    return Err(TftpError::TooLarge(self.limits.max_bytes));
                }
                "tsize" => {}
                "timeout" if u64::try_from(number) == Ok(self.limits.timeout.as_secs()) => {}
                _ => return Err(broken(name, value)),
            }
        }
        self.started = true;
        self.retries = 0;
        Ok(self.acknowledge())
    }

    fn on_data(&mut self, block: u16, data: &[u8]) -> Result<Reply, TftpError> {
        if data.len() > self.block_size {
            return Err(TftpError::Protocol(format!("a block of {} bytes", data.len())));
        }
        let expected = (self.blocks.wrapping_add(1) & 0xffff) as u16;
        if block != expected {
            if !self.started {
                return Err(TftpError::Protocol(format!("the first block has number {block}")));
            }
            // Lost, doubled or overtaken: say once where we are (RFC 7440 section 4), the server goes on from there.
            if self.resyncing {
                return Ok(Reply::Wait);
            }
            self.resyncing = true;
            return Ok(self.acknowledge());
        }
        if self.data.len().saturating_add(data.len()) > self.limits.max_bytes {
            return Err(TftpError::TooLarge(self.limits.max_bytes));
        }
        self.started = true;
        self.retries = 0;
        self.resyncing = false;
        self.data.extend_from_slice(data);
        self.blocks = self.blocks.wrapping_add(1);
        self.unacknowledged += 1;
        if data.len() < self.block_size {
            self.acknowledge();
            return Ok(Reply::Done(self.last_sent.clone()));
        }
        Ok(if self.unacknowledged >= self.window { self.acknowledge() } else { Reply::Wait })
    }
}

/// What the server should be told about a transfer that ends so; nothing where it knows.
pub(super) fn error_packet(error: &TftpError) -> Option<Vec<u8>> {
    let (code, message) = match error {
        TftpError::TooLarge(_) => (ErrorCode::FULL, "file is too large"),
        TftpError::Protocol(_) => (ErrorCode::ILLEGAL, "unexpected packet"),
        _ => return None,
    };
    Some(Packet::Error { code, message: message.to_owned() }.encode())
}

#[cfg(test)]
pub(super) mod tests {
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
                Reply::Wait => {}
                Reply::Send(datagram) => deliver(&mut up, datagram),
                Reply::Done(_) => return Ok(transfer.into_data()),
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
        assert!(matches!(answer(error(1), true), TftpError::NotFound));
        assert!(matches!(answer(error(8), true), TftpError::OptionsRefused));
        assert!(matches!(answer(error(8), false), TftpError::Refused { code: 8, .. }));
        assert_eq!(answer(error(2), true).to_string(), "the server refuses: error 2, 'x\\n'");
        assert!(matches!(answer(Packet::Ack { block: 0 }, true), TftpError::Protocol(_)));
        assert!(matches!(answer(Packet::Data { block: 2, data: b"" }, true), TftpError::Protocol(_)));
        assert!(matches!(answer(Packet::Data { block: 1, data: &[0; 513] }, true), TftpError::Protocol(_)));
        assert!(matches!(answer(Packet::OptionAck { options: vec![] }, false), TftpError::Protocol(_)));
    }

    #[test]
    fn a_file_over_the_limit_is_refused_where_the_server_did_not_say_its_size() {
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
        assert_eq!(transfer.on_timeout().unwrap(), Reply::Send(request.clone()));
        assert_eq!(transfer.on_timeout().unwrap(), Reply::Send(request));
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
            assert_eq!(transfer.on_datagram(&data).unwrap(), Reply::Wait);
        }
        let ack = Reply::Send(Packet::Ack { block: 2 }.encode());
        assert_eq!(transfer.on_timeout().unwrap(), ack);
        assert_eq!(transfer.on_timeout().unwrap(), ack);
    }

    /// The sorcerer's apprentice: doubled data must not make a doubled stream of acknowledgements.
    #[test]
    fn a_burst_of_old_blocks_is_answered_once() {
        let mut transfer = Transfer::new("f", Limits::default(), false).unwrap();
        let first = Packet::Data { block: 1, data: &[0; 512] }.encode();
        assert!(matches!(transfer.on_datagram(&first), Ok(Reply::Send(_))));
        assert!(matches!(transfer.on_datagram(&first), Ok(Reply::Send(_))));
        for _ in 0..9 {
            assert_eq!(transfer.on_datagram(&first).unwrap(), Reply::Wait);
        }
    }

    #[test]
    fn file_names_that_cannot_be_asked_for() {
        for bad in ["", "a\0b", "a\nb", "ü", &"x".repeat(500)] {
            assert!(
                matches!(Transfer::new(bad, Limits::default(), true), Err(TftpError::FileName(_))),
                "{bad}"
            );
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
}
