use super::super::message::tests::{MAC, MINE, reply, terms};
use super::*;
use proptest::prelude::*;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const EVERYBODY: Ipv4Addr = Ipv4Addr::BROADCAST;
const ACK: u8 = 5;
const NAK: u8 = 6;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn lease(seconds: u64) -> DhcpLease {
    let term = Term::For(s(seconds));
    DhcpLease { device: "eth0".into(), mac: MAC, address: MINE, since: s(100), term }
}

/// A client, its clock, and what it does.
struct Bench {
    client: DhcpClient,
    now: Duration,
    xid: u32,
}

impl Bench {
    fn new(lease: DhcpLease, now: u64) -> Bench {
        Bench { client: DhcpClient::new(lease, s(now)), now: s(now), xid: 7 }
    }

    /// A client whose lease of 120 s by [`SERVER`] was renewed at 110: T1 is 170, T2 215, the end 230.
    fn renewed() -> Bench {
        let mut bench = Bench::new(lease(120), 110);
        assert_eq!(bench.due(), (Some(EVERYBODY), None));
        let known = DhcpNews::Known { server: Some(SERVER), term: Term::For(s(120)) };
        assert_eq!(bench.hear(ACK, MINE, &terms(120, 60, 105)), Some(known));
        bench
    }

    /// Whom it asks now, and what it says.
    fn due(&mut self) -> (Option<Ipv4Addr>, Option<DhcpNews>) {
        self.xid += 1;
        let (sent, news) = self.client.due(self.now, self.xid);
        (sent.map(|(to, _)| to), news)
    }

    /// The same at the next moment at which something is due.
    fn next(&mut self) -> (u64, Option<Ipv4Addr>, Option<DhcpNews>) {
        self.now = self.client.wake();
        let (to, news) = self.due();
        (self.now.as_secs(), to, news)
    }

    fn hear(&mut self, kind: u8, address: Ipv4Addr, options: &[u8]) -> Option<DhcpNews> {
        let xid = self.client.asked.map_or(0, |asked| asked.request.xid);
        self.client.received(self.now, &reply(xid, kind, address, options))
    }
}

fn server_id(server: Ipv4Addr) -> Vec<u8> {
    let mut option = vec![54, 4];
    option.extend(server.octets());
    option
}

/// The whole life of a lease that nobody renews.
#[test]
fn t1_asks_the_server_t2_everybody_and_the_end_is_the_end() {
    let mut bench = Bench::renewed();
    assert_eq!(bench.next(), (170, Some(SERVER), None));
    assert_eq!(bench.next(), (192, Some(SERVER), Some(DhcpNews::Silent(Some(s(230) - bench.now)))));
    let mut asked = Vec::new();
    let (end, lost) = loop {
        match bench.next() {
            (at, Some(to), None) => asked.push((at, to)),
            (at, None, news) => break (at, news),
            odd => panic!("{odd:?}"),
        }
    };
    assert!(asked.iter().all(|(at, to)| *to == if *at < 215 { SERVER } else { EVERYBODY }), "{asked:?}");
    assert!(asked.iter().any(|(_, to)| *to == EVERYBODY) && asked.len() < 10, "{asked:?}");
    assert_eq!((end, lost), (230, Some(DhcpNews::Lost(Lost::Expired))));
    assert_eq!(bench.due(), (None, None), "said once");
    assert_eq!(bench.hear(ACK, MINE, &terms(120, 60, 105)), None, "too late");
}

#[test]
fn an_answer_begins_the_next_lease_from_its_request_on() {
    let mut bench = Bench::renewed();
    assert_eq!(bench.next().0, 170);
    bench.now = s(175);
    assert_eq!(bench.hear(ACK, MINE, &terms(120, 60, 105)), Some(DhcpNews::Renewed));
    assert_eq!((bench.client.end(), bench.client.wake()), (Some(s(290)), s(230)));
    // Silence, and then an answer to the broadcast, by another server: from now on that one is asked.
    while bench.next().1 != Some(EVERYBODY) {}
    let mut options = terms(120, 60, 105);
    options[2..6].copy_from_slice(&STRANGER.octets());
    assert_eq!(bench.hear(ACK, MINE, &options), Some(DhcpNews::Back(Some(STRANGER))));
    assert_eq!(bench.next().1, Some(STRANGER));
}

#[test]
fn a_server_that_gives_no_identifier_is_asked_by_broadcast() {
    let mut bench = Bench::new(lease(120), 110);
    bench.due();
    let known = DhcpNews::Known { server: None, term: Term::For(s(120)) };
    assert_eq!(bench.hear(ACK, MINE, &terms(120, 60, 105)[6..]), Some(known));
    assert_eq!(bench.next(), (170, Some(EVERYBODY), None));
}

#[test]
fn a_refusal_by_the_server_of_the_lease_counts_at_once() {
    let other = Ipv4Addr::new(10, 9, 0, 7);
    for (kind, address, lost) in [
        (NAK, Ipv4Addr::UNSPECIFIED, Lost::Refused(Some(SERVER), None)),
        (ACK, other, Lost::Other(Some(SERVER), other)),
    ] {
        let mut bench = Bench::renewed();
        bench.next();
        assert_eq!(bench.hear(kind, address, &server_id(SERVER)), Some(DhcpNews::Lost(lost)));
    }
}

