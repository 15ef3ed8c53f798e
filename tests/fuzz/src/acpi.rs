//! ACPI's tables, from the root pointer to events and their replies.

use hotmem::paging::ReadPhys;
use hotmem::{PhysAddr, PhysRange};
use hotmem_acpi::{AcpiSource, Fadt, Hardware, Madt, Slit, Spcr, Srat, Tables};
use hotmem_aml::{HostError, Io, Space, Width};
use hotmem_hotplug::{HotplugSource, Latch, Line, Outcome, Refusal, Request};

use crate::aml::{LIMITS, Registers, table_of};
use crate::input::Input;

/// Where the root pointer is.
const ROOT: u64 = 0x1000;
/// Where the first table is; each has a megabyte.
const FIRST: u64 = 0x10_0000;
/// Events that are taken of one input.
const EVENTS: usize = 32;
/// The tables that code reads, by the byte before each.
const NAMES: [&[u8; 4]; 8] =
    [b"FACP", b"APIC", b"SRAT", b"SPCR", b"SSDT", b"PSDT", b"SLIT", b"FACS"];

/// Memory that holds some pieces, and nothing between them.
#[derive(Debug, Default)]
struct Memory(Vec<(u64, Vec<u8>)>);

impl ReadPhys for Memory {
    fn bytes(&self, range: PhysRange) -> Option<&[u8]> {
        self.0.iter().find_map(|(at, bytes)| {
            let start = usize::try_from(range.start().get().checked_sub(*at)?).ok()?;
            bytes.get(start..start.checked_add(usize::try_from(range.len()).ok()?)?)
        })
    }
}

impl Hardware for Registers<'_> {
    fn compare_exchange(&mut self, _: PhysAddr, _: u32, _: u32) -> Result<u32, HostError> {
        Ok(self.read(Space::SystemMemory, 0, Width::Dword)? as u32)
    }

    fn unmask(&mut self, _: &Line) {}
}

/// A DSDT, then tables: the number of a name, a revision, and what is behind the header. A number above those of names
/// keeps the sum wrong. The last is what registers hold.
pub(crate) fn tables(data: &[u8]) {
    let mut input = Input(data);
    let dsdt = table_of(*b"DSDT", input.byte(), input.piece());
    let mut memory = Memory::default();
    let mut pointers = Vec::new();
    for at in (0..input.byte() % 8).map(|index| FIRST + (u64::from(index) << 20)) {
        pointers.extend(at.to_le_bytes());
        memory.0.push((at, any_table(&mut input)));
    }
    let root = FIRST - (1 << 16);
    memory.0.push((root, table_of(*b"XSDT", 1, &pointers)));
    memory.0.push((ROOT, root_pointer(root)));
    // Where a description of fixed hardware says that the DSDT is, which is one of these or some other place.
    memory.0.push((0x2000_0000, dsdt));
    let Ok(tables) = Tables::new(&memory, PhysAddr::new(ROOT)) else { return };
    let _ = Fadt::find(&tables).map(|fadt| format!("{fadt:?}"));
    let _ = Spcr::find(&tables).map(|spcr| spcr.map(|spcr| spcr.line()));
    let _ = Srat::find(&tables).map(|srat| srat.map(|srat| srat.memory().count()));
    let _ = Srat::window(&tables);
    if let Ok(Some(slit)) = Slit::find(&tables) {
        // No node is nearer than itself (ACPI 6.5, 5.2.17).
        assert!(slit.distance(input.half() % 4, 1).is_none_or(|distance| distance >= 10));
    }
    if let Ok(Some(madt)) = Madt::find(&tables) {
        if let Ok(Some(srat)) = Srat::find(&tables) {
            for cpu in madt.processors() {
                let _ = srat.domain_of(&cpu);
            }
        }
        let parts = (madt.io_apics().count(), madt.processors().count(), madt.overrides().count());
        let lines = (madt.local_apic(), madt.isa_line(input.byte()), madt.sci_line(9));
        assert!(!format!("{parts:?}{lines:?}{}", madt.controllers().count()).is_empty());
    }
    serve(&tables, input);
}

fn any_table(input: &mut Input<'_>) -> Vec<u8> {
    let (name, revision) = (input.byte(), input.byte());
    let mut table = table_of(*NAMES[usize::from(name) % NAMES.len()], revision, input.piece());
    if name >= 0xf0 {
        table[9] = table[9].wrapping_add(1);
    }
    table
}

/// A root pointer of ACPI 2.0 (ACPI 6.5, 5.2.5.3).
fn root_pointer(root: u64) -> Vec<u8> {
    let mut bytes = [0; 36];
    bytes[..8].copy_from_slice(b"RSD PTR ");
    bytes[15] = 2;
    bytes[20] = 36;
    bytes[24..32].copy_from_slice(&root.to_le_bytes());
    for (end, at) in [(20, 8), (36, 32)] {
        bytes[at] = bytes[..end].iter().fold(0u8, |sum, &byte| sum.wrapping_sub(byte));
    }
    bytes.to_vec()
}

/// Starts a source, and replies to its events.
fn serve(tables: &Tables<'_, Memory>, mut registers: Input<'_>) {
    static LATCH: Latch = Latch::new();
    let replies = [
        Outcome::Inserted,
        Outcome::InsertFailed,
        Outcome::Ejecting,
        Outcome::EjectRefused(Refusal::InUse),
        Outcome::EjectFailed,
    ];
    let lines = registers.byte();
    let mut source = match AcpiSource::new(tables, Registers(registers), &LATCH, LIMITS) {
        Ok(source) => source,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let _ = source.find_pmem(tables, &[], PhysAddr::new(1 << 40));
    let _ = source.arm();
    for index in 0..EVENTS {
        LATCH.raise(usize::from(lines) % 8, 1);
        let Some(event) = source.next_event() else { break };
        if let Request::Unreadable(error) = &event.request {
            assert!(!error.to_string().is_empty());
        }
        let _ = source.reply(event.device, replies[index % replies.len()]);
        if source.can_eject(event.device).is_ok() && index % 3 == 0 {
            let _ = source.eject(event.device);
        }
        let _ = (source.is_there(event.device), source.wants_power_off(), source.has_work());
    }
    for number in 0..source.persistent_count() {
        let _ = source.persistent(number);
    }
    let mut shown = String::new();
    let _ = source.write_firmware(true, &mut shown);
    let _ = source.write_firmware(false, &mut shown);
    assert!(!shown.is_empty());
    LATCH.take();
}
