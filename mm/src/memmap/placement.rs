//! The placement of the memmap of added memory, chosen by the caller for each add.

use core::fmt;
use core::str::FromStr;

bitflags::bitflags! {
    /// The flags of the 2019 patch series "Allocate memmap from hotadded memory", for callers that use its
    /// interface. They are a hint: see [`Placement::from_flags`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct MhpFlags: u32 {
        /// One memmap for the whole range, at its start.
        const MEMMAP_DEVICE = 1 << 0;
        /// One memmap for each memory block, at the block's start.
        const MEMMAP_MEMBLOCK = 1 << 1;
    }
}

/// The placement of the memmap of an added range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Placement {
    /// In never-removable system memory.
    Boot = 0,
    /// At the start of the range, for all of it: it is removed as a whole, as it was added.
    #[default]
    PerRange = 1,
    /// At the start of each block: any block can be removed alone.
    PerBlock = 2,
}

impl Placement {
    /// Every placement.
    pub const ALL: [Self; 3] = [Self::Boot, Self::PerRange, Self::PerBlock];

    /// The placement for `flags`; `None` if they are invalid (both, or unknown bits).
    pub fn from_flags(flags: MhpFlags) -> Option<Self> {
        match flags {
            MhpFlags::MEMMAP_DEVICE => Some(Self::PerRange),
            MhpFlags::MEMMAP_MEMBLOCK => Some(Self::PerBlock),
            flags if flags.is_empty() => Some(Self::Boot),
            _ => None,
        }
    }

    /// Whether the memmap lies in the memory it describes.
    pub const fn self_hosted(self) -> bool {
        !matches!(self, Self::Boot)
    }

    pub(crate) const fn decode(raw: u64) -> Option<Self> {
        match raw {
            0 => Some(Self::Boot),
            1 => Some(Self::PerRange),
            2 => Some(Self::PerBlock),
            _ => None,
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boot => "boot",
            Self::PerRange => "device",
            Self::PerBlock => "block",
        })
    }
}

hotmem_paging::errors! {
    /// The name is not that of a placement.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct UnknownPlacement => "a placement is device, block or boot";
}

impl FromStr for Placement {
    type Err = UnknownPlacement;

    fn from_str(name: &str) -> Result<Self, UnknownPlacement> {
        match name {
            "boot" => Ok(Self::Boot),
            "device" => Ok(Self::PerRange),
            "block" => Ok(Self::PerBlock),
            _ => Err(UnknownPlacement),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_name_a_placement_unless_they_contradict_each_other() {
        assert_eq!(Placement::from_flags(MhpFlags::empty()), Some(Placement::Boot));
        assert_eq!(Placement::from_flags(MhpFlags::MEMMAP_DEVICE), Some(Placement::PerRange));
        assert_eq!(Placement::from_flags(MhpFlags::MEMMAP_MEMBLOCK), Some(Placement::PerBlock));
        assert_eq!(Placement::from_flags(MhpFlags::all()), None);
        assert_eq!(Placement::from_flags(MhpFlags::from_bits_retain(4)), None);
    }
}
