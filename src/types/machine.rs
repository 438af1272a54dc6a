//! What tells one machine from another before it has an address: MAC and system UUID.

use super::ParameterError;
use crate::text::quoted;
use std::fmt;
use std::str::FromStr;

/// An Ethernet hardware address. Displays as `aa:bb:cc:dd:ee:ff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = ParameterError;

    /// Takes `aa:bb:cc:dd:ee:ff` (sysfs), the same with hyphens, and both with the ARP hardware type of Ethernet before
    /// them, as in `01-aa-bb-cc-dd-ee-ff` (PXELINUX's BOOTIF); in either case.
    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let wrong =
            || ParameterError::new(format!("{} is no Ethernet address aa:bb:cc:dd:ee:ff", quoted(text)));
        let bare = if text.len() == 20 {
            text.strip_prefix("01").and_then(|t| t.strip_prefix(['-', ':'])).ok_or_else(wrong)?
        } else {
            text
        };
        let separator = if bare.contains('-') { '-' } else { ':' };
        let mut octets = bare.split(separator).map(|o| match (o.len(), o.starts_with('+')) {
            (2, false) => u8::from_str_radix(o, 16).ok(),
            _ => None,
        });
        let mut mac = [0; 6];
        for octet in &mut mac {
            *octet = octets.next().flatten().ok_or_else(wrong)?;
        }
        if octets.next().is_some() { Err(wrong()) } else { Ok(MacAddr(mac)) }
    }
}

/// The system UUID of SMBIOS, in the byte order of its printed form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// The same UUID with its first three fields in the other byte order.
    ///
    /// PXELINUX prints the 16 bytes of DHCP option 97 as they come, which most firmware fills as SMBIOS holds
    /// them: little-endian. Linux prints `product_uuid` with those fields swapped (SMBIOS 2.6, section 7.2.1).
    pub fn swapped(self) -> Uuid {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        let [i, j, k, l, m, n, o, p] = rest;
        Uuid([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p])
    }

    /// False for the all-zero and all-one values that firmware reports when nobody set one (SMBIOS 7.2.1).
    pub fn is_set(self) -> bool {
        self.0 != [0; 16] && self.0 != [0xff; 16]
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Uuid {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let wrong =
            || ParameterError::new(format!("{} is no UUID of 32 hex digits and 4 hyphens", quoted(text)));
        if text.len() != 36 || !text.is_ascii() || text.contains('+') {
            return Err(wrong());
        }
        if text.char_indices().any(|(at, c)| (c == '-') != matches!(at, 8 | 13 | 18 | 23)) {
            return Err(wrong());
        }
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let value = u128::from_str_radix(&digits, 16).map_err(|_| wrong())?;
        Ok(Uuid(value.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mac_spellings() {
        let mac = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        for good in ["52:54:00:12:34:56", "52-54-00-12-34-56", "01-52-54-00-12-34-56", "01:52:54:00:12:34:56"]
        {
            assert_eq!(good.parse(), Ok(mac), "{good}");
        }
        for good in ["01-AA-bb-CC-dd-EE-ff", "01:AA:BB:CC:DD:EE:FF", "aa-bb-cc-dd-ee-FF"] {
            assert_eq!(good.parse(), Ok(MacAddr([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff])), "{good}");
        }
        for bad in ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "06-52-54-00-12-34-56", "+2:54:00:12:34:56"]
        {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
        assert_eq!(mac.to_string(), "52:54:00:12:34:56");
    }

    #[test]
    fn uuid_in_both_byte_orders() {
        let uuid: Uuid = "B8945908-D6A6-41A9-611D-74A6AB80B83D".parse().unwrap();
        assert_eq!(uuid.to_string(), "b8945908-d6a6-41a9-611d-74a6ab80b83d");
        assert_eq!(uuid.swapped().to_string(), "085994b8-a6d6-a941-611d-74a6ab80b83d");
        assert_eq!(uuid.swapped().swapped(), uuid);
        assert!(!Uuid([0; 16]).is_set() && !Uuid([0xff; 16]).is_set() && uuid.is_set());
        for bad in ["", "b8945908d6a641a9611d74a6ab80b83d", "b8945908-d6a6-41a9-611d-74a6ab80b83g"] {
            assert!(bad.parse::<Uuid>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), near in "[0-9a-f:+-]{0,40}") {
            let _ = (text.parse::<MacAddr>(), text.parse::<Uuid>());
            let _ = (near.parse::<MacAddr>(), near.parse::<Uuid>());
        }

        #[test]
        fn display_parses_back(mac in any::<[u8; 6]>(), uuid in any::<[u8; 16]>()) {
            prop_assert_eq!(MacAddr(mac).to_string().parse(), Ok(MacAddr(mac)));
            prop_assert_eq!(Uuid(uuid).to_string().parse(), Ok(Uuid(uuid)));
        }
    }
}
