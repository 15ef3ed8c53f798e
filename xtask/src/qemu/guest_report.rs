//! The guest of a tour, as an option and as facts of the report.

use std::str::FromStr;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::machine::Guest;
use crate::size::{MIB, Size};

/// Its memory, unless a size is named.
const USUAL: u64 = 256 * MIB;

/// What a guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Payload,
    Linux,
    Own,
}

impl Program {
    /// Its name, here and in the monitor.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Linux => "linux",
            Self::Own => "self",
        }
    }
}

/// The guest of a tour: `payload`, `linux` or `self`, and `:SIZE` behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GuestSpec {
    pub(crate) program: Program,
    /// Its memory.
    pub(crate) size: Size,
}

impl FromStr for GuestSpec {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, size) = match text.split_once(':') {
            None => (text, Size::new(USUAL)),
            Some((name, size)) => (name, size.parse()?),
        };
        let program = [Program::Payload, Program::Linux, Program::Own];
        let program = program.into_iter().find(|program| program.name() == name);
        match program {
            Some(program) => Ok(Self { program, size }),
            None => bail!("`{text}` is not payload, linux, self, or one of them with :SIZE"),
        }
    }
}

/// What the tour found about a virtual CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct VcpuRounds {
    /// The CPU that it was pinned to.
    cpu: u32,
    rounds_before: u64,
    rounds_during: u64,
    rounds_after: u64,
    /// Accesses that waited for a move.
    waits: u64,
}

impl VcpuRounds {
    /// Those of each virtual CPU of a guest, as it was before the pull, after it, and at the end.
    pub(super) fn between(before: &Guest, gone: &Guest, end: &Guest) -> Vec<Self> {
        let all = before.vcpus.iter().zip(&gone.vcpus).zip(&end.vcpus);
        all.map(|((before, gone), end)| Self {
            cpu: before.cpu,
            rounds_before: before.rounds,
            rounds_during: gone.rounds - before.rounds,
            rounds_after: end.rounds - gone.rounds,
            waits: end.waits,
        })
        .collect()
    }
}

/// What the tour found about its guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct GuestReport {
    pub(super) kind: &'static str,
    /// Bytes of it on the DIMM before the pull.
    pub(super) bytes_on_dimm: u64,
    pub(super) rounds_before: u64,
    /// Rounds between the request and the end of the DIMM.
    pub(super) rounds_during: u64,
    pub(super) rounds_after: u64,
    /// The same of each virtual CPU; empty for a kernel, which reports for all of them.
    pub(super) vcpus: Vec<VcpuRounds>,
    pub(super) wrong_words: u64,
    pub(super) checksum: String,
    /// The checksum of as many rounds without a pull.
    pub(super) checksum_without_pull: String,
    pub(super) pages_moved: u64,
    /// In instructions, or in cycles on a machine that does not count instructions.
    pub(super) longest_pause: u64,
    /// The longest share of one page in the pause of its batch.
    pub(super) longest_pause_of_page: u64,
    /// Extents that were copied while it ran, before they moved.
    pub(super) extents_ahead: u64,
    /// Those of them that it changed faster than they were copied.
    pub(super) extents_hurried: u64,
    /// What the guest saw, in ticks of its counter; null for a guest that does not look.
    pub(super) longest_gap: Option<u64>,
    /// The longest time that the kernel saw the guest stand still, over the same span and in the same ticks.
    pub(super) longest_stop: Option<u64>,
    /// The longest of those times in which a batch of pages was moved, in the unit of a pause.
    pub(super) longest_move: Option<u64>,
    /// Pages of the file behind the DIMM that are not zero after the pull; null if they were not before.
    pub(super) nonzero_pages_left: Option<u64>,
}

impl GuestReport {
    /// What the manager counted of a guest that runs a kernel; the rest is the tour's to fill in.
    pub(super) fn of_kernel(kind: &'static str, end: &Guest) -> Self {
        Self {
            kind,
            pages_moved: end.pages_moved,
            longest_pause: end.longest_pause,
            longest_pause_of_page: end.longest_pause_of_page,
            extents_ahead: end.extents_ahead,
            extents_hurried: end.extents_hurried,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_a_program_with_a_size_or_without() {
        let read =
            |text: &str| text.parse::<GuestSpec>().map(|spec| (spec.program, spec.size.bytes()));
        assert_eq!(read("payload").unwrap(), (Program::Payload, 256 * MIB));
        assert_eq!(read("payload:600M").unwrap(), (Program::Payload, 600 * MIB));
        assert_eq!(read("linux").unwrap(), (Program::Linux, 256 * MIB));
        assert_eq!(read("self").unwrap(), (Program::Own, 256 * MIB));
        assert_eq!(read("linux:1G").unwrap(), (Program::Linux, 1024 * MIB));
        for wrong in ["", "windows", "payload:", "payload:x", "linux:"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
