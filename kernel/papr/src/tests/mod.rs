//! The source against a hypervisor that keeps the state of every connector, as QEMU does.

mod crossing;
mod distances;
mod failing;
mod hypervisor;
mod log_entry;
mod removal;
mod source;
mod spapr;
mod tree;
