//! Secrets on the kernel command line, which is copied to places that more people read than the machine.

use super::split;
use std::collections::BTreeSet;

/// What stands in place of a secret.
pub const REDACTED: &str = "[redacted]";
/// A value counts as secret where the name of its word has one of these in it, in whatever case.
const NAMES: [&str; 6] = ["key", "pass", "pwd", "secret", "token", "credential"];
/// A secret of fewer bytes is not looked for in other texts: it would be found in half of the words.
const SEARCHED_MIN: usize = 6;

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.iter().any(|part| name.contains(part))
}

/// Takes the secrets of a kernel command line out of texts. The one owner of what is secret there.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    /// The longest first, so that none is left half.
    secrets: Vec<String>,
}

impl Redactor {
    /// Learns the secrets of a command line: the values of words such as `testbox.token=`, `iscsi_password=`,
    /// `rd.luks.key=`, of such names within a value (`cifsroot=//nas/x,password=…`), and what stands before the host of
    /// an URL after a colon (`http://user:password@host`).
    pub fn of(cmdline: &str) -> Redactor {
        let found: BTreeSet<&str> =
            secrets(cmdline).into_iter().filter(|s| s.len() >= SEARCHED_MIN).collect();
        let mut secrets: Vec<String> = found.into_iter().map(str::to_owned).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Redactor { secrets }
    }

    /// `line` without the secrets; a line that holds a command line, also without those that it alone has.
    pub fn line(&self, line: &str) -> String {
        let mut out = line.to_owned();
        if line.to_ascii_lowercase().contains("command line") {
            out = redacted(line);
        }
        for secret in &self.secrets {
            if out.contains(secret.as_str()) {
                out = out.replace(secret.as_str(), REDACTED);
            }
        }
        out
    }

    /// The same in bytes, such as a firmware table's: each secret becomes as many `x`.
    pub fn bytes(&self, bytes: &mut [u8]) {
        for secret in self.secrets.iter().map(|secret| secret.as_bytes()) {
            let mut at = 0usize;
            while let Some(window) = bytes.get_mut(at..at.saturating_add(secret.len())) {
                if *window == *secret {
                    window.fill(b'x');
                }
                at += 1;
            }
        }
    }
}

/// A command line, or one word of it, with its secrets taken out.
pub fn redacted(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut done = 0;
    for secret in secrets(line) {
        // The secrets are parts of the line, in its order.
        let at = (secret.as_ptr() as usize).saturating_sub(line.as_ptr() as usize);
        out.push_str(line.get(done..at).unwrap_or_default());
        out.push_str(REDACTED);
        done = at + secret.len();
    }
    out + line.get(done..).unwrap_or_default()
}

/// The secret parts of a command line, in its order, none of them empty.
fn secrets(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for word in split(line) {
        match word.text.split_once('=') {
            Some((name, value)) if is_secret_name(name) => found.push(value.trim_matches('"')),
            Some((_, value)) => found.extend(inner_secrets(value)),
            None => found.extend(inner_secrets(word.text)),
        }
    }
    found.retain(|secret| !secret.is_empty());
    found
}

/// Secrets within a value.
fn inner_secrets(value: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for part in value.split([',', ';', '&', '?', '#', '"']) {
        if let Some((_, rest)) = part.split_once("://")
            && let Some((user, _host)) = rest.split('/').next().unwrap_or_default().rsplit_once('@')
            && let Some((_, password)) = user.split_once(':')
        {
            found.push(password);
        } else if let Some((name, secret)) = part.split_once('=')
            && is_secret_name(name)
        {
            found.push(secret);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_of_every_spelling_are_taken_out() {
        for (line, shown) in [
            ("testbox.token=abc quiet", "testbox.token=[redacted] quiet"),
            ("TESTBOX.Token=abc", "TESTBOX.Token=[redacted]"),
            ("testbox_tokn=a testbox.tokenx=b", "testbox_tokn=a testbox.tokenx=[redacted]"),
            (
                "iscsi_password=x iscsi_password_in=y",
                "iscsi_password=[redacted] iscsi_password_in=[redacted]",
            ),
            ("rd.luks.key=/k:LABEL=x", "rd.luks.key=[redacted]"),
            ("pass=\"a b\" ro", "pass=\"[redacted]\" ro"),
            ("\"my.secret=a b\" ro", "\"my.secret=[redacted]\" ro"),
            ("cifsroot=//n/x,user=u,password=p,ro", "cifsroot=//n/x,user=u,password=[redacted],ro"),
            ("fetch=http://u:p%40w@h/x?token=t&a=1", "fetch=http://u:[redacted]@h/x?token=[redacted]&a=1"),
            ("http://u:pw@h/", "http://u:[redacted]@h/"),
            ("adminpwd=x", "adminpwd=[redacted]"),
            ("password= quiet", "password= quiet"),
            ("a=1 password=1 b=1", "a=1 password=[redacted] b=1"),
            ("testbox.action=backup testbox.job=j ro", "testbox.action=backup testbox.job=j ro"),
        ] {
            assert_eq!(redacted(line), shown, "{line}");
        }
    }

    #[test]
    fn a_secret_is_found_wherever_it_is_copied() {
        let redactor = Redactor::of("testbox.token=0123456789 my.pass=ab root=x");
        for (line, shown) in [
            (
                "[    0.0] Command line: testbox.token=0123456789 my.pass=ab",
                "[    0.0] Command line: testbox.token=[redacted] my.pass=[redacted]",
            ),
            ("Kernel command line: other.key=zz", "Kernel command line: other.key=[redacted]"),
            ("agent: bad word 0123456789", "agent: bad word [redacted]"),
            ("a table", "a table"),
        ] {
            assert_eq!(redactor.line(line), shown);
        }
        let mut bytes = b"\0\x010123456789\0".to_vec();
        redactor.bytes(&mut bytes);
        assert_eq!(bytes, b"\0\x01xxxxxxxxxx\0");
    }

    proptest! {
        #[test]
        fn no_secret_is_left(name in "[a-z.]{0,5}(key|Pass|SECRET|token)[a-z_]{0,5}", secret in "[A-Z0-9:/@=,.-]{8,30}", rest in "[a-z =]{0,30}") {
            let line = format!("{rest} {name}={secret} {rest}");
            prop_assert!(!redacted(&line).contains(&secret), "{}", redacted(&line));
            let copied = format!("x{secret}y");
            prop_assert!(!Redactor::of(&line).line(&copied).contains(&secret));
        }

        #[test]
        fn never_panics(text in any::<String>(), other in any::<String>()) {
            let _ = (redacted(&text), Redactor::of(&text).line(&other));
        }
    }
}
