//! A file on its way to one machine, as a state machine: datagrams and timeouts in, datagrams out, no socket and no clock.

use crate::io::ReadAt;
use crate::net::tftp::{ErrorCode, Packet};
use std::io;
use std::time::Duration;

/// Block size in bytes where none is asked for (RFC 1350).
const PLAIN_BLOCK: usize = 512;
/// Largest block in bytes: what fits an Ethernet frame with the headers of IP, UDP and TFTP. A larger one would come in
/// fragments, which loaders do not put together.
const BLOCK_MAX: usize = 1468;
/// Most blocks under way (RFC 7440). It bounds the memory of a transfer, too.
const WINDOW_MAX: usize = 64;
/// How long to wait for an acknowledgement at first, where no time is asked for.
const WAIT: Duration = Duration::from_secs(1);
/// And at most.
const WAIT_MAX: Duration = Duration::from_secs(8);
/// How many times in a row the same is sent again; before the first answer fewer: who asked may not be there at all.
const TRIES: u32 = 6;
const FIRST_TRIES: u32 = 4;

/// What client and server have agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Terms {
    block: usize,
    window: usize,
    timeout: Option<Duration>,
    /// The options to answer with.
    accepted: Vec<(String, String)>,
}

impl Terms {
    /// Of what is asked what this server does; the rest is as if it had not been asked (RFC 2347).
    fn of(options: &[(String, String)], size: u64) -> Terms {
        let mut terms = Terms { block: PLAIN_BLOCK, window: 1, timeout: None, accepted: Vec::new() };
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in options {
            let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            let Some(number) = value.parse::<u64>().ok().filter(|_| is_number) else { continue };
            let kind = name.to_ascii_lowercase();
            if seen.contains(&kind) {
                continue;
            }
            let answer = match (kind.as_str(), usize::try_from(number).unwrap_or(usize::MAX)) {
                ("blksize", wanted @ 8..=65464) => {
                    terms.block = wanted.min(BLOCK_MAX);
                    terms.block as u64
                }
                ("windowsize", wanted @ 1..=65535) => {
                    terms.window = wanted.min(WINDOW_MAX);
                    terms.window as u64
                }
                ("timeout", 1..=255) => {
                    terms.timeout = Some(Duration::from_secs(number));
                    number
                }
                ("tsize", _) => size,
                _ => continue,
            };
            terms.accepted.push((name.clone(), answer.to_string()));
            seen.push(kind);
        }
        terms
    }
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum SendStep {
    /// Send these, then wait for [`Sending::wait`].
    Send(Vec<Vec<u8>>),
    /// Go on waiting.
    Wait,
    /// The client has all of it.
    Done,
    /// It ends without: why.
    Failed(String),
}

/// The state of a transfer.
#[derive(Debug)]
pub struct Sending<F> {
    file: F,
    size: u64,
    terms: Terms,
    /// Blocks that the client has; `None` before it has answered at all.
    acknowledged: Option<u64>,
    /// Blocks that were sent, repeated ones once.
    sent: u64,
    /// The same again was sent since something new was acknowledged: for that the client's doubt counts once.
    is_repeated: bool,
    tries: u32,
}

impl<F: ReadAt> Sending<F> {
    /// Begins to send a file of this size.
    pub fn new(file: F, size: u64, options: &[(String, String)]) -> Sending<F> {
        let terms = Terms::of(options, size);
        Sending { file, size, terms, acknowledged: None, sent: 0, is_repeated: false, tries: 0 }
    }

    /// All blocks: the last one is shorter than the others, and may have nothing.
    fn blocks(&self) -> u64 {
        self.size / self.terms.block as u64 + 1
    }

    /// How long to wait for the next datagram.
    pub fn wait(&self) -> Duration {
        self.terms.timeout.unwrap_or_else(|| WAIT.saturating_mul(1 << self.tries.min(3)).min(WAIT_MAX))
    }

    /// What stands at the beginning, and again while nothing is answered: the options, or the first block.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn first(&mut self) -> io::Result<Vec<Vec<u8>>> {
        match self.terms.accepted.is_empty() {
            true => self.window(0),
            false => Ok(vec![Packet::OptionAck { options: self.terms.accepted.clone() }.encode()]),
        }
    }

    /// The window behind this many blocks.
    fn window(&mut self, behind: u64) -> io::Result<Vec<Vec<u8>>> {
        let end = self.blocks().min(behind + self.terms.window as u64);
        let block_size = self.terms.block as u64;
        self.sent = self.sent.max(end);
        let block = |number: u64| {
            let at = number * block_size;
            let mut data =
                vec![0; usize::try_from(self.size.saturating_sub(at).min(block_size)).unwrap_or(0)];
            self.file.read_exact_at(&mut data, at)?;
            // Numbers wrap: 65536 is block 0 on the wire.
            Ok(Packet::Data { block: ((number + 1) & 0xffff) as u16, data: &data }.encode())
        };
        (behind..end).map(block).collect()
    }

