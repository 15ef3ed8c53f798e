//! When a source takes memory that its host offers: at once, or as it is needed.

use core::fmt;
use core::str::FromStr;

use hotmem::{Marks, MarksReversed, WatchError};

use super::number;

/// When a source takes memory that its host offers.
///
/// As text `eager`, `need` (64 and 128 MiB), `need:LOW,HIGH` or, as it is displayed, `need LOW HIGH`, with sizes in bytes, or
/// with a unit of `K`, `M`, `G` or `T`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Growth {
    /// At once: all that is offered.
    #[default]
    Eager,
    /// When free memory falls below the low mark, until it is above the high mark. It is given back when free memory is above the
    /// high mark by more than the distance of both, down to the high mark.
    Need(Marks),
}

impl Growth {
    /// By need, with marks at 64 and 128 MiB.
    pub const fn usual() -> Self {
        // They are not reversed.
        match Marks::new(64 << 20, 128 << 20) {
            Ok(marks) => Self::Need(marks),
            Err(_) => Self::Eager,
        }
    }

    /// By need, with the marks that `low` and `high` say in bytes.
    ///
    /// # Errors
    ///
    /// [`GrowthError::Size`], [`GrowthError::Never`], [`GrowthError::Reversed`].
    pub fn need(low: &str, high: &str) -> Result<Self, GrowthError> {
        let size = |text| number::parse_size(text).ok_or(GrowthError::Size);
        Self::between(size(low)?, size(high)?)
    }

    fn between(low: u64, high: u64) -> Result<Self, GrowthError> {
        if low == 0 {
            return Err(GrowthError::Never);
        }
        Marks::new(low, high).map(Self::Need).map_err(GrowthError::Reversed)
    }
}

impl FromStr for Growth {
    type Err = GrowthError;

    fn from_str(text: &str) -> Result<Self, GrowthError> {
        match text.split_once([':', ' ']) {
            None if text == "eager" => Ok(Self::Eager),
            None if text == "need" => Ok(Self::usual()),
            Some(("need", marks)) => {
                let (low, high) = marks.split_once([',', ' ']).ok_or(GrowthError::Size)?;
                Self::need(low, high)
            }
            _ => Err(GrowthError::Unknown),
        }
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eager => f.write_str("eager"),
            Self::Need(marks) => write!(f, "need {} {}", marks.low(), marks.high()),
        }
    }
}

hotmem::errors! {
    /// The reason why a text is not a [`Growth`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum GrowthError {
        /// It is neither `eager` nor `need`.
        Unknown => "it is neither eager nor need",
        /// A mark is missing, or is not a size.
        Size => "a mark is missing, or is not a size in bytes",
        /// The low mark is 0, and free memory never below it.
        Never => "free memory is never below a low mark of 0",
        /// The low mark is above the high mark.
        Reversed(reversed: MarksReversed) => "{reversed}",
    }

    /// The reason why a source does not take memory in another way.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum GrowthRefused {
        /// The machine has no source whose host offers memory.
        NoDevice => "no device of this machine offers memory",
        /// The kernel did not give the source a watch.
        NoWatch => "this kernel does not watch free memory",
        /// Free memory cannot be watched.
        Watch(error: WatchError) => "{error}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn what_is_displayed_is_read_again_and_the_command_lines_form_is_the_same() {
        let need = Growth::between(32 << 20, 96 << 20).unwrap();
        assert_eq!("need:32M,0x6000000".parse(), Ok(need));
        assert_eq!(need.to_string(), "need 33554432 100663296");
        for growth in [need, Growth::Eager, Growth::between(1, 1).unwrap()] {
            assert_eq!(growth.to_string().parse(), Ok(growth));
        }
        assert_eq!("need".parse(), Ok(Growth::between(64 << 20, 128 << 20).unwrap()));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let refused = |text: &str| text.parse::<Growth>().unwrap_err();
        for text in ["", "lazy", "Eager", "need=1,2", "eager:1,2", "eager "] {
            assert_eq!(refused(text), GrowthError::Unknown, "{text}");
        }
        for text in ["need:", "need:1M", "need:,", "need:1,", "need:1,2,3", "need:-1,5", "need 1"] {
            assert_eq!(refused(text), GrowthError::Size, "{text}");
        }
        assert_eq!(refused("need:0,5"), GrowthError::Never);
        let reversed = refused("need:2M,1M").to_string();
        assert_eq!(
            reversed,
            "the low mark of 0x200000 bytes is above the high mark of 0x100000 bytes"
        );
    }
}
