//! The SLIT: how far the memory of each node is from each node (ACPI 6.5, 5.2.17).

use hotmem::LOCAL_DISTANCE;
use hotmem::paging::ReadPhys;

use super::error::{Signature, TableError};
use super::root::Tables;
use super::table::Table;

const SLIT: Signature = Signature(*b"SLIT");
/// Where the number of domains is.
const COUNT: usize = 36;
/// Where the distances start: a row for each domain, from which it is measured.
const DISTANCES: usize = 44;

/// A checked SLIT. Its two directions may differ.
#[derive(Clone, Copy, Debug)]
pub struct Slit<'a> {
    distances: &'a [u8],
    /// Domains, which is bytes of a row.
    count: usize,
}

impl<'a> Slit<'a> {
    /// Reads the SLIT; `None` if the machine has no SLIT.
    ///
    /// # Errors
    ///
    /// [`TableError`] if it is broken: shorter than its rows, with a domain whose distance from itself is not 10, or
    /// with another one that is not farther.
    pub fn find<P: ReadPhys>(tables: &Tables<'a, P>) -> Result<Option<Self>, TableError> {
        tables.find(SLIT, DISTANCES, Self::check)
    }

    fn check(table: Table<'a>) -> Result<Self, TableError> {
        let claimed = table.field(COUNT, 8).unwrap_or(0);
        let count = usize::try_from(claimed).unwrap_or(usize::MAX);
        let distances = table.bytes().get(DISTANCES..).unwrap_or_default();
        let distances = count.checked_mul(count).and_then(|bytes| distances.get(..bytes));
        let distances = distances.filter(|rows| !rows.is_empty());
        let distances = distances.ok_or_else(|| table.bad(COUNT, claimed))?;
        let is_wrong = |(at, &distance): (usize, &u8)| {
            let is_local = at / count == at % count;
            if is_local { distance != LOCAL_DISTANCE } else { distance <= LOCAL_DISTANCE }
        };
        match distances.iter().enumerate().find(|&entry| is_wrong(entry)) {
            Some((at, &distance)) => Err(table.bad(DISTANCES + at, distance.into())),
            None => Ok(Self { distances, count }),
        }
    }

    /// The number of domains.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The distance of memory of the domain `to` from the domain `from`; `None` if the table does not know both. The
    /// highest means that it cannot be reached.
    pub fn distance(&self, from: u32, to: u32) -> Option<u8> {
        let [from, to] = [from, to].map(|domain| domain as usize);
        let row = self.distances.chunks_exact(self.count).nth(from)?;
        row.get(to).copied()
    }
}
