//! Where DIMMs go: addresses inside the machine's window for hot-plugged memory.
//!
//! QEMU by itself puts a DIMM right behind the one before, so an odd-sized first one leaves the second
//! unaligned. Here every DIMM starts at a multiple of the architecture's largest memory block.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::size::human;

/// Bytes of window that DIMMs of these `sizes` need when each starts aligned.
///
/// QEMU starts the window at a multiple of 1 GiB or less, so one more step of `alignment` may be lost
/// before the first DIMM; x86_64's and aarch64's boards add 1 GiB for each slot by themselves.
pub(crate) fn window(sizes: impl IntoIterator<Item = u64>, alignment: u64) -> u64 {
    sizes.into_iter().map(|size| size.next_multiple_of(alignment)).sum()
}

/// The window of a running machine, and what is in it.
#[derive(Debug, Clone)]
pub(crate) struct Region {
    start: u64,
    /// First byte behind the window.
    end: u64,
    /// Every DIMM starts at a multiple of this many bytes.
    alignment: u64,
    /// Taken ranges: first byte, first byte behind.
    taken: Vec<(u64, u64)>,
}

impl Region {
    /// Reads the window from QEMU's properties `addr` and `size` of its memory region. The region lies directly
    /// in the system's memory, so the address is a physical one.
    ///
    /// # Errors
    /// When the properties make no range.
    pub(crate) fn read(addr: &Value, size: &Value, alignment: u64) -> Result<Self> {
        let range = addr.as_u64().zip(size.as_u64());
        let bounds = range.and_then(|(start, size)| Some((start, start.checked_add(size)?)));
        let (start, end) = bounds
            .with_context(|| format!("cannot read the window at {addr} with a size of {size}"))?;
        Ok(Self { start, end, alignment, taken: Vec::new() })
    }

    /// Takes the first aligned free range of `size` bytes; returns its address.
    ///
    /// # Errors
    /// When no such range is left.
    pub(crate) fn place(&mut self, size: u64) -> Result<u64> {
        let mut start = self.start.next_multiple_of(self.alignment);
        while let Some(end) = start.checked_add(size).filter(|&end| end <= self.end) {
            if self.taken.iter().all(|&(from, to)| end <= from || to <= start) {
                self.taken.push((start, end));
                return Ok(start);
            }
            start += self.alignment;
        }
        bail!(
            "no room for another DIMM of {} between {:#x} and {:#x}",
            human(size),
            self.start,
            self.end
        )
    }

    /// Marks a range that something else put there.
    pub(crate) fn take(&mut self, start: u64, size: u64) {
        self.taken.push((start, start.saturating_add(size)));
    }

    /// Takes the last `size` bytes; returns their address.
    pub(crate) fn take_last(&mut self, size: u64) -> u64 {
        let start = self.end.saturating_sub(size);
        self.take(start, size);
        start
    }

    /// Gives back the range at `start`.
    pub(crate) fn release(&mut self, start: u64) {
        self.taken.retain(|&(from, _)| from != start);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::size::{GIB, MIB};

    fn region() -> Region {
        Region::read(&json!(4 * GIB), &json!(8 * GIB), 2 * GIB).unwrap()
    }

    #[test]
    fn the_window_is_read_from_the_properties_of_its_memory_region() {
        assert_eq!((region().start, region().end), (4 * GIB, 12 * GIB));
        for (addr, size) in [
            (json!({}), json!(1)),
            (json!(1), json!("1")),
            (json!(-1), json!(1)),
            (json!(u64::MAX), json!(1)),
        ] {
            let error = Region::read(&addr, &size, GIB).unwrap_err().to_string();
            assert!(error.contains("cannot read the window"), "{error}");
        }
    }

    #[test]
    fn an_odd_dimm_leaves_the_next_one_aligned() {
        let mut region = region();
        assert_eq!(region.place(100 * MIB).unwrap(), 4 * GIB);
        assert_eq!(region.place(GIB).unwrap(), 6 * GIB);
        assert_eq!(region.place(3 * GIB).unwrap(), 8 * GIB);
        assert!(region.place(GIB).is_err());
    }

    #[test]
    fn a_window_that_starts_between_is_used_from_its_first_aligned_address() {
        let mut region = Region { start: 5 * GIB, end: 8 * GIB, alignment: 2 * GIB, taken: vec![] };
        assert_eq!(region.place(2 * GIB).unwrap(), 6 * GIB);
    }

    #[test]
    fn what_was_given_back_is_used_again_and_what_others_took_is_not() {
        let mut region = region();
        region.take(4 * GIB, MIB);
        assert_eq!(region.place(GIB).unwrap(), 6 * GIB);
        region.release(6 * GIB);
        assert_eq!(region.place(GIB).unwrap(), 6 * GIB);
    }

    #[test]
    fn a_dimm_larger_than_the_window_is_refused_with_its_size() {
        let mut region = region();
        let error = region.place(9 * GIB).unwrap_err().to_string();
        assert!(error.contains("9 GiB"), "{error}");
        assert!(region.place(u64::MAX).is_err());
    }

    #[test]
    fn the_end_of_the_window_is_taken_for_the_last_dimm() {
        let mut region = region();
        assert_eq!(region.take_last(GIB), 11 * GIB);
        assert_eq!(region.place(7 * GIB).unwrap(), 4 * GIB);
        assert!(region.place(GIB).is_err());
    }

    #[test]
    fn the_window_asked_for_holds_all_dimms_aligned() {
        assert_eq!(window([100 * MIB, GIB, 3 * GIB], 2 * GIB), 8 * GIB);
    }
}
