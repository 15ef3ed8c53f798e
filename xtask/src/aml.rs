//! `cargo xtask aml`: what the kernel would make of a machine's byte code.
//!
//! ```text
//! acpidump -b, or acpixtract -a  -->  dsdt.dat, ssdt1.dat, ...  -->  cargo xtask aml *.dat
//! ```

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hotmem_aml::{Aml, Host, HostError, Io, Limits, NodeId, NodeKind, Space, Width};

use crate::layout::fitted;
use crate::tool;

/// Bytes of every table's header (ACPI 6.5, 5.2.6).
const HEADER: usize = 36;

/// What to load.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The DSDT and SSDTs of one machine, as `acpidump -b` or `acpixtract -a` write them
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// A table of byte code.
#[derive(Debug)]
struct Table {
    file: PathBuf,
    bytes: Vec<u8>,
}

/// A machine whose registers read as zero and take every write.
struct Zeros;

impl Io for Zeros {
    fn read(&mut self, _: Space, _: u64, _: Width) -> Result<u64, HostError> {
        Ok(0)
    }

    fn write(&mut self, _: Space, _: u64, _: Width, _: u64) -> Result<(), HostError> {
        Ok(())
    }

    fn stall(&mut self, _: u64) {}

    fn sleep(&mut self, _: u64) {}

    fn timer(&mut self) -> u64 {
        0
    }
}

impl Host for Zeros {
    fn io(&mut self) -> &mut dyn Io {
        self
    }

    fn notify(&mut self, _: NodeId, _: u64) {}
}

/// Loads the tables and prints what is in them.
///
/// # Errors
/// A file that cannot be read or is not a table of byte code; tables that cannot be loaded.
pub(crate) fn main(args: &Args) -> Result<()> {
    let tables = args.files.iter().map(|file| read(file)).collect::<Result<Vec<_>>>()?;
    print!("{}", fitted(&report(tables)?));
    Ok(())
}

/// Reads a table.
fn read(file: &Path) -> Result<Table> {
    let bytes = tool::read(file)?;
    check(&bytes).with_context(|| format!("{} is not a table of byte code", file.display()))?;
    Ok(Table { file: file.into(), bytes })
}

/// Refuses what is not a table of byte code.
fn check(bytes: &[u8]) -> Result<()> {
    let header = bytes.get(..HEADER).context("it is shorter than the header of a table")?;
    let (signature, length) = header.split_at(4);
    ensure!(
        matches!(signature, b"DSDT" | b"SSDT" | b"PSDT"),
        "its signature is '{}', not DSDT, SSDT or PSDT",
        signature.escape_ascii()
    );
    let length = length.iter().take(4).rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    ensure!(
        length >= HEADER,
        "its header says a length of {length} bytes, less than the header has"
    );
    ensure!(
        length <= bytes.len(),
        "its header says a length of {length} bytes, and the file has {}",
        bytes.len()
    );
    Ok(())
}

/// What all bytes of a table add up to; 0 if it is sound.
fn sum(table: &Table) -> u8 {
    let length = table.bytes.iter().skip(4).take(4).rev();
    let length = length.fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    table.bytes.iter().take(length).fold(0, |sum, &byte| sum.wrapping_add(byte))
}

/// Loads the tables of one machine and says what is in them.
fn report(mut tables: Vec<Table>) -> Result<String> {
    let mut out = String::new();
    let is_dsdt = |table: &Table| table.bytes.starts_with(b"DSDT");
    tables.sort_by_key(|table| !is_dsdt(table));
    ensure!(tables.iter().filter(|table| is_dsdt(table)).count() <= 1, "more than one DSDT");
    // As the kernel does: without the DSDT a machine has nothing.
    let is_used = |table: &Table| sum(table) == 0 || is_dsdt(table);
    for table in tables.iter().filter(|table| sum(table) != 0) {
        let (file, sum) = (table.file.display(), sum(table));
        let what = if is_used(table) { "used all the same" } else { "left out" };
        writeln!(out, "{what}: {file} has a bad checksum: bytes add up to {sum:#x}")?;
    }
    tables.retain(is_used);
    let bytes: Vec<_> = tables.iter().map(|table| table.bytes.as_slice()).collect();
    let mut aml =
        Aml::load(&mut Zeros, &bytes, Limits::DEFAULT).context("cannot load the tables")?;
    write!(out, "{}", aml.loaded())?;
    writeln!(out, "heap: {} KiB", aml.usage().heap.div_ceil(1024))?;
    inventory(&mut aml, &mut out)?;
    let depth = aml.usage().peak_depth;
    let (run, most) = (Limits { depth, ..Limits::DEFAULT }.stack(), Limits::DEFAULT.stack());
    let kib = |bytes: usize| bytes.div_ceil(1024);
    writeln!(out, "stack: {} KiB for what was run, {} KiB at most", kib(run), kib(most))?;
    Ok(out)
}

