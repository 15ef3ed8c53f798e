//! Which cached translations an entry into a guest drops.
//!
//! A CPU keeps translations of an ASID while the host runs. They are stale once an entry of the nested tables was
//! cleared, and of another guest if its ASID is used again. An entry finds out by comparing itself with the last entry of
//! the same virtual CPU: if that was on this CPU, with this ASID, and nothing was dropped since, the CPU has dropped
//! everything stale already.

use super::abilities::Abilities;
use super::vmcb::flush;

/// An entry into a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The number of the CPU.
    pub(crate) cpu: usize,
    /// The ASID.
    pub(crate) asid: u32,
    /// The root of the nested tables.
    pub(crate) root: u64,
    /// Requests to drop translations before it, of any guest.
    pub(crate) requests: u64,
}

/// The flush of the entry `now` of a virtual CPU whose last one was `last`.
pub(crate) fn between(last: Option<Entry>, now: Entry, abilities: Abilities) -> u8 {
    match (last == Some(now), abilities.flush_by_asid) {
        (true, _) => flush::NOTHING,
        (false, true) => flush::OWN,
        (false, false) => flush::ALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Abilities = Abilities { asids: 16, next_rip: false, flush_by_asid: false };
    const RICH: Abilities = Abilities { flush_by_asid: true, ..PLAIN };
    const FIRST: Entry = Entry { cpu: 1, asid: 2, root: 0x1000, requests: 3 };

    #[test]
    fn an_entry_drops_translations_unless_it_is_like_the_last_one() {
        for (abilities, drops) in [(PLAIN, 1), (RICH, 3)] {
            assert_eq!(between(None, FIRST, abilities), drops, "the first entry");
            assert_eq!(between(Some(FIRST), FIRST, abilities), 0);
            for entry in [
                Entry { cpu: 0, ..FIRST },
                Entry { asid: 1, ..FIRST },
                Entry { root: 0x2000, ..FIRST },
                Entry { requests: 4, ..FIRST },
            ] {
                assert_eq!(between(Some(FIRST), entry, abilities), drops, "{entry:?}");
            }
        }
    }
}
