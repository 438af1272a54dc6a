//! Names that come from DHCP, DNS or disks, before they become file names.

/// The name is not on the allow-list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not taken as a file name: {1}")]
pub struct UnsafeName(pub String, &'static str);

/// Passes a name that is safe as one component of a path and in a shell: 1 to 255 characters (`NAME_MAX`) of
/// `A-Z a-z 0-9 . _ -`, the first a letter or digit. Image names such as `nvme0n1.raw.gz`, HEXIP, generations.
pub fn safe_name(name: &str) -> Result<&str, UnsafeName> {
    let refuse = |why| Err(UnsafeName(name.to_owned(), why));
    if name.is_empty() || name.len() > 255 {
        return refuse("it must have 1 to 255 characters");
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return refuse("it must begin with a letter or a digit");
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        return refuse("only letters, digits, '.', '_' and '-' are allowed");
    }
    Ok(name)
}

/// Passes a host name as RFC 1123 section 2.1 has it: labels of 1 to 63 letters, digits and hyphens, no hyphen at
/// either end, at most 253 characters in all. A closing dot (the DNS root) is dropped.
pub fn safe_host_name(name: &str) -> Result<&str, UnsafeName> {
    let refuse = |why| Err(UnsafeName(name.to_owned(), why));
    let host = name.strip_suffix('.').unwrap_or(name);
    if host.is_empty() || host.len() > 253 {
        return refuse("a host name has 1 to 253 characters");
    }
    for label in host.split('.') {
        if label.is_empty() || label.len() > 63 {
            return refuse("each part of a host name has 1 to 63 characters");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return refuse("no part of a host name begins or ends with '-'");
        }
        if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return refuse("a host name has only letters, digits, '-' and '.'");
        }
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safe_name_passes_only_plain_file_names() {
        for name in ["sda.raw.gz", "nvme0n1.raw.gz", "0A28292A", "10.40.41.42", "a", &"x".repeat(255)] {
            assert_eq!(safe_name(name), Ok(name));
        }
        let long = "x".repeat(256);
        for name in ["", ".", "..", ".x", "-rf", "a/b", "a\0", "a b", "ä", "a\n", "$(x)", "a;b", "_a", &long]
        {
            assert!(safe_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn safe_host_name_follows_rfc_1123() {
        let label = "x".repeat(63);
        for name in ["a", "tb-1.lab.example", "3com.example", "10.1.2.3", &label] {
            assert_eq!(safe_host_name(name), Ok(name));
        }
        assert_eq!(safe_host_name("tb1.lab."), Ok("tb1.lab"));
        let (long_label, long) = ("x".repeat(64), format!("{label}.{label}.{label}.{label}"));
        for name in
            ["", ".", "a..b", "-a", "a-", "a-.b", "a_b", "a/b", "../x", "a b", "ä", &long_label, &long]
        {
            assert!(safe_host_name(name).is_err(), "{name:?}");
        }
    }
}
