//! A lease, and whatever comes to the client's port while it is kept.

use std::net::Ipv4Addr;
use std::time::Duration;
use testbox::net::dhcp::{DhcpAnswer, DhcpClient, DhcpLease, DhcpNews, DhcpRequest, Term};
use testbox::types::MacAddr;

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const MINE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);

/// The bytes are datagrams of up to 512 bytes, made answers to what was asked last; each comes when something is due.
pub fn dhcp(bytes: &[u8]) {
    let request = DhcpRequest { xid: 0, secs: 0, mac: MAC, address: MINE };
    if let Some(reply) = request.answer(bytes)
        && let DhcpAnswer::Nak(Some(text)) = reply.answer
    {
        assert!(text.chars().all(|c| !c.is_control()) && text.len() < 2000, "{text:?}");
    }
    let lease =
        DhcpLease { device: "eth0".into(), mac: MAC, address: MINE, since: Duration::ZERO, term: TERM };
    let mut client = DhcpClient::new(lease, Duration::ZERO);
    let (mut now, mut is_lost) = (Duration::ZERO, false);
    for chunk in bytes.chunks(512) {
        if client.wake() == Duration::MAX {
            // A lease for ever: nothing is ever due, and that moment does not come.
            break;
        }
        now = now.max(client.wake());
        let end = client.end();
        let (sent, news) = client.due(now, 7);
        assert!(!is_lost || (sent.is_none() && news.is_none()), "it speaks after the end");
        is_lost |= matches!(news, Some(DhcpNews::Lost(_)));
        assert!(sent.is_none() || end.is_none_or(|end| now < end), "asked after the end");
        let mut datagram = chunk.to_vec();
        for (at, bytes) in [(0, &[2, 1, 6][..]), (4, &[0, 0, 0, 7]), (28, &MAC.0), (236, &[99, 130, 83, 99])]
        {
            if let Some(field) = datagram.get_mut(at..at + bytes.len()) {
                field.copy_from_slice(bytes);
            }
        }
        let news = client.received(now, &datagram);
        assert!(!is_lost || news.is_none(), "it hears after the end");
        is_lost |= matches!(news, Some(DhcpNews::Lost(_)));
        assert!(is_lost || client.wake() > now || sent.is_none(), "a flood of requests");
    }
}

const TERM: Term = Term::For(Duration::from_secs(600));
