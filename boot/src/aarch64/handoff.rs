//! From a device tree and a firmware configuration device to one [`BootInfo`].

use super::fw_cfg::{self, Device};
use super::table_loader::{self, Arena};
use crate::info::{BootInfo, COMMAND_LINE_BYTES, CommandLine, Firmware, HandoffError};
use crate::tree::Machine;
use hotmem_paging::addr::{PhysAddr, PhysRange};

/// The file with the command line. QEMU leaves names that begin with `opt/` to its users.
const COMMAND_LINE: &[u8] = b"opt/hotmem/cmdline";
/// Memory set aside for ACPI tables: QEMU's take less than 140 KiB.
pub const TABLE_BYTES: u64 = 1 << 20;
/// The largest page a kernel may have: tables and RAM share none.
const LARGEST_PAGE: u64 = 64 << 10;

/// Where the ACPI tables go: behind the image at `image`, in pages of their own.
pub fn table_range(machine: &Machine, image: PhysRange) -> Result<PhysRange, HandoffError> {
    let start = image.end().get().checked_next_multiple_of(LARGEST_PAGE);
    let range = start.and_then(|start| PhysRange::new(PhysAddr::new(start), TABLE_BYTES));
    range.filter(|&range| machine.ram.covers(range)).ok_or(HandoffError::NoRam)
}

/// Reads everything that is to be known from `device`; `arena` is the memory at [`table_range`].
///
/// # Errors
///
/// [`HandoffError`]
pub fn read(
    machine: &Machine,
    device: &mut impl Device,
    arena: Arena<'_>,
) -> Result<BootInfo, HandoffError> {
    let start = arena.at;
    let loaded = table_loader::load(device, arena).map_err(HandoffError::Tables)?;
    let used = loaded.used.next_multiple_of(LARGEST_PAGE);
    let tables = PhysRange::new(start, used).ok_or(HandoffError::NoRam)?;

    let mut ram = machine.ram;
    ram.remove(tables);
    let firmware = Firmware::Acpi(loaded.rsdp);
    let (left_out, command_line) = (machine.left_out, command_line(device));
    Ok(BootInfo { ram, left_out, firmware, command_line })
}

fn command_line(device: &mut impl Device) -> CommandLine {
    let Some(file) = fw_cfg::find(device, COMMAND_LINE) else { return CommandLine::new() };
    // One byte more than is kept shows whether the line fits or was cut.
    CommandLine::copy(fw_cfg::read(device, file, &mut [0; COMMAND_LINE_BYTES + 1]))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::super::fw_cfg::fake::Fake;
    use super::*;
    use crate::tree;

    fn range(start: u64, len: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), len).unwrap()
    }

    #[test]
    fn tables_lie_behind_the_image_and_are_not_ram() {
        let machine = tree::tests::read(&tree::tests::virt().finish()).unwrap();
        let place = table_range(&machine, range(0x4020_0000, 0x51_2340)).unwrap();
        assert_eq!(place, range(0x4072_0000, TABLE_BYTES));

        let mut script = std::vec![0; 128];
        script[0] = 1;
        script[4..17].copy_from_slice(b"etc/acpi/rsdp");
        script[60] = 64;
        let mut device = Fake::new(&[
            ("etc/acpi/rsdp", &[7; 36]),
            ("etc/table-loader", &script),
            ("opt/hotmem/cmdline", b"placement=block"),
        ]);
        let mut memory = std::vec![0; TABLE_BYTES as usize];
        let arena = Arena { bytes: &mut memory, at: place.start() };
        let info = read(&machine, &mut device, arena).unwrap();
        assert_eq!(info.firmware, Firmware::Acpi(place.start()));
        assert_eq!(info.ram.bytes(), 0x2000_0000 - LARGEST_PAGE);
        assert!(!info.ram.overlaps(range(0x4072_0000, LARGEST_PAGE)));
        assert_eq!(info.command_line.as_bytes(), b"placement=block");
    }

    #[test]
    fn an_image_at_the_end_of_ram_leaves_no_room() {
        let machine = tree::tests::read(&tree::tests::virt().finish()).unwrap();
        let refused = table_range(&machine, range(0x5ff0_0000, 0x8_0000));
        assert_eq!(refused, Err(HandoffError::NoRam));
    }
}
