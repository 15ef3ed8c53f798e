//! Persistent memory: the structures of the NFIT, and label storage areas.

use hotmem::{PhysAddr, PhysRange};
use hotmem_acpi::nvdimm::{Area, Bounds, Contents, LabelError, Nfit, Part, Regions, contents};

use crate::input::Input;

/// The first address past RAM, and the first that there cannot be.
const RAM: u64 = 1 << 30;
const LIMIT: u64 = 1 << 40;
/// Reads of one area at most: two lists of 64 KiB, each read twice, and labels.
const READS: usize = 2000;

/// A label storage area.
struct Bytes<'a> {
    bytes: &'a [u8],
    reads: usize,
}

impl Area for Bytes<'_> {
    fn size(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), LabelError> {
        self.reads += 1;
        let offset = offset as usize;
        let from = self.bytes.get(offset..offset + bytes.len());
        bytes.copy_from_slice(from.ok_or(LabelError::NoIndex)?);
        Ok(())
    }
}

/// The structures, and behind them the bytes of the labels of all NVDIMMs.
pub(crate) fn tables(data: &[u8]) {
    let mut input = Input(data);
    let structures = input.piece();
    let Ok(mut regions) = Regions::new() else { return };
    let ram = [PhysRange::new(PhysAddr::new(0), RAM).unwrap_or_default()];
    let bounds = Bounds { ram: &ram, other: &[], limit: PhysAddr::new(LIMIT) };
    regions.read(Nfit::of_method(structures), bounds);
    let found: Vec<_> = regions.sound().collect();
    for (at, region) in found.iter().enumerate() {
        let range = region.range;
        assert!(!range.is_empty() && range.start().get() >= RAM && range.end().get() <= LIMIT);
        assert!(found[..at].iter().all(|other| !other.range.overlaps(range)));
        for part in regions.parts(region.index) {
            labels(input.0, &part);
        }
    }
    regions.refused().iter().for_each(|error| assert!(!error.to_string().is_empty()));
    labels(input.0, &Part { handle: 1, base: 0, length: RAM });
}

fn labels(bytes: &[u8], part: &Part) {
    let mut area = Bytes { bytes, reads: 0 };
    match contents(&mut area, part) {
        Ok(Contents::Namespace(name)) => assert!(!name.to_string().is_empty()),
        Ok(Contents::NoArea) => assert!(bytes.is_empty()),
        Ok(Contents::Empty | Contents::NoNamespace) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert!(area.reads < READS, "{} reads", area.reads);
}
