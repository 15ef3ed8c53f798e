//! The PCI buses whose registers are in memory: each is mapped when it is looked at first, and for ever.

use alloc::vec::Vec;
use core::fmt;

/// Buses that are mapped at most. Each takes half of a table of 4 KiB pages.
pub(super) const MOST_BUSES: usize = 32;

/// There are [`MOST_BUSES`] already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there are {MOST_BUSES} buses already")
    }
}

/// The buses that were looked at, and the window on each; `None` for one that cannot be used.
#[derive(Debug)]
pub(super) struct Buses<W> {
    known: Vec<(u8, Option<W>)>,
}

impl<W> Buses<W> {
    pub(super) const fn new() -> Self {
        Self { known: Vec::new() }
    }

    /// The window on a bus. `map` maps it the first time, if that is allowed. A bus that cannot be used leaves others as they
    /// are.
    pub(super) fn on(
        &mut self,
        bus: u8,
        map: impl FnOnce(Result<(), TooMany>) -> Option<W>,
    ) -> Option<&W> {
        let index = match self.known.iter().position(|&(known, _)| known == bus) {
            Some(index) => index,
            None => {
                let mapped = self.known.iter().filter(|(_, window)| window.is_some()).count();
                let window = map(if mapped < MOST_BUSES { Ok(()) } else { Err(TooMany) });
                self.known.try_reserve(1).ok()?;
                self.known.push((bus, window));
                self.known.len() - 1
            }
        };
        self.known.get(index)?.1.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bus_is_mapped_once_and_a_bad_one_leaves_the_others() {
        let mut buses = Buses::new();
        let mut maps = Vec::new();
        for bus in [0, 7, 0, 9, 7, 9] {
            let window = buses.on(bus, |allowed| {
                maps.push(bus);
                allowed.ok().filter(|()| bus != 7).map(|()| bus)
            });
            assert_eq!(window.copied(), Some(bus).filter(|&bus| bus != 7));
        }
        assert_eq!(maps, [0, 7, 9]);
    }

    #[test]
    fn no_more_buses_are_mapped_than_there_may_be_and_each_of_the_others_is_asked_about_once() {
        let mut buses = Buses::new();
        let mut refused = 0;
        for _ in 0..2 {
            for bus in 0..=u8::MAX {
                let window = buses.on(bus, |allowed| {
                    refused += usize::from(allowed.is_err());
                    // One of them is bad, which is not counted.
                    allowed.ok().filter(|()| bus != 3).map(|()| bus)
                });
                let is_mapped = bus != 3 && usize::from(bus) <= MOST_BUSES;
                assert_eq!(window.is_some(), is_mapped, "bus {bus}");
            }
        }
        assert_eq!(refused, 255 - MOST_BUSES);
    }
}
