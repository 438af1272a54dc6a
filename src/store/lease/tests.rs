use super::*;
use crate::share::MemFiles;
use proptest::prelude::*;

fn holder(session: &str, mac: &str, uuid: Option<&str>) -> Holder {
    Holder {
        session: session.into(),
        uuid: uuid.map(Into::into),
        macs: vec![mac.into()],
        hostname: "box1".into(),
        action: "backup".into(),
        job: Some("j".into()),
    }
}

fn seen(number: u64, holder: &Holder, more: &[u8]) -> SeenLease {
    SeenLease { number, bytes: [&holder.to_bytes(), more].concat() }
}

/// Looks of one agent: when, what it sees, what it does.
#[test]
fn a_lease_is_taken_only_where_free_or_its_holder_is_silent() {
    use Next::{Claim, GiveWay, Watch};
    let me = holder("me", "a", Some("u"));
    let (own, other) = (holder("cut", "a", Some("u")), holder("x", "b", Some("u")));
    let third = holder("y", "c", None);
    type Look = (u64, Option<SeenLease>, Next);
    let rows: Vec<(&str, Vec<Look>)> = vec![
        ("there is none", vec![(0, None, Claim(1, After::Nobody))]),
        ("it was released", vec![(0, Some(seen(7, &other, RELEASED)), Claim(8, After::Nobody))]),
        (
            "released while it is watched",
            vec![
                (0, Some(seen(7, &other, b"..")), Watch(OTHER)),
                (5, Some(seen(7, &other, b"..\nreleased\n")), Claim(8, After::Nobody)),
            ],
        ),
        (
            "another machine that lives, however slowly",
            vec![
                (0, Some(seen(7, &other, b".")), Watch(OTHER)),
                (119, Some(seen(7, &other, b".")), Watch(OTHER)),
                (120, Some(seen(7, &other, b"..")), GiveWay),
            ],
        ),
        (
            "another machine that is dead",
            vec![
                (1000, Some(seen(7, &other, b".")), Watch(OTHER)),
                (1119, Some(seen(7, &other, b".")), Watch(OTHER)),
                (1120, Some(seen(7, &other, b".")), Claim(8, After::Another)),
            ],
        ),
        (
            "this machine before a power cut",
            vec![
                (0, Some(seen(7, &own, b".")), Watch(OWN)),
                (11, Some(seen(7, &own, b".")), Watch(OWN)),
                (12, Some(seen(7, &own, b".")), Claim(8, After::Itself)),
            ],
        ),
        (
            "a twin of this machine that lives",
            vec![(0, Some(seen(7, &own, b".")), Watch(OWN)), (3, Some(seen(7, &own, b"..")), GiveWay)],
        ),
        (
            "a dead one's lease that somebody else takes over",
            vec![(0, Some(seen(7, &other, b"")), Watch(OTHER)), (119, Some(seen(8, &third, b"")), GiveWay)],
        ),
        (
            "what no agent has written, or half of it",
            vec![
                (0, Some(SeenLease { number: 1, bytes: b"{\"session".to_vec() }), Watch(OTHER)),
                (120, Some(SeenLease { number: 1, bytes: b"{\"session".to_vec() }), Claim(2, After::Another)),
            ],
        ),
    ];
    for (what, looks) in rows {
        let mut watcher = Watcher::new(me.clone());
        let mut before: Option<Look> = None;
        for (now, lease, next) in looks {
            // A look each second: what lies between them does not count.
            if let Some((then, lease, next)) = before.take() {
                for between in then + 1..now {
                    let seen = watcher.look(lease.clone(), Duration::from_secs(between));
                    assert_eq!(seen, next, "{what}, at {between}");
                }
            }
            assert_eq!(watcher.look(lease.clone(), Duration::from_secs(now)), next, "{what}, at {now}");
            before = Some((now, lease, next));
        }
    }
}

