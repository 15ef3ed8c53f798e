//! Implements the contract for this architecture.

use super::X86_64;
use super::{irq, pte, serial, tlb};
use crate::contract::{Addressing, Architecture, Mmio};
use crate::irq::Registers;
use core::convert::Infallible;

impl Architecture for X86_64 {
    type Format = pte::X86Pte4;
    type CpuTlb = tlb::LocalTlb;
    type Port = serial::Port;
    type Controllers<R: Registers> = irq::Controllers<R>;
    type Rtas = Infallible;
}

impl Addressing for X86_64 {}

impl Mmio for X86_64 {}
