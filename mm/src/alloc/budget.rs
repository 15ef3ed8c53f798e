//! How much of an evacuation a caller allows at a time.

/// Pages that a caller allows the work to examine or migrate before it wants to continue with something else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pages: u64,
    used: u64,
}

impl Budget {
    pub(crate) const fn new(pages: u64) -> Self {
        Self { pages, used: 0 }
    }

    /// Whether nothing more is allowed.
    pub(crate) const fn is_over(&self) -> bool {
        self.used >= self.pages
    }

    /// The pages that are left.
    pub(super) const fn left(&self) -> u64 {
        self.pages.saturating_sub(self.used)
    }

    /// The pages by which the work was more than allowed: an extent is migrated whole.
    pub(crate) const fn beyond(&self) -> u64 {
        self.used.saturating_sub(self.pages)
    }

    pub(super) const fn spend(&mut self, pages: u64) {
        self.used = self.used.saturating_add(pages);
    }

    /// Whether an extent of `pages` may be migrated: if they are left, or nothing was done before. Otherwise the
    /// budget is over.
    pub(super) const fn allows(&mut self, pages: u64) -> bool {
        let allows = self.used == 0 || pages <= self.left();
        if !allows {
            self.used = self.pages;
        }
        allows
    }
}
