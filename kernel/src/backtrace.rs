//! Backtraces, from frame pointers and the image's own symbols.

// UNSAFETY: reads stack frames.
#![expect(unsafe_code)]

use crate::cpus::table;
use crate::memory::layout::Stack;
use crate::symbols::Symbols;
use core::fmt::{self, Write};
use hotmem::addr::{VirtAddr, VirtRange};
use hotmem_arch::current::cpu;
use hotmem_arch::current::layout::RETURN_ADDRESS;
use hotmem_boot::image;

/// Frames shown at most: a broken chain may be a cycle.
const MAX_FRAMES: usize = 48;

/// The return addresses on the stack, innermost first.
///
/// A frame begins with the caller's frame pointer; the place of the return address depends on the architecture's
/// ABI. The chain ends at 0, at the first frame that is not on a stack, and at a frame that is not above the
/// previous one.
fn callers(frame_pointer: u64) -> impl Iterator<Item = u64> {
    let here = VirtAddr::new(cpu::frame_pointer());
    let early = Some(image::early_stack()).filter(|stack| stack.contains(here));
    let mut pointer = frame_pointer;
    core::iter::from_fn(move || {
        let [next, address] = frame_at(pointer, early)?;
        pointer = if next > pointer { next } else { 0 };
        (address != 0).then_some(address)
    })
    .take(MAX_FRAMES)
}

/// The two words at `pointer`, if they lie on a stack: `early`, while that stack is in use.
///
/// A load that may fault is not an option: on the page-fault stack, a second fault would overwrite the frames of the
/// first.
fn frame_at(pointer: u64, early: Option<VirtRange>) -> Option<[u64; 2]> {
    let frame = VirtRange::new(VirtAddr::new(pointer), RETURN_ADDRESS + 8)?;
    let on_stack = match early {
        Some(early) => early.covers(frame),
        None => Stack::holding(frame).is_some_and(|stack| table::has_stacks(stack.cpu())),
    };
    if !on_stack || !pointer.is_multiple_of(8) {
        return None;
    }
    let word = |offset| {
        let at = core::ptr::with_exposed_provenance::<u64>((pointer + offset) as usize);
        // SAFETY: the word is aligned, and on a stack: on the early one, if that is in use, else on one of the
        // kernel's, all of which are mapped before the first is used and never unmapped.
        unsafe { at.read_volatile() }
    };
    Some([word(0), word(RETURN_ADDRESS)])
}

/// Writes a backtrace: `first`, if given, then the callers found from `frame_pointer`.
///
/// # Errors
///
/// Those of `out`.
pub fn write(out: &mut impl Write, first: Option<u64>, frame_pointer: u64) -> fmt::Result {
    let symbols = Symbols::new(image::symbols());
    // A return address points after its call, which may be in the next function already.
    let returns = callers(frame_pointer).map(|address| (address, address - 1));
    let frames = first.map(|address| (address, address)).into_iter().chain(returns);

    for (depth, (address, inside)) in frames.enumerate() {
        writeln!(out, "  {depth:2} {}", Named { symbols, address, inside })?;
    }
    Ok(())
}

/// An address, with the function that it is in.
struct Named {
    symbols: Symbols<'static>,
    address: u64,
    /// An address in the function.
    inside: u64,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Self { symbols, address, inside } = self;
        write!(f, "{address:#018x}")?;
        symbols.find(inside).map_or(Ok(()), |symbol| {
            write!(f, " {}+{:#x}", symbol.name, symbol.offset + (address - inside))
        })
    }
}

/// An instruction of the kernel, printed with the function that it is in.
#[derive(Clone, Copy, Debug)]
pub struct Place(pub u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Named { symbols: Symbols::new(image::symbols()), address: self.0, inside: self.0 }.fmt(f)
    }
}
