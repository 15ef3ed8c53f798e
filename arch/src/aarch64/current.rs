//! Implements the contract for this architecture.

use super::Aarch64;
use super::{irq, pl011, pte, tlb};
use crate::contract::{Addressing, Architecture, Io, Layout};
use crate::irq::Registers;
use core::convert::Infallible;

impl Architecture for Aarch64 {
    type Format = pte::Stage1<{ Self::PAGE_SHIFT }>;
    type CpuTlb = tlb::BroadcastTlb;
    type Port = pl011::Port;
    type Controllers<R: Registers> = irq::Controllers<R>;
    type Rtas = Infallible;
}

impl Addressing for Aarch64 {}

impl Io for Aarch64 {}
