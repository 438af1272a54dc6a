//! Where a server takes the orders of admins.

use super::{ParameterError, StoreUrl};
use crate::text::quoted;
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A server's place for admins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// Its socket on this computer.
    Socket(PathBuf),
    /// Its HTTPS.
    Https(StoreUrl),
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Via::Socket(path) => write!(f, "{}", path.display()),
            Via::Https(url) => write!(f, "{url}"),
        }
    }
}

impl FromStr for Via {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        if text.starts_with('/') {
            return Ok(Via::Socket(text.into()));
        }
        let wrong =
            |why: &str| ParameterError::new(format!("{} cannot be reached as a server: {why}", quoted(text)));
        match text.parse::<StoreUrl>() {
            Ok(url) if url.is_tls => Ok(Via::Https(url)),
            Ok(_) => Err(wrong("orders go by https, or by the server's socket")),
            Err(_) => Err(wrong("give https://HOST[:PORT], or the path of its socket")),
        }
    }
}

impl<'de> Deserialize<'de> for Via {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_socket_or_https() {
        assert_eq!("/run/testbox/admin.sock".parse(), Ok(Via::Socket("/run/testbox/admin.sock".into())));
        assert!(matches!("https://10.42.1.1".parse(), Ok(Via::Https(url)) if url.port == 7443));
        for wrong in ["", "admin.sock", "http://10.42.1.1", "https://", "ssh://x"] {
            assert!(wrong.parse::<Via>().is_err(), "{wrong}");
        }
    }
}
