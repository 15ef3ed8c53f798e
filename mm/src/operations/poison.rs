//! A bad page taken out of use, with all who listen told of it.

use crate::Mm;
use crate::addr::Pfn;
use crate::alloc::poison::{PoisonError, Quarantined};
use crate::machine::Machine;
use crate::operations::notify::News;

impl<M: Machine> Mm<M> {
    /// Takes a bad page out of use.
    ///
    /// Between the steps of an offline, too; only a page in use that would have to move waits for its end
    /// ([`PoisonError::Busy`]). For handlers of exceptions there is [`poison_later`](Self::poison_later).
    ///
    /// # Errors
    ///
    /// [`PoisonError`].
    pub fn poison(&self, pfn: Pfn) -> Result<Quarantined, PoisonError> {
        let operation = self.moment().ok_or(PoisonError::Busy)?;
        let kind = self.poison_now(pfn)?;
        // An offline may be under way: a listener that steps it would wait for this turn. The list does
        // not change for those who tell.
        let telling = self.listeners.keep();
        drop(operation);
        telling.tell(&News::Poisoned(pfn, kind));
        Ok(kind)
    }
}
