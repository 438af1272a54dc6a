//! Servers that answer as public bug reports say.
#![allow(clippy::unwrap_used)]

use super::{ErrorCode, Limits, Packet, TftpClient, TftpError};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::Duration;

/// What a server does with a request that has options. A plain one it serves as RFC 1350 has it.
#[derive(Clone, Copy, Debug)]
enum Odd {
    /// Accepts these, and sends blocks of this many bytes.
    Accepts(&'static [(&'static str, &'static str)], usize),
    /// Ends the transfer with this error.
    Refuses(u16),
    /// A firewall, or a server that is very old.
    Silent,
    /// Sends an option acknowledgement without its last byte.
    CutsTheAnswer,
    /// Takes no notice of them.
    Ignores,
    /// Sends the acknowledgement twice.
    Twice,
    /// Acknowledges them and never sends a block, because blocks so large do not come through.
    AcceptsAndIsSilent,
}

/// How it sends blocks, whatever was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum BlocksSent {
    Once,
    /// Each one twice.
    Doubled,
    /// Each one again with a byte too many.
    Padded,
}

#[derive(Clone, Copy)]
struct Server {
    odd: Odd,
    blocks: BlocksSent,
    /// The address that it answers from.
    from: Ipv4Addr,
    /// The error for every file: it has none.
    error: Option<u16>,
}

const PLAIN: Server =
    Server { odd: Odd::Ignores, blocks: BlocksSent::Once, from: Ipv4Addr::LOCALHOST, error: None };

fn file() -> Vec<u8> {
    b"hello".repeat(400)
}

fn bind(ip: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket
}

fn options(of: &[(&str, &str)]) -> Vec<u8> {
    let options = of.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Packet::OptionAck { options }.encode()
}

impl Server {
    /// Serves until nobody has asked for a while; how many requests came is the result of the thread.
    fn start(self) -> (SocketAddrV4, thread::JoinHandle<u32>) {
        let listener = bind(Ipv4Addr::LOCALHOST);
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else { panic!("not IPv4") };
        let run = move || {
            let mut requests = 0;
            let mut buffer = [0; 2048];
            while let Ok((len, client)) = listener.recv_from(&mut buffer) {
                let Ok(Packet::ReadRequest { options, .. }) = Packet::parse(&buffer[..len]) else { continue };
                requests += 1;
                let socket = bind(self.from);
                socket.connect(client).unwrap();
                self.answer(&socket, !options.is_empty());
            }
            requests
        };
        (address, thread::spawn(run))
    }

    fn answer(self, socket: &UdpSocket, has_options: bool) {
        let error = |code| Packet::Error { code: ErrorCode(code), message: "no".into() }.encode();
        if let Some(code) = self.error {
            socket.send(&error(code)).unwrap();
            return;
        }
        let is_acknowledged = |times: usize, answer: &[u8]| {
            (0..times).for_each(|_| drop(socket.send(answer)));
            matches!(receive(socket).as_deref().map(Packet::parse), Some(Ok(Packet::Ack { block: 0 })))
        };
        match self.odd {
            _ if !has_options => self.send(socket, 512),
            Odd::Ignores => self.send(socket, 512),
            Odd::Accepts(which, size) if is_acknowledged(1, &options(which)) => self.send(socket, size),
            Odd::Twice if is_acknowledged(2, &options(&[("blksize", "1024")])) => self.send(socket, 1024),
            Odd::AcceptsAndIsSilent => drop(is_acknowledged(1, &options(&[("blksize", "1408")]))),
            Odd::Refuses(code) => drop(socket.send(&error(code))),
            Odd::CutsTheAnswer => {
                let whole = options(&[("blksize", "1408")]);
                is_acknowledged(1, &whole[..whole.len() - 1]);
            }
            Odd::Silent | Odd::Accepts(..) | Odd::Twice => {}
        }
    }

