//! The work that `cargo xtask bench alloc` counts. `alloc ALLOCATOR CASE ROUNDS` runs that many rounds of a case and
//! prints the nanoseconds that they took; `alloc` alone prints the cases, a line `ALLOCATOR CASE PAIRS` for each,
//! where PAIRS is the number of pairs of an allocation and a free (or of queries) in a round. `alloc threads N CASE
//! ROUNDS` runs them on N threads, each on its own CPU, and prints the nanoseconds of the slowest.

// UNSAFETY: adds memory that the hosted machine has.
#![expect(unsafe_code)]

mod frames;
mod together;

use crate::frames::{Bitmap, Buddy, FRAMES, Ranges};
use crate::together::timed_together;
use hotmem::{Mm, NodeId, Order, Pfn, PhysRange, Placement, StateWord, ZoneKind};
use hotmem_hosted::{Hosted, boot, on_cpu};
use hotmem_lab::bench::{CASES, Case, Frames};
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Queries that only the manager supports; a round has one.
const PAGE_INFO: &str = "page_info";
const STATE: &str = "state";

const HOTMEM: &str = "hotmem";
const OTHERS: [&str; 3] = ["buddy_system_allocator", "bitmap-allocator", "free-list"];

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => list(),
        [allocator, case, rounds] => {
            println!("{}", run(allocator, case, rounds.parse()?)?.as_nanos());
        }
        ["threads", threads, case, rounds] => {
            let (case, rounds, threads) = (find(case)?, rounds.parse()?, threads.parse()?);
            let took = on_manager(|mm| timed_together(case, mm, rounds, threads))?;
            println!("{}", took.as_nanos());
        }
        _ => return Err("usage: alloc [ALLOCATOR CASE ROUNDS | threads N CASE ROUNDS]".into()),
    }
    Ok(())
}

fn list() {
    for allocator in [HOTMEM].into_iter().chain(OTHERS) {
        CASES.iter().for_each(|case| println!("{allocator} {} {}", case.name, case.pairs));
    }
    println!("{HOTMEM} {PAGE_INFO} 1");
    println!("{HOTMEM} {STATE} 1");
}

fn run(allocator: &str, case: &str, rounds: usize) -> Result<Duration, Box<dyn Error>> {
    if allocator == HOTMEM {
        return run_hotmem(case, rounds);
    }
    let found = find(case)?;
    match allocator {
        "buddy_system_allocator" => timed(found, &Buddy::new(), rounds),
        "bitmap-allocator" => timed(found, &Bitmap::new(), rounds),
        "free-list" => timed(found, &Ranges::new().ok_or("no range")?, rounds),
        _ => Err("no such allocator".into()),
    }
}

fn find(case: &str) -> Result<Case, Box<dyn Error>> {
    CASES.into_iter().find(|known| known.name == case).ok_or_else(|| "no such case".into())
}

fn timed<F: Frames>(case: Case, frames: &F, rounds: usize) -> Result<Duration, Box<dyn Error>> {
    let mut held = Vec::with_capacity(case.pairs);
    let start = Instant::now();
    case.run(frames, rounds, &mut held).ok_or("an allocation failed")?;
    Ok(start.elapsed())
}

fn run_hotmem(case: &str, rounds: usize) -> Result<Duration, Box<dyn Error>> {
    on_manager(|mm| {
        // A number that the compiler does not know.
        on_cpu(black_box(0));
        match case {
            PAGE_INFO => ask(mm, rounds, |pfn| mm.page_info(pfn)),
            STATE => ask(mm, rounds, |pfn| mm.state(pfn).and_then(StateWord::owner)),
            case => timed(find(case)?, &mm, rounds),
        }
    })
}

/// Runs work on a manager whose memory is a DIMM, in a zone `normal`; every invariant is checked before and after.
fn on_manager<T>(
    work: impl FnOnce(&Mm<Hosted>) -> Result<T, Box<dyn Error>>,
) -> Result<T, Box<dyn Error>> {
    let booted = boot()?;
    let mm = &booted.mm;
    let bytes = FRAMES as u64 * 4096;
    let dimm = PhysRange::new(booted.window.start(), bytes).ok_or("no window")?;
    // SAFETY: the hosted machine has memory there, which is not in use.
    unsafe { mm.add(dimm, NodeId::ZERO, Placement::PerBlock) }?;
    for id in mm.blocks_in(dimm) {
        mm.online(id, ZoneKind::Normal)?;
    }
    mm.verify()?;
    let result = work(mm)?;
    mm.verify()?;
    Ok(result)
}

fn ask<T>(
    mm: &Mm<Hosted>,
    rounds: usize,
    question: impl Fn(Pfn) -> T,
) -> Result<Duration, Box<dyn Error>> {
    let held = mm.alloc(Order::ZERO)?;
    let start = Instant::now();
    for _ in 0..rounds {
        black_box(question(black_box(held.pfn())));
    }
    Ok(start.elapsed())
}
