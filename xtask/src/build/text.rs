//! Where an image has its instructions.

use std::path::Path;

use anyhow::{Context, Result};
use object::Endianness;
use object::elf::{FileHeader64, PF_X, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

use crate::tool;

/// Where the kernel's instructions begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text {
    /// The address they run at.
    pub(crate) virt: u64,
    /// The address they are loaded to.
    pub(crate) phys: u64,
}

/// Reads where the instructions of the kernel are that was built beside `program`, or is it.
///
/// # Errors
/// When the file cannot be read or is not a kernel.
pub(crate) fn text(program: &Path) -> Result<Text> {
    let kernel = program.with_file_name(super::KERNEL);
    find(&tool::read(&kernel)?).with_context(|| format!("{} has no text", kernel.display()))
}

/// The last executable segment: entry code, if it is apart, comes first.
fn find(file: &[u8]) -> Option<Text> {
    let header = FileHeader64::<Endianness>::parse(file).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, file).ok()?;
    let executable = segments
        .iter()
        .filter(|one| one.p_type(endian) == PT_LOAD && one.p_flags(endian).contains(PF_X));
    let last = executable.max_by_key(|one| one.p_vaddr(endian))?;
    Some(Text { virt: last.p_vaddr(endian), phys: last.p_paddr(endian) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_in_a_real_program_and_nowhere_else() {
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let text = find(&this).unwrap();
        assert!(text.virt >= text.phys);
        assert_eq!(find(&[0; 64]), None);
        assert_eq!(find(b"\x7fELF"), None);
    }
}
