//! What was loaded, to be shown.

use core::fmt;

use crate::aml::Aml;

impl Aml {
    /// What was loaded and what was left out, to be shown.
    #[must_use]
    pub const fn loaded(&self) -> Loaded<'_> {
        Loaded(self)
    }
}

/// Shows what was loaded, and what was left out, a line for each: see [`Aml::loaded`](crate::Aml::loaded).
#[derive(Debug, Clone, Copy)]
pub struct Loaded<'a>(pub(crate) &'a Aml);

impl fmt::Display for Loaded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(aml) = self;
        let (tables, names) = (aml.table_count(), aml.usage().nodes);
        let report = aml.load_report();
        let count = report.count();
        writeln!(f, "loaded: {names} names of {tables} tables; left out: {count} definitions")?;
        let kept = report.skipped();
        kept.iter().try_for_each(|skipped| writeln!(f, "left out: {skipped}"))?;
        match count as usize - kept.len().min(count as usize) {
            0 => Ok(()),
            more => writeln!(f, "left out: {more} more"),
        }
    }
}
