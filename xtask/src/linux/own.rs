//! The module for a guest that runs our own kernel: the image, as far as it is loaded.

use std::path::Path;

use anyhow::{Context, Result};
use object::Endianness;
use object::read::elf::ElfFile64;
use object::{Object, ObjectSegment};

use super::cpio::{Entry, archive};
use super::{directory, place};
use crate::arch::Image;
use crate::machine::Module;
use crate::{build, tool};

/// The part of the ELF file `image` up to the last byte that is loaded: no symbols, nothing for debuggers.
fn loaded(image: &[u8]) -> Result<&[u8]> {
    let elf = ElfFile64::<Endianness>::parse(image).context("the image is not an ELF64 file")?;
    let ends = elf.segments().map(|segment| {
        let (start, bytes) = segment.file_range();
        start.saturating_add(bytes)
    });
    let end = usize::try_from(ends.max().unwrap_or(0))?;
    image.get(..end).context("the image is shorter than its segments")
}

/// The module for a guest that runs the kernel of `image`, which was built.
///
/// # Errors
/// When the architecture runs no such guests, or a file cannot be read or written.
pub(crate) fn own_module(root: &Path, image: Image) -> Result<Module> {
    let at = place(image)?;
    let kernel = tool::read(&build::kernel(root, image))?;
    let archive = archive(&[("image", Entry::File(loaded(&kernel)?))]);
    let path = directory(root, image)?.join(format!("own-{}.cpio", image.page));
    tool::write_atomically(&path, &archive)?;
    Ok(Module { path, at, bytes: archive.len() as u64 })
}
