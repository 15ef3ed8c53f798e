//! Memory devices on PCI buses, and configuration space that firmware describes where none is.

use crate::alone::alone;
use crate::firmware::{Firmware, SCI};
use crate::hotplug;
use crate::pc::{MIB, Pc, range};
use crate::pci::{REGISTERS, SPACE};

/// What a command register says: memory is decoded, the function accesses memory, and does not use its line.
const DECODES: u32 = 1 << 1;
const MASTER: u32 = 1 << 2;
const NO_LINE: u32 = 1 << 10;

/// A machine whose firmware says that configuration space is at `at`.
fn pc(at: u64) -> Pc {
    Pc::new(&Firmware { mcfg: Some(at), ..Firmware::default() })
}

/// The command register of a function.
fn command(pc: &Pc, at: (u8, u8, u8)) -> u32 {
    pc.machine.act(&pc.board, |board| board.functions.word(at, 4)) & 0xFFFF
}

#[test]
fn a_device_does_not_take_the_line_of_acpis_events() {
    alone(|| {
        let pc = pc(SPACE.start().get());
        pc.machine.act(&pc.board, |board| board.functions.memory_device((0, 3, 0), SCI));
        let text = pc.start();
        assert!(text.contains("virtio-mem at 00:03.0"), "{text}");
        assert!(text.contains("is the line of ACPI's events"), "{text}");
        assert_eq!(command(&pc, (0, 3, 0)) & NO_LINE, NO_LINE);
        // Events arrive.
        hotplug::plug(&pc);
        hotplug::unplug(&pc);
    });
}

#[test]
fn a_device_that_cannot_be_used_neither_interrupts_nor_accesses_memory() {
    alone(|| {
        let pc = pc(SPACE.start().get());
        pc.machine.act(&pc.board, |board| {
            board.functions.memory_device((0, 3, 0), 10);
            // Its registers are nowhere.
            board.functions.memory_device((0, 4, 0), 10);
            board.functions.store(SPACE.start().add(4 << 15 | 0x34), 0);
            assert_eq!(board.functions.word((0, 3, 0), 4) & 0xFFFF, DECODES | MASTER);
        });
        let text = pc.start();
        assert!(
            text.contains("virtio-mem at 00:03.0: it has no interface of virtio 1.0"),
            "{text}"
        );
        assert!(
            text.contains("virtio-mem at 00:04.0: it has no registers for the queue"),
            "{text}"
        );
        for device in [3, 4] {
            assert_eq!(command(&pc, (0, device, 0)) & (MASTER | NO_LINE), NO_LINE, "{device}");
        }
        hotplug::plug(&pc);
    });
}

/// Starts with a memory device whose registers are at `at`.
fn start_with_registers_at(at: u64, firmware: &Firmware<'_>) -> String {
    let pc = Pc::new(&Firmware { mcfg: Some(SPACE.start().get()), ..*firmware });
    pc.machine.act(&pc.board, |board| {
        board.functions.memory_device((0, 3, 0), 10);
        let bar = SPACE.start().add(3 << 15 | 0x20);
        board.functions.store(bar, at as u32);
        board.functions.store(bar.add(4), (at >> 32) as u32);
    });
    let text = pc.start();
    assert_eq!(command(&pc, (0, 3, 0)) & (MASTER | NO_LINE), NO_LINE, "{text}");
    hotplug::plug(&pc);
    text
}

/// Starts with registers at `at`, which are refused.
fn refuses_registers_at(at: u64, named: &str) {
    let text = start_with_registers_at(at, &Firmware::default());
    assert!(text.contains("PCI: registers at [") && text.contains(named), "{text}");
}

#[test]
fn registers_over_ram_are_refused_with_its_address_and_not_accessed() {
    alone(|| refuses_registers_at(0x10_0000, "memory of the kernel is at 0x100000"));
}

#[test]
fn registers_over_tables_are_refused_and_not_accessed() {
    alone(|| refuses_registers_at(0xE_0000, "firmware's tables are there"));
}

#[test]
fn registers_over_persistent_memory_are_refused_with_the_region_and_not_accessed() {
    alone(|| {
        let region = range(REGISTERS.start().get(), 2 * MIB);
        let firmware = Firmware { persistent: Some(region), ..Firmware::default() };
        let text = start_with_registers_at(REGISTERS.start().get(), &firmware);
        assert!(text.contains(&format!("persistent memory is there, {region}")), "{text}");
    });
}

#[test]
fn configuration_space_over_tables_is_refused_with_its_address_and_not_accessed() {
    alone(|| {
        let text = pc(0).start();
        let named = "PCI: bus 0 at [0x0-0xfffff] is not used: firmware's tables are there";
        assert!(text.contains(named), "{text}");
    });
}

#[test]
fn configuration_space_over_ram_is_refused_with_its_address_and_not_accessed() {
    alone(|| {
        let text = pc(0x10_0000).start();
        let named =
            "PCI: bus 0 at [0x100000-0x1fffff] is not used: memory of the kernel is at 0x100000";
        assert!(text.contains(named), "{text}");
    });
}

#[test]
fn configuration_space_that_the_mainboard_does_not_have_is_refused_with_its_address() {
    alone(|| {
        let text = pc(0xC000_0000).start();
        let named = "PCI: bus 0 at [0xc0000000-0xc00fffff] is not used: the mainboard's resources";
        assert!(text.contains(named), "{text}");
    });
}

#[test]
fn more_buses_than_there_may_be_are_named_and_the_others_are_used() {
    alone(|| {
        let pc = pc(SPACE.start().get());
        pc.machine.act(&pc.board, |board| {
            for bus in 0..60 {
                board.functions.bridge((bus, 1, 0), bus + 1);
            }
            board.functions.memory_device((2, 0, 0), 10);
        });
        let text = pc.start();
        assert!(text.contains("virtio-mem at 02:00.0"), "{text}");
        assert_eq!(text.matches("is not used: ").count(), 1, "{text}");
        hotplug::plug(&pc);
    });
}
