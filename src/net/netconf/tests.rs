//! What DHCP clients write.

use super::*;
use proptest::prelude::*;

const CONF: &str = "DEVICE='enp0s2'\nPROTO='dhcp'\nIPV4ADDR='10.0.2.15'\nIPV4BROADCAST='10.0.2.255'\n\
    IPV4NETMASK='255.255.255.0'\nIPV4GATEWAY='10.0.2.2'\nIPV4DNS0='10.0.2.3'\nIPV4DNS1='0.0.0.0'\n\
    HOSTNAME='tb1'\nDNSDOMAIN='lab.example'\nNISDOMAIN=''\nROOTSERVER='10.0.2.4'\nROOTPATH=''\n\
    filename='bios/pxelinux.0'\nUPTIME='4'\nDHCPLEASETIME='86400'\nDOMAINSEARCH=''\n";

#[test]
fn the_file_that_ipconfig_writes() {
    let conf = NetConf::parse(CONF);
    let expected = NetConf {
        device: Some("enp0s2".into()),
        address: Some(Ipv4Addr::new(10, 0, 2, 15)),
        netmask: Some(Ipv4Addr::new(255, 255, 255, 0)),
        gateway: Some(Ipv4Addr::new(10, 0, 2, 2)),
        dns: vec![Ipv4Addr::new(10, 0, 2, 3)],
        boot_server: Some(Ipv4Addr::new(10, 0, 2, 4)),
        hostname: Some("tb1".parse().unwrap()),
        domain: Some("lab.example".parse().unwrap()),
        filename: Some("bios/pxelinux.0".into()),
        // A second before what the file says, which is rounded up.
        leased: Some((Duration::from_secs(3), Term::For(Duration::from_secs(86_400)))),
    };
    assert_eq!(conf, expected);
}

#[test]
fn whether_a_lease_must_be_renewed_and_when_it_ends() {
    let since = Duration::from_secs(6);
    let of = |term| Some((since, term));
    for (text, leased) in [
        ("PROTO='dhcp'\nUPTIME='7'\nDHCPLEASETIME='120'", of(Term::For(Duration::from_secs(120)))),
        ("PROTO='dhcp'\nUPTIME='7'\nDHCPLEASETIME='4294967295'", of(Term::Forever)),
        ("PROTO='dhcp'\nUPTIME='7'\nDHCPLEASETIME='-1'", of(Term::Forever)),
        ("PROTO='dhcp'\nUPTIME='7'\nDHCPLEASETIME='0'", of(Term::Unknown)),
        ("PROTO='dhcp'\nUPTIME='7'\nDHCPLEASETIME='-7'", of(Term::Unknown)),
        ("PROTO='dhcp'\nUPTIME='7'", of(Term::Unknown)),
        // dhcpcd's: it says nothing of when, and its client identifier is not known.
        ("PROTO='dhcp'\nDHCPLEASETIME='120'", None),
        ("PROTO='none'\nUPTIME='7'\nDHCPLEASETIME='120'", None),
        ("UPTIME='7'\nDHCPLEASETIME='120'", None),
    ] {
        assert_eq!(NetConf::parse(text).leased, leased, "{text}");
    }
}

/// As klibc's ipconfig 2.0.12 writes it where DHCP gives classless routes.
#[test]
fn the_default_route_of_classless_routes_is_the_gateway() {
    let text = "IPV4ADDR='10.9.0.27'\nIPV4ROUTE0SUBNET='10.50.0.0/16'\nIPV4ROUTE0GATEWAY='10.9.0.2'\n\
        IPV4ROUTE1SUBNET='0.0.0.0/0'\nIPV4ROUTE1GATEWAY='10.9.0.1'\nIPV4DNS0='0.0.0.0'\n";
    assert_eq!(NetConf::parse(text).gateway, Some(Ipv4Addr::new(10, 9, 0, 1)));
    let without = text.replace("0.0.0.0/0", "10.60.0.0/16");
    assert_eq!(NetConf::parse(&without).gateway, None);
}

/// As dhcpcd's hook of initramfs-tools writes it (Ubuntu from 24.04 on): lists, no second DNS variable, and the
/// routers for a boot server.
#[test]
fn the_file_that_dhcpcd_writes() {
    let text = "DEVICE='enp0s2'\nPROTO='dhcp'\nIPV4ADDR='10.0.2.15'\nIPV4BROADCAST='10.0.2.255'\n\
        IPV4NETMASK='255.255.255.0'\nIPV4GATEWAY='10.0.2.2 10.0.2.1'\nIPV4DNS0='10.0.2.3 10.0.2.4 10.0.2.5'\n\
        HOSTNAME='tb1'\nDNSDOMAIN='lab.example'\nROOTSERVER='10.0.2.2 10.0.2.1'\nfilename='pxelinux.0'\n\
        DHCPLEASETIME='600'\nDOMAINSEARCH=''\n";
    let conf = NetConf::parse(text);
    let ip = |last| Ipv4Addr::new(10, 0, 2, last);
    assert_eq!((conf.gateway, conf.boot_server), (Some(ip(2)), Some(ip(2))));
    assert_eq!(conf.dns, [ip(3), ip(4), ip(5)]);
    assert!(conf.is_on_link(ip(9)) && !conf.is_on_link(Ipv4Addr::new(10, 0, 3, 9)));
    assert_eq!(NetConf::parse("IPV4GATEWAY=''\nIPV4DNS0=' x 0.0.0.0'"), NetConf::default());
}

