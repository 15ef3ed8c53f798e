//! What names an object: four characters for tables, a number for the evaluator and its callers.

use core::fmt;

/// Names an object of the tables for as long as they are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    /// The root of the tree, `\`.
    pub const ROOT: Self = Self(0);
}

/// Four characters, `A-Z`, `_` and, not in front, `0-9`; short names are padded with `_`
/// (ACPI 6.5, 20.2.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameSeg([u8; 4]);

impl NameSeg {
    /// The name of the root, which no table can spell.
    pub(crate) const ROOT: Self = Self(*b"\\___");

    /// A segment from its four bytes, or `None` if they are none.
    #[must_use]
    pub const fn new(bytes: [u8; 4]) -> Option<Self> {
        let [a, b, c, d] = bytes;
        if is_lead(a) && is_follower(b) && is_follower(c) && is_follower(d) {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// A segment from text of one to four characters, padded with `_`.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > 4 {
            return None;
        }
        let mut bytes = [b'_'; 4];
        for (to, from) in bytes.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        Self::new(bytes)
    }

    /// The four characters.
    #[must_use]
    pub const fn bytes(self) -> [u8; 4] {
        self.0
    }
}

/// May stand first: `LeadNameChar`.
pub(crate) const fn is_lead(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b'_'
}

/// May stand after the first: `NameChar`.
const fn is_follower(byte: u8) -> bool {
    is_lead(byte) || byte.is_ascii_digit()
}

impl fmt::Display for NameSeg {
    /// All four characters, padding included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&byte| write!(f, "{}", char::from(byte)))
    }
}

impl fmt::Debug for NameSeg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::NameSeg;

    #[test]
    fn short_names_are_padded_with_underscores() {
        assert_eq!(NameSeg::from_text("A1").map(NameSeg::bytes), Some(*b"A1__"));
    }

    #[test]
    fn names_that_no_table_can_hold_are_refused() {
        for text in ["", "abcd", "1ABC", "ABCDE", "A-B"] {
            assert_eq!(NameSeg::from_text(text), None, "{text}");
        }
    }
}
