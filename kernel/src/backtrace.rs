//! Who called whom, from frame pointers and the image's own symbols.

use crate::symbols::Symbols;
use core::fmt::{self, Write};
use hotmem::addr::VirtAddr;
use hotmem_arch::current::probe::probe_read;
use hotmem_boot::x86_64::image;

/// Frames shown at most: a broken chain may be a circle.
const MAX_FRAMES: usize = 48;

/// The return addresses on the stack, innermost first.
///
/// A frame is `[caller's frame pointer][return address]` at the frame pointer (System V ABI, 3.2.2).
/// The chain ends at 0, at the first frame that cannot be read, or does not lie above the last.
fn callers(frame_pointer: u64) -> impl Iterator<Item = u64> {
    let mut pointer = frame_pointer;
    core::iter::from_fn(move || {
        if pointer == 0 || pointer % 8 != 0 {
            return None;
        }
        let next = probe_read(VirtAddr::new(pointer)).ok()?;
        let address = probe_read(VirtAddr::new(pointer.checked_add(8)?)).ok()?;
        pointer = if next > pointer { next } else { 0 };
        (address != 0).then_some(address)
    })
    .take(MAX_FRAMES)
}

/// Writes a backtrace: `first`, where one is known, then the callers found from `frame_pointer`.
///
/// # Errors
///
/// Those of `out`.
pub fn write(out: &mut impl Write, first: Option<u64>, frame_pointer: u64) -> fmt::Result {
    let symbols = Symbols::new(image::symbols());
    // A return address points behind its call, which may be the next function already.
    let returns = callers(frame_pointer).map(|address| (address, address - 1));
    let frames = first.map(|address| (address, address)).into_iter().chain(returns);

    for (depth, (address, inside)) in frames.enumerate() {
        match symbols.find(inside) {
            Some(symbol) => {
                let offset = symbol.offset + (address - inside);
                writeln!(out, "  {depth:2} {address:#018x} {}+{offset:#x}", symbol.name)?;
            }
            None => writeln!(out, "  {depth:2} {address:#018x}")?,
        }
    }
    Ok(())
}
