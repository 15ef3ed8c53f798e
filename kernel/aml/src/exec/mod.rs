//! Evaluating terms.
//!
//! ```text
//! run / load -> block -> statement -> term -> expression, definition, call ...
//! ```

mod machine;

use crate::code::Cursor;
use crate::error::{AmlError, ErrorKind};
use crate::host::Host;
use crate::namespace::NodeId;
use crate::object::Obj;
use crate::value::Arg;

pub(crate) use machine::Machine;

/// Results inside the evaluator; places are added at its edge.
pub(crate) type Res<T> = Result<T, ErrorKind>;

/// One evaluation.
pub(crate) struct Exec<'m> {
    m: &'m mut Machine,
    host: &'m mut dyn Host,
}

impl<'m> Exec<'m> {
    /// Starts an evaluation: nothing of an earlier one is left.
    pub(crate) fn new(m: &'m mut Machine, host: &'m mut dyn Host) -> Self {
        Self { m, host }
    }

    /// Runs a table's body.
    pub(crate) fn load(self, _body: Cursor) -> Result<(), AmlError> {
        Ok(())
    }

    /// Evaluates a node.
    pub(crate) fn run(self, node: NodeId, _args: &[Arg<'_>]) -> Result<Obj, AmlError> {
        self.m
            .names
            .obj(node)
            .ok_or_else(|| AmlError::bare(ErrorKind::BadName))
    }
}
