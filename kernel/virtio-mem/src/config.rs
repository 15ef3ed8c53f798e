//! The device's configuration (virtio 1.2, 5.15.4), read in one piece and checked.

use hotmem::{PhysAddr, PhysRange};

use super::fault::Fault;
use super::transport::Transport;

/// 64-bit words of the configuration.
const WORDS: usize = 7;
/// How often a configuration that changes meanwhile is read again.
const TRIES: usize = 16;
/// The least size of a block that makes sense: no page is smaller.
const LEAST_BLOCK: u64 = 4096;

/// What never changes: the addresses of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Bytes of a block.
    pub block: u64,
    /// The node of its memory, as firmware numbers nodes; `None` if the device does not say.
    pub node: Option<u16>,
    /// All of its addresses.
    pub range: PhysRange,
}

/// What changes: sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The part of the region, from its start, where blocks can be plugged.
    pub usable: u64,
    /// What is plugged.
    pub plugged: u64,
    /// What is to be plugged.
    pub requested: u64,
}

/// All of it, as the device has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Config([u64; WORDS]);

impl Config {
    /// Reads all of it.
    ///
    /// # Errors
    ///
    /// [`Fault::NeverSettles`].
    pub(crate) fn read(transport: &impl Transport) -> Result<Self, Fault> {
        for _ in 0..TRIES {
            let before = transport.generation();
            let words = core::array::from_fn(|index| {
                let at = index as u32 * 8;
                u64::from(transport.config(at)) | u64::from(transport.config(at + 4)) << 32
            });
            if transport.generation() == before {
                return Ok(Self(words));
            }
        }
        Err(Fault::NeverSettles)
    }

    /// The addresses; the node counts if the device `has_node`.
    ///
    /// # Errors
    ///
    /// [`Fault::BlockSize`], [`Fault::Region`].
    pub(crate) fn region(&self, has_node: bool) -> Result<Region, Fault> {
        let [block, node, start, bytes, ..] = self.0;
        if !block.is_power_of_two() || block < LEAST_BLOCK {
            return Err(Fault::BlockSize(block));
        }
        let range = PhysRange::new(PhysAddr::new(start), bytes);
        let whole = |range: &PhysRange| {
            !range.is_empty()
                && range.start().is_aligned(block)
                && range.len().is_multiple_of(block)
                // The end itself is an address, too.
                && range.start().checked_add(range.len()).is_some()
        };
        let range = range.filter(whole).ok_or(Fault::Region { start, bytes, block })?;
        Ok(Region { block, node: has_node.then_some(node as u16), range })
    }

    /// The sizes, of a device with this region.
    ///
    /// # Errors
    ///
    /// [`Fault::Usable`], [`Fault::Requested`].
    pub(crate) fn sizes(&self, region: &Region) -> Result<Sizes, Fault> {
        let [.., usable, plugged, requested] = self.0;
        let bytes = region.range.len();
        if usable > bytes || !usable.is_multiple_of(region.block) {
            return Err(Fault::Usable { usable, bytes });
        }
        if requested > usable || !requested.is_multiple_of(region.block) {
            return Err(Fault::Requested { requested, usable });
        }
        Ok(Sizes { usable, plugged, requested })
    }
}

impl Region {
    /// Checks that a device still has the same region.
    ///
    /// # Errors
    ///
    /// [`Fault::Changed`].
    pub(crate) fn check(&self, is: &Self) -> Result<(), Fault> {
        let of = |region: &Self| {
            [
                ("block size", region.block),
                ("node", region.node.map_or(u64::MAX, u64::from)),
                ("address", region.range.start().get()),
                ("region size", region.range.len()),
            ]
        };
        for ((what, was), (_, is)) in of(self).into_iter().zip(of(is)) {
            if was != is {
                return Err(Fault::Changed { what, was, is });
            }
        }
        Ok(())
    }
}
