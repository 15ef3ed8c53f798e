//! Checks that the CPU enforces the permissions in the page tables, by accesses and not by reading the tables.

// UNSAFETY: writes and executes at addresses where that must fault.
#![expect(unsafe_code)]

use crate::cpus::table;
use crate::memory::layout::{CPUS, LINEAR_BASE, PAGE, Stack};
use core::hint::black_box;
use hotmem::VirtAddr;
use hotmem_arch::current::cpu;
use hotmem_arch::current::probe::{executable, probe_execute, probe_read, probe_write};
use hotmem_boot::current::KERNEL_BASE;
use hotmem_boot::image::Segment;
use hotmem_lab::monitor::{Breach, Crash};

/// Tries every kind of access that must fault.
///
/// # Errors
///
/// The first [`Breach`].
pub fn check() -> Result<(), Breach> {
    for segment in [Segment::Text, Segment::Rodata] {
        let linear = LINEAR_BASE.add(segment.phys().start().get());
        for at in [segment.virt().start(), linear] {
            refuse_write(at)?;
        }
    }

    let alias = LINEAR_BASE.add(executable().offset_from(KERNEL_BASE));
    // SAFETY: the linear map maps the image's memory, so the alias is the same function.
    if unsafe { probe_execute(alias) }.is_ok() {
        return Err(Breach::Executed(alias));
    }

    let below = |stack: Stack| VirtAddr::new(stack.range().start().get() - PAGE);
    let stacks = (0..CPUS).filter(|&cpu| table::has_stacks(cpu)).flat_map(Stack::of);
    let guards = stacks.map(below).chain([VirtAddr::new(0)]);
    for guard in guards {
        if probe_read(guard).is_ok() {
            return Err(Breach::Read(guard));
        }
    }
    Ok(())
}

/// Ends the kernel in the requested way.
pub fn crash(crash: Crash) {
    match crash {
        Crash::Write => write_nowhere(),
        Crash::Deaf => cpu::halt(),
        Crash::Stack => {
            fill_stack(0);
        }
    }
}

/// Calls itself, with a frame that is still used after the call, until it hits the guard page.
fn fill_stack(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    // The depth never reaches this limit: without one the compiler would warn, and could do anything.
    let deeper = if black_box(depth) == u64::MAX { 0 } else { fill_stack(depth + 1) };
    deeper.wrapping_add(black_box(frame)[0])
}

/// Writes to an address that has no translation.
fn write_nowhere() {
    let nowhere = core::ptr::with_exposed_provenance_mut::<u64>(8);
    // SAFETY: the lower half of the address space is never mapped (see the layout), so no Rust object is there; the
    // access traps, and the trap handler ends the kernel.
    unsafe { nowhere.write_volatile(0) };
}

/// Writes the value at `at` back to it, which must fault.
fn refuse_write(at: VirtAddr) -> Result<(), Breach> {
    let Ok(word) = probe_read(at) else { return Ok(()) };
    // SAFETY: memory holds this word already, so nothing changes even if the write succeeds.
    match unsafe { probe_write(at, word) } {
        Ok(()) => Err(Breach::Written(at)),
        Err(_) => Ok(()),
    }
}
