//! How a machine reaches the store that keeps its backups.

use super::{HostName, ParameterError};
use crate::text::quoted;
use std::fmt;
use std::str::FromStr;

/// The port of a store, where none is said. IANA has it for nobody.
const PORT: u16 = 7443;

/// Where a store is: `https://HOST[:PORT]`, or `http://HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUrl {
    /// HTTPS.
    pub is_tls: bool,
    /// The server.
    pub host: HostName,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl FromStr for StoreUrl {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let wrong =
            |why: &str| ParameterError::new(format!("{} is not https://HOST[:PORT] ({why})", quoted(text)));
        let (is_tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(wrong("it begins neither with https:// nor with http://")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.split_once(':') {
            None => (rest, PORT),
            Some((host, port)) => {
                let is_number = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
                let port = port.parse().ok().filter(|port| is_number && *port != 0);
                (host, port.ok_or_else(|| wrong("the port is a number from 1 to 65535"))?)
            }
        };
        Ok(StoreUrl { is_tls, host: host.parse()?, port })
    }
}

fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
}

/// What a store knows a job by: 64 hex digits. A secret as long as nobody reads the boot server's files.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// As the kernel word has it: for the file that arms the machine, and nothing else.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Token {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        // Not quoted: it may be nearly one.
        let wrong = || ParameterError::new("a token is 64 hex digits in lower case");
        is_hex(text).then(|| Token(text.to_owned())).ok_or_else(wrong)
    }
}

/// The key of a store: SHA-256 of its SubjectPublicKeyInfo (RFC 5280 section 4.1), 64 hex digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPin(String);

impl KeyPin {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyPin {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let wrong = || {
            ParameterError::new(format!("{} is not a SHA-256 of 64 hex digits in lower case", quoted(text)))
        };
        is_hex(text).then(|| KeyPin(text.to_owned())).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_has_scheme_host_and_port() {
        for (text, expected) in [
            ("https://10.0.0.1", Some("https://10.0.0.1:7443")),
            ("https://nas.lab:443/", Some("https://nas.lab:443")),
            ("http://nas", Some("http://nas:7443")),
            ("ftp://nas", None),
            ("nas:7443", None),
            ("https://", None),
            ("https://nas:0", None),
            ("https://nas:+1", None),
            ("https://nas:70000", None),
            ("https://nas:1:2", None),
            ("https://user@nas", None),
            ("https://nas/path", None),
            ("https://n_s", None),
        ] {
            let url = text.parse::<StoreUrl>().ok().map(|url| url.to_string());
            assert_eq!(url.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_token_shows_nothing_of_itself() {
        let token: Token = "ab".repeat(32).parse().unwrap();
        assert!(!format!("{token:?}").contains("ab"));
        for bad in ["", "AB", &"AB".repeat(32), &"ab".repeat(33)] {
            let error = bad.parse::<Token>().unwrap_err().to_string();
            assert!(!error.contains("abab"), "{error}");
        }
    }
}
