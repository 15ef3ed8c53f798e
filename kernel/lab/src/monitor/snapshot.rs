//! A snapshot of the state of memory, for comparison (invariant 7).

use super::refused::Refused;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use hotmem::paging::Attr;
use hotmem::{Fact, Machine, Mm};

/// A saved state.
#[derive(Debug, Default)]
pub(super) struct Saved(Option<Vec<Fact>>);

/// A fact, or its absence.
struct Shown(Option<Fact>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(fact) => write!(f, "{fact:?}"),
            None => f.write_str("not there"),
        }
    }
}

/// The facts about memory. Mappings of device registers are left out: they are made when byte code first uses the
/// registers, at any event, and stay.
fn facts_of<M: Machine>(mm: &Mm<M>, each: &mut dyn FnMut(Fact)) {
    mm.snapshot(&mut |fact| match fact {
        Fact::Mapping { attr, .. } if attr.contains(Attr::DEVICE) => {}
        fact => each(fact),
    });
}

impl Saved {
    /// Saves the present state; returns the number of its facts.
    pub(super) fn save<M: Machine>(&mut self, mm: &Mm<M>) -> Result<usize, Refused<'static>> {
        self.0 = None;
        let mut count = 0;
        facts_of(mm, &mut |_| count += 1);

        let mut facts = Vec::new();
        facts.try_reserve_exact(count).map_err(|_| Refused::NoRoom(count))?;
        facts_of(mm, &mut |fact| {
            if facts.len() < count {
                facts.push(fact);
            }
        });
        self.0 = Some(facts);
        Ok(count)
    }

    /// Compares the present state with the saved one; returns the number of facts. Writes the first difference to
    /// `out`.
    pub(super) fn check<M: Machine>(
        &self,
        mm: &Mm<M>,
        out: &mut dyn Write,
    ) -> Result<usize, Refused<'static>> {
        let saved = self.0.as_deref().ok_or("no snapshot was saved")?;
        let (mut count, mut first) = (0, None);
        facts_of(mm, &mut |is| {
            let was = saved.get(count).copied();
            if first.is_none() && was != Some(is) {
                first = Some((count, was, Some(is)));
            }
            count += 1;
        });
        let lost = saved.get(count).map(|&was| (count, Some(was), None));
        let Some((number, was, is)) = first.or(lost) else { return Ok(count) };
        writeln!(out, "fact {number} was {}, is {}", Shown(was), Shown(is))?;
        Err(Refused::Differs(number))
    }
}
