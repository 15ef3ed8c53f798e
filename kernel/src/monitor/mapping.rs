//! How a page and its descriptor are mapped, read back from the CPU and from the tables in use.

use super::Machinery;
use super::walk::Rights;
use crate::hotplug::{JsonString, OrNull};
use core::fmt::{self, Write};
use hotmem::paging::{Mapper, Translation};
use hotmem::{Machine, Mm, Pfn, PfnRange, PhysRange};

/// What the tables in use say of one page.
pub(super) struct Mapping {
    pfn: Pfn,
    page: Option<Translation>,
    descriptor: Option<Translation>,
}

/// A leaf, as JSON.
struct Leaf(Translation);

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Translation { virt, phys, len, .. } = self.0;
        write!(f, "{{\"virt\":{},\"phys\":{},\"bytes\":{len}}}", virt.get(), phys.get())
    }
}

impl Mapping {
    /// Walks to `pfn` in the linear map, and to its descriptor in the memmap.
    pub(super) fn of<M: Machine>(mm: &Mm<M>, pfn: Pfn) -> Self {
        let mapper = mm.machine().mapper();
        let page = PhysRange::new(M::address(pfn), M::PAGE_BYTES).unwrap_or_default();
        let descriptor = Mm::<M>::memmap_virt(PfnRange::new(pfn, 1));
        Self {
            pfn,
            page: mapper.translate(Mm::<M>::linear_virt(page).start()),
            descriptor: mapper.translate(descriptor.start()),
        }
    }

    /// Writes it as one line of JSON.
    pub(super) fn json(&self, cpu: &impl Machinery, out: &mut dyn Write) -> fmt::Result {
        writeln!(
            out,
            "{{\"pfn\":{},\"cpu\":{},\"page\":{},\"descriptor\":{}}}",
            self.pfn.get(),
            JsonString(cpu.mode()),
            OrNull(self.page.map(Leaf)),
            OrNull(self.descriptor.map(Leaf)),
        )
    }

    /// Writes it for people.
    pub(super) fn text(&self, cpu: &impl Machinery, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "cpu         {}", cpu.mode())?;
        for (name, leaf) in [("page        ", self.page), ("descriptor  ", self.descriptor)] {
            match leaf {
                Some(Translation { virt, phys, len, attr }) => {
                    writeln!(out, "{name}{virt} to {phys}, {len:#x} bytes: {}", Rights(attr))?;
                }
                None => writeln!(out, "{name}not mapped")?,
            }
        }
        Ok(())
    }
}
