//! The monitor's own operations, with the checks that always hold.

use anyhow::{Context, Result, ensure};

use super::check_groups;
use crate::machine::{Add, Machine, Remove, Step};

/// The monitor's `add`, which has to succeed.
pub(crate) fn add(machine: &mut Machine, start: u64, size: u64, placement: &str) -> Result<Add> {
    machine.run(&format!("add {start:#x} {size:#x} {placement}"))?;
    let add: Add = machine.done()?;
    ensure!(
        (add.start(), add.size()) == (start, size),
        "added {:#x}+{:#x}",
        add.start(),
        add.size()
    );
    check_groups(machine, &add)?;
    Ok(add)
}

/// The monitor's `remove`, which has to succeed.
pub(crate) fn remove(machine: &mut Machine, start: u64, size: u64) -> Result<Remove> {
    machine.run(&format!("remove {start:#x} {size:#x}"))?;
    machine.done()
}

/// A monitor command that has to be refused and reports a failed step, or none at all.
pub(crate) fn refused(machine: &mut Machine, command: &str) -> Result<String> {
    let why = machine.refused(command)?;
    let steps = machine.unread_steps()?;
    let good = steps.iter().find(|step| step.error().is_none());
    ensure!(good.is_none(), "`{command}` was refused but reports a good step");
    Ok(why)
}

/// The monitor's `online` or `offline` of one block, which has to succeed.
pub(crate) fn switch(machine: &mut Machine, operation: &str, block: u64) -> Result<Step> {
    machine.run(&format!("{operation} {block}"))?;
    let step = machine.next_step()?;
    ensure!(
        step.operation() == operation && step.error().is_none(),
        "{operation} {block}: {} {:?}",
        step.operation(),
        step.error()
    );
    Ok(step)
}

/// The monitor's `alloc`: the page frame number, or `None` when there is no memory left.
pub(crate) fn alloc(machine: &mut Machine, order: u32) -> Result<Option<u64>> {
    let reply = machine.command(&format!("alloc {order}"))?;
    if reply.error.is_some() {
        return Ok(None);
    }
    let number = reply.lines.iter().find_map(|line| first_number(line));
    let pfn =
        number.with_context(|| format!("`alloc` gave no page frame number: {:?}", reply.lines))?;
    Ok(Some(pfn))
}

/// The monitor's `free`, which has to succeed.
pub(crate) fn free(machine: &mut Machine, pfn: u64) -> Result<()> {
    machine.run(&format!("free {pfn:#x}")).map(|_| ())
}

/// Takes every page the allocator has; returns them, to be freed again.
///
/// # Errors
/// When the allocator has no page.
pub(crate) fn exhaust(machine: &mut Machine) -> Result<Vec<u64>> {
    let taken = take_all(machine)?;
    ensure!(!taken.is_empty(), "there was nothing to allocate");
    Ok(taken)
}

/// Takes every page the allocator has, if it has any.
pub(crate) fn take_all(machine: &mut Machine) -> Result<Vec<u64>> {
    let mut taken = Vec::new();
    for order in (0..=18).rev() {
        while let Some(pfn) = alloc(machine, order)? {
            taken.push(pfn);
        }
    }
    Ok(taken)
}

/// The first number in a line, decimal or behind 0x.
fn first_number(line: &str) -> Option<u64> {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric());
    words.into_iter().find_map(|word| match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_of_a_line_is_found_in_both_bases() {
        assert_eq!(first_number("pfn 0x1f00, order 3"), Some(0x1f00));
        assert_eq!(first_number("allocated 42"), Some(42));
        assert_eq!(first_number("nothing"), None);
    }
}
