//! Host names, allow-listed before anything uses them.

use super::ParameterError;
use crate::text::quoted;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A host name or dotted IPv4 address: labels of 1 to 63 letters, digits and inner hyphens (RFC 952 and RFC 1123
/// section 2.1), 253 characters at most (RFC 1035 section 2.3.4). A final dot is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(String);

impl HostName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address, where the name is one.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.0.parse().ok()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Ipv4Addr> for HostName {
    fn from(address: Ipv4Addr) -> Self {
        HostName(address.to_string())
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl FromStr for HostName {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        // Four numbers that are no address, as 10.1.2.300, are a typing error and not a name.
        let looks_like_address = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if name.len() <= 253
            && name.split('.').all(is_label)
            && (!looks_like_address || name.parse::<Ipv4Addr>().is_ok())
        {
            return Ok(HostName(name.to_owned()));
        }
        Err(ParameterError::new(format!(
            "{} is not a valid host name (letters, digits and hyphens between dots, RFC 1123) or IPv4 address",
            quoted(text)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_1123_names_only() {
        for good in ["a", "3com.example", "tb-1.lab.example.com.", "10.1.2.3", &"a".repeat(63)] {
            assert!(good.parse::<HostName>().is_ok(), "{good}");
        }
        let long_label = "a".repeat(64);
        let long_name = ["a".repeat(63).as_str(); 4].join(".");
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            "-a",
            "a-",
            "a_b",
            "a b",
            "a/b",
            "../x",
            "a\n",
            "a;reboot",
            "ü",
            "10.1.2.300",
            "1",
            &long_label,
            &long_name,
        ] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
        assert_eq!("a.b.".parse::<HostName>().unwrap().as_str(), "a.b");
        assert_eq!("10.1.2.3".parse::<HostName>().unwrap().ipv4(), Some(Ipv4Addr::new(10, 1, 2, 3)));
    }
}
