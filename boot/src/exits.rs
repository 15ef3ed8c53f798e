//! How a kernel that cannot start leaves the machine, where firmware has services for that.
//!
//! Entry code notes them before anything can fail; what reads the machine's description, much later,
//! may find others.

use core::sync::atomic::{AtomicU32, Ordering};

/// Numbers of the run-time services that end the machine (LoPAR 7.3.3 and 7.3.9); `None` for one that
/// is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exits {
    /// `power-off`: in good order.
    pub power_off: Option<u32>,
    /// `ibm,os-term`: the kernel has failed.
    pub os_term: Option<u32>,
}

/// No service has the number 0, so 0 means that firmware does not have the service.
static POWER_OFF: AtomicU32 = AtomicU32::new(0);
static OS_TERM: AtomicU32 = AtomicU32::new(0);

/// Notes what firmware named, for entry code.
pub fn note(exits: Exits) {
    // Relaxed: the numbers are all there is to see.
    POWER_OFF.store(exits.power_off.unwrap_or(0), Ordering::Relaxed);
    OS_TERM.store(exits.os_term.unwrap_or(0), Ordering::Relaxed);
}

/// What entry code noted.
pub fn noted() -> Exits {
    let known = |number: &AtomicU32| Some(number.load(Ordering::Relaxed)).filter(|&it| it != 0);
    Exits { power_off: known(&POWER_OFF), os_term: known(&OS_TERM) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_known_later() {
        assert_eq!(noted(), Exits::default());
        let exits = Exits { power_off: Some(0x2003), os_term: None };
        note(exits);
        assert_eq!(noted(), exits);
    }
}
