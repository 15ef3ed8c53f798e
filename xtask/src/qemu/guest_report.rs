//! The guest of a tour, as an option and as facts of the report.

use std::str::FromStr;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::size::{MIB, Size};

/// Its memory, unless a size is named.
const USUAL: u64 = 256 * MIB;

/// The guest of a tour: `payload`, or `payload:SIZE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GuestSpec {
    /// Its memory.
    pub(crate) size: Size,
}

impl FromStr for GuestSpec {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "payload" => Ok(Self { size: Size::new(USUAL) }),
            Some(("payload", size)) => Ok(Self { size: size.parse()? }),
            _ => bail!("`{text}` is not payload or payload:SIZE"),
        }
    }
}

/// What the tour found about its guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct GuestReport {
    pub(super) kind: &'static str,
    /// Bytes of it on the DIMM before the pull.
    pub(super) bytes_on_dimm: u64,
    pub(super) rounds_before: u64,
    /// Rounds between the request and the end of the DIMM.
    pub(super) rounds_during: u64,
    pub(super) rounds_after: u64,
    pub(super) wrong_words: u64,
    pub(super) checksum: String,
    /// The checksum of as many rounds without a pull.
    pub(super) checksum_without_pull: String,
    pub(super) pages_moved: u64,
    /// In instructions, or in cycles on a machine that does not count instructions.
    pub(super) longest_pause: u64,
    /// What the guest saw, in ticks of its counter.
    pub(super) longest_gap: u64,
    /// Pages of the file behind the DIMM that are not zero after the pull; null if they were not before.
    pub(super) nonzero_pages_left: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_the_payload_with_a_size_or_without() {
        let size = |text: &str| text.parse::<GuestSpec>().map(|spec| spec.size.bytes());
        assert_eq!(size("payload").unwrap(), 256 * MIB);
        assert_eq!(size("payload:600M").unwrap(), 600 * MIB);
        for wrong in ["", "linux", "payload:", "payload:x", "linux:1G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
