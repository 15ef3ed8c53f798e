//! Implements the contract for this architecture.

use super::Ppc64;
use super::{console, irq, pte, rtas, tlb};
use crate::contract::{Addressing, Architecture, Io, Layout, Mmio};
use crate::irq::Registers;

impl Architecture for Ppc64 {
    type Format = pte::Radix<{ Self::PAGE_SHIFT }>;
    type CpuTlb = tlb::BroadcastTlb;
    type Port = console::Port;
    type Controllers<R: Registers> = irq::Controllers<R>;
    type Rtas = rtas::Rtas;
}

impl Addressing for Ppc64 {}

impl Mmio for Ppc64 {}

impl Io for Ppc64 {}

const _: () =
    assert!(Ppc64::PAGE_SHIFT == 12 || Ppc64::PAGE_SHIFT == 16, "HOTMEM_PAGE_SIZE is 64K or 4K");
