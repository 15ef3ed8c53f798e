//! The symbol table that the kernel's backtrace reads, filled into the linked image.
//!
//! ```text
//!   .ksyms:  "KSYM" | count u32 | count x { address u64 | name offset u32 | name length u32 } | names, UTF-8
//! ```
//! Little-endian, entries sorted by address, offsets from the start of the section. The linker cannot
//! know its own output, so the section has a fixed size and is written afterwards.

use anyhow::{Context, Result, bail};
use object::elf::STT_FUNC;
use object::read::elf::{ElfFile64, FileHeader, Sym};
use object::{Endianness, Object, ObjectSection, ObjectSymbol};

/// Where the kernel keeps the table.
const SECTION: &str = ".ksyms";
const MAGIC: &[u8; 4] = b"KSYM";
const HEADER: usize = 8;
const ENTRY: usize = 16;
/// Name lengths to try, in bytes: the longest that lets everything fit is taken.
const NAME_LIMITS: [usize; 6] = [usize::MAX, 240, 160, 96, 64, 40];

/// One function.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Function {
    address: u64,
    size: u64,
    name: String,
}

/// How the table came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filled {
    functions: usize,
    dropped: usize,
    name_limit: usize,
}

impl Filled {
    /// A line for the user if something had to give way.
    pub(crate) fn note(self) -> Option<String> {
        let Self { functions, dropped, name_limit } = self;
        if functions == 0 {
            return Some(
                "note: the image has no function symbols: its backtraces show addresses only"
                    .into(),
            );
        }
        if dropped > 0 {
            return Some(format!(
                "note: the {dropped} smallest of {} functions do not fit into {SECTION}, and names are cut at {name_limit} bytes",
                functions + dropped
            ));
        }
        (name_limit != usize::MAX).then(|| {
            format!("note: names of functions are cut at {name_limit} bytes to fit into {SECTION}")
        })
    }
}

/// Writes the function symbols of the ELF64 `image` into its `.ksyms` section.
///
/// # Errors
/// When `image` is not an ELF64 file or has no such section with contents.
pub(crate) fn fill(image: &mut [u8]) -> Result<Filled> {
    let (functions, offset, size) = {
        let elf = ElfFile64::<Endianness>::parse(&*image).context("not an ELF64 file")?;
        let section =
            elf.section_by_name(SECTION).with_context(|| format!("no section {SECTION}"))?;
        let (offset, size) =
            section.file_range().with_context(|| format!("{SECTION} has no bytes in the file"))?;
        (functions(&elf), usize::try_from(offset)?, usize::try_from(size)?)
    };
    let room = offset.checked_add(size).and_then(|end| image.get_mut(offset..end));
    let room = room.with_context(|| format!("{SECTION} lies outside the file"))?;

    let (table, filled) = encode(functions, size)?;
    room.fill(0);
    let target = room.get_mut(..table.len()).context("the table is larger than its section")?;
    target.copy_from_slice(&table);
    Ok(filled)
}

/// The names of the functions of the ELF64 `image` that one of the packages `foreign` defines.
///
/// # Errors
/// When `image` is not an ELF64 file.
pub(crate) fn defined_by(image: &[u8], foreign: &[&str]) -> Result<Vec<String>> {
    let elf = ElfFile64::<Endianness>::parse(image).context("not an ELF64 file")?;
    let names = functions(&elf).into_iter().map(|function| function.name);
    let is_foreign =
        |name: &String| foreign.iter().any(|package| name.contains(&format!("{package}::")));
    Ok(names.filter(is_foreign).collect())
}

/// The functions of the ELF64 `image`, with their bytes.
///
/// # Errors
/// When `image` is not an ELF64 file.
pub(crate) fn sizes(image: &[u8]) -> Result<Vec<(String, u64)>> {
    let elf = ElfFile64::<Endianness>::parse(image).context("not an ELF64 file")?;
    Ok(functions(&elf).into_iter().map(|function| (function.name, function.size)).collect())
}

/// All functions of `elf`, one for each address, in order of address.
fn functions<Elf: FileHeader<Endian = Endianness>>(
    elf: &object::read::elf::ElfFile<'_, Elf>,
) -> Vec<Function> {
    let mut functions: Vec<Function> = elf
        .symbols()
        .filter(|symbol| symbol.elf_symbol().st_type() == STT_FUNC && symbol.is_definition())
        .filter_map(|symbol| {
            let name = symbol.name().ok().filter(|name| !name.is_empty())?;
            // `{:#}` leaves out the hash.
            let name = format!("{:#}", rustc_demangle::demangle(name));
            Some(Function { address: symbol.address(), size: symbol.size(), name })
        })
        .collect();
    functions.sort_by(|a, b| (a.address, &a.name).cmp(&(b.address, &b.name)));
    functions.dedup_by_key(|function| function.address);
    functions
}

