//! The evaluator against ACPICA, hostile tables and a model of QEMU: one program for all suites.

mod bounds;
mod faulty;
mod hostile;
mod nvdimm;
mod operators;
mod own_tables;
mod qemu;
