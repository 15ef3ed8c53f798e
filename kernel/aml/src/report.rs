//! What loading left out, and why.

use alloc::vec::Vec;
use core::fmt;

use crate::error::AmlError;
use crate::name::NameSeg;

/// Most left-out terms that are kept for messages; more are only counted.
const KEPT: usize = 256;

/// How much a fault in a table cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The one term that is at fault, with all that is inside it.
    Term,
    /// All from the term on to the end of the list around it: the term's length is unknown.
    List,
    /// All from the term on to the end of its table.
    Table,
}

/// A term that loading left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// What kind of term it is, as ASL spells it.
    pub term: &'static str,
    /// The last segment of the name that it defines or opens, if it has one.
    pub name: Option<NameSeg>,
    /// How much was left out with it.
    pub extent: Extent,
    /// What is wrong with it, and where.
    pub error: AmlError,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.term)?;
        if let Some(name) = self.name {
            write!(f, " {name}")?;
        }
        f.write_str(match self.extent {
            Extent::Term => "",
            Extent::List => " and the rest of the list around it",
            Extent::Table => " and the rest of its table",
        })?;
        write!(f, ": {}", self.error)
    }
}

/// What [`Aml::load`](crate::Aml::load) left out.
#[derive(Debug, Default)]
pub struct LoadReport {
    skipped: Vec<Skipped>,
    count: u32,
}

impl LoadReport {
    /// How many terms were left out.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The terms that were left out, in the order of the tables. The first 256 of them, or fewer
    /// if the heap has no room.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Bytes of heap that are held.
    pub(crate) const fn heap(&self) -> usize {
        self.skipped.capacity() * size_of::<Skipped>()
    }

    /// Counts a term.
    pub(crate) fn note(&mut self, skipped: Skipped) {
        self.count = self.count.saturating_add(1);
        if self.skipped.len() < KEPT && self.skipped.try_reserve(1).is_ok() {
            self.skipped.push(skipped);
        }
    }
}
