//! One read transfer as a state machine: datagrams and timeouts in, datagrams out, no I/O.

use super::packet::{ErrorCode, Packet};
use crate::text::{quoted, quoted_within};
use std::time::Duration;

/// Block size in bytes of a server without options (RFC 1350).
const PLAIN_BLOCK: usize = 512;
/// Block size in bytes that we ask for: fits an Ethernet frame with room for a tunnel's header.
const WANTED_BLOCK: usize = 1408;
/// Blocks in flight that we ask for (RFC 7440).
const WANTED_WINDOW: usize = 4;
/// Longest request in bytes: what every server can take.
const REQUEST_MAX: usize = 512;
/// Characters of a server's error text that are kept: the reason stands behind the whole path of the file.
const SAID_MAX: usize = 200;

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
    /// The server has no such file, or says something that may mean this.
    #[error("the server has no such file{}", reason(*code, said))]
    NotFound {
        /// TFTP error code.
        code: u16,
        /// The server's text, quoted.
        said: String,
    },
    /// The server ended the transfer.
    #[error("the server refuses: error {code}, {message}")]
    Refused {
        /// TFTP error code.
        code: u16,
        /// The server's text, quoted.
        message: String,
    },
    /// The server refuses the options that we asked for (RFC 2347); a request without any may succeed.
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
    Io(std::io::Error),
}

/// Not `#[from]`, which would make it the source too, and what its text says be said twice.
impl From<std::io::Error> for TftpError {
    fn from(e: std::io::Error) -> Self {
        TftpError::Io(e)
    }
}

impl TftpError {
    /// What the server said where it gave no file for another reason, perhaps, than that there is none: dnsmasq says so
    /// of a file that it may not read, and tftpd-hpa does.
    pub fn refusal(&self) -> Option<String> {
        match self {
            TftpError::NotFound { code, said } if !is_plainly_absent(*code, said) => {
                Some(format!("error {code}, {said}"))
            }
            _ => None,
        }
    }
}

/// RFC 1350 has one code for a file that is not there; some servers have one code for everything.
fn is_plainly_absent(code: u16, said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    ErrorCode(code) == ErrorCode::NOT_FOUND
        && (said == "''" || ["not found", "no such"].iter().any(|words| said.contains(words)))
}

fn reason(code: u16, said: &str) -> String {
    if is_plainly_absent(code, said) {
        String::new()
    } else {
        format!(", or may not read it: error {code}, {said}")
    }
}

/// What to do after a datagram or a timeout.
#[derive(Debug, PartialEq, Eq)]
pub enum TftpReply {
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
    ///
    /// # Errors
    /// The name has a NUL or is too long for a request.
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

    /// True once a block has arrived. What fails before that with options may work without: servers, and firewalls
    /// between, answer options in ways that no RFC has, or not at all.
    pub fn has_begun(&self) -> bool {
        self.blocks > 0
    }

    /// The read request.
    pub fn request(&self) -> &[u8] {
        &self.last_sent
    }

    /// How long to wait for a datagram.
    pub(super) fn timeout(&self) -> Duration {
        self.limits.timeout
    }

    /// The file, once [`TftpReply::Done`] came.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// Nothing arrived for [`Limits::timeout`]: the last datagram again, until the retries are used up.
    ///
    /// # Errors
    /// [`TftpError::Timeout`].
    pub fn on_timeout(&mut self) -> Result<TftpReply, TftpError> {
        if self.retries >= self.limits.retries {
            return Err(TftpError::Timeout);
        }
        self.retries += 1;
        self.resyncing = false;
        if self.unacknowledged > 0 {
            return Ok(self.acknowledge());
        }
        Ok(TftpReply::Send(self.last_sent.clone()))
    }

    /// A datagram from the server. An error is final; `error_packet` is what to tell the server.
    ///
    /// # Errors
    /// The server's own error, or what was wrong with its answer.
    pub fn on_datagram(&mut self, bytes: &[u8]) -> Result<TftpReply, TftpError> {
        let packet = Packet::parse(bytes).map_err(|e| TftpError::Protocol(e.to_string()))?;
        match packet {
            Packet::Data { block, data } => self.on_data(block, data),
            Packet::OptionAck { options } => self.on_options(&options),
            Packet::Error { code: ErrorCode::NOT_FOUND, message } => {
                Err(TftpError::NotFound { code: ErrorCode::NOT_FOUND.0, said: said(&message) })
            }
            Packet::Error { code: ErrorCode::OPTIONS, .. } if self.with_options && !self.started => {
                Err(TftpError::OptionsRefused)
            }
            Packet::Error { code, message } => {
                Err(TftpError::Refused { code: code.0, message: said(&message) })
            }
            Packet::ReadRequest { .. } | Packet::Ack { .. } => {
                Err(TftpError::Protocol("a packet that only a client sends".to_owned()))
            }
        }
    }

    fn acknowledge(&mut self) -> TftpReply {
        self.unacknowledged = 0;
        // Block numbers wrap: 65536 is block 0 on the wire.
        let block = (self.blocks & 0xffff) as u16;
        self.last_sent = Packet::Ack { block }.encode();
        TftpReply::Send(self.last_sent.clone())
    }

    fn on_options(&mut self, options: &[(String, String)]) -> Result<TftpReply, TftpError> {
        if self.started {
            // Our acknowledgement of them was lost, or this is an echo.
            let repeat = self.blocks == 0 && self.last_sent == (Packet::Ack { block: 0 }).encode();
            return Ok(if repeat { TftpReply::Send(self.last_sent.clone()) } else { TftpReply::Wait });
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

    fn on_data(&mut self, block: u16, data: &[u8]) -> Result<TftpReply, TftpError> {
        let expected = (self.blocks.wrapping_add(1) & 0xffff) as u16;
        if block != expected {
            if !self.started {
                return Err(TftpError::Protocol(format!("the first block has number {block}")));
            }
            // Lost, doubled or overtaken: say once where we are (RFC 7440 section 4), the server goes on from there.
            if self.resyncing {
                return Ok(TftpReply::Wait);
            }
            self.resyncing = true;
            return Ok(self.acknowledge());
        }
        if data.len() > self.block_size {
            return Err(TftpError::Protocol(format!("a block of {} bytes", data.len())));
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
            return Ok(TftpReply::Done(self.last_sent.clone()));
        }
        Ok(if self.unacknowledged >= self.window { self.acknowledge() } else { TftpReply::Wait })
    }
}

fn said(message: &str) -> String {
    quoted_within(SAID_MAX, message)
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
pub(super) mod tests;
