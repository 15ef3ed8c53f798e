//! This architecture keeps the contract.

use super::{Controllers, Host, HostTlb, Port};
use crate::contract::Architecture;
use crate::irq::Registers;
use crate::x86_64::pte::X86Pte4;
use core::convert::Infallible;

impl Architecture for Host {
    type Format = X86Pte4;
    type CpuTlb = HostTlb;
    type Port = Port;
    type Controllers<R: Registers> = Controllers<R>;
    type Rtas = Infallible;
}
