//! What the CPU and the page tables in use say about an added range.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::machine::{Add, Machine};
use crate::size::human;

/// A page and its descriptor, as the monitor's `mapping` prints them.
#[derive(Debug, Deserialize)]
struct Mapping {
    cpu: String,
    page: Option<Walked>,
    descriptor: Option<Walked>,
}

/// A translation.
#[derive(Debug, Deserialize)]
struct Walked {
    /// The address.
    virt: u64,
    /// Where it leads.
    phys: u64,
    /// Bytes of the leaf that leads there.
    leaf: u64,
    /// What may be done there.
    rights: String,
}

/// How the CPU is used, and the translations of a range's first byte and of its first descriptor, each with
/// a name; checks that they lead to where the add says.
///
/// # Errors
/// When a translation is missing, or leads elsewhere.
pub(crate) fn of_add(
    machine: &mut Machine,
    add: &Add,
    page: u64,
) -> Result<[(&'static str, String); 3]> {
    let (start, end) = (add.start(), add.end());
    let mapping: Mapping = machine.read(&format!("mapping {} --json", start / page))?;

    let linear = mapping.page.context("the first page is not mapped")?;
    ensure!(linear.phys == start, "the linear map leads {:#x} to {:#x}", linear.virt, linear.phys);
    let memmap = mapping.descriptor.context("the first descriptor is not mapped")?;
    let right = match add.groups.first() {
        Some(group) => memmap.phys == group.memmap_start,
        None => !(start..end).contains(&memmap.phys),
    };
    ensure!(right, "the memmap of {start:#x} lies at {:#x}", memmap.phys);
    Ok([
        ("the CPU, read back", mapping.cpu),
        ("linear map, read back", linear.shown()),
        ("memmap, read back", memmap.shown()),
    ])
}

impl Walked {
    fn shown(&self) -> String {
        let Self { virt, phys, leaf, rights } = self;
        format!("{virt:#x} is {phys:#x}, by a leaf of {}: {rights}", human(*leaf))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_read_and_a_missing_one_is_recognised() {
        let mapping = r#"{"pfn":7,"cpu":"EL2","page":{"virt":4294967296,"phys":8192,"leaf":2097152,
            "rights":"read, write"},"descriptor":null}"#;
        let mapping: Mapping = serde_json::from_str(mapping).unwrap();
        let shown = mapping.page.map(|page| page.shown());
        let expected = "0x100000000 is 0x2000, by a leaf of 2 MiB: read, write";
        assert_eq!(shown.as_deref(), Some(expected));
        assert!(mapping.descriptor.is_none());
    }
}
