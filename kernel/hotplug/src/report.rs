//! Records and reports how requests ended, without a heap.

use core::fmt::{self, Write as _};

/// Bytes of a reason that are kept.
const LONGEST: usize = 240;

/// Why something went wrong: text of bounded length.
#[derive(Clone, Copy)]
pub struct Reason {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Reason {
    /// Keeps the start of what `why` shows as.
    pub fn new(why: impl fmt::Display) -> Self {
        let mut reason = Self { bytes: [0; LONGEST], len: 0 };
        // Only a full buffer ends this early, and then the start is what is wanted.
        let _ = write!(reason, "{why}");
        reason
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Write for Reason {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let end = self.len + c.len_utf8();
            c.encode_utf8(self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?);
            self.len = end;
        }
        Ok(())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The sum of all requests so far. The first of the worst kind is kept.
#[derive(Clone, Copy, Debug, Default)]
pub enum Verdict {
    /// Every device was taken and given up as asked, or an eject was refused and left no trace.
    #[default]
    Pass,
    /// The kernel refused a device, for a good reason.
    Refused(Reason),
    /// Something failed that should not have.
    Fail(Reason),
}

impl Verdict {
    /// Notes a refusal.
    pub(super) fn refused(&mut self, why: impl fmt::Display) {
        if let Self::Pass = self {
            *self = Self::Refused(Reason::new(why));
        }
    }

    /// Notes a failure.
    pub(super) fn failed(&mut self, why: impl fmt::Display) {
        if !matches!(self, Self::Fail(_)) {
            *self = Self::Fail(Reason::new(why));
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Fail(why) => write!(f, "fail: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = Reason::new("ä".repeat(200));
        assert_eq!(reason.as_str(), "ä".repeat(LONGEST / 2));
    }

    #[test]
    fn the_first_of_the_worst_kind_is_the_verdict() {
        let mut verdict = Verdict::default();
        assert_eq!(verdict.to_string(), "pass");
        verdict.refused("one");
        verdict.refused("two");
        assert_eq!(verdict.to_string(), "refused: one");
        verdict.failed("three");
        verdict.failed("four");
        verdict.refused("five");
        assert_eq!(verdict.to_string(), "fail: three");
    }
}
