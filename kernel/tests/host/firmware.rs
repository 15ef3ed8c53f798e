//! Firmware's tables, built byte by byte, and the start info that points to them.

use hotmem::paging::ReadPhys;
use hotmem::{PhysAddr, PhysRange};
use hotmem_aml_fakes::{compile, compile_text};
use hotmem_boot::start_info::{self, StartInfo};
use hotmem_boot::{BootInfo, HandoffError};

use crate::pc::{self, RAM, WINDOW};

/// The memory that holds firmware's tables.
pub(crate) const ROM: PhysRange = pc::range(0xE_0000, 0x2_0000);
pub(crate) const START_INFO: PhysAddr = ROM.start();
pub(crate) const RSDP: PhysAddr = START_INFO.add(0x1000);
const XSDT: PhysAddr = START_INFO.add(0x1100);
const TABLES: PhysAddr = START_INFO.add(0x2000);
/// The system control interrupt.
pub(crate) const SCI: u32 = 9;
/// The hotplug controller of `reduced.asl`, and the register that reports its events.
pub(crate) const REGISTERS: PhysRange = pc::range(0xD000_0000, 0x9000);
pub(crate) const DOORBELL: PhysAddr = PhysAddr::new(0xD000_8000);
/// The interrupt of that register, and the bit for memory.
pub(crate) const EVENT_LINE: u32 = 41;
pub(crate) const MEMORY_HAPPENED: u64 = 1 << 2;
/// The registers of the interrupt controller.
pub(crate) const IO_APIC: PhysRange = pc::range(0xFEC0_0000, 0x1000);

/// The contents of firmware's memory.
#[derive(Clone, Debug)]
pub(crate) struct Rom {
    pub(crate) bytes: Vec<u8>,
}

impl ReadPhys for Rom {
    fn bytes(&self, range: PhysRange) -> Option<&[u8]> {
        let start = range.start().get().checked_sub(ROM.start().get())? as usize;
        self.bytes.get(start..start.checked_add(range.len() as usize)?)
    }
}

/// The machine that firmware describes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Firmware<'a> {
    pub(crate) command_line: &'a str,
    /// The RAM in the loader's map.
    pub(crate) ram: PhysRange,
    /// The address of the interrupt controller.
    pub(crate) io_apic: PhysAddr,
    /// The CPUs: the id of each, and whether it may be used.
    pub(crate) cpus: &'a [(u8, bool)],
    /// Whether the machine has a device that reports events instead of fixed hardware.
    pub(crate) reduced: bool,
    /// Where it says that PCI's configuration space is.
    pub(crate) mcfg: Option<u64>,
    /// Where it has persistent memory.
    pub(crate) persistent: Option<PhysRange>,
}

impl Default for Firmware<'_> {
    fn default() -> Self {
        let io_apic = IO_APIC.start();
        let (cpus, reduced) = (&[(0, true)][..], false);
        let (mcfg, persistent) = (None, None);
        Self { command_line: "", ram: RAM, io_apic, cpus, reduced, mcfg, persistent }
    }
}

impl Rom {
    pub(crate) fn new(firmware: &Firmware<'_>) -> Self {
        let Firmware { command_line, ram, io_apic, cpus, reduced, mcfg, persistent } = *firmware;
        let mut rom = Self { bytes: vec![0; ROM.len() as usize] };
        let mut at = TABLES;
        let mut place = |rom: &mut Self, table: &[u8]| {
            rom.put(at, table);
            let here = at;
            at = at.add((table.len() as u64).next_multiple_of(64));
            here
        };
        let dsdt = if reduced { compile("reduced") } else { compile_text(include_str!("pc.asl")) };
        let dsdt = place(&mut rom, &dsdt.unwrap());
        let tables = [fadt(dsdt, reduced), madt(io_apic, cpus), srat(), slit()];
        let tables = tables.into_iter().chain(mcfg.map(self::mcfg)).chain(persistent.map(nfit));
        let tables: Vec<_> = tables.map(|bytes| place(&mut rom, &bytes).get()).collect();
        let pointers: Vec<u8> = tables.into_iter().flat_map(u64::to_le_bytes).collect();
        rom.put(XSDT, &table(b"XSDT", 1, &pointers));
        rom.put(RSDP, &rsdp());

        let info = StartInfo { rsdp: RSDP, command_line: command_line.as_bytes() };
        let map = [(ram, true), (ROM, false)];
        let start = &mut rom.bytes[..0x1000];
        start_info::write(&info, map.into_iter(), START_INFO, start).unwrap();
        rom
    }

