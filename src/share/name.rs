//! Names that come from disks or the network, before they become file names. Host names have a type of their own,
//! [`crate::types::HostName`].

/// The name is not on the allow-list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not taken as a file name: {1}")]
pub struct UnsafeName(pub String, &'static str);

/// Passes a name that is safe as one component of a path and in a shell: 1 to 255 characters (`NAME_MAX`) of
/// `A-Z a-z 0-9 . _ -`, the first a letter or digit. Image names such as `nvme0n1.raw.gz`, HEXIP, generations.
///
/// # Errors
/// The name, quoted.
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
}
