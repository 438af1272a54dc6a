//! A refusal on its way through `io::Error`, so that whoever has to say what failed can still tell why.

use super::answer::{Code, Refusal};
use std::io;

/// A refusal as the source of an `io::Error`.
#[derive(Debug, thiserror::Error)]
#[error("the store: {}", .0.text)]
struct StoreRefused(Refusal);

impl Refusal {
    /// The error of the share that it is.
    pub fn into_error(self) -> io::Error {
        io::Error::new(self.code.kind(), StoreRefused(self))
    }

    /// The refusal that this error is, where it is one.
    pub fn of(error: &io::Error) -> Option<&Refusal> {
        error.get_ref()?.downcast_ref::<StoreRefused>().map(|refused| &refused.0)
    }

    /// The refusal of an answer that has none in its body: to `HEAD` only the status comes (RFC 9110 section 9.3.2).
    pub fn of_status(status: u16, what: &str) -> Option<Refusal> {
        let code = match status {
            400 => Code::Malformed,
            401 => Code::UnknownToken,
            403 => Code::Forbidden,
            404 => Code::NotFound,
            409 => Code::Unusable,
            413 => Code::TooLarge,
            500 => Code::Failed,
            503 => Code::Busy,
            507 => Code::Full,
            _ => return None,
        };
        Some(Refusal::new(code, format!("{what}: refused with status {status}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_still_known_from_its_error() {
        let refusal = Refusal::new(Code::Quota, "the quota of 10.0.0.1 is used up");
        let error = refusal.clone().into_error();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        assert!(error.to_string().contains(&refusal.text));
        assert_eq!(Refusal::of(&error), Some(&refusal));
        assert_eq!(Refusal::of(&io::Error::other("something else")), None);
        assert_eq!(Refusal::of(&io::Error::from_raw_os_error(5)), None);
    }
}
