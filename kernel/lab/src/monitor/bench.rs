//! The cost of an allocation on this machine, in instructions.

use super::refused::Refused;
use crate::bench::{CASES, Case};
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::hint::black_box;
use hotmem::{Machine, Mm, Order, StateWord};
use hotmem_hotplug::json_list;

/// Pairs in the short run, but at least a round, and the pairs that the long run adds.
const SHORT: usize = 100;
const MORE: usize = 1_000;

const NO_COUNTER: &str = "the machine does not count instructions";

/// Cases that are queries.
const PAGE_INFO: &str = "page_info";
const STATE: &str = "state";

/// The cost of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    case: &'static str,
    /// Pairs in a round, or queries.
    pairs: usize,
    /// Instructions of these pairs.
    instructions: u64,
    counted: usize,
}

impl Cost {
    /// Tenths of an instruction per pair.
    fn tenths(&self) -> u64 {
        let counted = self.counted.max(1) as u64;
        (self.instructions.saturating_mul(10) + counted / 2) / counted
    }
}

/// Measures the cases on `mm`, with at most `most` pages allocated at a time. If `most` is small, the cases of
/// `bulk` have fewer pairs than on a host. Each case begins with empty caches: what was allocated before decides
/// nothing.
pub(super) fn run<M: Machine>(
    mm: &Mm<M>,
    most: usize,
    count: impl Fn() -> Option<u64>,
) -> Result<Vec<Cost>, Refused<'static>> {
    let mut costs = Vec::new();
    for case in CASES.map(|case| case.with_at_most(most)) {
        mm.drain_caches();
        costs.push(pairs(mm, case, &count)?);
    }
    let held = mm.alloc(Order::ZERO).map_err(|_| Refused::NoMemory(PAGE_INFO))?;
    let pfn = || black_box(held.pfn());
    costs.push(questions(PAGE_INFO, &count, || mm.page_info(pfn()))?);
    costs.push(questions(STATE, &count, || mm.state(pfn()).and_then(StateWord::owner))?);
    Ok(costs)
}

fn pairs<M: Machine>(
    mm: &Mm<M>,
    case: Case,
    count: &impl Fn() -> Option<u64>,
) -> Result<Cost, Refused<'static>> {
    let mut held = Vec::new();
    held.try_reserve_exact(if case.pairs > 1 { case.pairs } else { 0 }).map_err(Refused::Heap)?;
    let mut failed = false;
    let work = |rounds| failed = failed || case.run(&mm, rounds, &mut held).is_none();
    let name = case.name_for::<&Mm<M>>();
    let cost = difference(name, case.pairs, count, work)?;
    if failed { Err(Refused::NoMemory(name)) } else { Ok(cost) }
}

fn questions<T>(
    name: &'static str,
    count: &impl Fn() -> Option<u64>,
    ask: impl Fn() -> T,
) -> Result<Cost, Refused<'static>> {
    let work = |rounds| {
        for _ in 0..rounds {
            black_box(ask());
        }
    };
    difference(name, 1, count, work)
}

/// The instructions by which a long run of `work` exceeds a short one.
fn difference(
    case: &'static str,
    pairs: usize,
    count: &impl Fn() -> Option<u64>,
    mut work: impl FnMut(usize),
) -> Result<Cost, Refused<'static>> {
    let (short, more) = ((SHORT / pairs).max(1), (MORE / pairs).max(1));
    let mut counted = |rounds| -> Result<u64, Refused<'static>> {
        let before = count().ok_or(NO_COUNTER)?;
        work(rounds);
        let after = count().ok_or(NO_COUNTER)?;
        Ok(after.wrapping_sub(before))
    };
    // The first run of all includes the cost of first uses.
    counted(short)?;
    let few = counted(short)?;
    let many = counted(short + more)?;
    Ok(Cost { case, pairs, instructions: many.saturating_sub(few), counted: more * pairs })
}

/// The costs as one line of JSON: a list.
pub(super) fn json(costs: &[Cost], out: &mut dyn Write) -> fmt::Result {
    json_list(out, costs, |cost, out| {
        let (tenths, pairs) = (cost.tenths(), cost.pairs);
        write!(out, "{{\"case\":\"{}\",\"pairs\":{pairs},", cost.case)?;
        write!(out, "\"instructions\":{}.{}}}", tenths / 10, tenths % 10)
    })?;
    writeln!(out)
}

/// The costs, as text.
pub(super) fn text(costs: &[Cost], out: &mut dyn Write) -> fmt::Result {
    writeln!(out, "{:<16} {:>10} {:>12}", "case", "pairs", "instructions")?;
    for cost in costs {
        let (tenths, pairs) = (cost.tenths(), cost.pairs);
        writeln!(out, "{:<16} {pairs:>10} {:>10}.{}", cost.case, tenths / 10, tenths % 10)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_cost_is_the_difference_between_a_long_run_and_a_short_one() {
        let clock = Cell::new(u64::MAX - 70);
        let tick = |by| clock.set(clock.get().wrapping_add(by));
        // Any run costs 50, the first of all 1,000 more; a round of ten pairs costs 203.
        let first = Cell::new(1000);
        let work = |rounds| tick(50 + first.take() + 203 * rounds as u64);
        let cost = difference("ten", 10, &|| Some(clock.get()), work).unwrap();
        assert_eq!(cost, Cost { case: "ten", pairs: 10, instructions: 20_300, counted: 1000 });
        let mut shown = String::new();
        json(&[cost, cost], &mut shown).unwrap();
        let one = "{\"case\":\"ten\",\"pairs\":10,\"instructions\":20.3}";
        assert_eq!(shown, format!("[{one},{one}]\n"));
        shown.clear();
        text(&[cost], &mut shown).unwrap();
        assert_eq!(shown.lines().nth(1), Some("ten                      10         20.3"));
    }

    #[test]
    fn a_machine_without_a_counter_is_reported() {
        let error = difference("none", 1, &|| None, |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "the machine does not count instructions");
    }
}