/// When each look came back, and when the lease may be taken at the earliest; every look before that watches.
#[test]
fn time_in_which_the_watcher_was_blind_is_not_silence() {
    let me = holder("me", "a", None);
    let each = |from: u64, to: u64| (from..=to).collect::<Vec<_>>();
    let rows: Vec<(&str, &str, Vec<u64>, bool)> = vec![
        ("own", "a", each(0, 12), true),
        ("another's", "b", each(0, 120), true),
        ("one look, a minute late", "a", vec![0, 61], false),
        ("one look, an hour late", "b", vec![0, 3600], false),
        ("a minute blind at the end", "a", [each(0, 11), vec![71]].concat(), false),
        ("and as long again", "a", [each(0, 11), each(71, 82)].concat(), false),
        ("and seen all along", "a", [each(0, 11), each(71, 83)].concat(), true),
        ("every look takes too long", "a", (0..100).map(|n| n * 6).collect(), false),
        ("every look takes long, but not too long", "a", vec![0, 5, 10, 15], true),
        ("blind again and again", "b", [each(0, 119), each(126, 245), each(252, 371)].concat(), false),
    ];
    for (what, mac, looks, is_taken) in rows {
        let mut watcher = Watcher::new(me.clone());
        let (last, before) = looks.split_last().unwrap();
        let mut look =
            |at: u64| watcher.look(Some(seen(7, &holder("x", mac, None), b".")), Duration::from_secs(at));
        before.iter().for_each(|at| assert!(matches!(look(*at), Next::Watch(_)), "{what}, at {at}"));
        assert_eq!(matches!(look(*last), Next::Claim(8, _)), is_taken, "{what}");
    }
}

#[test]
fn a_machine_is_known_by_its_mac_unless_the_uuid_is_another() {
    for (mac, uuid, is_same) in [
        ("a", Some("u"), true),
        ("a", None, true),
        ("a", Some("v"), false),
        ("b", Some("u"), false),
        ("b", None, false),
    ] {
        let same = holder("me", "a", Some("u")).is_same_machine(&holder("x", mac, uuid));
        assert_eq!(same, is_same, "{mac} {uuid:?}");
    }
}

#[test]
fn the_highest_number_counts_and_hostile_names_are_none() {
    let files = MemFiles::new();
    assert_eq!(current(&files, "10.0.0.1/lease").unwrap(), None);
    for name in ["2", "10", "9", "claim-x", "+99", "18446744073709551615", "-1", "0x7", "011", "+12"] {
        files.put(&format!("10.0.0.1/lease/{name}"), name);
    }
    assert_eq!(current(&files, "10.0.0.1/lease").unwrap().unwrap().number, 10);
    files.put_special("10.0.0.1/lease/11");
    let special = current(&files, "10.0.0.1/lease").unwrap().unwrap();
    assert!(special.number == 11 && special.holder().is_none() && !special.is_released());
}

#[test]
fn a_hostile_holder_is_shown_short_without_control_characters() {
    let mut evil = holder("s", &"\u{1b}[2J".repeat(100), None);
    evil.hostname = "\u{9b}1m\n".repeat(1000);
    let text = evil.to_string();
    assert!(text.len() < 400 && text.chars().all(|c| !c.is_control()), "{text:?}");
}

proptest! {
    /// However looks come back: before a lease is taken it was seen not to change for long enough without a gap.
    #[test]
    fn a_lease_is_only_taken_after_silence_that_was_seen(gaps in proptest::collection::vec(0u64..9000, 1..200), mac in "[ab]") {
        let mut watcher = Watcher::new(holder("me", "a", None));
        let patience = if mac == "a" { OWN } else { OTHER };
        let (mut now, mut silent) = (Duration::ZERO, None);
        for gap in gaps {
            let gap = Duration::from_millis(gap);
            now += gap;
            let watched = match silent {
                Some(silent) if gap <= PROMPT => silent + gap,
                _ => Duration::ZERO,
            };
            silent = Some(watched);
            let next = watcher.look(Some(seen(7, &holder("x", &mac, None), b".")), now);
            prop_assert_eq!(matches!(next, Next::Claim(..)), watched >= patience);
            if watched >= patience {
                break;
            }
        }
    }

    /// Whatever stands in the folder: it is read, shown, and watched.
    #[test]
    fn never_panics(bytes in any::<Vec<u8>>(), near in "\\{\"session\":\"[a-z]{0,3}\",\"macs\":\\[\"a\"\\],.{0,40}") {
        for bytes in [bytes, near.into_bytes()] {
            let seen = SeenLease { number: 1, bytes };
            prop_assert!(seen.who().chars().all(|c| !c.is_control()));
            let mut watcher = Watcher::new(holder("me", "a", None));
            let is_free = seen.is_released();
            let next = watcher.look(Some(seen), Duration::ZERO);
            prop_assert_eq!(next == Next::Claim(2, After::Nobody), is_free);
        }
    }

    #[test]
    fn what_a_holder_writes_is_read_back(session in ".{0,20}", macs in proptest::collection::vec(".{0,20}", 0..3), beats in 0usize..9) {
        let holder = Holder { session, macs, ..holder("", "", None) };
        let seen = seen(1, &holder, &BEAT.repeat(beats));
        prop_assert_eq!(seen.holder(), Some(holder));
        prop_assert!(!seen.is_released());
    }
}
