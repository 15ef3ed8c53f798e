//! The memory's contents when the kernel panics: the start of the memory manager's dump, on the console.

use core::fmt::{self, Write};

use hotmem::{Content, DumpRun, Machine, Mm};

/// Runs that are shown one by one: the message and the backtrace have to stay on the screen.
const SHOWN: u64 = 16;

/// Numbers of pages, by kind of content.
#[derive(Default)]
struct Sums {
    memmap: u64,
    used: u64,
    free: u64,
}

/// Writes a summary of a dump of memory: the first runs, and the number of pages of each kind.
///
/// Waits for no lock, whatever the kernel was doing.
///
/// # Errors
///
/// Those of `out`.
pub fn write<M: Machine>(mm: &Mm<M>, out: &mut impl Write) -> fmt::Result {
    writeln!(out, "memory, in pages of {} bytes:", M::PAGE_BYTES)?;
    let (mut runs, mut sums, mut written) = (0u64, Sums::default(), Ok(()));
    let whole = mm.try_dump(&mut |DumpRun { pfns, content }| {
        let (sum, name) = match content {
            Content::Memmap => (&mut sums.memmap, "memmap"),
            // A lock protects the owner's own name.
            Content::Used(owner) => (&mut sums.used, owner.name()),
            Content::Free => (&mut sums.free, "free"),
        };
        *sum += pfns.pages();
        runs += 1;
        if runs <= SHOWN && written.is_ok() {
            written = writeln!(out, "  {pfns} {name}");
        }
    });
    written?;
    if let Err(error) = whole {
        writeln!(out, "  {error}")?;
    }
    let Sums { memmap, used, free } = sums;
    writeln!(out, "  {runs} runs: {memmap} pages of memmap, {used} in use, {free} free")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotmem::testing::{Bench, Setup, Tiny, range};
    use hotmem::{Order, Owner, Placement};
    use std::string::String;

    #[test]
    fn the_first_runs_are_shown_and_all_are_counted() {
        let setup = Setup {
            ram: std::vec![(0, 16 << 20, 0)],
            block: 1 << 20,
            window: (64 << 20, 512 << 20),
            kernelcore: None,
        };
        let bench = Bench::<Tiny>::new(&setup);
        let dimm = range(64 << 20, 1 << 20);
        bench.plug(dimm);
        bench.add(dimm, Placement::PerRange);
        let pages: std::vec::Vec<_> =
            (0..80).map(|_| bench.alloc_as(Order::ZERO, Owner::Kernel).unwrap()).collect();
        // Every second page is in use, which makes the runs short.
        for &page in pages.iter().step_by(2) {
            bench.mm.free_pages(page).unwrap();
        }
        let mut out = String::new();
        write(&bench.mm, &mut out).unwrap();
        assert_eq!(out.lines().count() as u64, 1 + SHOWN + 1, "{out}");
        let mut sums = Sums::default();
        let mut runs = 0;
        bench.mm.dump(&mut |run| {
            runs += 1;
            match run.content {
                Content::Memmap => sums.memmap += run.pfns.pages(),
                Content::Used(_) => sums.used += run.pfns.pages(),
                Content::Free => sums.free += run.pfns.pages(),
            }
        });
        let Sums { memmap, used, free } = sums;
        let last =
            std::format!("  {runs} runs: {memmap} pages of memmap, {used} in use, {free} free");
        assert_eq!(out.lines().last(), Some(last.as_str()));
    }
}
