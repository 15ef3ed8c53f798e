//! Windows on pages of registers that byte code uses: each page is mapped once, and checked at each use.

use alloc::vec::Vec;
use core::fmt;

use hotmem::PhysAddr;

/// The heap has no room for the list of so many windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom(usize);

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the heap has no room for a list of {} pages of registers", self.0)
    }
}

/// The reason why byte code cannot use a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is memory that the kernel uses.
    Ram,
    /// The list of windows is full.
    Full,
    /// It cannot be mapped.
    Unmapped,
}

/// The windows, of which there is a fixed number at most.
#[derive(Debug)]
pub struct Windows<W> {
    pages: Vec<(PhysAddr, W)>,
    most: usize,
}

impl<W> Windows<W> {
    /// Room for `most` windows: [`on`](Self::on) takes nothing from the heap, which may be empty by then.
    ///
    /// # Errors
    ///
    /// [`NoRoom`].
    pub fn new(most: usize) -> Result<Self, NoRoom> {
        let mut pages = Vec::new();
        pages.try_reserve_exact(most).map_err(|_| NoRoom(most))?;
        Ok(Self { pages, most })
    }

    /// The window on a page; `map` creates it if there is none yet.
    ///
    /// The page is checked each time: memory may have been plugged there.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn on(
        &mut self,
        page: PhysAddr,
        is_ram: impl FnOnce(PhysAddr) -> bool,
        map: impl FnOnce(PhysAddr) -> Option<W>,
    ) -> Result<&W, Refused> {
        if is_ram(page) {
            return Err(Refused::Ram);
        }
        let known = self.pages.iter().position(|(known, _)| *known == page);
        let index = match known {
            Some(index) => index,
            None if self.pages.len() >= self.most => return Err(Refused::Full),
            None => {
                self.pages.push((page, map(page).ok_or(Refused::Unmapped)?));
                self.pages.len() - 1
            }
        };
        self.pages.get(index).map(|(_, window)| window).ok_or(Refused::Unmapped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: PhysAddr = PhysAddr::new(0x1_0000_0000);

    #[test]
    fn a_list_that_the_heap_has_no_room_for_is_refused_with_its_length() {
        for most in [usize::MAX, isize::MAX as usize / 2 / size_of::<(PhysAddr, u64)>()] {
            let refused = Windows::<u64>::new(most).unwrap_err();
            assert_eq!(refused, NoRoom(most));
            assert!(refused.to_string().contains(&format!("a list of {most} pages")), "{refused}");
        }
    }

    #[test]
    fn a_page_that_became_memory_is_refused_though_it_is_mapped() {
        let mut windows = Windows::new(2).unwrap();
        assert_eq!(windows.on(PAGE, |_| false, |_| Some(7)), Ok(&7));
        // A DIMM is plugged, and unplugged.
        assert_eq!(windows.on(PAGE, |_| true, |_| Some(8)), Err(Refused::Ram));
        assert_eq!(windows.on(PAGE, |_| false, |_| Some(8)), Ok(&7));
    }

    #[test]
    fn memory_is_never_mapped_and_a_page_is_mapped_once() {
        let mut windows = Windows::new(1).unwrap();
        let never = |_| -> Option<u8> { panic!("mapped") };
        assert_eq!(windows.on(PAGE, |page| page == PAGE, never), Err(Refused::Ram));
        assert_eq!(windows.on(PAGE, |_| false, |_| None), Err(Refused::Unmapped));
        assert_eq!(windows.on(PAGE, |_| false, |_| Some(1)), Ok(&1));
        assert_eq!(windows.on(PAGE, |_| false, never), Ok(&1));
        assert_eq!(windows.on(PhysAddr::new(0), |_| false, never), Err(Refused::Full));
    }
}
