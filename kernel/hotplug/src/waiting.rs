//! An operation waits for the one that another CPU runs, so that no request is refused because of it.
//!
//! The driver's own operations never wait for each other: a request that needs one begins when the last has ended.

use hotmem::{AddError, Machine, Mm, OfflineError, OnlineError, RemoveError, ScrubError};

use super::clock::Clock;
use super::driver::{Done, Hotplug};
use super::event::HotplugSource;

/// Why an operation failed, which may be that another one was under way.
pub(super) trait Refused {
    /// Whether another operation was under way, or a look stays: then nothing was changed.
    fn is_busy(&self) -> bool;
}

macro_rules! refused_by {
    ($($error:ident),*) => {
        $(impl Refused for $error {
            fn is_busy(&self) -> bool {
                matches!(self, Self::Busy)
            }
        })*
    };
}

refused_by!(AddError, OnlineError, OfflineError, RemoveError, ScrubError);

impl<'m, S: HotplugSource, M: Machine, C: Clock> Hotplug<'m, S, M, C> {
    /// Has an operation tried `patience` times, once at least, before it is refused as busy. Between two tries the
    /// machine [relaxes](Machine::relax). A kernel whose main loop itself runs another operation step by step sets 1.
    pub fn set_patience(&mut self, patience: u64) {
        self.patience = patience.max(1);
    }

    /// Runs an operation once no other is under way, and counts what it took, the wait left out.
    pub(super) fn in_turn<T, E: Refused>(
        &self,
        mut operation: impl FnMut(&'m Mm<M>) -> Result<T, E>,
    ) -> Done<T, E> {
        let mut done = self.counted(&mut operation);
        for _ in 1..self.patience {
            if !done.result.as_ref().is_err_and(E::is_busy) {
                break;
            }
            // An operation that is busy though no other is under way waited for a look that stays: it is tried once
            // more, for the other may have ended just now.
            let waits = self.mm.is_operating();
            self.mm.machine().relax();
            done = self.counted(&mut operation);
            if !waits {
                break;
            }
        }
        done
    }
}
