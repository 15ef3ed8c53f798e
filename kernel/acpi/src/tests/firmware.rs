//! A firmware of our own: builds tables byte by byte and lays them out in fake memory.

use std::vec::Vec;

use hotmem::addr::{PhysAddr, PhysRange};

use hotmem::paging::ReadPhys;

/// Where the RSDP is.
pub(super) const RSDP: PhysAddr = PhysAddr::new(0xF5A0);

/// Physical memory that holds some pieces, and nothing between them.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub(super) pieces: Vec<(u64, Vec<u8>)>,
}

impl ReadPhys for Memory {
    fn bytes(&self, range: PhysRange) -> Option<&[u8]> {
        self.pieces.iter().find_map(|(at, bytes)| {
            let start = usize::try_from(range.start().get().checked_sub(*at)?).ok()?;
            bytes.get(start..start.checked_add(usize::try_from(range.len()).ok()?)?)
        })
    }
}

/// Writes a little-endian number.
pub(super) fn put(bytes: &mut [u8], offset: usize, size: usize, value: u64) {
    bytes[offset..offset + size].copy_from_slice(&value.to_le_bytes()[..size]);
}

/// Makes the bytes add up to 0 by changing the one at `at`.
pub(super) fn fix(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    bytes[at] = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
}

/// A table: header, then `body`.
pub(super) fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = [0; 36].to_vec();
    bytes[..4].copy_from_slice(signature);
    bytes[8] = revision;
    bytes.extend_from_slice(body);
    let length = bytes.len() as u64;
    put(&mut bytes, 4, 4, length);
    fix(&mut bytes, 9);
    bytes
}

/// A MADT with records after its two fixed fields.
pub(super) fn madt(records: &[&[u8]]) -> Vec<u8> {
    let mut body = [0; 8].to_vec();
    put(&mut body, 0, 4, 0xFEE0_0000);
    body.extend(records.concat());
    table(b"APIC", 3, &body)
}

/// A MADT's I/O APIC.
pub(super) fn io_apic(id: u8, address: u32, base: u32) -> Vec<u8> {
    let mut bytes = [1, 12, id, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
    put(&mut bytes, 4, 4, address.into());
    put(&mut bytes, 8, 4, base.into());
    bytes
}

/// A MADT's interrupt source override.
pub(super) fn source_override(source: u8, gsi: u32, flags: u16) -> Vec<u8> {
    let mut bytes = [2, 10, 0, source, 0, 0, 0, 0, 0, 0].to_vec();
    put(&mut bytes, 4, 4, gsi.into());
    put(&mut bytes, 8, 2, flags.into());
    bytes
}

/// A SRAT with records.
pub(super) fn srat(revision: u8, records: &[Vec<u8>]) -> Vec<u8> {
    let mut body = [0; 12].to_vec();
    body.extend(records.concat());
    table(b"SRAT", revision, &body)
}

/// A SRAT's memory affinity record.
pub(super) fn affinity(domain: u32, base: u64, len: u64, flags: u32) -> Vec<u8> {
    let mut bytes = [0; 40].to_vec();
    (bytes[0], bytes[1]) = (1, 40);
    put(&mut bytes, 2, 4, domain.into());
    put(&mut bytes, 8, 8, base);
    put(&mut bytes, 16, 8, len);
    put(&mut bytes, 28, 4, flags.into());
    bytes
}

/// A FADT like QEMU's for q35, `length` bytes long.
pub(super) fn fadt(length: usize) -> Vec<u8> {
    let mut bytes = [0; 276].to_vec();
    put(&mut bytes, 46, 2, 9);
    put(&mut bytes, 48, 4, 0xB2);
    put(&mut bytes, 52, 1, 2);
    put(&mut bytes, 56, 4, 0x600);
    put(&mut bytes, 64, 4, 0x604);
    put(&mut bytes, 80, 4, 0x620);
    put(&mut bytes, 88, 1, 4);
    put(&mut bytes, 89, 1, 2);
    put(&mut bytes, 92, 1, 16);
    table(b"FACP", 3, &bytes[36..length])
}

/// Lays tables out and points to them from a root of the wanted kind.
pub(super) fn memory(revision: u8, tables: &[Vec<u8>]) -> Memory {
    let mut memory = Memory::default();
    let mut at = 0x1FFE_0000;
    let mut pointers = Vec::new();
    let width = if revision >= 2 { 8 } else { 4 };
    for bytes in tables {
        pointers.extend_from_slice(&u64::to_le_bytes(at)[..width]);
        memory.pieces.push((at, bytes.clone()));
        at += (bytes.len() as u64).next_multiple_of(0x1_0000);
    }
    let name = if revision >= 2 { b"XSDT" } else { b"RSDT" };
    memory.pieces.push((at, table(name, 1, &pointers)));

    let mut rsdp = [0; 36].to_vec();
    rsdp[..8].copy_from_slice(b"RSD PTR ");
    rsdp[15] = revision;
    put(&mut rsdp, if revision >= 2 { 24 } else { 16 }, width, at);
    fix(&mut rsdp[..20], 8);
    if revision >= 2 {
        put(&mut rsdp, 20, 4, 36);
        fix(&mut rsdp[..20], 8);
        fix(&mut rsdp, 32);
    } else {
        rsdp.truncate(20);
    }
    memory.pieces.push((RSDP.get(), rsdp));
    memory
}

/// Deterministic numbers for tests that flip bytes (xorshift64*).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}