    /// A datagram from the client.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn on_datagram(&mut self, bytes: &[u8]) -> io::Result<SendStep> {
        match Packet::parse(bytes) {
            Ok(Packet::Ack { block }) => self.on_ack(block),
            // Firmware asks for the size, and ends so before it asks for the file.
            Ok(Packet::Error { code, message }) => {
                Ok(SendStep::Failed(format!("the machine ends it: error {}, {message}", code.0)))
            }
            // The request once more: our answer to it is under way.
            _ => Ok(SendStep::Wait),
        }
    }

    fn on_ack(&mut self, block: u16) -> io::Result<SendStep> {
        let base = self.acknowledged.unwrap_or(0);
        // The number nearest behind what is acknowledged.
        let ahead = u64::from(block.wrapping_sub((base & 0xffff) as u16));
        let number = base + ahead;
        let is_of_options = self.acknowledged.is_none() && !self.terms.accepted.is_empty();
        if is_of_options && block != 0 || number > self.sent {
            // An old one, or one of what was never sent.
            return Ok(SendStep::Wait);
        }
        if ahead == 0 && !is_of_options {
            // Once more the same: a client that expects a window has lost its first block. Plain TFTP has an echo for each
            // packet that came twice, and to answer each of them would double all that follows.
            if self.terms.window == 1 || self.is_repeated || self.acknowledged.is_none() {
                return Ok(SendStep::Wait);
            }
            self.is_repeated = true;
        } else {
            self.is_repeated = false;
            self.tries = 0;
        }
        self.acknowledged = Some(number);
        if number == self.blocks() {
            return Ok(SendStep::Done);
        }
        self.window(number).map(SendStep::Send)
    }

    /// Nothing came for [`Sending::wait`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn on_timeout(&mut self) -> io::Result<SendStep> {
        self.tries += 1;
        let limit = if self.acknowledged.is_some() { TRIES } else { FIRST_TRIES };
        if self.tries > limit {
            let done = self.acknowledged.unwrap_or(0);
            return Ok(SendStep::Failed(format!(
                "the machine does not answer any more, after {done} of {} blocks",
                self.blocks()
            )));
        }
        self.is_repeated = false;
        match self.acknowledged {
            None => self.first(),
            Some(done) => self.window(done),
        }
        .map(SendStep::Send)
    }
}

