//! The mappings of a page and its descriptor, read from the CPU and from the tables in use.

use super::Machinery;
use super::walk::Rights;
use core::fmt::{self, Write};
use hotmem::paging::Translation;
use hotmem::{Machine, Mm, Pfn, PfnRange, PhysRange, VirtAddr};
use hotmem_hotplug::{JsonString, OrNull};

/// An address, and the leaf that translates it.
struct Leaf(VirtAddr, Translation);

impl Leaf {
    fn of<M: Machine>(mm: &Mm<M>, at: VirtAddr) -> Option<Self> {
        mm.walk(at).leaf.map(|leaf| Self(at, leaf))
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(at, leaf) = self;
        let (target, rights) = (leaf.target(*at), Rights(leaf.attr));
        write!(f, "{at} is {target}, by a leaf of {:#x} bytes: {rights}", leaf.len)
    }
}

/// A [`Leaf`] as JSON.
struct LeafJson<'l>(&'l Leaf);

impl fmt::Display for LeafJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Leaf(at, leaf) = self.0;
        write!(
            f,
            "{{\"virt\":{},\"phys\":{},\"leaf\":{},\"rights\":{}}}",
            at.get(),
            leaf.target(*at).get(),
            leaf.len,
            JsonString(Rights(leaf.attr)),
        )
    }
}

/// The translations of one page in the tables in use.
pub(super) struct Mapping {
    pfn: Pfn,
    page: Option<Leaf>,
    descriptor: Option<Leaf>,
}

impl Mapping {
    /// Walks to `pfn` in the linear map, and to its descriptor in the memmap.
    pub(super) fn of<M: Machine>(mm: &Mm<M>, pfn: Pfn) -> Self {
        let page = PhysRange::new(M::address(pfn), M::PAGE_BYTES).unwrap_or_default();
        let page = mm.linear_virt(page).start();
        let descriptor = mm.memmap_virt(PfnRange::new(pfn, 1)).start();
        Self { pfn, page: Leaf::of(mm, page), descriptor: Leaf::of(mm, descriptor) }
    }

    /// Writes it as one line of JSON.
    pub(super) fn json(&self, cpu: &impl Machinery, out: &mut dyn Write) -> fmt::Result {
        writeln!(
            out,
            "{{\"pfn\":{},\"cpu\":{},\"page\":{},\"descriptor\":{}}}",
            self.pfn.get(),
            JsonString(cpu.mode()),
            OrNull(self.page.as_ref().map(LeafJson)),
            OrNull(self.descriptor.as_ref().map(LeafJson)),
        )
    }

    /// Writes it for people.
    pub(super) fn text(&self, cpu: &impl Machinery, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "cpu         {}", cpu.mode())?;
        for (name, leaf) in [("page", &self.page), ("descriptor", &self.descriptor)] {
            match leaf {
                Some(leaf) => writeln!(out, "{name:<10}  {leaf}")?,
                None => writeln!(out, "{name:<10}  not mapped")?,
            }
        }
        Ok(())
    }
}
