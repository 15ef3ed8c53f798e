//! Shows the translation of an address by the page tables.

use core::fmt::{self, Write};
use hotmem::paging::{Attr, Translation};
use hotmem::{Machine, Mm, VirtAddr};

/// The accesses that a translation allows, as text.
pub(super) struct Rights(pub(super) Attr);

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("read")?;
        for (attr, name) in [
            (Attr::WRITE, ", write"),
            (Attr::EXECUTE, ", execute"),
            (Attr::USER, ", user"),
            (Attr::DEVICE, ", device"),
        ] {
            if self.0.contains(attr) {
                f.write_str(name)?;
            }
        }
        Ok(())
    }
}

/// Writes the tables that lead to `at`, then the leaf, and what `peek` reads there.
pub(super) fn write<M: Machine>(
    mm: &Mm<M>,
    at: VirtAddr,
    peek: impl Fn(VirtAddr) -> Option<u64>,
    out: &mut dyn Write,
) -> fmt::Result {
    let walk = mm.walk(at);
    for table in walk.tables() {
        writeln!(out, "level {}  table at {}", table.level, table.frame)?;
    }
    let Some(leaf) = walk.leaf else {
        return writeln!(out, "{at} has no translation");
    };
    let Translation { virt, phys, len, attr } = leaf;
    writeln!(out, "leaf     {virt} to {phys}, {len:#x} bytes: {}", Rights(attr))?;
    writeln!(out, "{at} is {}", leaf.target(at))?;
    // Reading a device register may change the device.
    let word = if attr.contains(Attr::DEVICE) { None } else { peek(at) };
    word.map_or(Ok(()), |word| writeln!(out, "it holds {word:#018x}"))
}