    pub(crate) fn put(&mut self, at: PhysAddr, bytes: &[u8]) {
        let at = at.offset_from(ROM.start()) as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Breaks the checksum of a table.
    pub(crate) fn damage(&mut self, signature: &[u8; 4]) {
        let at = self.bytes.windows(4).position(|bytes| bytes == signature).unwrap();
        self.bytes[at + 10] ^= 1;
    }

    /// The information that the loader hands to the kernel.
    pub(crate) fn hand_off(&self) -> Result<BootInfo, HandoffError> {
        start_info::parse(self, START_INFO)
    }
}

/// Writes a little-endian number.
fn put(bytes: &mut [u8], offset: usize, size: usize, value: u64) {
    bytes[offset..offset + size].copy_from_slice(&value.to_le_bytes()[..size]);
}

/// Makes the bytes add up to 0 by changing the one at `at`.
fn fix(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    bytes[at] = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
}

/// A table: header, then `body`.
fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 36];
    bytes[..4].copy_from_slice(signature);
    bytes[8] = revision;
    bytes.extend_from_slice(body);
    let length = bytes.len() as u64;
    put(&mut bytes, 4, 4, length);
    fix(&mut bytes, 9);
    bytes
}

fn rsdp() -> Vec<u8> {
    let mut rsdp = vec![0; 36];
    rsdp[..8].copy_from_slice(b"RSD PTR ");
    rsdp[15] = 2;
    put(&mut rsdp, 20, 4, 36);
    put(&mut rsdp, 24, 8, XSDT.get());
    fix(&mut rsdp[..20], 8);
    fix(&mut rsdp, 32);
    rsdp
}

/// Fixed hardware where QEMU's q35 has it, and the DSDT.
fn fadt(dsdt: PhysAddr, reduced: bool) -> Vec<u8> {
    let mut bytes = vec![0; 276];
    put(&mut bytes, 112, 4, u64::from(reduced) << 20);
    put(&mut bytes, 46, 2, SCI.into());
    put(&mut bytes, 48, 4, 0xB2);
    put(&mut bytes, 52, 1, 2);
    put(&mut bytes, 56, 4, 0x600);
    put(&mut bytes, 64, 4, 0x604);
    put(&mut bytes, 80, 4, 0x620);
    put(&mut bytes, 88, 1, 4);
    put(&mut bytes, 89, 1, 2);
    put(&mut bytes, 92, 1, 16);
    put(&mut bytes, 140, 8, dsdt.get());
    table(b"FACP", 3, &bytes[36..])
}

/// One I/O APIC; the system control interrupt is level-triggered and active high.
fn madt(io_apic_at: PhysAddr, cpus: &[(u8, bool)]) -> Vec<u8> {
    let mut body = vec![0; 8];
    put(&mut body, 0, 4, 0xFEE0_0000);
    let mut io_apic = vec![0; 12];
    (io_apic[0], io_apic[1]) = (1, 12);
    put(&mut io_apic, 4, 4, io_apic_at.get());
    let mut sci = vec![2, 10, 0, SCI as u8, 0, 0, 0, 0, 0, 0];
    put(&mut sci, 4, 4, SCI.into());
    put(&mut sci, 8, 2, 0x0D);
    body.extend([io_apic, sci].concat());
    body.extend(cpus.iter().flat_map(|&(id, enabled)| [0, 8, id, id, enabled.into(), 0, 0, 0]));
    table(b"APIC", 3, &body)
}

/// RAM on node 0, and a window on node 1 where memory may be plugged.
fn srat() -> Vec<u8> {
    let mut body = vec![0; 12];
    for (domain, range, flags) in [(0, RAM, 1), (1, WINDOW, 3)] {
        let mut near = vec![0; 40];
        (near[0], near[1]) = (1, 40);
        put(&mut near, 2, 4, domain);
        put(&mut near, 8, 8, range.start().get());
        put(&mut near, 16, 8, range.len());
        put(&mut near, 28, 4, flags);
        body.extend(near);
    }
    table(b"SRAT", 2, &body)
}

/// Configuration space of 64 buses at `at`.
fn mcfg(at: u64) -> Vec<u8> {
    let mut body = vec![0; 24];
    put(&mut body, 8, 8, at);
    body[19] = 63;
    table(b"MCFG", 1, &body)
}

/// A range of persistent memory (ACPI 6.5, 5.2.25.2).
fn nfit(range: PhysRange) -> Vec<u8> {
    const KIND: [u8; 16] = *b"\x79\xd3\xf0\x66\xf3\xb4\x74\x40\xac\x43\x0d\x33\x18\xb7\x8c\xdb";
    let mut body = vec![0; 60];
    put(&mut body, 6, 2, 56);
    put(&mut body, 8, 2, 1);
    body[20..36].copy_from_slice(&KIND);
    put(&mut body, 36, 8, range.start().get());
    put(&mut body, 44, 8, range.len());
    table(b"NFIT", 1, &body)
}

/// Two nodes.
fn slit() -> Vec<u8> {
    table(b"SLIT", 1, &[2, 0, 0, 0, 0, 0, 0, 0, 10, 21, 21, 10])
}
