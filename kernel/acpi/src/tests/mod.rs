//! Tests of the table parsers and of the events, on tables built here or compiled from source.

mod beside;
mod board;
mod boxes;
mod button;
mod events;
mod failing;
mod firmware;
mod handlers;
mod heap;
mod introduce;
mod legal;
mod lock;
mod meanwhile;
mod near;
mod nvdimm;
mod odd;
mod pci;
mod rig;
mod root;
mod shapes;
mod tables;
mod timer;
mod vanish;
