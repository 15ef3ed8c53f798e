//! What is kept of a method that is running.

use crate::object::Obj;

/// Arguments of a method.
pub(crate) const ARGS: usize = 7;

/// Locals of a method; the arguments' slots follow.
pub(crate) const LOCALS: usize = 8;

/// A method that is running.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    /// Tells this call from every other one, so that a reference to a slot cannot outlive it.
    pub(crate) serial: u32,
    /// Locals, then arguments.
    pub(crate) slots: [Obj; LOCALS + ARGS],
    pub(crate) marks: Marks,
}

/// How full the pools were when a method began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marks {
    pub(crate) nodes: usize,
    pub(crate) bytes: usize,
    pub(crate) cells: usize,
    pub(crate) fields: usize,
    pub(crate) regions: usize,
    pub(crate) syncs: usize,
}