    fn send(self, socket: &UdpSocket, size: usize) {
        let file = file();
        for number in 1..=file.len() / size + 1 {
            let data = &file[(number - 1) * size..file.len().min(number * size)];
            let block = Packet::Data { block: number as u16, data }.encode();
            let again = match self.blocks {
                BlocksSent::Once => Vec::new(),
                BlocksSent::Doubled => block.clone(),
                BlocksSent::Padded => [block.as_slice(), b"\0"].concat(),
            };
            [block, again]
                .iter()
                .filter(|bytes| !bytes.is_empty())
                .for_each(|bytes| drop(socket.send(bytes)));
            loop {
                match receive(socket).as_deref().map(Packet::parse) {
                    Some(Ok(Packet::Ack { block })) if block == number as u16 => break,
                    Some(Ok(Packet::Ack { .. })) => {}
                    _ => return,
                }
            }
        }
    }
}

fn receive(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    let len = socket.recv(&mut buffer).ok()?;
    Some(buffer[..len].to_vec())
}

fn client() -> TftpClient {
    // Short, so that silence is over soon; enough retries for a busy machine.
    TftpClient::new(Limits { timeout: Duration::from_millis(100), retries: 30, ..Limits::default() })
}

#[test]
fn every_odd_server_gives_its_file() {
    let with = |odd| Server { odd, ..PLAIN };
    for (name, server) in [
        (
            "an option that nobody asked for",
            with(Odd::Accepts(&[("blksize", "1408"), ("rollover", "0")], 1408)),
        ),
        ("a larger block size", with(Odd::Accepts(&[("blksize", "1456")], 1456))),
        ("a timeout of its own", with(Odd::Accepts(&[("blksize", "1408"), ("timeout", "5")], 1408))),
        ("an empty tsize", with(Odd::Accepts(&[("tsize", ""), ("blksize", "1408")], 1408))),
        ("a negative tsize", with(Odd::Accepts(&[("tsize", "-1"), ("blksize", "1408")], 1408))),
        ("a tsize with a space", with(Odd::Accepts(&[("tsize", "2000 "), ("blksize", "1408")], 1408))),
        ("a tsize that is wrong", with(Odd::Accepts(&[("tsize", "99999999"), ("blksize", "1408")], 1408))),
        ("names in upper case", with(Odd::Accepts(&[("BLKSIZE", "1408"), ("TSIZE", "2000")], 1408))),
        ("a large window", with(Odd::Accepts(&[("windowsize", "64")], 512))),
        ("multicast", with(Odd::Accepts(&[("multicast", ","), ("blksize", "1408")], 1408))),
        ("an acknowledgement that comes twice", with(Odd::Twice)),
        ("an acknowledgement that is cut", with(Odd::CutsTheAnswer)),
        ("error 8", with(Odd::Refuses(8))),
        ("error 0", with(Odd::Refuses(0))),
        ("error 2", with(Odd::Refuses(2))),
        ("error 4", with(Odd::Refuses(4))),
        ("no answer to options", with(Odd::Silent)),
        ("large blocks do not come through", with(Odd::AcceptsAndIsSilent)),
        ("no options", with(Odd::Ignores)),
        ("blocks doubled", Server { blocks: BlocksSent::Doubled, ..PLAIN }),
        ("blocks again with a byte too many", Server { blocks: BlocksSent::Padded, ..PLAIN }),
        ("another address", Server { from: Ipv4Addr::new(127, 0, 0, 2), ..PLAIN }),
    ] {
        let (address, _thread) = server.start();
        let read = client().fetch(address, "f").map_err(|e| e.to_string());
        assert_eq!(read, Ok(file()), "{name}");
    }
}

#[test]
fn not_found_comes_as_error_0_1_or_2() {
    for (code, found) in [(0, true), (1, true), (2, true), (3, false), (7, false)] {
        for from in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)] {
            let (address, _thread) = Server { error: Some(code), from, ..PLAIN }.start();
            let error = client().fetch(address, "f").unwrap_err();
            assert_eq!(matches!(error, TftpError::NotFound { .. }), found, "error {code}: {error}");
        }
    }
}

#[test]
fn a_server_that_wants_no_options_is_asked_plainly_at_once() {
    let (address, thread) = Server { odd: Odd::Refuses(8), ..PLAIN }.start();
    let client = client();
    for _ in 0..3 {
        assert_eq!(client.fetch(address, "f").unwrap(), file());
    }
    assert_eq!(thread.join().unwrap(), 4, "one request with options, three without");
}