/// A DHCP server chooses these texts: they must not become other variables, paths or host names.
#[test]
fn hostile_values_stay_inside_their_quotes() {
    // ipconfig writes ' as '\'' : a newline or quote in a value cannot begin another assignment.
    let text = "HOSTNAME='x\nIPV4ADDR=6.6.6.6'\nfilename='a'\\''\nROOTSERVER='\\''6.6.6.6'\nDEVICE='../x'\n";
    assert_eq!(NetConf::parse(text), NetConf::default());
    let text = "HOSTNAME='$(reboot)'\nDNSDOMAIN='a;b'\nDEVICE='a b'\nIPV4ADDR='1.2.3'\nIPV4DNS0='x'\n";
    assert_eq!(NetConf::parse(text), NetConf::default());
    for nic in ["..", ".", "a/b", "abcdefghijklmnop"] {
        assert_eq!(NetConf::parse(&format!("DEVICE='{nic}'")).device, None, "{nic}");
    }
    assert_eq!(NetConf::parse("IPV4ADDR='10.0.0.1\nROOTSERVER='10.0.0.2'").address, None);
}

#[test]
fn every_way_to_quote() {
    for (text, value) in [
        ("HOSTNAME=a", "a"),
        ("HOSTNAME=\"a\"", "a"),
        ("HOSTNAME='a'\"b\"c\\d", "abcd"),
        ("X=1; HOSTNAME=a;", "a"),
        ("HOSTNAME=a\nHOSTNAME=b", "b"),
    ] {
        assert_eq!(NetConf::parse(text).hostname.unwrap().as_str(), value, "{text}");
    }
    assert_eq!(NetConf::parse("filename=\"a\\\"b\\\\c\"").filename.unwrap(), "a\"b\\c");
}

#[test]
fn ip_words() {
    assert_eq!("dhcp".parse(), Ok(IpWord::Dhcp));
    assert_eq!("off".parse(), Ok(IpWord::Off));
    let word: IpWord = "10.1.2.3:10.0.0.1:10.1.0.1:255.255.0.0:maintenance:".parse().unwrap();
    let conf = word.netconf();
    assert_eq!(conf.address, Some(Ipv4Addr::new(10, 1, 2, 3)));
    assert_eq!(conf.boot_server, Some(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!((conf.device, conf.hostname), (None, Some("maintenance".parse().unwrap())));
    let nine: IpWord = ":::::eth0:dhcp:10.0.0.8:10.0.0.9".parse().unwrap();
    assert_eq!((nine.netconf().device.as_deref(), nine.netconf().dns.len()), (Some("eth0"), 2));
    for bad in ["eth0", "10.1.2:::", "a:b", "::::a_b:", ":::::../x:", "1:2:3:4:5:6:7:8:9:10:11"] {
        assert!(bad.parse::<IpWord>().is_err(), "{bad}");
    }
}

/// Six fields, empty NIC, and only where server, gateway and netmask are all known.
#[test]
fn the_word_that_arm_writes() {
    let ip = |n| Ipv4Addr::new(10, 0, 0, n);
    let host: HostName = "maintenance".parse().unwrap();
    let full = IpWord::for_machine(ip(9), Some(ip(1)), Some(ip(2)), Some(ip(3)), host.clone());
    assert_eq!(full.to_string(), "10.0.0.9:10.0.0.1:10.0.0.2:10.0.0.3:maintenance:");
    for (server, gateway, netmask) in
        [(None, Some(ip(2)), Some(ip(3))), (Some(ip(1)), None, Some(ip(3))), (Some(ip(1)), Some(ip(2)), None)]
    {
        assert_eq!(IpWord::for_machine(ip(9), server, gateway, netmask, host.clone()), IpWord::Dhcp);
    }
}

proptest! {
    #[test]
    fn never_panics(text in any::<String>(), near in "([A-Z0-9]{0,9}=?['\"\\\\a0. \n]{0,12}){0,6}") {
        let _ = (NetConf::parse(&text), NetConf::parse(&near), text.parse::<IpWord>(), near.parse::<IpWord>());
    }

    /// Quoted as ipconfig quotes, no value leaks into another variable.
    #[test]
    fn quoting_of_ipconfig_is_undone(value in any::<String>()) {
        let quoted = value.replace('\'', "'\\''").replace('!', "'\\!'");
        let text = format!("ROOTPATH='{quoted}'\nIPV4ADDR='10.0.0.7'\n");
        let expected = NetConf { address: Some(Ipv4Addr::new(10, 0, 0, 7)), ..NetConf::default() };
        prop_assert_eq!(NetConf::parse(&text), expected);
    }

    #[test]
    fn display_parses_back(a in any::<u32>(), b in any::<u32>(), nic in "([a-z]{2,8}[0-9])?") {
        let fields = IpFields {
            client: unset_is_none(a.into()),
            server: unset_is_none(b.into()),
            device: (!nic.is_empty()).then_some(nic),
            ..IpFields::default()
        };
        let word = IpWord::Fields(fields);
        prop_assert_eq!(word.to_string().parse(), Ok(word));
    }
}
