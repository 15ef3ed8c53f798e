//! The tables that QEMU makes for its machines.
//!
//! On a PC they are read from memory once SeaBIOS has placed and linked them. The arm `virt`
//! machine gets them from `fw_cfg`, where its firmware would fetch them: no firmware needs to
//! run for that, and the AML needs no linking.

use std::time::{Duration, Instant};

use crate::qtest::Qtest;
use crate::{Live, Outcome, Scratch, Tables};

/// A machine to take tables from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// x86_64 with PCI Express.
    Q35,
    /// x86_64 with PCI.
    Pc,
    /// aarch64, hardware-reduced ACPI.
    Virt,
}

/// How long firmware may take to place its tables; it takes well under a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of a table's header (ACPI 6.5, table 5.4).
const HEADER: usize = 36;

/// Starts a machine with memory slots, and more arguments if given, and reads its tables.
///
/// # Errors
/// QEMU is missing, refuses the arguments, or its firmware makes no sound tables in time.
pub fn tables(machine: Machine, slots: u32, more: &[&str]) -> Outcome<Tables> {
    let mut args = vec!["-m".to_owned(), format!("512M,slots={slots},maxmem=64G")];
    args.extend(more.iter().map(|&arg| arg.to_owned()));
    match machine {
        Machine::Q35 => pc(&args, "q35"),
        Machine::Pc => pc(&args, "pc"),
        Machine::Virt => virt(&args),
    }
}

/// Starts a q35 with memory slots and more arguments, whose registers byte code reaches as long as [`Live`] lives, and
/// reads its tables.
///
/// # Errors
/// As [`tables`].
pub fn live(slots: u32, more: &[&str]) -> Outcome<(Tables, Live)> {
    let mut args = vec!["-m".to_owned(), format!("512M,slots={slots},maxmem=64G")];
    args.extend(more.iter().map(|&arg| arg.to_owned()));
    let (tables, qemu) = pc_running(&args, "q35")?;
    Ok((tables, Live::new(qemu)))
}

fn pc(args: &[String], machine: &str) -> Outcome<Tables> {
    pc_running(args, machine).map(|(tables, _)| tables)
}

