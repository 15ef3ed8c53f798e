//! Implements the contract for this architecture.

use super::Ppc64;
use super::{console, irq, pte, rtas, tlb};
use crate::contract::{Addressing, Architecture, Io, Layout, Mmio};
use crate::irq::Registers;
use core::ptr::NonNull;
use hotmem_paging::addr::VirtAddr;

impl Architecture for Ppc64 {
    type Format = pte::Radix<{ Self::PAGE_SHIFT }>;
    type CpuTlb = tlb::BroadcastTlb;
    type Port = console::Port;
    type Controllers<R: Registers> = irq::Controllers<R>;
    type Rtas = rtas::Rtas;
}

/// Bits of an offset into a window: more than a window has, so that the compiler adds it to the base, and folds the offsets
/// of fields into the accesses, and few enough that the sum does not wrap.
const OFFSET: u64 = (1 << 52) - 1;

impl Addressing for Ppc64 {
    #[inline(always)]
    fn pointer_in(base: VirtAddr, offset: u64) -> NonNull<u8> {
        hotmem_paging::pointer_to(base.add(offset & OFFSET))
    }
}

impl Mmio for Ppc64 {}

impl Io for Ppc64 {}

const _: () = assert!(
    Ppc64::PAGE_SHIFT == 12 || Ppc64::PAGE_SHIFT == 16,
    "the feature is page-64k or page-4k"
);
