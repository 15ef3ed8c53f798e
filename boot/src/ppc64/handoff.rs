//! From a device tree and a command line to one [`BootInfo`].

use super::granted;
use crate::info::{BootInfo, CommandLine, Firmware, HandoffError};
use crate::tree::{self, Machine};
use hotmem_paging::addr::{PhysAddr, PhysRange};

/// Memory set aside for the device tree. QEMU's needs 20 KiB, and 24 bytes for each logical memory
/// block in the old format.
pub const TREE_BYTES: u64 = 1 << 20;
/// The offset of the tree: below it is the header of the hypervisor's reply (QEMU,
/// `docs/specs/ppc-spapr-hcalls.rst`, KVMPPC_H_CAS), which begins 4 bytes into the memory, so that the
/// tree's address is a multiple of 8.
pub const TREE_OFFSET: u64 = 8;
/// The CPU's vectors are below this address, and nothing else.
const VECTORS_END: u64 = 64 << 10;

/// What the entry code found.
#[derive(Clone, Copy, Debug)]
pub struct Found<'f> {
    /// Where the kernel's image is.
    pub image: PhysRange,
    /// The memory at which the tree is, [`TREE_BYTES`] of it.
    pub memory: PhysRange,
    /// The tree.
    pub tree: &'f [u8],
    /// The command line, up to a NUL.
    pub command_line: &'f [u8],
}

/// Reads everything that is to be known this early.
///
/// # Errors
///
/// [`HandoffError`]
pub fn read(found: &Found<'_>) -> Result<BootInfo, HandoffError> {
    let bytes = tree::total_bytes(found.tree)?;
    let whole = found.tree.get(..bytes as usize);
    let whole = whole.ok_or(HandoffError::DeviceTree("a length that makes no sense"))?;
    granted::check(whole)?;
    let Machine { mut ram, left_out, .. } = tree::read(whole, found.image)?;
    let vectors = PhysRange::new(PhysAddr::new(0), VECTORS_END).ok_or(HandoffError::NoRam)?;
    ram.remove(vectors);
    ram.remove(found.memory);
    let tree = PhysRange::new(found.memory.start().add(TREE_OFFSET), bytes);
    let firmware = Firmware::Papr(tree.ok_or(HandoffError::NoRam)?);
    let command_line = CommandLine::copy(found.command_line);
    Ok(BootInfo { ram, left_out, firmware, command_line })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::super::granted::tests::pseries;
    use super::*;

    fn range(start: u64, len: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), len).unwrap()
    }

    #[test]
    fn vectors_and_tree_are_not_ram_and_the_tree_is_named() {
        let mut tree = pseries().reserve(0x40_0000, 0x5b_2000).finish();
        let image = range(0x40_0000, 0x5c_0000);
        let len = tree.len() as u64;
        tree.resize(4096, 0);
        let memory = range(0x0100_0000, TREE_BYTES);
        let found = Found { image, memory, tree: &tree, command_line: b"placement=block\0rest" };
        let info = read(&found).unwrap();
        assert_eq!(info.firmware, Firmware::Papr(range(0x0100_0008, len)));
        assert_eq!(info.command_line.as_bytes(), b"placement=block");
        assert!(!info.ram.overlaps(range(0, 0x1_0000)));
        assert!(!info.ram.overlaps(memory));
        assert!(info.ram.covers(image), "the image is RAM, though firmware claims a part of it");
    }

    #[test]
    fn a_tree_that_is_cut_off_is_refused() {
        let tree = pseries().finish();
        let image = range(0x40_0000, 0x5c_0000);
        let memory = range(0x0100_0000, TREE_BYTES);
        let found = Found { image, memory, tree: &tree[..tree.len() - 1], command_line: b"" };
        assert!(matches!(read(&found), Err(HandoffError::DeviceTree(_))));
        let found = Found { image, memory, tree: &[0; 64], command_line: b"" };
        assert!(matches!(read(&found), Err(HandoffError::DeviceTree(_))));
    }
}
