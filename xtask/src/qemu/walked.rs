//! What the page tables really say about an added range: the kernel's monitor walks the live tree.

use anyhow::{Context, Result, ensure};

use crate::machine::{Add, DESCRIPTOR, Machine};
use crate::size::human;

/// A translation, as the monitor's `walk` tells it.
#[derive(Debug, PartialEq, Eq)]
struct Walked {
    /// Where the address leads.
    phys: u64,
    /// Bytes of the leaf that leads there.
    leaf: u64,
    /// What may be done there.
    rights: String,
}

impl Walked {
    /// Reads `leaf VIRT to PHYS, BYTES bytes: RIGHTS` and `VIRT is PHYS`; `None` without a translation.
    fn read(lines: &[String]) -> Option<Self> {
        let leaf = lines.iter().find_map(|line| line.strip_prefix("leaf "))?;
        let (_, leaf) = leaf.split_once(", ")?;
        let (bytes, rights) = leaf.split_once(" bytes: ")?;
        let phys = lines.iter().find_map(|line| Some(line.split_once(" is ")?.1))?;
        Some(Self { phys: number(phys)?, leaf: number(bytes)?, rights: rights.to_owned() })
    }
}

fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// The translations of a range's first byte and of its first descriptor, each with a name; checks that they
/// lead to where the add says.
///
/// # Errors
/// When there is none, or it leads elsewhere.
pub(crate) fn of_add(machine: &mut Machine, add: &Add) -> Result<[(&'static str, String); 2]> {
    let image = machine.image();
    let about = image.arch.about();
    let (start, end) = (add.start(), add.end());

    let address = about.linear_base + start;
    let linear = walk(machine, address)?;
    ensure!(linear.phys == start, "the linear map leads {address:#x} to {:#x}", linear.phys);
    let linear = shown(address, &linear);

    let address = about.memmap_base + start / image.page * DESCRIPTOR;
    let memmap = walk(machine, address)?;
    let inside = (start..end).contains(&memmap.phys);
    let right = match add.groups.first() {
        Some(group) => memmap.phys == group.memmap_start,
        None => !inside,
    };
    ensure!(right, "the memmap of {start:#x} lies at {:#x}", memmap.phys);
    Ok([("linear map, read back", linear), ("memmap, read back", shown(address, &memmap))])
}

fn walk(machine: &mut Machine, address: u64) -> Result<Walked> {
    let lines = machine.run(&format!("walk {address:#x}"))?;
    Walked::read(&lines).with_context(|| format!("{address:#x} has no translation: {lines:?}"))
}

fn shown(address: u64, Walked { phys, leaf, rights }: &Walked) -> String {
    format!("{address:#x} is {phys:#x}, by a leaf of {}: {rights}", human(*leaf))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_translation_is_read_from_its_leaf_and_its_end() {
        let walked = lines(
            "level 0  table at 0x1fff0000\nleaf     0xc000000040000000 to 0x40000000, 0x200000 bytes: read, write\n\
             0xc000000040001000 is 0x40001000\nit holds 0x205",
        );
        let walked = Walked::read(&walked).unwrap();
        assert_eq!((walked.phys, walked.leaf), (0x4000_1000, 2 << 20));
        assert_eq!(
            shown(0xc000_0000_4000_1000, &walked),
            "0xc000000040001000 is 0x40001000, by a leaf of 2 MiB: read, write"
        );
    }

    #[test]
    fn an_address_without_a_translation_has_none() {
        let walked = lines("level 0  table at 0x1fff0000\n0xc000000040000000 has no translation");
        assert_eq!(Walked::read(&walked), None);
    }
}
