//! The name of a guest.

use core::fmt;

/// The most bytes of a name.
const MOST: usize = 15;

/// The name of a guest: 1 to 15 letters, digits, dots, dashes and underscores.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; MOST],
    len: u8,
}

impl Name {
    /// The name that `text` spells, if it is one.
    pub fn new(text: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let mut bytes = [0; MOST];
        let len = text.len();
        bytes.get_mut(..len).filter(|_| len > 0)?.copy_from_slice(text.as_bytes());
        text.bytes().all(fits).then_some(Self { bytes, len: len as u8 })
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_has_no_characters_that_need_quotes() {
        let name = |text: &str| Name::new(text).map(|name| name.to_string());
        assert_eq!(name("guest-1.a_b"), Some("guest-1.a_b".into()));
        assert_eq!(name("123456789012345"), Some("123456789012345".into()));
        for wrong in ["", "1234567890123456", "a b", "a\"", "\u{e4}"] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
    }
}