/// The table in at most `room` bytes: long names are cut first, then the smallest functions go.
fn encode(mut functions: Vec<Function>, room: usize) -> Result<(Vec<u8>, Filled)> {
    if room < HEADER {
        bail!("{SECTION} has only {room} bytes");
    }
    let total = functions.len();
    let fitting = NAME_LIMITS.into_iter().find(|&limit| table_size(&functions, limit) <= room);
    let name_limit = fitting.unwrap_or(40);
    if fitting.is_none() {
        functions.sort_by_key(|function| std::cmp::Reverse(function.size));
        while table_size(&functions, name_limit) > room {
            functions.pop();
        }
        functions.sort_by_key(|function| function.address);
    }

    let filled =
        Filled { functions: functions.len(), dropped: total - functions.len(), name_limit };
    Ok((bytes_of(&functions, name_limit)?, filled))
}

fn table_size(functions: &[Function], limit: usize) -> usize {
    let names: usize = functions.iter().map(|function| cut(&function.name, limit).len()).sum();
    HEADER + functions.len() * ENTRY + names
}

fn bytes_of(functions: &[Function], limit: usize) -> Result<Vec<u8>> {
    let mut entries = Vec::with_capacity(HEADER + functions.len() * ENTRY);
    let mut names = Vec::new();
    let names_start = HEADER + functions.len() * ENTRY;

    entries.extend_from_slice(MAGIC);
    entries.extend_from_slice(&u32::try_from(functions.len())?.to_le_bytes());
    for function in functions {
        let name = cut(&function.name, limit).as_bytes();
        entries.extend_from_slice(&function.address.to_le_bytes());
        entries.extend_from_slice(&u32::try_from(names_start + names.len())?.to_le_bytes());
        entries.extend_from_slice(&u32::try_from(name.len())?.to_le_bytes());
        names.extend_from_slice(name);
    }
    entries.append(&mut names);
    Ok(entries)
}

/// The first `limit` bytes of `name`, without splitting a character.
fn cut(name: &str, limit: usize) -> &str {
    let end = name.floor_char_boundary(limit);
    name.get(..end).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(address: u64, size: u64, name: &str) -> Function {
        Function { address, size, name: name.into() }
    }

    /// Reads a table back, as the kernel does.
    fn decode(table: &[u8]) -> Vec<(u64, String)> {
        let word = |at: usize| u32::from_le_bytes(table[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!(&table[..4], MAGIC);
        (0..word(4))
            .map(|index| {
                let at = HEADER + index * ENTRY;
                let address = u64::from_le_bytes(table[at..at + 8].try_into().unwrap());
                let (offset, len) = (word(at + 8), word(at + 12));
                (address, String::from_utf8(table[offset..offset + len].to_vec()).unwrap())
            })
            .collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let functions =
            vec![function(0x1000, 16, "hotmem::add"), function(0x2000, 8, "hotmem::remove")];
        let (table, filled) = encode(functions, 4096).unwrap();
        assert_eq!(
            decode(&table),
            [(0x1000, "hotmem::add".into()), (0x2000, "hotmem::remove".into())]
        );
        assert_eq!(filled.note(), None);
    }

    #[test]
    fn long_names_are_cut_before_functions_are_left_out() {
        let long = "x".repeat(500);
        let (table, filled) =
            encode(vec![function(1, 1, &long), function(2, 1, "short")], 400).unwrap();
        let names = decode(&table);
        assert_eq!((names.len(), names[0].1.len(), names[1].1.as_str()), (2, 240, "short"));
        assert!(filled.note().unwrap().contains("cut at 240"));
    }

    #[test]
    fn the_smallest_functions_go_when_nothing_else_helps_and_the_order_stays() {
        let name = "n".repeat(40);
        let functions =
            vec![function(1, 100, &name), function(2, 1, &name), function(3, 50, &name)];
        let (table, filled) = encode(functions, HEADER + 2 * (ENTRY + 40)).unwrap();
        assert_eq!(decode(&table).iter().map(|(address, _)| *address).collect::<Vec<_>>(), [1, 3]);
        assert!(filled.note().unwrap().contains("1 smallest of 3"));
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("abc", usize::MAX), "abc");
    }

    #[test]
    fn functions_of_a_real_program_are_found_and_demangled() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let elf = ElfFile64::<Endianness>::parse(&*bytes).unwrap();
        let functions = functions(&elf);
        assert!(
            functions.iter().any(|function| function.name.starts_with("xtask::build::symbols"))
        );
        assert!(functions.is_sorted_by(|a, b| a.address < b.address));
        assert!(fill(&mut bytes.clone()).unwrap_err().to_string().contains(SECTION));
    }
}
