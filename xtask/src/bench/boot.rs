//! What it takes the kernel to be ready, in instructions from its first function on.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{committed, started};
use crate::arch::Arch;
use crate::machine::Config;
use crate::size::{Size, grouped};

/// Boot memory, which nothing touches.
const MEMORY: [&str; 3] = ["512M", "2G", "8G"];
/// What the kernel says before and behind the number.
const SAID: (&str, &str) = ("boot took ", " instructions");

/// What a boot took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    memory: String,
    instructions: u64,
}

impl committed::Row for Row {
    fn figures(&self) -> Vec<(String, u64)> {
        vec![(format!("a boot with {}", self.memory), self.instructions)]
    }
}

/// Boots a machine with each size of memory, with one CPU, and prints a table.
///
/// # Errors
/// When a machine does not start.
pub(super) fn measure(root: &Path, arch: Arch) -> Result<Vec<Row>> {
    println!("{:<12} {:>14}", "memory", "instructions");
    let measured = MEMORY.into_iter().map(|memory| {
        let row = Row { memory: memory.into(), instructions: boot(root, arch, memory.parse()?)? };
        println!("{memory:<12} {:>14}", grouped(row.instructions));
        Ok(row)
    });
    measured.collect()
}

fn boot(root: &Path, arch: Arch, memory: Size) -> Result<u64> {
    let config = Config { icount: Some(0), memory, ..Config::of(arch) }.word("icount");
    let mut machine = started(root, &config)?;
    let line = machine.wait_line(SAID.0)?;
    machine.leave()?;
    number(&line).with_context(|| format!("not a number of instructions: {line}"))
}

/// The number in the kernel's line.
fn number(line: &str) -> Option<u64> {
    line.split_once(SAID.0)?.1.strip_suffix(SAID.1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_has_the_number() {
        assert_eq!(number("hotmem: boot took 1234 instructions"), Some(1234));
        assert_eq!(number("hotmem: boot took few instructions"), None);
    }
}