/// What a client is told of a file that is not there for it.
pub fn refusal(code: ErrorCode, message: &str) -> Vec<u8> {
    Packet::Error { code, message: message.to_owned() }.encode()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tftp::{Limits, TftpReply, Transfer};
    use proptest::prelude::*;

    fn content(size: usize) -> Vec<u8> {
        (0..size).map(|at| (at % 251) as u8).collect()
    }

    fn options(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn of_the_options_what_is_sane_is_accepted() {
        for (asked, accepted) in [
            (&[("blksize", "1408"), ("TSIZE", "0")][..], &[("blksize", "1408"), ("TSIZE", "3000")][..]),
            (&[("blksize", "65464"), ("windowsize", "65535")], &[("blksize", "1468"), ("windowsize", "64")]),
            (&[("timeout", "3"), ("multicast", "1")], &[("timeout", "3")]),
            (&[("blksize", "7"), ("windowsize", "0"), ("timeout", "0"), ("timeout", "256")], &[]),
            (&[("blksize", "+512"), ("tsize", ""), ("tsize", "99999999999999999999999")], &[]),
            (&[("blksize", "1024"), ("BLKSIZE", "512")], &[("blksize", "1024")]),
        ] {
            assert_eq!(Terms::of(&options(asked), 3000).accepted, options(accepted), "{asked:?}");
        }
    }

    /// The agent's own client and this server, with every `drop`th datagram of each side lost.
    fn transfer(size: usize, with_options: bool, lost: &mut dyn FnMut() -> bool) -> Result<Vec<u8>, String> {
        let limits = Limits { max_bytes: 1 << 30, retries: 50, ..Limits::default() };
        let mut client = Transfer::new("a", limits, with_options).unwrap();
        let Ok(Packet::ReadRequest { options, .. }) = Packet::parse(client.request()) else { panic!() };
        let file = content(size);
        let mut server = Sending::new(file, size as u64, &options);
        let mut to_client: Vec<Vec<u8>> = server.first().unwrap();
        let mut to_server: Vec<Vec<u8>> = Vec::new();
        let mut is_whole = false;
        for _ in 0..1_000_000 {
            to_client.retain(|_| !lost());
            for datagram in std::mem::take(&mut to_client) {
                match client.on_datagram(&datagram).map_err(|e| e.to_string())? {
                    TftpReply::Send(ack) => to_server.push(ack),
                    TftpReply::Wait => {}
                    TftpReply::Done(ack) => {
                        is_whole = true;
                        to_server.push(ack);
                        break;
                    }
                }
            }
            to_server.retain(|_| !lost());
            if to_server.is_empty() {
                if is_whole {
                    return Ok(client.into_data());
                }
                if let TftpReply::Send(again) = client.on_timeout().map_err(|e| e.to_string())? {
                    to_server.push(again);
                }
                match server.on_timeout().unwrap() {
                    SendStep::Send(again) => to_client.extend(again),
                    step => return Err(format!("{step:?}")),
                }
            }
            for datagram in std::mem::take(&mut to_server) {
                match server.on_datagram(&datagram).unwrap() {
                    SendStep::Send(more) => to_client.extend(more),
                    SendStep::Wait => {}
                    SendStep::Done => return Ok(client.into_data()),
                    SendStep::Failed(why) => return Err(why),
                }
            }
        }
        Err("it does not end".into())
    }

    #[test]
    fn files_of_all_sizes_arrive_whole() {
        // The last is longer than the numbers of blocks.
        for size in [0, 1, 511, 512, 513, 1408, 4 * 1408, 60_000, 66_000 * 512] {
            for with_options in [false, true] {
                let got = transfer(size, with_options, &mut || false);
                assert!(got == Ok(content(size)), "{size} {with_options}");
            }
        }
    }

    #[test]
    fn nobody_there_is_asked_a_bounded_number_of_times() {
        let mut server = Sending::new(vec![0u8; 9000], 9000, &[]);
        let mut sent = server.first().unwrap();
        let mut waited = Duration::ZERO;
        loop {
            waited += server.wait();
            match server.on_timeout().unwrap() {
                SendStep::Send(again) => sent.extend(again),
                SendStep::Failed(why) => break assert!(why.contains("after 0 of 18 blocks"), "{why}"),
                step => panic!("{step:?}"),
            }
        }
        assert_eq!((sent.len(), waited), (5, Duration::from_secs(1 + 2 + 4 + 8 + 8)));
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let mut server = Sending::new(vec![0u8; 100], 9000, &[]);
        assert!(server.first().is_err());
    }

    #[test]
    fn doubled_acknowledgements_do_not_double_the_traffic() {
        let ack = |block: u16| Packet::Ack { block }.encode();
        let mut plain = Sending::new(vec![0u8; 9000], 9000, &[]);
        plain.first().unwrap();
        assert!(matches!(plain.on_datagram(&ack(1)).unwrap(), SendStep::Send(sent) if sent.len() == 1));
        assert_eq!(plain.on_datagram(&ack(1)).unwrap(), SendStep::Wait);
        assert_eq!(plain.on_datagram(&ack(9)).unwrap(), SendStep::Wait, "never sent");
        let mut windows = Sending::new(vec![0u8; 9000], 9000, &options(&[("windowsize", "4")]));
        assert_eq!(windows.on_datagram(&ack(1)).unwrap(), SendStep::Wait, "options first");
        let sent = |step| if let SendStep::Send(sent) = step { sent.len() } else { 0 };
        assert_eq!(sent(windows.on_datagram(&ack(0)).unwrap()), 4);
        assert_eq!(
            sent(windows.on_datagram(&ack(2)).unwrap()),
            4,
            "the third was lost: the window begins there"
        );
        assert_eq!(sent(windows.on_datagram(&ack(2)).unwrap()), 4, "and again, once");
        assert_eq!(sent(windows.on_datagram(&ack(2)).unwrap()), 0);
        assert_eq!(
            windows.on_datagram(&refusal(ErrorCode(8), "no")).unwrap(),
            SendStep::Failed("the machine ends it: error 8, no".into())
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_lost_comes_again(size in 0usize..20_000, with_options in any::<bool>(), seed in any::<u64>()) {
            let mut state = seed | 1;
            let mut lost = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % 10 == 0
            };
            let got = transfer(size, with_options, &mut lost);
            prop_assert!(got == Ok(content(size)), "{:?}", got.map(|bytes| bytes.len()));
        }

        #[test]
        fn any_datagrams_are_survived(datagrams in prop::collection::vec(any::<Vec<u8>>(), 0..20), acks in prop::collection::vec(any::<u16>(), 0..40)) {
            let mut server = Sending::new(vec![7u8; 5000], 5000, &options(&[("windowsize", "3")]));
            for datagram in datagrams {
                server.on_datagram(&datagram).unwrap();
            }
            for block in acks {
                if let SendStep::Send(sent) = server.on_datagram(&Packet::Ack { block }.encode()).unwrap() {
                    prop_assert!(sent.len() <= 3);
                }
            }
        }
    }
}