/// Whoever hears a broadcast may refuse; the server of the lease is given time to say otherwise.
#[test]
fn a_refusal_by_a_stranger_counts_unless_it_is_contradicted() {
    let refused = Lost::Refused(Some(STRANGER), None);
    for is_contradicted in [false, true] {
        let mut bench = Bench::new(lease(600), 110);
        bench.due();
        assert_eq!(bench.hear(NAK, Ipv4Addr::UNSPECIFIED, &server_id(STRANGER)), None);
        if is_contradicted {
            bench.now += s(3);
            assert!(bench.hear(ACK, MINE, &terms(600, 300, 525)).is_some());
            assert_eq!(bench.next(), (410, Some(SERVER), None));
        } else {
            assert_eq!(bench.next(), (115, None, Some(DhcpNews::Lost(refused.clone()))));
        }
    }
}

#[test]
fn a_refusal_after_which_the_lease_ends_is_named_as_the_reason() {
    let mut bench = Bench::new(lease(12), 110);
    bench.due();
    bench.hear(NAK, Ipv4Addr::UNSPECIFIED, &[]);
    bench.now = s(112);
    assert_eq!(bench.due().1, Some(DhcpNews::Lost(Lost::Refused(None, None))));
}

#[test]
fn what_is_not_for_this_machine_changes_nothing() {
    let mut bench = Bench::renewed();
    assert_eq!(bench.hear(NAK, MINE, &server_id(SERVER)), None, "nothing was asked");
    bench.next();
    let xid = bench.client.asked.unwrap().request.xid;
    for (what, bytes) in [
        ("other transaction", reply(xid + 1, NAK, MINE, &[])),
        ("offer", reply(xid, 2, MINE, &[])),
        ("no time at all", reply(xid, ACK, MINE, &terms(0, 0, 0))),
        ("garbage", vec![0xff; 600]),
        ("nothing", Vec::new()),
    ] {
        assert_eq!(bench.client.received(bench.now, &bytes), None, "{what}");
    }
    assert_eq!(bench.hear(ACK, MINE, &terms(120, 60, 105)), Some(DhcpNews::Renewed));
}

#[test]
fn times_that_make_no_sense_are_replaced_by_those_of_the_rfc() {
    for (lease_time, t1, t2, expected) in [
        (120, 70, 100, (70, 100)),
        (120, 0, 0, (60, 105)),
        (120, 1, 1, (60, 105)),
        (120, 200, 300, (60, 105)),
        (120, 110, 105, (110, 110)),
        (120, 60, 120, (60, 105)),
        (86_400, 1, 86_399, (43_200, 86_399)),
        (86_400, 60, 60, (60, 60)),
    ] {
        let mut bench = Bench::new(lease(120), 110);
        bench.due();
        bench.hear(ACK, MINE, &terms(lease_time, t1, t2));
        let since = |time: Duration| (time - s(110)).as_secs();
        let seconds = (since(bench.client.t1), since(bench.client.t2));
        assert_eq!(seconds, expected, "{lease_time} {t1} {t2}");
    }
}

#[test]
fn a_lease_for_ever_is_never_renewed_an_unknown_one_never_ends() {
    let forever = DhcpLease { term: Term::Forever, ..lease(0) };
    let mut bench = Bench::new(forever, 110);
    bench.now = s(1 << 40);
    assert_eq!(bench.due(), (None, None));
    let mut bench = Bench::new(DhcpLease { term: Term::Unknown, ..lease(0) }, 110);
    for round in 0..200 {
        let (_, to, news) = bench.next();
        assert_eq!(to, Some(EVERYBODY), "round {round}: {news:?}");
        assert!(!matches!(news, Some(DhcpNews::Lost(_))));
    }
    assert!(bench.now < s(200_000) && bench.now > s(10_000), "{:?}", bench.now);
    // Until a server says for how long.
    bench.hear(ACK, MINE, &terms(FOREVER, 0, 0));
    assert_eq!((bench.client.end(), bench.client.wake()), (None, Duration::MAX));
}

#[test]
fn a_lease_that_ended_before_the_agent_came_is_lost_at_once() {
    assert_eq!(Bench::new(lease(4), 110).due(), (None, Some(DhcpNews::Lost(Lost::Expired))));
}

const FOREVER: u32 = super::super::FOREVER;

proptest! {
    /// Whatever a server says: time goes forward, requests are not a flood, and nothing is said after the end.
    #[test]
    fn whatever_servers_say_requests_are_few_and_the_end_is_kept(
        term in 1u64..100_000,
        answers in prop::collection::vec((0u8..8, any::<bool>(), 0u32..200_000, any::<u32>(), any::<u32>()), 0..60),
    ) {
        let mut bench = Bench::new(lease(term), 100);
        for (kind, mine, lease, t1, t2) in answers {
            let before = bench.now;
            let (at, to, news) = bench.next();
            if matches!(news, Some(DhcpNews::Lost(_))) {
                prop_assert_eq!(bench.next().1, None);
                return Ok(());
            }
            // A refusal by the server that gave it may have ended it before.
            prop_assert!(to.is_none() || bench.client.end().is_none_or(|end| bench.now < end), "asked after the end");
            prop_assert!(to.is_none() || !bench.client.is_lost, "asked for a lost address");
            if to.is_some() {
                bench.hear(kind, if mine { MINE } else { STRANGER }, &terms(lease, t1, t2));
            }
            prop_assert!(s(at) + s(1) >= before);
            prop_assert!(bench.client.wake() > bench.now || bench.client.is_lost || bench.client.asked.is_none());
        }
    }
}