/// Says which devices and events there are.
fn inventory(aml: &mut Aml, out: &mut String) -> Result<()> {
    let init = aml.init(&mut Zeros);
    let (devices, run, failed) = (init.devices, init.methods, init.failed);
    writeln!(out, "devices: {devices}; methods run to initialise them: {run}, failed: {failed}")?;
    if let Some((node, error)) = init.first_failure {
        writeln!(out, "the first that failed: {}: {error}", aml.path(node))?;
    }
    for (what, id) in [
        ("memory devices", "PNP0C80"),
        ("containers", "ACPI0004"),
        ("generic event devices", "ACPI0013"),
        ("event block devices", "ACPI0006"),
    ] {
        let found = with_id(aml, id, out)?;
        writeln!(out, "{what} ({id}): {}", found.len())?;
        for node in found {
            writeln!(out, "  {}", aml.path(node))?;
            events(aml, node, out)?;
        }
    }
    let events_of_root = aml.find("\\_GPE");
    writeln!(out, "event methods in \\_GPE:")?;
    events_of_root.map_or(Ok(()), |scope| events(aml, scope, out))
}

/// The devices with an identifier; those that cannot say theirs are named.
fn with_id(aml: &mut Aml, id: &str, out: &mut String) -> Result<Vec<NodeId>> {
    let mut found = Vec::new();
    let mut last = None;
    while let Some(device) = aml.next_device(last) {
        last = Some(device);
        match aml.has_id(&mut Zeros, device, id) {
            Ok(true) => found.push(device),
            Ok(false) => {}
            Err(error) => writeln!(out, "identifier of {}: {error}", aml.path(device))?,
        }
    }
    Ok(found)
}

/// The event methods of a device or scope.
fn events(aml: &Aml, scope: NodeId, out: &mut String) -> Result<()> {
    let numbered = aml.gpe_methods(scope).map(|method| method.node);
    let other =
        aml.child(scope, "_EVT").filter(|&node| matches!(aml.kind(node), NodeKind::Method(_)));
    for node in numbered.chain(other) {
        writeln!(out, "  {}", aml.path(node))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with these terms and a good checksum.
    fn table(signature: &[u8; 4], terms: &[u8]) -> Table {
        let mut bytes = vec![0; HEADER];
        bytes[..4].copy_from_slice(signature);
        bytes[8] = 2;
        bytes.extend(terms);
        let length = bytes.len() as u32;
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes[9] = bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_sub(byte));
        Table { file: String::from_utf8_lossy(signature).to_lowercase().into(), bytes }
    }

    #[test]
    fn the_objects_of_tables_and_what_was_left_out_are_shown() {
        // Device (MEM0) { Name (_HID, EisaId ("PNP0C80")) Method (_INI) { Return (NOPE) } };
        // Scope (\_GPE) { Method (_E05) {} }; a scope of a name that does not exist.
        let dsdt = b"\x5B\x82\x1BMEM0\x08_HID\x0C\x41\xD0\x0C\x80\x14\x0B_INI\x00\xA4NOPE";
        let dsdt = table(b"DSDT", dsdt);
        let ssdt = table(b"SSDT", b"\x10\x0D\\_GPE\x14\x06_E05\x00\x10\x05NONE");
        let mut bad = table(b"SSDT", b"\x08NAME\x01");
        bad.bytes[9] ^= 1;
        let mut dsdt = dsdt;
        dsdt.bytes[9] ^= 1;
        let text = report(vec![ssdt, bad, dsdt]).unwrap();
        for line in [
            "left out: ssdt has a bad checksum",
            "used all the same: dsdt has a bad checksum",
            "names of 2 tables; left out: 1 definitions\n",
            "\nheap: 1",
            "left out: Scope NONE: name NONE not found, in SSDT (table 1)",
            "the first that failed: \\MEM0._INI: name NOPE not found, in DSDT",
            "memory devices (PNP0C80): 1\n  \\MEM0\n",
            "event methods in \\_GPE:\n  \\_GPE._E05\n",
            // The method nests five levels, of 700 bytes each.
            "\nstack: 4 KiB for what was run, 263 KiB at most\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in:\n{text}");
        }
    }

    #[test]
    fn what_is_not_a_table_of_byte_code_is_named() {
        let why = |bytes: &[u8]| check(bytes).unwrap_err().to_string();
        assert_eq!(why(b"DSDT"), "it is shorter than the header of a table");
        let wrong = table(b"FACP", b"");
        assert_eq!(why(&wrong.bytes), "its signature is 'FACP', not DSDT, SSDT or PSDT");
        let mut long = table(b"DSDT", b"");
        long.bytes[4] = 99;
        assert_eq!(why(&long.bytes), "its header says a length of 99 bytes, and the file has 36");
        let error = read(Path::new("/nonexistent/dsdt.dat")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nonexistent/dsdt.dat");
    }
}