/// Waits until SeaBIOS has placed tables whose checksums are right.
fn pc_running(args: &[String], machine: &str) -> Outcome<(Tables, Qtest)> {
    let mut all = vec!["-machine".to_owned(), machine.to_owned(), "-accel".into(), "tcg".into()];
    all.extend_from_slice(args);
    let mut qemu = Qtest::start("qemu-system-x86_64", "qemu-system-x86", &all)?;
    let start = Instant::now();
    loop {
        if let Some(tables) = pc_tables(&mut qemu)? {
            return Ok((tables, qemu));
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("no ACPI tables on {machine} after {PATIENCE:?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Follows RSDP, RSDT and FADT; `None` while something is missing or not sound.
fn pc_tables(qemu: &mut Qtest) -> Outcome<Option<Tables>> {
    let bios = qemu.read(0xE_0000, 0x2_0000)?;
    let rsdp = bios
        .chunks(16)
        .zip(bios.windows(20).step_by(16))
        .find(|(chunk, rsdp)| chunk.starts_with(b"RSD PTR ") && sum(rsdp) == 0);
    let Some((_, rsdp)) = rsdp else { return Ok(None) };
    let Some(rsdt) = table(qemu, u64::from(word(rsdp, 16)))? else { return Ok(None) };
    let mut dsdt = None;
    let mut ssdts = Vec::new();
    for entry in rsdt.get(HEADER..).unwrap_or_default().chunks_exact(4) {
        let Some(found) = table(qemu, u64::from(word(entry, 0)))? else { return Ok(None) };
        if found.starts_with(b"FACP") {
            dsdt = table(qemu, u64::from(word(&found, 40)))?;
        } else if found.starts_with(b"SSDT") {
            ssdts.push(found);
        }
    }
    Ok(dsdt.map(|dsdt| Tables { dsdt, ssdts }))
}

/// Reads a table; `None` if its checksum is not right (yet).
fn table(qemu: &mut Qtest, address: u64) -> Outcome<Option<Vec<u8>>> {
    let header = qemu.read(address, HEADER)?;
    let length = word(&header, 4) as usize;
    if !(HEADER..1 << 20).contains(&length) {
        return Ok(None);
    }
    let bytes = qemu.read(address, length)?;
    Ok((sum(&bytes) == 0).then_some(bytes))
}

/// `fw_cfg` of the `virt` machine, its DMA register (QEMU, docs/specs/fw_cfg.rst).
const FW_CFG_DMA: u64 = 0x902_0010;

/// RAM of the `virt` machine to put the DMA descriptor and its data in.
const DESCRIPTOR: u64 = 0x4000_0000;
const DATA: u64 = 0x4010_0000;

/// The `fw_cfg` key of the list of files.
const FILE_DIR: u32 = 0x19;

/// Reads `etc/acpi/tables`, with the machine stopped before its first instruction.
fn virt(args: &[String]) -> Outcome<Tables> {
    // Tables are only made for a machine that has a firmware: an empty one will do.
    let scratch = Scratch::new()?;
    let firmware = scratch.write("firmware", &[0; 4096])?;
    let mut all: Vec<String> =
        ["-machine", "virt", "-cpu", "cortex-a57", "-S", "-bios"].map(str::to_owned).into();
    all.push(firmware.display().to_string());
    all.extend_from_slice(args);
    let mut qemu = Qtest::start("qemu-system-aarch64", "qemu-system-arm", &all)?;
    let count = fw_cfg(&mut qemu, FILE_DIR, 4)?;
    let entries = big(&count, 0) as usize;
    let directory = fw_cfg(&mut qemu, FILE_DIR, 4 + entries * 64)?;
    let file =
        directory.get(4..).unwrap_or_default().chunks_exact(64).find(|entry| {
            entry.get(8..).is_some_and(|name| name.starts_with(b"etc/acpi/tables\0"))
        });
    let file = file.ok_or("the virt machine has no ACPI tables")?;
    let key = big(file, 4) >> 16;
    let blob = fw_cfg(&mut qemu, key, big(file, 0) as usize)?;
    split(&blob)
}

/// Reads the first bytes of a file by its key.
fn fw_cfg(qemu: &mut Qtest, key: u32, length: usize) -> Outcome<Vec<u8>> {
    // Control: key, "select" (bit 3) and "read" (bit 1); then length and address, big-endian.
    let control = key << 16 | 1 << 3 | 1 << 1;
    let mut descriptor = control.to_be_bytes().to_vec();
    descriptor.extend((length as u32).to_be_bytes());
    descriptor.extend(DATA.to_be_bytes());
    qemu.write(DESCRIPTOR, &descriptor)?;
    qemu.write(FW_CFG_DMA, &DESCRIPTOR.to_be_bytes())?;
    let control = qemu.read(DESCRIPTOR, 4)?;
    if big(&control, 0) != 0 {
        return Err(format!("fw_cfg key {key:#x} cannot be read"));
    }
    qemu.read(DATA, length)
}

/// Splits a blob of tables, one behind the other with zeros between them.
fn split(blob: &[u8]) -> Outcome<Tables> {
    let mut tables = Tables { dsdt: Vec::new(), ssdts: Vec::new() };
    let mut rest = blob;
    while let Some(start) = rest.iter().position(|&byte| byte != 0) {
        rest = rest.get(start..).unwrap_or_default();
        let length = (word(rest, 4) as usize).max(HEADER);
        let table = rest.get(..length).ok_or("a table of the virt machine is cut off")?;
        if table.starts_with(b"DSDT") {
            tables.dsdt = with_checksum(table);
        } else if table.starts_with(b"SSDT") {
            tables.ssdts.push(with_checksum(table));
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    if tables.dsdt.is_empty() { Err("the virt machine has no DSDT".into()) } else { Ok(tables) }
}

/// A table with the checksum that firmware would have put in while linking it.
fn with_checksum(table: &[u8]) -> Vec<u8> {
    let mut table = table.to_vec();
    let sum = sum(&table);
    // Byte 9 of the header makes the sum zero (ACPI 6.5, table 5.4).
    if let Some(checksum) = table.get_mut(9) {
        *checksum = checksum.wrapping_sub(sum);
    }
    table
}

/// The sum of all bytes, 0 for a sound table.
fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, &byte| sum.wrapping_add(byte))
}

/// Four bytes at `at`, or zeros if they are not there.
fn four(bytes: &[u8], at: usize) -> [u8; 4] {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default()
}

/// A little-endian word.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(four(bytes, at))
}

/// A big-endian word.
fn big(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(four(bytes, at))
}
