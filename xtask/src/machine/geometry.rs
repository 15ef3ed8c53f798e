//! The sizes a running kernel works with. It is asked, since its command line may say what it likes.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// Bytes of a page's descriptor.
pub(crate) const DESCRIPTOR: u64 = 64;

/// Sizes in bytes, each a multiple of the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// A page.
    pub(crate) page: u64,
    /// A section, the unit of the kernel's map of memory.
    pub(crate) section: u64,
    /// A memory block, the unit of online, offline and removal.
    pub(crate) block: u64,
}

impl Geometry {
    /// The sizes in the reply to `stats --json`.
    ///
    /// # Errors
    /// When one is missing, zero, or not a multiple of the one before.
    pub(crate) fn of(stats: &Value) -> Result<Self> {
        let number = |name: &str| {
            let found = stats[name].as_u64().filter(|&bytes| bytes > 0);
            found.with_context(|| format!("`stats --json` lacks `{name}`"))
        };
        let (page, section, block) =
            (number("page_size")?, number("section_size")?, number("block_size")?);
        anyhow::ensure!(
            section.is_multiple_of(page) && block.is_multiple_of(section),
            "pages of {page}, sections of {section} and blocks of {block} bytes do not fit each other"
        );
        Ok(Self { page, section, block })
    }

    /// Pages that the descriptors of `sections` sections take, 64 bytes a page.
    pub(crate) fn memmap_pages(self, sections: u64) -> u64 {
        (sections * (self.section / self.page) * DESCRIPTOR).div_ceil(self.page)
    }

    /// Sections in a block.
    pub(crate) fn block_sections(self) -> u64 {
        self.block / self.section
    }
}

/// A memory block, as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Block {
    /// Its number.
    pub(crate) block: u64,
    /// `online` or `offline`, and what more there is to say.
    pub(crate) state: String,
    /// The zone it is in while it is online.
    pub(crate) zone: Option<String>,
    /// Was it there at boot?
    pub(crate) boot: bool,
    /// Where the memmap begins that its own descriptors are in, if that lies in added memory.
    pub(crate) memmap_start: Option<u64>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_are_read_from_the_kernels_counts() {
        let stats = json!({"page_size": 4096, "section_size": 1 << 27, "block_size": 1 << 30});
        let geometry = Geometry { page: 4096, section: 1 << 27, block: 1 << 30 };
        assert_eq!(Geometry::of(&stats).unwrap(), geometry);
    }

    #[test]
    fn descriptors_take_whole_pages() {
        let usual = Geometry { page: 4096, section: 1 << 27, block: 1 << 27 };
        assert_eq!((usual.memmap_pages(1), usual.memmap_pages(8)), (512, 4096));
        // Four sections of 16 MiB share a page of 64 KiB.
        let small = Geometry { page: 1 << 16, section: 1 << 24, block: 1 << 28 };
        assert_eq!(small.memmap_pages(1), 1);
        assert_eq!(small.memmap_pages(small.block_sections()), 4);
    }

    #[test]
    fn sizes_that_are_missing_or_do_not_fit_are_an_error() {
        for (page, section, block) in [(0, 8, 8), (4, 8, 0), (4, 6, 12), (4, 8, 12)] {
            let stats = json!({"page_size": page, "section_size": section, "block_size": block});
            assert!(Geometry::of(&stats).is_err(), "{stats}");
        }
        assert!(Geometry::of(&json!({"page_size": 4096})).is_err());
    }
}
