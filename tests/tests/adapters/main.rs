//! The crate `x86_64`'s page tables as a mapper, in memory of the host: against a model, with a manager over them,
//! and mappers that a kernel might write instead, each with a fault that the check finds.

mod arena;
mod faulty;
mod hangs;
mod manager;
mod mappers;
mod recursive;
mod strict;
